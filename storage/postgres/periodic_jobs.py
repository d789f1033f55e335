"""When regular work was done last (travaux_periodiques), so that a process that was just started, or just chosen, knows."""

from __future__ import annotations

from storage.postgres.connections import Connections


class PostgresPeriodicJobs:
    """See ``processors.ports.erasure.PeriodicJobs``."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def age(self, name: str) -> float | None:
        async with self._postgres.connection() as connection:
            age: float | None = await connection.fetchval(
                "SELECT extract(epoch FROM clock_timestamp() - acheve_a)::float8 FROM travaux_periodiques WHERE travail = $1",
                name,
            )
        return age

    async def mark_done(self, name: str) -> None:
        async with self._postgres.connection() as connection:
            await connection.execute(
                """
                INSERT INTO travaux_periodiques (travail, acheve_a) VALUES ($1, clock_timestamp())
                ON CONFLICT (travail) DO UPDATE SET acheve_a = excluded.acheve_a
                """,
                name,
            )
