"""Pauses of consumers (pauses): rows that lanes obey. One that is over stays for who asks what happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import asyncpg

from domain.pauses import Pause
from storage.postgres.connections import Connections


class PostgresPauses:
    """See ``processors.ports.pauses.Pauses``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def pause(self, pause: Pause) -> bool:
        # Of two who pause one consumer at once the second waits, and finds the first one's.
        await self._connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"pause/{pause.consumer}"
        )
        added = await self._connection.fetchval(
            """
            INSERT INTO pauses (consumer, demandee_par, motif, demandee_a, jusqu_a)
            SELECT $1::varchar, $2::varchar, $3::varchar, $4::timestamptz, $5::timestamptz WHERE NOT EXISTS (
                SELECT FROM pauses WHERE consumer = $1 AND levee_a IS NULL AND jusqu_a > clock_timestamp())
            RETURNING true
            """,
            pause.consumer,
            pause.by,
            pause.reason,
            pause.since,
            pause.until,
        )
        return bool(added)

    async def resume(self, consumer: str, actor: str) -> Pause | None:
        row = await self._connection.fetchrow(
            """
            UPDATE pauses SET levee_a = clock_timestamp(), levee_par = $2
            WHERE consumer = $1 AND levee_a IS NULL AND jusqu_a > clock_timestamp() RETURNING *
            """,
            consumer,
            actor,
        )
        return None if row is None else _pause(row)


class PostgresPauseQueries:
    """Which consumers are paused now. Raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def remaining(self) -> Mapping[str, tuple[Pause, float]]:
        """By consumer, with the seconds that are left by the database's clock."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT *, extract(epoch FROM jusqu_a - clock_timestamp())::float8 AS reste FROM pauses
                WHERE levee_a IS NULL AND jusqu_a > clock_timestamp() ORDER BY numero
                """
            )
        return {row["consumer"]: (_pause(row), row["reste"]) for row in rows}

    async def paused(self) -> Mapping[str, Pause]:
        """By consumer."""
        return {consumer: pause for consumer, (pause, _) in (await self.remaining()).items()}


def _pause(row: Any) -> Pause:
    return Pause(
        consumer=row["consumer"],
        by=row["demandee_par"],
        reason=row["motif"],
        since=row["demandee_a"],
        until=row["jusqu_a"],
    )
