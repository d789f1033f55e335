"""Operators list one type across all tenants; without this index a rare type costs a walk over all documents."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("CREATE INDEX documents_type_tous ON documents (type_document, created_at DESC, id DESC)")
