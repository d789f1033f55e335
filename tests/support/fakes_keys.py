"""Wrapped keys in memory, for acts on keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from domain.key_encryption_keys import Canary, KeyState, KeyUse, StoredWrappedKey
from domain.keys import WrappedKey
from domain.refusals import KeyVersionInUse


class MemoryWrappedKeys:
    """Documents' wrapped keys and canaries. ``held`` are documents that somebody else holds; ``floors`` by key name."""

    def __init__(self) -> None:
        self.rows: dict[UUID, StoredWrappedKey] = {}
        self.kept: list[Canary] = []
        self.held: set[UUID] = set()
        self.floors: dict[str, int] = {}
        self.calls: list[str] = []

    async def uses(self, scheme: str | None = None, names: Sequence[str] = ()) -> Sequence[KeyUse]:
        counts: dict[tuple[str, str, int, str], int] = {}
        for row in self.rows.values():
            wrapped = row.wrapped
            if scheme is None or (wrapped.scheme == scheme and wrapped.key_name in names):
                place = (wrapped.scheme, wrapped.key_name, wrapped.key_version, row.tenant)
                counts[place] = counts.get(place, 0) + 1
        return [KeyUse(*place, count) for place, count in sorted(counts.items())]

    async def page(self, use: KeyUse, after: UUID | None, limit: int) -> Sequence[StoredWrappedKey]:
        place = (use.scheme, use.name, use.version, use.tenant)
        found = [
            row
            for row in sorted(self.rows.values(), key=lambda row: row.document_id.bytes)
            if (row.wrapped.scheme, row.wrapped.key_name, row.wrapped.key_version, row.tenant) == place
            and (after is None or row.document_id.bytes > after.bytes)
        ]
        return found[:limit]

    async def replace(self, pairs: Sequence[tuple[StoredWrappedKey, WrappedKey]]) -> int:
        self.calls.append("replace")
        free = [(kept, new) for kept, new in pairs if kept.document_id not in self.held]
        moved = [(kept, new) for kept, new in free if self.rows.get(kept.document_id) == kept]
        for kept, new in moved:
            self.rows[kept.document_id] = StoredWrappedKey(kept.document_id, kept.tenant, new)
        return len(moved)

    async def retire(self, key: KeyState, version: int, begun_before: datetime | None) -> None:
        self.calls.append("retire")
        if any(use.version < version for use in await self.uses(key.scheme, [key.name])):
            raise KeyVersionInUse
        self.floors[key.name] = version

    # --- canaries ------------------------------------------------------------------------------------------------

    async def of(self, scheme: str, key_name: str) -> Sequence[Canary]:
        return [one for one in self.kept if (one.wrapped.scheme, one.wrapped.key_name) == (scheme, key_name)]

    async def move(self, old: Canary, new: Canary) -> None:
        self.kept = [one for one in self.kept if one != old]
        if all(one.wrapped.key_version != new.wrapped.key_version for one in self.kept):
            self.kept.append(new)
