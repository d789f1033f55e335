"""Letters by the record that was given up: whoever looks for lost events asks whether a record's consumer has buried it."""

from __future__ import annotations

from alembic import op

revision = "0027"
down_revision = "0026"

STATEMENTS = (
    # Letters that we wrote ourselves; those that were only found in Kafka prove nothing.
    """
    CREATE INDEX lettres_mortes_origine ON lettres_mortes (origine_topic, origine_partition, origine_offset)
    WHERE outbox_id IS NOT NULL
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
