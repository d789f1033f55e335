"""What is owed is known here: where Kafka put an event, which single consumer it is for if it is redriven, how often it was sent again."""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"

STATEMENTS = (
    """
    ALTER TABLE outbox
        ADD COLUMN consumer varchar(64),
        ADD COLUMN published_partition integer,
        ADD COLUMN published_offset bigint,
        ADD COLUMN re_emissions smallint NOT NULL DEFAULT 0
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
