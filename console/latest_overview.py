"""One look at the pipeline for all who are looking, and the rates between looks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from console.shared_look import SharedLook
from operations.overview.model import Overview

#: A look as young as this, in seconds, serves again.
FRESH_SECONDS: Final = 4.0
#: One as old as this is not shown any more: the page waits for the next.
STALE_SECONDS: Final = 20.0
#: Looks that rates are taken from, and how far apart they have to be for that.
KEEP_LOOKS: Final = 60
RATE_SECONDS: Final = 20.0
MOST_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class _Offsets:
    """Monotonic seconds; end offsets by topic and partition, committed ones by consumer, topic and partition."""

    at: float
    ends: dict[tuple[str, int], int]
    committed: dict[tuple[str, str, int], int]


class LatestOverview:
    """``look`` never raises for what is away; ``clock`` gives monotonic seconds."""

    def __init__(self, look: Callable[[], Awaitable[Overview]], clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._clock = clock
        self._shared = SharedLook(self._looked, fresh=FRESH_SECONDS, stale=STALE_SECONDS, clock=clock)
        self._offsets: deque[_Offsets] = deque(maxlen=KEEP_LOOKS)

    async def get(self) -> Overview:
        """As found a few seconds ago."""
        return await self._shared.get()

    async def _looked(self) -> Overview:
        found = await self._look()
        self._remember(found)
        return found

    def rate_in(self, topic: str) -> float | None:
        """Records a second that came to a topic lately; None while nobody knows."""
        now, before = self._span()
        if now is None or before is None:
            return None
        come = [
            end - before.ends[place] for place, end in now.ends.items() if place[0] == topic and place in before.ends
        ]
        return max(0, sum(come)) / (now.at - before.at) if come else None

    def rate_out(self, consumer: str, topic: str) -> float | None:
        """Records a second of a topic that a consumer finished lately; None while nobody knows."""
        now, before = self._span()
        if now is None or before is None:
            return None
        gone = [
            offset - before.committed[place]
            for place, offset in now.committed.items()
            if place[:2] == (consumer, topic) and place in before.committed
        ]
        return max(0, sum(gone)) / (now.at - before.at) if gone else None

    def _span(self) -> tuple[_Offsets | None, _Offsets | None]:
        """The newest look, and the first of the last minutes that is far enough from it."""
        if not self._offsets:
            return None, None
        now = self._offsets[-1]
        before = [one for one in self._offsets if RATE_SECONDS <= now.at - one.at <= MOST_SECONDS]
        return now, before[0] if before else None

    def _remember(self, found: Overview) -> None:
        ends: dict[tuple[str, int], int] = {}
        committed: dict[tuple[str, str, int], int] = {}
        for consumer in found.consumers:
            for one in consumer.partitions or ():
                ends[one.topic, one.partition] = one.end
                if one.committed is not None:
                    committed[consumer.consumer, one.topic, one.partition] = one.committed
        if ends:
            self._offsets.append(_Offsets(self._clock(), ends, committed))
