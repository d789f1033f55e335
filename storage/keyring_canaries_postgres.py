"""The keys that a keyring must open to vouch for itself: one for each version of a key-encryption key."""

from __future__ import annotations

from domain.keys import WrappedKey
from storage.postgres_connections import Connections


class PostgresCanaries:
    """See ``processors.vouching.Canaries``."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def find(self, wrapped: WrappedKey) -> WrappedKey | None:
        async with self._postgres.connection() as connection:
            ciphertext = await connection.fetchval(
                "SELECT ciphertext FROM keyring_canaries WHERE scheme = $1 AND key_name = $2 AND key_version = $3",
                wrapped.scheme,
                wrapped.key_name,
                wrapped.key_version,
            )
        if ciphertext is None:
            return None
        return WrappedKey(wrapped.scheme, wrapped.key_name, wrapped.key_version, ciphertext)

    async def keep(self, canary: WrappedKey) -> WrappedKey:
        async with self._postgres.connection() as connection:
            await connection.execute(
                """
                INSERT INTO keyring_canaries (scheme, key_name, key_version, ciphertext) VALUES ($1, $2, $3, $4)
                ON CONFLICT DO NOTHING
                """,
                canary.scheme,
                canary.key_name,
                canary.key_version,
                canary.ciphertext,
            )
        return await self.find(canary) or canary
