"""Sessions of people who are signed in to the console, table ``sessions_console``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from domain.sessions import StoredSession


class PostgresConsoleSessions:
    """See ``processors.ports.sessions.ConsoleSessions``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def add(self, session: StoredSession) -> None:
        await self._connection.execute("DELETE FROM sessions_console WHERE finit_a <= $1", session.opened_at)
        await self._connection.execute(
            """
            INSERT INTO sessions_console (empreinte, identite_scellee, marques, ouverte_a, vue_a, finit_a)
            VALUES ($1, $2, $3, $4, $5, $6)
            """,
            session.digest,
            session.identity_sealed,
            list(session.marks),
            session.opened_at,
            session.seen_at,
            session.ends_at,
        )

    async def find(self, digest: bytes) -> StoredSession | None:
        row = await self._connection.fetchrow("SELECT * FROM sessions_console WHERE empreinte = $1", digest)
        return None if row is None else _session(row)

    async def touch(self, digest: bytes, at: datetime) -> None:
        await self._connection.execute("UPDATE sessions_console SET vue_a = $2 WHERE empreinte = $1", digest, at)

    async def remove(self, digest: bytes) -> StoredSession | None:
        row = await self._connection.fetchrow("DELETE FROM sessions_console WHERE empreinte = $1 RETURNING *", digest)
        return None if row is None else _session(row)

    async def remove_marked(self, marks: Sequence[str]) -> Sequence[StoredSession]:
        rows = await self._connection.fetch(
            "DELETE FROM sessions_console WHERE marques && $1::varchar[] RETURNING *", list(marks)
        )
        return [_session(row) for row in rows]


def _session(row: Mapping[str, Any]) -> StoredSession:
    return StoredSession(
        digest=row["empreinte"],
        identity_sealed=row["identite_scellee"],
        marks=tuple(row["marques"]),
        opened_at=row["ouverte_a"],
        seen_at=row["vue_a"],
        ends_at=row["finit_a"],
    )
