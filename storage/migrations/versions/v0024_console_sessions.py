"""Sessions of people who are signed in to the console (sessions_console), and indexes for what it asks: documents by failure
code, and what of one document is given up or held.

``empreinte`` is the SHA-256 of the cookie's value: whoever reads the table can't come in with it. ``identite_scellee`` holds who it is,
sealed under the site's key of personal data. ``marques`` is what a logout at the identity provider is looked up by.
"""

from __future__ import annotations

from alembic import op

revision = "0024"
down_revision = "0023"

STATEMENTS = (
    """
    CREATE TABLE sessions_console (
        empreinte bytea PRIMARY KEY CHECK (octet_length(empreinte) = 32),
        identite_scellee text NOT NULL,
        marques varchar(80)[] NOT NULL,
        ouverte_a timestamptz NOT NULL,
        vue_a timestamptz NOT NULL,
        finit_a timestamptz NOT NULL
    )
    """,
    "CREATE INDEX sessions_console_marques ON sessions_console USING gin (marques)",
    "CREATE INDEX sessions_console_fin ON sessions_console (finit_a)",
    # Operators look for one failure across all tenants; few documents have one.
    "CREATE INDEX documents_echec ON documents (code_echec, created_at DESC, id DESC) WHERE code_echec IS NOT NULL",
    # What consumers gave up of one document, and what they hold of it: few rows, asked for by the document.
    "CREATE INDEX inbox_abandons ON inbox (document_key) WHERE state = 'DEAD'",
    "CREATE INDEX held_events_document ON held_events (document_key)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
