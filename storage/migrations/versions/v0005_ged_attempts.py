"""Creations in the GED that were begun and whose outcome is not known (yet); archived documents by the time they were archived."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS = (
    """
    CREATE TABLE ged_attempts (
        document_id uuid PRIMARY KEY,
        attempt uuid NOT NULL,
        settles_at timestamptz NOT NULL
    ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02)
    """,
    # Reconciling looks at what was archived lately, not at all that ever was.
    "CREATE INDEX documents_archives ON documents (date_archivage, id) WHERE statut = 'ARCHIVED'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
