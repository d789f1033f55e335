"""Merkle trees over the audit chains, and the checkpoints that are signed over them.

``audit_leaves`` has the hashes of entries that no checkpoint covers yet, written with the entries themselves; ``audit_trees`` each
tree's right edge; ``audit_tiles`` what inclusion proofs are made of; ``audit_checkpoints`` every checkpoint, its body before it is
signed; ``audit_archivings`` the entry that archived a document. All of it can be made again from the entries.
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"

STATEMENTS = (
    """
    CREATE TABLE audit_leaves (
        tenant varchar(64) NOT NULL,
        first_seq bigint NOT NULL,
        hashes bytea NOT NULL,
        last_hash text NOT NULL,
        PRIMARY KEY (tenant, first_seq)
    ) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)
    """,
    """
    CREATE TABLE audit_trees (
        tenant varchar(64) PRIMARY KEY,
        size bigint NOT NULL,
        edge bytea NOT NULL,
        last_hash text NOT NULL
    )
    """,
    """
    CREATE TABLE audit_tiles (
        tenant varchar(64) NOT NULL,
        level smallint NOT NULL,
        number bigint NOT NULL,
        hashes bytea NOT NULL,
        PRIMARY KEY (tenant, level, number)
    )
    """,
    # Hashes don't compress: the server need not try.
    "ALTER TABLE audit_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL",
    """
    CREATE TABLE audit_checkpoints (
        tenant varchar(64) NOT NULL,
        size bigint NOT NULL,
        body bytea NOT NULL,
        hash text NOT NULL,
        taken_at timestamptz NOT NULL,
        key_id text,
        signature bytea,
        PRIMARY KEY (tenant, size)
    )
    """,
    """
    CREATE TABLE audit_archivings (
        document_id uuid PRIMARY KEY,
        tenant varchar(64) NOT NULL,
        seq bigint NOT NULL,
        entry bytea NOT NULL
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
