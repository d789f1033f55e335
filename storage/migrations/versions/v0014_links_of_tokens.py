"""Which token a link was made with (document_links.marks, as token_revocations holds them): revoking that revokes the link.

Links from before have none. They end by themselves, after DPJ_LINK_LONGEST_SECONDS at the latest.
"""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"

STATEMENTS = (
    "ALTER TABLE document_links ADD COLUMN marks text[] NOT NULL DEFAULT '{}'",
    "CREATE INDEX document_links_marks ON document_links USING gin (marks) WHERE revoked_at IS NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
