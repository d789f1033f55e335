"""Audit lines wait in a queue of their own for their places in the chains, which are given in batches."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = (
    """
    CREATE TABLE audit_waiting (
        tenant varchar(64) NOT NULL,
        id bigint GENERATED ALWAYS AS IDENTITY,
        event_id uuid NOT NULL UNIQUE,
        line bytea NOT NULL,
        PRIMARY KEY (tenant, id)
    ) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)
    """,
    # Emptied as fast as it is filled: its vacuum must not lag behind either.
    "ALTER TABLE audit_pending SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
