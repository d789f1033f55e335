"""Revoked tokens, and links to the content of single documents."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"

STATEMENTS = (
    """
    CREATE TABLE token_revocations (
        mark text PRIMARY KEY,
        until timestamptz NOT NULL,
        revoked_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX token_revocations_end ON token_revocations (until)",
    # One row: who reads it knows whether there is more to read. Its lock puts revocations in an order.
    "CREATE TABLE token_revocation_version (singleton boolean PRIMARY KEY CHECK (singleton), version bigint NOT NULL)",
    "INSERT INTO token_revocation_version VALUES (true, 0)",
    """
    CREATE TABLE document_links (
        id uuid PRIMARY KEY,
        document_id uuid NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
        purpose text NOT NULL,
        created_by text NOT NULL,
        created_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        revoked_at timestamptz
    )
    """,
    "CREATE INDEX document_links_document ON document_links (document_id)",
    "CREATE INDEX document_links_end ON document_links (expires_at)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
