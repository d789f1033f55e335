"""The trace that a document's upload was recorded in: who has a trace finds its documents as long as they are there."""

from __future__ import annotations

from alembic import op

revision = "0026"
down_revision = "0025"

STATEMENTS = (
    "ALTER TABLE documents ADD COLUMN trace_depot bytea",
    # Empty where nothing is traced. Newest first: a caller may go on with one trace for ever.
    "CREATE INDEX documents_trace ON documents (trace_depot, created_at DESC) WHERE trace_depot IS NOT NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
