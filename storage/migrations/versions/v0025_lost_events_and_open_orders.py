"""Which events are lost and are not sent again by themselves, as the look for them found it (lost_to, lost_at): who is asked about a
document knows it without Kafka. And pages of open orders."""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision = "0024"

STATEMENTS = (
    "ALTER TABLE outbox ADD COLUMN lost_to varchar(64)[], ADD COLUMN lost_at timestamptz",
    # Next to none: a row that is published as usual never enters it.
    "CREATE INDEX outbox_lost ON outbox (key) WHERE lost_at IS NOT NULL",
    "CREATE INDEX ordres_page ON ordres (ordonne_a, id)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
