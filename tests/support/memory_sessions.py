"""Sessions of the console in memory; see ``processors.ports.sessions.ConsoleSessions``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from domain.sessions import StoredSession


class MemoryConsoleSessions:
    def __init__(self, rows: dict[bytes, StoredSession]) -> None:
        self._rows = rows

    async def add(self, session: StoredSession) -> None:
        for digest in [one.digest for one in self._rows.values() if one.ends_at <= session.opened_at]:
            del self._rows[digest]
        self._rows[session.digest] = session

    async def find(self, digest: bytes) -> StoredSession | None:
        return self._rows.get(digest)

    async def touch(self, digest: bytes, at: datetime) -> None:
        if digest in self._rows:
            self._rows[digest] = replace(self._rows[digest], seen_at=at)

    async def remove(self, digest: bytes) -> StoredSession | None:
        return self._rows.pop(digest, None)

    async def remove_marked(self, marks: Sequence[str]) -> Sequence[StoredSession]:
        found = [one for one in self._rows.values() if set(marks) & set(one.marks)]
        for one in found:
            del self._rows[one.digest]
        return found
