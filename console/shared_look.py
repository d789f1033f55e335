"""One look for all who are looking: however many browsers ask, a store is asked every few seconds at most."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

Found = TypeVar("Found")


class SharedLook(Generic[Found]):
    """What ``look`` found, for ``fresh`` seconds as it is. Older than that it is shown at once, too, and looked for anew behind the
    page; older than ``stale`` seconds, a page waits for the next look. ``clock`` gives monotonic seconds."""

    def __init__(
        self,
        look: Callable[[], Awaitable[Found]],
        *,
        fresh: float,
        stale: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._fresh: Final = fresh
        self._stale: Final = stale
        self._clock = clock
        self._lock = asyncio.Lock()
        self._renewal: asyncio.Task[Found] | None = None
        self._found: Found | None = None
        self._found_at = 0.0

    @property
    def age(self) -> float:
        """Seconds since the newest look."""
        return self._clock() - self._found_at

    async def get(self) -> Found:
        """One look at a time: who comes meanwhile is shown the same. Raises what ``look`` raises, if a page waits for it."""
        if self._found is not None and self.age < self._stale:
            if self.age >= self._fresh and (self._renewal is None or self._renewal.done()):
                self._renewal = asyncio.create_task(self._renew())
                self._renewal.add_done_callback(_noticed)
            return self._found
        return await self._renew()

    async def _renew(self) -> Found:
        async with self._lock:
            if self._found is None or self.age >= self._fresh:
                self._found = await self._look()
                self._found_at = self._clock()
            return self._found


def _noticed(renewal: asyncio.Task[Found]) -> None:
    """A look behind a page that fails is tried again by the next page: nobody waits for this one."""
    if not renewal.cancelled():
        renewal.exception()
