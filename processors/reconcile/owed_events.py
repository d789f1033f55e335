"""Events that some consumer must still finish and that Kafka brings no more: found, told, and sent again.

What is owed is in PostgreSQL alone: a published event stays in the outbox until the inbox says of every consumer that must finish it
that it has (DONE), or has given it up (DEAD), or has a dead letter of the very record that the event became. So a broker that lost its data, offsets that somebody moved, or a record that retention
deleted leave a row that Kafka's offsets prove to be nowhere: such an event is lost. Sent again, it goes to all its consumers; those
that have finished it acknowledge it unread.

The offsets are read before the rows. A consumer finishes an event before it commits the offset behind it, so an event that is still
owed then, behind a committed offset, is lost, and not merely late.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, Protocol
from uuid import uuid4

import structlog

from domain.audit_chain import SYSTEM_TENANT
from domain.errors import BrokerUnavailable
from domain.owed_events import LostEvent, OwedEvent, Progress
from domain.shared.crash_points import reach
from processors.documents.transitions import Origin, audit_line
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.work import HasOutbox, HasReEmissions

log = structlog.get_logger()

SLICE_ROWS: Final = 5_000
#: Between two slices, so that a sweep through a backlog leaves the database to others.
PAUSE_SECONDS: Final = 0.05
#: So many events are sent again in one transaction.
BATCH_ROWS: Final = 200
#: Lost events that a look remembers one by one; it counts them all.
MOST_LOST: Final = 50_000
ACTOR: Final = "system:relay"


class OutboxSlice(Protocol):
    @property
    def last(self) -> int | None: ...

    @property
    def published(self) -> bool: ...

    @property
    def finished(self) -> Sequence[int]: ...

    @property
    def owed(self) -> Sequence[OwedEvent]: ...


class OwedRows(Protocol):
    """Published rows of the outbox. Raises DatabaseUnavailable."""

    async def slice(self, after: int, limit: int) -> OutboxSlice:
        """The first ``limit`` rows behind the id ``after``."""
        ...

    async def remove(self, row_ids: Sequence[int]) -> None: ...

    async def note_lost(self, lost: Sequence[LostEvent]) -> None:
        """Have PostgreSQL know which rows are lost and wait for an operator: these, and no others."""
        ...


class ReEmissionWork(HasOutbox, HasReEmissions, Protocol):
    """Events are sent again with the audit line that says so, or not at all."""


#: How far every group is, read from Kafka now. Raises BrokerUnavailable.
ReadProgress = Callable[[], Awaitable[Progress]]


@dataclass(slots=True)
class OwedReport:
    """What a look found. ``lost`` has the first of them, ``count`` all by consumer, ``oldest`` when the oldest was published.
    ``known`` is False if Kafka could not be asked: then nothing is known to be lost, and nothing not to be."""

    lost: list[LostEvent] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)
    oldest: dict[str, datetime] = field(default_factory=dict)
    removed: int = 0
    known: bool = True

    def add(self, found: LostEvent) -> None:
        for consumer in found.consumers:
            self.count[consumer] += 1
            first = self.oldest.get(consumer, found.event.published_at)
            self.oldest[consumer] = min(first, found.event.published_at)
        if len(self.lost) < MOST_LOST:
            self.lost.append(found)


class OwedEvents:
    """Looks, and has events sent again. Two that do it at once send some twice, which consumers notice."""

    def __init__(
        self,
        rows: OwedRows,
        read_progress: ReadProgress,
        database: Transactions[ReEmissionWork],
        clock: Clock,
    ) -> None:
        self._rows = rows
        self._read_progress = read_progress
        self._database = database
        self._clock = clock

    async def look(self, *, after_seconds: float, prune: bool = False) -> OwedReport:
        """Go through the outbox once. Only what was published ``after_seconds`` ago or longer can be lost; with ``prune``, what
        everybody has finished is removed. Raises DatabaseUnavailable."""
        report = OwedReport()
        progress: Progress | None = None
        after = 0
        before = self._clock.now() - timedelta(seconds=after_seconds)
        while True:
            rows = await self._rows.slice(after, SLICE_ROWS)
            if progress is None and report.known and any(_old(rows, before)):
                try:
                    progress = await self._read_progress()
                except BrokerUnavailable:
                    report.known = False
                else:
                    rows = await self._rows.slice(
                        after, SLICE_ROWS
                    )  # what was finished before the offsets were read is not owed
            if progress is not None:
                for event in _old(rows, before):
                    if consumers := event.lost_to(progress):
                        report.add(LostEvent(event, consumers))
            if prune and rows.finished:
                await self._rows.remove(rows.finished)
                report.removed += len(rows.finished)
            # Behind so many rows that wait to be published there are none that were.
            if rows.last is None or not rows.published:
                return report
            after = rows.last
            await asyncio.sleep(PAUSE_SECONDS)

    async def note_lost(self, report: OwedReport, *, by_itself: bool) -> None:
        """Note what only an operator's act moves, so that whoever asks about a document learns it without Kafka. ``by_itself``: whether
        lost events are sent again without anybody asking for it. Raises DatabaseUnavailable."""
        if report.known:
            await self._rows.note_lost([one for one in report.lost if not (by_itself and one.goes_by_itself)])

    async def re_emit(
        self, lost: Sequence[LostEvent], actor: str, *, reason: str, rate: float | None = None, apply: bool = True
    ) -> int:
        """Have lost events published again, at most ``rate`` a second; gives how many are. Stopped anywhere, those sent are sent, and
        the others are found by the next look. Raises DatabaseUnavailable."""
        if not apply:
            return len(lost)
        sent = 0
        size = BATCH_ROWS if rate is None else max(1, min(BATCH_ROWS, int(rate)))
        left = iter(lost)
        while batch := list(islice(left, size)):
            if sent and rate is not None:
                await asyncio.sleep(size / rate)
            async with self._database.transaction() as work:
                count = await work.re_emissions.re_emit([one.event.row_id for one in batch])
                reach("owed.marked")
                if count:
                    origin = Origin(actor=actor, at=self._clock.now(), correlation_id=uuid4())
                    rows = f"{batch[0].event.row_id}-{batch[-1].event.row_id}"
                    details = {"events": count, "reason": reason, "consumers": _by_consumer(batch), "rows": rows}
                    line = audit_line(origin, SYSTEM_TENANT, "outbox_row", rows, "outbox.re_emitted", details=details)
                    await work.outbox.add(line)
            sent += count
            log.warning("events_re_emitted", events=count, consumers=_by_consumer(batch), reason=reason)
        return sent


def _old(rows: OutboxSlice, before: datetime) -> Iterator[OwedEvent]:
    return (event for event in rows.owed if event.published_at <= before)


def _by_consumer(lost: Sequence[LostEvent]) -> dict[str, int]:
    return dict(sorted(Counter(name for one in lost for name in one.consumers).items()))
