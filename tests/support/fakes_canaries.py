"""Canaries in memory."""

from __future__ import annotations

from domain.errors import DatabaseUnavailable
from domain.key_encryption_keys import Canary
from domain.keys import WrappedKey


class MemoryCanaries:
    """Canaries in a dict by version; ``away`` makes it the database's outage."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str, int], Canary] = {}
        self.away = False

    async def find(self, wrapped: WrappedKey) -> Canary | None:
        of_key = [one for (*key, _), one in self.held.items() if key == [wrapped.scheme, wrapped.key_name]]
        newest = max(of_key, key=lambda one: one.wrapped.key_version, default=None)
        return self.held.get((wrapped.scheme, wrapped.key_name, wrapped.key_version), newest)

    async def put_if_absent(self, canary: Canary) -> Canary:
        if self.away:
            raise DatabaseUnavailable
        wrapped = canary.wrapped
        return self.held.setdefault((wrapped.scheme, wrapped.key_name, wrapped.key_version), canary)

    async def sample(self, limit: int) -> list[Canary]:
        if self.away:
            raise DatabaseUnavailable
        return list(self.held.values())[:limit]
