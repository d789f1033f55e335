"""Figures of the last seven days, one a minute, so that trends are there without a monitoring system.

    releves     per minute and place (a consumer, or the outbox): what waited there, and for how many seconds; NULL: unknown

The watchdog writes a minute's rows and removes those that are older; whoever comes second in a minute writes nothing.
"""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE releves (
            minute timestamptz NOT NULL,
            lieu varchar(64) NOT NULL,
            en_attente bigint,
            retard_secondes double precision,
            PRIMARY KEY (minute, lieu)
        )
        """
    )
