"""Outbox rows that Kafka refuses for good: the relay sets them aside, operators look at them and settle them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from domain.dead_letters import RefusedRow
from storage.postgres.connections import Connections

_COLUMNS: Final = """
    o.id, o.topic, o.key, o.event_id, coalesce(octet_length(o.body), 0) AS size, o.refused_code AS code, o.refused_at,
    (SELECT count(*) FROM outbox w WHERE w.published_at IS NULL AND w.refused_at IS NULL AND w.key = o.key
        AND w.id > o.id) AS waiting
"""


class PostgresRefusedRows:
    """See ``processors.ports.operators.RefusedRows``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def retry(self, row_id: int) -> RefusedRow | None:
        row = await self._refused(row_id)
        if row is not None:
            await self._connection.execute(
                "UPDATE outbox SET refused_at = NULL, refused_code = NULL WHERE id = $1", row_id
            )
            await self._connection.execute("SELECT pg_notify('dpj_outbox', '')")
        return row

    async def drop(self, row_id: int) -> RefusedRow | None:
        row = await self._refused(row_id)
        if row is not None:
            # ``refused_at`` stays: it tells a dropped row from a published one until both are pruned.
            await self._connection.execute("UPDATE outbox SET published_at = now() WHERE id = $1", row_id)
            await self._connection.execute("SELECT pg_notify('dpj_outbox', '')")
        return row

    async def _refused(self, row_id: int) -> RefusedRow | None:
        row = await self._connection.fetchrow(
            f"SELECT {_COLUMNS} FROM outbox o WHERE o.id = $1 AND o.published_at IS NULL AND o.refused_at IS NOT NULL"  # noqa: S608
            " FOR UPDATE OF o",
            row_id,
        )
        return None if row is None else _row(row)


class PostgresRefusedRowQueries:
    """What operators ask, outside transactions. Raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def refused(self, limit: int) -> Sequence[RefusedRow]:
        """Oldest first."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                f"SELECT {_COLUMNS} FROM outbox o WHERE o.published_at IS NULL AND o.refused_at IS NOT NULL"  # noqa: S608
                " ORDER BY o.id LIMIT $1",
                limit,
            )
        return [_row(row) for row in rows]


def _row(row: Any) -> RefusedRow:
    key: bytes | None = row["key"]
    return RefusedRow(
        id=row["id"],
        topic=row["topic"],
        key=None if key is None else key.decode("utf-8", "replace"),
        event_id=row["event_id"],
        size=row["size"],
        code=row["code"],
        refused_at=row["refused_at"],
        waiting=row["waiting"],
    )
