"""What a document waits for, and what comes next: one answer for command line and console."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Protocol
from uuid import UUID

from domain.dead_letters import GivenUpEvent, HeldEventStatus
from domain.errors import BrokerUnavailable
from domain.owed_events import OwedEvent, Progress
from domain.pauses import Pause


class WaitState(Enum):
    """Where an event of the document is. PUBLISHED: in Kafka or lost, which Kafka alone could say and does not answer. UNKNOWN: whether any
    waits in the outbox or is in Kafka; the outbox is too long to be searched."""

    OUTBOX = "outbox"
    REFUSED = "refused"
    ON_ITS_WAY = "on its way"
    PUBLISHED = "published"
    HELD = "held"
    GIVING_UP = "giving up"
    LOST = "lost"
    DEAD = "dead"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentWait:
    """An event that somebody must still finish. ``consumer`` is None in the outbox. ``waiting_for``: of one that is held; ``code`` and
    ``tries``: of one that is held or dead; ``letter``: the address of a dead one, None while it is being published. ``paused_until``: its
    consumer takes no event until then, because an operator paused it."""

    state: WaitState
    topic: str | None
    consumer: str | None
    since: datetime
    event_id: UUID | None = None
    waiting_for: str | None = None
    code: str | None = None
    tries: int | None = None
    letter: str | None = None
    paused_until: datetime | None = None


class DocumentOutbox(Protocol):
    @property
    def unpublished(self) -> Sequence[tuple[str, datetime]]: ...

    @property
    def refused(self) -> Sequence[tuple[str, datetime, str]]: ...

    @property
    def owed(self) -> Sequence[OwedEvent]: ...

    @property
    def unknown_at(self) -> datetime | None:
        """When the outbox was too long to be searched."""
        ...


class OwedOfDocument(Protocol):
    """Raises DatabaseUnavailable."""

    async def of_document(self, document_id: UUID) -> DocumentOutbox:
        """What of a document's events waits to be published, or is owed, oldest first."""
        ...


class DeliveryOfDocument(Protocol):
    """Raises DatabaseUnavailable."""

    async def held_of(self, document_key: str) -> Sequence[HeldEventStatus]:
        """What workers hold of a document now, longest held first."""
        ...

    async def given_up_of(self, document_key: str) -> Sequence[GivenUpEvent]:
        """What consumers gave up of a document, oldest first."""
        ...


class PausedConsumers(Protocol):
    """Raises DatabaseUnavailable."""

    async def paused(self) -> Mapping[str, Pause]:
        """Pauses that count now, by consumer."""
        ...


class DocumentWaits:
    """``read_progress`` raises BrokerUnavailable."""

    def __init__(
        self,
        owed: OwedOfDocument,
        delivery: DeliveryOfDocument,
        pauses: PausedConsumers,
        read_progress: Callable[[], Awaitable[Progress]],
    ) -> None:
        self._owed = owed
        self._delivery = delivery
        self._pauses = pauses
        self._read_progress = read_progress

    async def of(self, document_id: UUID) -> Sequence[DocumentWait]:
        """All that is not finished, in the order of its way. While Kafka is away it is not known whether it still brings what is
        published. Raises DatabaseUnavailable."""
        key = str(document_id)
        held = {(one.event.consumer, one.event.event_id): one for one in await self._delivery.held_of(key)}
        # The offsets first: an event is finished before its offset is committed.
        first = await self._owed.of_document(document_id)
        progress = await self._progress() if first.owed else None
        rows = await self._owed.of_document(document_id) if first.owed else first
        found = [
            DocumentWait(state=WaitState.OUTBOX, topic=topic, consumer=None, since=at) for topic, at in rows.unpublished
        ]
        found += [
            DocumentWait(state=WaitState.REFUSED, topic=topic, consumer=None, since=at, code=code)
            for topic, at, code in rows.refused
        ]
        if rows.unknown_at is not None:
            found.append(DocumentWait(state=WaitState.UNKNOWN, topic=None, consumer=None, since=rows.unknown_at))
        paused = await self._pauses.paused() if rows.owed else {}
        for event in rows.owed:
            found += [_told_of_pause(wait, paused) for wait in _waits(event, held, progress)]
        found += [
            DocumentWait(
                state=WaitState.DEAD,
                topic=None,
                consumer=one.consumer,
                since=one.at,
                event_id=one.event_id,
                code=one.code,
                tries=one.tries,
                letter=one.address,
            )
            for one in await self._delivery.given_up_of(key)
        ]
        return found

    async def _progress(self) -> Progress | None:
        try:
            return await self._read_progress()
        except BrokerUnavailable:
            return None


def _waits(
    event: OwedEvent, held: dict[tuple[str, UUID], HeldEventStatus], progress: Progress | None
) -> Sequence[DocumentWait]:
    lost = () if progress is None else event.lost_to(progress)
    found = []
    for consumer in event.consumers:
        holding = held.get((consumer, event.event_id))
        if holding is not None:
            found.append(
                DocumentWait(
                    state=WaitState.GIVING_UP if holding.given_up_by else WaitState.HELD,
                    topic=event.topic,
                    consumer=consumer,
                    since=holding.since,
                    event_id=event.event_id,
                    waiting_for=holding.event.waiting_for,
                    code=holding.event.code,
                    tries=holding.event.attempts,
                )
            )
            continue
        if progress is None:
            state = WaitState.PUBLISHED
        else:
            state = WaitState.LOST if consumer in lost else WaitState.ON_ITS_WAY
        found.append(
            DocumentWait(
                state=state, topic=event.topic, consumer=consumer, since=event.published_at, event_id=event.event_id
            )
        )
    return found


def _told_of_pause(wait: DocumentWait, paused: Mapping[str, Pause]) -> DocumentWait:
    """What the relay or an operator does goes on meanwhile; what the consumer itself does next does not."""
    pause = paused.get(wait.consumer or "")
    if pause is None or wait.state is WaitState.LOST:
        return wait
    return replace(wait, paused_until=pause.until)
