"""Pauses as lanes obey them: while an operator has paused a consumer, no event of it is begun, and none that waits is tried again.

The pause is a row in PostgreSQL, and each worker reads the rows every few seconds. Kafka's own pause would end with the next rebalance;
here a partition that moves to another worker is paused there as well, and one that is killed starts paused. A paused event has no claim
and so no lease. Lanes fill up and push back on the consumer, which stays in its group.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

import structlog

from domain.pauses import Pause
from domain.shared.waiting import pause

log = structlog.get_logger()

#: Between two looks at the rows: the longest that a pause, or its end by an operator, is not known.
LOOK_SECONDS: Final = 2.0
#: Who is paused now, and for how many more seconds. Raises DatabaseUnavailable.
ReadPauses = Callable[[], Awaitable[Mapping[str, tuple[Pause, float]]]]


class Gate(Protocol):
    """What an event passes before it is begun."""

    def is_open(self, consumer: str) -> bool: ...

    async def opened(self, consumer: str) -> None:
        """Returns once the consumer is not paused."""
        ...


class OpenGate:
    """Nobody is ever paused."""

    def is_open(self, consumer: str) -> bool:  # noqa: ARG002
        return True

    async def opened(self, consumer: str) -> None: ...


class PauseGate:
    """The gate of one process. Closed until the rows were read once: a worker that was killed while paused begins nothing.

    While the database is away what was read last counts, and a pause ends by itself all the same; no event could be claimed anyway.
    """

    def __init__(self, read: ReadPauses, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._pauses: Mapping[str, tuple[Pause, float]] | None = None
        self._changed = asyncio.Event()

    async def refresh(self) -> None:
        """Read the rows. Raises DatabaseUnavailable."""
        asked_at = self._clock()
        found = {consumer: (pause_, asked_at + left) for consumer, (pause_, left) in (await self._read()).items()}
        before, self._pauses = self._pauses or {}, found
        for consumer in sorted(found.keys() ^ before.keys()):
            told = found.get(consumer) or before[consumer]
            event = "consumer_paused" if consumer in found else "consumer_resumed"
            log.warning(event, consumer=consumer, reason=told[0].reason, until=told[0].until.isoformat())
        self._changed.set()
        self._changed = asyncio.Event()

    def paused(self, consumer: str) -> Pause | None:
        """The pause that counts now, as far as this process knows."""
        found = None if self._pauses is None else self._pauses.get(consumer)
        return found[0] if found is not None and found[1] > self._clock() else None

    def is_open(self, consumer: str) -> bool:
        return self._pauses is not None and (not self._pauses or self.paused(consumer) is None)

    async def opened(self, consumer: str) -> None:
        while not self.is_open(consumer):
            ends = LOOK_SECONDS if self._pauses is None else self._pauses[consumer][1] - self._clock()
            await pause(self._changed, max(0.01, ends))
