"""Revoked tokens in PostgreSQL; see ``processors.documents.revocations.Revocations``."""

from __future__ import annotations

from collections.abc import Sequence

from domain.errors import DatabaseUnavailable, RevocationsUnavailable
from domain.revocations import Revocation, RevocationSnapshot
from storage.postgres.connections import Connections


class PostgresRevocations:
    """``postgres`` should be connections of its own: those that wait for a place in a busy pool would know too little."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def add(self, revocations: Sequence[Revocation]) -> None:
        try:
            async with self._postgres.connection() as connection, connection.transaction():
                # First, for its row's lock: versions are seen in the order in which they were given.
                await connection.execute("UPDATE token_revocation_version SET version = version + 1")
                await connection.execute("DELETE FROM token_revocations WHERE until < now()")
                await connection.executemany(
                    """
                    INSERT INTO token_revocations (mark, until) VALUES ($1, $2)
                    ON CONFLICT (mark) DO UPDATE SET until = greatest(token_revocations.until, excluded.until)
                    """,
                    [(one.mark, one.until) for one in revocations],
                )
        except DatabaseUnavailable as error:
            raise RevocationsUnavailable(error.detail) from None

    async def version(self) -> int:
        try:
            async with self._postgres.connection() as connection:
                return int(await connection.fetchval("SELECT version FROM token_revocation_version"))
        except DatabaseUnavailable as error:
            raise RevocationsUnavailable(error.detail) from None

    async def active(self) -> RevocationSnapshot:
        try:
            async with self._postgres.connection() as connection:
                rows = await connection.fetch(
                    """
                    SELECT version, mark, until FROM token_revocation_version
                    LEFT JOIN token_revocations ON until > now()
                    """
                )
        except DatabaseUnavailable as error:
            raise RevocationsUnavailable(error.detail) from None
        return RevocationSnapshot(
            rows[0]["version"], {row["mark"]: row["until"] for row in rows if row["mark"] is not None}
        )
