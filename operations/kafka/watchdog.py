"""The stall watchdog: from outside the workers, whether each partition's committed offset moves while it has a lag.

A worker's own word is not asked for the alarm, but for one thing: that an operator has paused it, which is no stall. It is asked which
record it can't get past: one record may make a consumer crash again and again, and then every partition of that consumer stands. The
alarm is for the partition of that record, and the others are told of as held up by it. A worker is asked once more before it is ended:
one that says what it waits for is left alone, because a restart would not bring that back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import structlog

from domain.consumers import consumer_of
from domain.errors import BrokerUnavailable
from domain.pauses import WAITING_FOR
from domain.shared.waiting import until_stopped
from operations.kafka.lag import PartitionLag

log = structlog.get_logger()

#: What a worker that was just started may take to join its group: as long again as the session of a killed one lasts.
START_SECONDS: Final = 60.0
#: The time between two restarts doubles as long as they do not help, up to this many times the first.
MAX_PATIENCE: Final = 16

#: How soon a broker that did not answer is asked again.
AGAIN_SECONDS: Final = 1.0

#: What a worker may say it waits for without being excused by it: these are its own affairs.
NOT_WAITING: Final = frozenset({"retry", "other_worker"})

PartitionKey = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Stall:
    """A partition whose group has not moved for ``seconds`` though ``lag`` records wait. ``held_up_by``: the record of another
    partition (topic/partition/offset) at which its consumer crashes."""

    consumer: str
    topic: str
    partition: int
    lag: int
    seconds: float
    held_up_by: str | None = None

    @property
    def place(self) -> PartitionKey:
        return self.consumer, self.topic, self.partition


class StallDetector:
    """Remembers since when each partition stands. ``seconds`` without progress are a stall; ``clock`` is monotonic."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds: Final = seconds
        self._clock = clock
        self._standing: dict[PartitionKey, tuple[int | None, float]] = {}

    def observe(self, rows: Sequence[PartitionLag]) -> list[Stall]:
        """The partitions that are stalled by these rows and the earlier ones."""
        now = self._clock()
        standing: dict[PartitionKey, tuple[int | None, float]] = {}
        stalls = []
        for row in rows:
            if row.lag == 0:
                continue
            consumer = consumer_of(row.group)
            place = (consumer, row.topic, row.partition)
            committed, since = self._standing.get(place, (row.committed, now))
            if committed != row.committed:
                since = now
            standing[place] = (row.committed, since)
            if now - since >= self._seconds:
                stalls.append(Stall(*place, row.lag, now - since))
        self._standing = standing
        return stalls

    def forget(self, consumers: Collection[str] | None = None) -> None:
        """Count anew, for all consumers or for these: nobody could have moved until now."""
        now = self._clock()
        for place, (committed, _) in self._standing.items():
            if consumers is None or place[0] in consumers:
                self._standing[place] = (committed, now)


class StallObserver(Protocol):
    def stalled(self, place: PartitionKey, *, stalled: bool) -> None: ...

    def restarted(self, consumer: str) -> None: ...


#: The lag of all groups, without ages. Raises BrokerUnavailable.
Measure = Callable[[], Awaitable[Sequence[PartitionLag]]]
#: What a consumer's worker says it waits for; None if it does not answer at all.
Ask = Callable[[str], Awaitable[Mapping[str, object] | None]]
#: The records (topic/partition/offset) at which a consumer's worker says that it crashes; none if it does not answer.
CrashesAt = Callable[[str], Awaitable[Sequence[str]]]
#: Ends a consumer's worker and starts it anew.
Restart = Callable[[str], Awaitable[None]]


class Watchdog:
    """Looks every ``interval`` seconds, sooner while the broker is away. ``restart`` is None where workers are somebody else's to restart.

    ``waiting`` while the broker does not answer; ``stalls`` is what was found last; ``looked``: when (Unix seconds), None before the
    first look.
    """

    def __init__(
        self,
        measure: Measure,
        detector: StallDetector,
        metrics: StallObserver,
        *,
        interval: float,
        clock: Callable[[], float],
        ask: Ask,
        crashes_at: CrashesAt,
        restart: Restart | None = None,
    ) -> None:
        self._measure = measure
        self._detector = detector
        self._metrics = metrics
        self._interval: Final = interval
        self._ask = ask
        self._crashes_at = crashes_at
        self._restart = restart
        self._clock = clock
        self._known: dict[PartitionKey, Stall] = {}
        #: When each restarted consumer may be restarted again, and after how long again after that.
        self._patience: dict[str, tuple[float, float]] = {}
        self.waiting = True
        self.looked: float | None = None
        self._outage_logged = False

    @property
    def stalls(self) -> list[Stall]:
        return list(self._known.values())

    async def run(self, stopping: asyncio.Event) -> None:
        """Look until told to stop."""
        await until_stopped(stopping, self._turn)

    async def _turn(self) -> float:
        try:
            await self.check()
        except Exception as error:  # noqa: BLE001 - whatever went wrong with one look or restart, the next ones are needed
            log.error("watchdog_failed", error=type(error).__name__)
        return min(self._interval, AGAIN_SECONDS) if self.waiting else self._interval

    async def check(self) -> None:
        """Once: measure, raise and clear alarms, restart who stands without an excuse."""
        try:
            rows = await self._measure()
        except BrokerUnavailable as error:
            if not self._outage_logged:
                log.warning("watchdog_waiting", waiting_for=error.waiting_for)
            self.waiting = self._outage_logged = True
            self._detector.forget()  # nobody can make progress without the broker
            return
        self.waiting = self._outage_logged = False
        self.looked = time.time()
        stalls = await self._unpaused(self._detector.observe(rows))
        found = {stall.place: stall for stall in await self._blamed(stalls)}
        self._alarm(found)
        self._known = found
        stalled = {stall.consumer for stall in found.values()}
        self._patience = {consumer: times for consumer, times in self._patience.items() if consumer in stalled}
        if self._restart is not None:
            for consumer in sorted(stalled):
                await self._restart_unless_waiting(consumer, self._restart)

    async def _unpaused(self, stalls: Sequence[Stall]) -> list[Stall]:
        """Those whose worker does not say that an operator has paused it; for the others time counts anew."""
        consumers = {stall.consumer for stall in stalls}
        paused = {consumer for consumer in consumers if WAITING_FOR in (await self._ask(consumer) or {})}
        self._detector.forget(paused)
        return [stall for stall in stalls if stall.consumer not in paused]

    async def _blamed(self, stalls: Sequence[Stall]) -> list[Stall]:
        """``stalls``, with those held up that stand only because of a record in another partition."""
        records = {consumer: await self._crashes_at(consumer) for consumer in {stall.consumer for stall in stalls}}
        return [replace(stall, held_up_by=_other_than(stall, records[stall.consumer])) for stall in stalls]

    def _alarm(self, found: Mapping[PartitionKey, Stall]) -> None:
        """Raise and clear alarms, one line each."""
        for place, stall in self._known.items():
            if stall.held_up_by is None and (place not in found or found[place].held_up_by is not None):
                self._metrics.stalled(place, stalled=False)
            if place not in found:
                log.info("stall_ended", consumer=place[0], topic=place[1], partition=place[2])
        for place, stall in found.items():
            known = self._known.get(place)
            if known is not None and known.held_up_by == stall.held_up_by:
                continue
            where = {"consumer": place[0], "topic": place[1], "partition": place[2]}
            lag, seconds = stall.lag, round(stall.seconds)
            if stall.held_up_by is not None:
                log.warning("partition_held_up", **where, lag=lag, seconds=seconds, held_up_by=stall.held_up_by)
                continue
            self._metrics.stalled(place, stalled=True)
            log.error("partition_stalled", **where, lag=lag, seconds=seconds)

    async def _restart_unless_waiting(self, consumer: str, restart: Restart) -> None:
        not_before, patience = self._patience.get(consumer, (self._clock(), START_SECONDS))
        if self._clock() < not_before:
            return
        waiting_for = await self._ask(consumer)
        excuses = sorted(set(waiting_for or {}) - NOT_WAITING)
        if excuses:
            log.info("stalled_worker_waits", consumer=consumer, waiting_for=excuses)
            return
        log.warning("stalled_worker_restarted", consumer=consumer, answered=waiting_for is not None)
        await restart(consumer)
        self._metrics.restarted(consumer)
        self._patience[consumer] = (self._clock() + patience, min(2 * patience, MAX_PATIENCE * START_SECONDS))


def _other_than(stall: Stall, records: Sequence[str]) -> str | None:
    """The first of ``records`` if none is of the stalled partition itself."""
    own = f"{stall.topic}/{stall.partition}/"
    return None if any(record.startswith(own) for record in records) else next(iter(records), None)
