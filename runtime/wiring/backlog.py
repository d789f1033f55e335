"""What the outbox holds back, for a command that needs nothing else of a site: it loads no more than the database's driver."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from domain.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from domain.overview import OutboxOverview
    from runtime.config.settings import Settings


def outbox_backlog(settings: Settings) -> OutboxOverview | None:
    """Rows that wait for the relay or that Kafka refuses; None if the database does not say, or has no tables yet."""
    return asyncio.run(_ask(settings))


async def _ask(settings: Settings) -> OutboxOverview | None:
    from asyncpg import UndefinedTableError

    from storage.postgres.database import Postgres
    from storage.postgres.overview import PostgresOverview

    postgres = Postgres(settings.postgres_dsn.get_secret_value(), connections=1)
    try:
        return await PostgresOverview(postgres, {}).outbox()
    except (DatabaseUnavailable, UndefinedTableError):
        return None
    finally:
        await postgres.aclose()
