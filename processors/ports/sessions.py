"""Sessions of people who are signed in to the console; part of ``processors.ports.work.Work``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from domain.sessions import StoredSession


class ConsoleSessions(Protocol):
    """Rows of sessions, inside a transaction."""

    async def add(self, session: StoredSession) -> None:
        """Keep a new session. Those that had ended when it was opened are removed."""
        ...

    async def find(self, digest: bytes) -> StoredSession | None: ...

    async def touch(self, digest: bytes, at: datetime) -> None:
        """Its person was there at that time."""
        ...

    async def remove(self, digest: bytes) -> StoredSession | None:
        """The session that was there."""
        ...

    async def remove_marked(self, marks: Sequence[str]) -> Sequence[StoredSession]:
        """The sessions with one of the marks, which are removed."""
        ...
