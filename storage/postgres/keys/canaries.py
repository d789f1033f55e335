"""Canaries: wrapped keys that a keyring must open, one for each version of a key-encryption key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from domain.key_encryption_keys import Canary
from domain.keys import WrappedKey
from storage.postgres.connections import Connections
from storage.postgres.keys.wrapped_keys import translated_retirement


class PostgresCanaries:
    """See ``processors.resilience.canary_keyring.Canaries`` and ``processors.operators.keys.MovableCanaries``."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def find(self, wrapped: WrappedKey) -> Canary | None:
        async with self._postgres.connection() as connection:
            row = await connection.fetchrow(
                """
                SELECT * FROM keyring_canaries WHERE scheme = $1 AND key_name = $2
                ORDER BY key_version = $3 DESC, key_version DESC LIMIT 1
                """,
                wrapped.scheme,
                wrapped.key_name,
                wrapped.key_version,
            )
        return None if row is None else _canary(row)

    async def put_if_absent(self, canary: Canary) -> Canary:
        wrapped = canary.wrapped
        with translated_retirement():
            async with self._postgres.connection() as connection:
                await connection.execute(
                    """
                    INSERT INTO keyring_canaries (scheme, key_name, key_version, ciphertext, tenant)
                    VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
                    """,
                    wrapped.scheme,
                    wrapped.key_name,
                    wrapped.key_version,
                    wrapped.ciphertext,
                    canary.tenant,
                )
        return await self.find(wrapped) or canary

    async def sample(self, limit: int) -> Sequence[Canary]:
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT * FROM (
                    SELECT DISTINCT ON (scheme, key_name) * FROM keyring_canaries
                    ORDER BY scheme, key_name, key_version DESC
                ) AS newest ORDER BY random() LIMIT $1
                """,
                limit,
            )
        return [_canary(row) for row in rows]

    async def of(self, scheme: str, key_name: str) -> Sequence[Canary]:
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                "SELECT * FROM keyring_canaries WHERE scheme = $1 AND key_name = $2 ORDER BY key_version",
                scheme,
                key_name,
            )
        return [_canary(row) for row in rows]

    async def move(self, old: Canary, new: Canary) -> None:
        await self.put_if_absent(new)
        async with self._postgres.connection() as connection:
            await connection.execute(
                "DELETE FROM keyring_canaries WHERE scheme = $1 AND key_name = $2 AND key_version = $3 AND ciphertext = $4",
                old.wrapped.scheme,
                old.wrapped.key_name,
                old.wrapped.key_version,
                old.wrapped.ciphertext,
            )


def _canary(row: Mapping[str, Any]) -> Canary:
    wrapped = WrappedKey(row["scheme"], row["key_name"], row["key_version"], row["ciphertext"])
    return Canary(row["tenant"], wrapped)
