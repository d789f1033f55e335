"""Whether the object store takes a write now, found out by writing.

A full store answers every question and refuses every upload. Remembering refused uploads would not do: once a process is not
ready it is sent none, so nothing would tell it that there is room again. So a small object is put and deleted, seldom, however
often readiness is asked.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol

from domain.errors import ObjectStoreUnavailable
from domain.objects import WRITE_PROBE_KEY, StoredObject

#: More than a store keeps within an entry of its index, so that room for content is asked for.
PROBE_BYTES: Final = 256 * 1024
PIECE_BYTES: Final = 64 * 1024
#: What was found is told for so long.
ROOM_SECONDS: Final = 15.0
NO_ROOM_SECONDS: Final = 5.0


class ProbedStore(Protocol):
    """The store itself, not behind its circuit breaker: a store without room still gives what it has."""

    async def put(self, key: str, data: AsyncIterator[bytes]) -> StoredObject: ...

    async def delete(self, key: str) -> None: ...


class WriteProbe:
    """``check`` asks whether the store is there, each time; ``clock`` gives monotonic seconds. For one caller at a time."""

    def __init__(
        self, store: ProbedStore, check: Callable[[], Awaitable[None]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._check = check
        self._clock = clock
        self._asked_at: float | None = None
        self._has_room = False

    async def check(self) -> None:
        """Raises ObjectStoreUnavailable if the store is away, or took no write when it was last tried."""
        await self._check()
        keep = ROOM_SECONDS if self._has_room else NO_ROOM_SECONDS
        if self._asked_at is None or self._clock() - self._asked_at >= keep:
            # Before it is tried: a try that is given up leaves a store that is slow alone for a while.
            self._asked_at, self._has_room = self._clock(), False
            await self._store.put(WRITE_PROBE_KEY, _content())
            await self._store.delete(WRITE_PROBE_KEY)
            self._has_room = True
        if not self._has_room:
            raise ObjectStoreUnavailable("The object store takes no writes.")


async def _content() -> AsyncIterator[bytes]:
    for _ in range(PROBE_BYTES // PIECE_BYTES):
        yield bytes(PIECE_BYTES)
