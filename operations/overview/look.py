"""Looks at the whole pipeline once: Kafka's offsets, what PostgreSQL has, what the processes say of themselves.

Offsets are read before rows: a consumer finishes an event before it commits the offset behind it, so an event that is unfinished
afterwards, behind a committed offset, comes no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from domain.consumers import CONSUMERS, consumer_of, group_of
from domain.errors import BrokerUnavailable, DatabaseUnavailable
from domain.events import DocumentValidated
from domain.lifecycle import ERASURE_STATES, Status
from domain.overview import (
    OUTBOX,
    Count,
    DocumentRow,
    Holder,
    Sample,
    StateOverview,
    StoredNumbers,
    UnfinishedEvent,
)
from domain.owed_events import Progress
from domain.shared.ids import uuid_or_none
from operations.kafka.lag import PartitionLag, progress_of
from operations.overview.model import (
    ConsumerOverview,
    OldestDocument,
    Overview,
    PartitionOverview,
    PartitionOwner,
    Pause,
)
from operations.overview.processes import ProcessAnswers
from processors.ports.clock import Clock

#: A rate is taken over so many of the last minutes.
RATE_MINUTES: Final = 10
#: What was published after the offsets were read is beyond their ends, and on its way all the same.
SETTLE_SECONDS: Final = 60.0
#: The consumer that takes a document out of VALIDATED.
ARCHIVING: Final = "archiving"


class Stores(Protocol):
    """What PostgreSQL says. Raises DatabaseUnavailable."""

    async def numbers(self, new_since: datetime | None = None) -> StoredNumbers:
        """Dead letters written after ``new_since`` are counted as new."""
        ...

    async def documents(self, ids: Sequence[UUID]) -> Mapping[UUID, DocumentRow]:
        """Those of ``ids`` that are there."""
        ...


@dataclass(frozen=True, slots=True)
class KafkaNumbers:
    """The lag of every group with ages, and for how many seconds each topic keeps a record (None: without end)."""

    lag: Sequence[PartitionLag]
    retention: Mapping[str, float | None]


#: Raises BrokerUnavailable.
ReadKafka = Callable[[], Awaitable[KafkaNumbers]]
#: What the processes say; None where they have no ports to ask.
AskProcesses = Callable[[], Awaitable[ProcessAnswers | None]]


class OverviewLook:
    """One look is bounded in time by what it is handed, and writes nothing."""

    def __init__(self, stores: Stores, read_kafka: ReadKafka, ask_processes: AskProcesses, clock: Clock) -> None:
        self._stores = stores
        self._read_kafka = read_kafka
        self._ask = ask_processes
        self._clock = clock

    async def look(self, new_since: datetime | None = None) -> Overview:
        """Never raises because something is away: that part is unknown. ``new_since``: dead letters written after it are new, as for
        who looked then."""
        kafka, answers = await asyncio.gather(self._kafka(), self._ask())
        stored = await self._stored(new_since)
        at = self._clock.now()
        events = _unfinished(stored, kafka, at)
        documents = await self._documents(stored, events)
        candidates = list(_candidates(events, documents))
        ranked = [*candidates, *_without_event(stored, candidates)]
        return Overview(
            at=at,
            consumers=tuple(self._consumer(name, at, stored, kafka, answers, events, candidates) for name in CONSUMERS),
            outbox=None if stored is None else stored.outbox,
            outbox_trend=_trend(stored, OUTBOX),
            states=_states(stored, documents, candidates),
            oldest=min(ranked, key=lambda one: one.waits_since, default=None),
            # Kafka's records are in the outbox too: without the broker the oldest is known as long as the outbox was read whole.
            oldest_unknown=documents is None
            or stored is None
            or stored.unfinished is None
            or stored.dead is None
            or stored.oldest_stored is None
            or not (stored.unfinished_whole or _all_known(kafka)),
            checkpoints=None if stored is None else stored.checkpoints,
            audit_steps_stopped=None if answers is None else answers.audit_steps_stopped,
            erasures=None if stored is None else stored.erasures,
            dependencies=None if answers is None else answers.dependencies,
            circuits=None if answers is None else answers.circuits,
            silent=() if answers is None else answers.silent,
            watchdog_looked=_latest(answers and answers.watchdog_looked, stored and stored.recorded),
            reconcile=None if answers is None else answers.reconcile,
            restores=None if stored is None else stored.restores,
        )

    async def _kafka(self) -> KafkaNumbers | None:
        try:
            return await self._read_kafka()
        except BrokerUnavailable:
            return None

    async def _stored(self, new_since: datetime | None) -> StoredNumbers | None:
        try:
            return await self._stores.numbers(new_since)
        except DatabaseUnavailable:
            return None

    async def _documents(
        self, stored: StoredNumbers | None, events: Sequence[UnfinishedEvent]
    ) -> Mapping[UUID, DocumentRow] | None:
        if stored is None:
            return None
        ids = {found for event in events if (found := uuid_or_none(event.key)) is not None}
        try:
            return await self._stores.documents(sorted(ids)) if ids else {}
        except DatabaseUnavailable:
            return None

    def _consumer(
        self,
        name: str,
        at: datetime,
        stored: StoredNumbers | None,
        kafka: KafkaNumbers | None,
        answers: ProcessAnswers | None,
        events: Sequence[UnfinishedEvent],
        candidates: Iterable[OldestDocument],
    ) -> ConsumerOverview:
        owners = {} if answers is None else answers.owners(name)
        partitions = None if kafka is None else tuple(_partitions(name, kafka, owners))
        lag = None if not partitions else sum(one.lag for one in partitions)
        behind = None if not partitions else _behind(partitions)
        known = lag is not None and all(one.behind_seconds is not None for one in partitions or ())
        held = None if stored is None or stored.held is None else stored.held.get(name, ())
        waits_for = None if answers is None else answers.waits_for(name)
        since = [one.since for one in held or () if one.waiting_for in (waits_for or ())]
        if answers is not None:
            since += [found for found in map(answers.away_since, waits_for or ()) if found is not None]
        margins = [one.retention_margin_seconds for one in partitions or () if one.retention_margin_seconds is not None]
        trend = _trend(stored, name)
        mine = [one for one in candidates if one.consumer == name]
        return ConsumerOverview(
            consumer=name,
            lag=lag,
            behind_seconds=behind,
            known=known,
            partitions=partitions,
            held=held,
            dead_open=None if stored is None or stored.dead is None else stored.dead.get(name, ()),
            lost=None
            if kafka is None or stored is None or stored.unfinished is None
            # The outbox's front is all that is read here; behind it the relay has looked.
            else max(
                sum(one.consumer == name and one.holder is Holder.LOST for one in events),
                0 if answers is None else answers.lost(name),
            ),
            waits_for=waits_for,
            waits_since=min(since, default=None),
            stalled=None if answers is None else answers.stalled(name),
            retention_margin_seconds=min(margins, default=None),
            trend=trend,
            drain_seconds=drain_seconds(trend or (), at, lag),
            paused=_paused(name, stored),
            oldest=min(mine, key=lambda one: one.caused_at or one.waits_since, default=None),
        )


def _paused(consumer: str, stored: StoredNumbers | None) -> Pause | None:
    found = None if stored is None or stored.paused is None else stored.paused.get(consumer)
    return None if found is None else Pause(owner=found.by, reason=found.reason, until=found.until)


def samples_of(overview: Overview) -> dict[str, tuple[int | None, float | None]]:
    """What the history keeps of a look: what waits, and for how many seconds, by consumer and ``OUTBOX``."""
    samples: dict[str, tuple[int | None, float | None]] = {
        one.consumer: (one.lag, one.behind_seconds) for one in overview.consumers
    }
    outbox = overview.outbox
    if outbox is None:
        samples[OUTBOX] = (None, None)
    else:
        behind = None if outbox.oldest is None else max(0.0, (overview.at - outbox.oldest).total_seconds())
        samples[OUTBOX] = (outbox.waiting.number, 0.0 if behind is None else behind)
    return samples


def drain_seconds(trend: Sequence[Sample], at: datetime, waiting: int | None) -> float | None:
    """How long ``waiting`` lasts at the rate at which it shrank over the last ``RATE_MINUTES``; None if it did not, or is unknown."""
    if waiting is None:
        return None
    if waiting == 0:
        return 0.0
    first = at - timedelta(minutes=RATE_MINUTES)
    known = [one for one in trend if one.at >= first and one.lag is not None]
    if not known or known[0].lag is None or known[0].lag <= waiting:
        return None
    seconds = (at - known[0].at).total_seconds()
    return None if seconds <= 0 else waiting * seconds / (known[0].lag - waiting)


def _partitions(
    consumer: str, kafka: KafkaNumbers, owners: Mapping[str, PartitionOwner]
) -> Iterator[PartitionOverview]:
    for row in kafka.lag:
        if row.group != group_of(consumer):
            continue
        behind = 0.0 if row.lag == 0 else row.behind
        kept = kafka.retention.get(row.topic)
        margin = None if not row.lag or row.behind is None or kept is None else max(0.0, kept - row.behind)
        yield PartitionOverview(
            topic=row.topic,
            partition=row.partition,
            committed=row.committed,
            end=row.end,
            lag=row.lag,
            behind_seconds=behind,
            head=None if row.head is None else row.head.key,
            retention_margin_seconds=margin,
            owner=owners.get(f"{row.topic}/{row.partition}"),
        )


def _behind(partitions: Sequence[PartitionOverview]) -> float | None:
    """The largest of what is known; None if something waits and nothing is known of it."""
    known = [one.behind_seconds for one in partitions if one.lag and one.behind_seconds is not None]
    if known:
        return max(known)
    return 0.0 if all(one.lag == 0 for one in partitions) else None


def _unfinished(stored: StoredNumbers | None, kafka: KafkaNumbers | None, at: datetime) -> list[UnfinishedEvent]:
    """What PostgreSQL has, and of Kafka's heads what it has not; a published event that Kafka brings no more is lost."""
    if stored is None or stored.unfinished is None:
        return []
    if kafka is None:
        return list(stored.unfinished)
    progress = progress_of(kafka.lag)
    events = [_placed(one, progress, at) for one in stored.unfinished]
    known = {(one.consumer, one.event_id) for one in events}
    for row in kafka.lag:
        head, consumer = row.head, consumer_of(row.group)
        if head is None or head.key is None or head.written_at is None or (consumer, head.event_id) in known:
            continue
        events.append(
            UnfinishedEvent(
                key=head.key,
                topic=row.topic,
                consumer=consumer,
                event_id=head.event_id,
                holder=Holder.TOPIC,
                written_at=head.written_at,
                since=head.written_at,
                partition=row.partition,
            )
        )
    return events


def _placed(event: UnfinishedEvent, progress: Progress, at: datetime) -> UnfinishedEvent:
    if event.holder is not Holder.TOPIC or event.partition is None or event.offset is None:
        return event
    found = progress.get((event.consumer, event.topic, event.partition))
    if found is not None and found.brings(event.offset):
        return event
    if (at - event.since).total_seconds() < SETTLE_SECONDS:
        return event
    return replace(event, holder=Holder.LOST)


def _candidates(
    events: Iterable[UnfinishedEvent], documents: Mapping[UUID, DocumentRow] | None
) -> Iterator[OldestDocument]:
    for event in events:
        found = uuid_or_none(event.key)
        document = None if found is None or documents is None else documents.get(found)
        if document is None or document.status in ERASURE_STATES:
            continue  # an erasure has a line of its own
        yield OldestDocument(
            document_id=document.document_id,
            tenant=document.tenant,
            status=document.status,
            deposited_at=document.deposited_at,
            waits_since=document.at_work_since or event.written_at,
            held_by=event.holder,
            held_since=event.since,
            next_step=event.next_step,
            topic=event.topic,
            consumer=event.consumer,
            caused_at=event.written_at,
            waiting_for=event.waiting_for,
            code=event.code,
            attempts=event.attempts,
        )


def _without_event(stored: StoredNumbers | None, candidates: Iterable[OldestDocument]) -> Iterator[OldestDocument]:
    """Documents that wait for their verification, and of which no unfinished event was found."""
    seen = {one.document_id for one in candidates}
    for document in () if stored is None else stored.oldest_stored or ():
        if document.document_id not in seen:
            yield OldestDocument(
                document_id=document.document_id,
                tenant=document.tenant,
                status=document.status,
                deposited_at=document.deposited_at,
                waits_since=document.deposited_at,
                held_by=None,
                held_since=None,
                next_step=None,
                topic=None,
                consumer=None,
                caused_at=None,
                waiting_for=None,
                code=None,
                attempts=None,
            )


def _states(
    stored: StoredNumbers | None, documents: Mapping[UUID, DocumentRow] | None, candidates: Iterable[OldestDocument]
) -> tuple[StateOverview, ...] | None:
    """Those by state, and VALIDATED, which is the end for a type that is not archived: so by what is still to be archived."""
    if stored is None or stored.states is None or stored.unfinished is None or documents is None:
        return None
    validated = {
        one.document_id: one.waits_since
        for one in candidates
        if one.status is Status.VALIDATED and (one.consumer, one.topic) == (ARCHIVING, DocumentValidated.TOPIC)
    }
    archived = StateOverview(
        status=Status.VALIDATED,
        count=Count(len(validated), more=not stored.unfinished_whole),
        oldest=min(validated.values(), default=None),
    )
    order = list(Status)
    return tuple(sorted((*stored.states, archived), key=lambda one: order.index(one.status)))


def _all_known(kafka: KafkaNumbers | None) -> bool:
    return kafka is not None and all(row.behind is not None for row in kafka.lag if row.lag)


def _trend(stored: StoredNumbers | None, place: str) -> tuple[Sample, ...] | None:
    return None if stored is None or stored.history is None else stored.history.get(place, ())


def _latest(*moments: Any) -> datetime | None:
    return max((one for one in moments if one is not None), default=None)
