"""What operators did with dead letters, which events are held now, and outbox rows that Kafka refuses for good."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = (
    # A letter is a place in Kafka; the time it was written tells it from one in a topic that was made anew.
    """
    CREATE TABLE dead_letter_marks (
        topic varchar(249) NOT NULL,
        partition integer NOT NULL,
        "offset" bigint NOT NULL,
        written_ms bigint NOT NULL,
        act varchar(16) NOT NULL CHECK (act IN ('REDRIVEN', 'DISCARDED')),
        actor varchar(128) NOT NULL,
        reason varchar(64),
        marked_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (topic, partition, "offset", written_ms)
    )
    """,
    "CREATE INDEX dead_letter_marks_age ON dead_letter_marks (marked_at)",
    """
    CREATE TABLE held_events (
        consumer varchar(64) NOT NULL,
        event_id uuid NOT NULL,
        document_key varchar(128) NOT NULL,
        tenant varchar(64),
        topic varchar(249) NOT NULL,
        partition integer NOT NULL,
        "offset" bigint NOT NULL,
        code varchar(64) NOT NULL,
        waiting_for varchar(64) NOT NULL,
        attempts integer NOT NULL,
        held_since timestamptz NOT NULL DEFAULT now(),
        noted_at timestamptz NOT NULL DEFAULT now(),
        given_up_at timestamptz,
        given_up_by varchar(128),
        given_up_reason varchar(64),
        PRIMARY KEY (consumer, event_id)
    ) WITH (fillfactor = 50)
    """,
    "CREATE INDEX held_events_age ON held_events (noted_at)",
    # A row refused for good waits for an operator, and the later rows of its key wait with it.
    "ALTER TABLE outbox ADD COLUMN refused_at timestamptz, ADD COLUMN refused_code varchar(64)",
    "DROP INDEX outbox_unpublished",
    "CREATE INDEX outbox_unpublished ON outbox (id) WHERE published_at IS NULL AND refused_at IS NULL",
    """
    CREATE INDEX outbox_refused ON outbox (key, id)
    WHERE published_at IS NULL AND refused_at IS NOT NULL
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
