"""Revocations in memory; ``away`` makes the store one that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from domain.errors import RevocationsUnavailable
from domain.revocations import Revocation, RevocationSnapshot
from processors.ports.clock import Clock


class MemoryRevocations:
    """``away``: "refuses" or "hangs"; ``looks`` counts the times that the version was asked for, ``reads`` the whole reads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[str, datetime] = {}
        self._version = 0
        self.away: str | None = None
        self.looks = 0
        self.reads = 0

    async def add(self, revocations: Sequence[Revocation]) -> None:
        await self._answering()
        for one in revocations:
            self._until[one.mark] = max(one.until, self._until.get(one.mark, one.until))
        self._version += 1

    async def version(self) -> int:
        self.looks += 1
        await self._answering()
        return self._version

    async def active(self) -> RevocationSnapshot:
        self.reads += 1
        await self._answering()
        now = self._clock.now()
        return RevocationSnapshot(self._version, {mark: until for mark, until in self._until.items() if until > now})

    def forget(self) -> None:
        """As a store does once all is over."""
        self._until.clear()
        self._version += 1

    async def _answering(self) -> None:
        if self.away == "hangs":
            await asyncio.sleep(3600)
        if self.away is not None:
            raise RevocationsUnavailable
