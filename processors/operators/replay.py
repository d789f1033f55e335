"""Replaying a window of one consumer: what it reads again of what its topics still hold, by time or by document.

Nothing is done twice. What the consumer's inbox has as done is left out, and would be dropped if it came. The inbox remembers longer than
topics keep their records (``inbox_keep_days``), so an event that it does not know was never finished. What stands at or behind the
committed offset is on its way and is left out, too.

Kafka's offsets are read first, then the records, then the inbox: a consumer finishes an event before it commits the offset behind it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from domain.act_notes import note
from domain.batches import ActionResult, ActRequest, Selection
from domain.consumers import CONSUMERS, topics_of
from domain.dead_letters import DeadLetter
from domain.owed_events import Progress
from domain.refusals import ConsumerUnknown, ParameterInvalid
from domain.shared.ids import uuid_or_none
from processors.operators.act_kinds import Attempt, ReadRecords, Try, is_number

#: Records of a window that are looked through at most.
MOST_SCANNED: Final = 200_000
#: Events that are looked up in the inbox at once.
SLICE: Final = 5_000


@dataclass(frozen=True, slots=True)
class WindowRecord:
    """A record of a window, without what is in it. ``redriven_for``: the one consumer that it is for, if it is for one."""

    topic: str
    partition: int
    offset: int
    written_ms: int
    event_id: UUID | None
    redriven_for: str | None


#: Records of these topics from a time to before another, of one key if it is given. Raises BrokerUnavailable, or ParameterInvalid if they
#: are more than ``MOST_SCANNED``.
Scan = Callable[[Sequence[str], datetime | None, datetime | None, str | None], Awaitable[Sequence[WindowRecord]]]
ReadProgress = Callable[[], Awaitable[Progress]]


class InboxStates(Protocol):
    """See ``storage.postgres.delivery.inbox.PostgresInboxStates``. Raises DatabaseUnavailable."""

    async def states(self, consumer: str, event_ids: Sequence[UUID]) -> Mapping[UUID, str]: ...


class Replay:
    """Records of a consumer's topics, as ``topic/partition/offset/event id``."""

    def __init__(self, progress: ReadProgress, scan: Scan, read: ReadRecords, inbox: InboxStates) -> None:
        self._progress = progress
        self._scan = scan
        self._read = read
        self._inbox = inbox

    async def select(self, request: ActRequest, tenants: Sequence[str] | None) -> Selection:  # noqa: ARG002 - see OF_ALL_TENANTS
        consumer = _checked(request)
        if request.document is None and request.since is None:
            raise ParameterInvalid("A replay needs a document, or a time since which.")
        if request.since is not None and request.until is not None and request.until <= request.since:
            raise ParameterInvalid("The window ends before it begins.")
        progress = await self._progress()
        key = None if request.document is None else str(request.document)
        found = await self._scan(topics_of(consumer), request.since, request.until, key)
        left_out: Counter[str] = Counter()
        latest: dict[UUID, WindowRecord] = {}
        for one in sorted(found, key=lambda one: (one.written_ms, one.topic, one.partition, one.offset)):
            if one.redriven_for not in {None, consumer}:
                continue
            group = progress.get((consumer, one.topic, one.partition))
            if group is None or one.offset >= group.next_offset:
                left_out[note("on_its_way", consumer=consumer)] += 1
            elif one.event_id is None:
                left_out[note("names_no_event")] += 1
            else:
                latest[one.event_id] = one
        states = await self._states(consumer, list(latest))
        names = []
        for event_id, one in latest.items():
            if states.get(event_id) == "DONE":
                left_out[note("dropped_as_done", consumer=consumer)] += 1
            else:
                names.append(f"{one.topic}/{one.partition}/{one.offset}/{event_id}")
        return Selection(names[: request.limit + 1], dict(left_out))

    async def _states(self, consumer: str, event_ids: Sequence[UUID]) -> Mapping[UUID, str]:
        found: dict[UUID, str] = {}
        for first in range(0, len(event_ids), SLICE):
            found |= await self._inbox.states(consumer, event_ids[first : first + SLICE])
        return found

    async def prepare(
        self,
        request: ActRequest,
        names: Sequence[str],
        tenants: Sequence[str] | None,  # noqa: ARG002 - see OF_ALL_TENANTS
    ) -> Mapping[str, Attempt]:
        consumer = _checked(request)
        places = {name: place for name in names if (place := _place(name)) and place[0] in topics_of(consumer)}
        records: dict[tuple[str, int, int], DeadLetter] = {}
        for topic in sorted({place[0] for place in places.values()}):
            read = await self._read(topic, sorted({place[1:3] for place in places.values() if place[0] == topic}))
            records |= {(topic, *at): record for at, record in read.items()}
        return {name: _on_record(consumer, place[3], records.get(place[:3])) for name, place in places.items()}


def _on_record(consumer: str, event_id: UUID, record: DeadLetter | None) -> Attempt:
    async def attempt(how: Try) -> ActionResult:
        if record is None:
            return ActionResult("refused", note("gone_from_topic"))
        return await how.actions.replay(consumer, event_id, record, how.reason, apply=how.apply, also=how.also)

    return attempt


def _checked(request: ActRequest) -> str:
    """The request's consumer. Raises ConsumerUnknown, ParameterInvalid."""
    if request.consumer is None:
        raise ParameterInvalid("A replay is for one consumer.")
    if request.consumer not in CONSUMERS:
        raise ConsumerUnknown(f"Consumers are {', '.join(CONSUMERS)}.")
    return request.consumer


def _place(name: str) -> tuple[str, int, int, UUID] | None:
    parts = name.split("/")
    if len(parts) != 4:
        return None
    topic, *numbers, event = parts
    event_id = uuid_or_none(event)
    if event_id is None or not all(is_number(one) for one in numbers):
        return None
    return topic, int(numbers[0]), int(numbers[1]), event_id
