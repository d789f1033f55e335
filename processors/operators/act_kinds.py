"""What the acts of operators act on: how each kind selects its things, and how one of them is tried or done.

A thing has a name that stays what it is: a letter its number in the index, a held event ``consumer/event id``, an outbox row its id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from domain.act_notes import note
from domain.batches import Act, ActionResult, ActRequest, Selection
from domain.dead_letter_index import IndexedLetter, is_letter_of
from domain.dead_letters import CUT_BYTES, DeadLetter, HeldEventStatus, RecordPosition, RefusedRow
from domain.errors import BrokerUnavailable
from domain.events import dead_letter_topic
from domain.owed_events import LostEvent
from processors.operators.dead_letters import REPLAY_CAP, Also, OperatorActions

#: Held events and refused rows that are looked through at most.
MOST_LISTED: Final = 10_000
_FULL_INTEGER: Final = 18


def is_number(text: str) -> bool:
    """Whether a part of a thing's name is a number that PostgreSQL and Kafka can have."""
    return text.isascii() and text.isdigit() and len(text) <= _FULL_INTEGER


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """How a thing is acted on: in whose name, with what reason, for real or as a dry run."""

    actions: OperatorActions
    reason: str
    apply: bool
    also: Also | None = None


#: Acts on one thing, or tries to. Raises what ``OperatorActions`` raises.
Attempt = Callable[[Try], Awaitable[ActionResult]]


class ActKind(Protocol):
    """One kind of thing. ``tenants``: those of these alone; None: all."""

    async def select(self, request: ActRequest, tenants: Sequence[str] | None) -> Selection:
        """What the request selects. Raises ParameterInvalid for one that selects nothing that can be."""
        ...

    async def prepare(
        self, request: ActRequest, names: Sequence[str], tenants: Sequence[str] | None
    ) -> Mapping[str, Attempt]:
        """How to act on each thing, as far as it is there."""
        ...


# --- dead letters ------------------------------------------------------------------------------------------------------


class LetterIndex(Protocol):
    """See ``storage.postgres.delivery.dead_letter_index``. Raises DatabaseUnavailable."""

    async def selected(
        self,
        consumer: str | None,
        code: str | None,
        error_class: str | None,
        *,
        limit: int,
        tenants: Sequence[str] | None,
    ) -> Sequence[int]: ...

    async def letters(
        self, numbers: Sequence[int], *, tenants: Sequence[str] | None = None
    ) -> Sequence[IndexedLetter]: ...


#: The records of a topic at these places (partition, offset), as far as they are there. Raises BrokerUnavailable.
ReadRecords = Callable[[str, Sequence[tuple[int, int]]], Awaitable[Mapping[tuple[int, int], DeadLetter]]]


class Letters:
    """Open dead letters, by their numbers in the index."""

    def __init__(self, index: LetterIndex, read: ReadRecords) -> None:
        self._index = index
        self._read = read

    async def select(self, request: ActRequest, tenants: Sequence[str] | None) -> Selection:
        numbers = await self._index.selected(
            request.consumer, request.code, request.error_class, limit=request.limit + 1, tenants=tenants
        )
        return Selection([str(number) for number in numbers])

    async def prepare(
        self, request: ActRequest, names: Sequence[str], tenants: Sequence[str] | None
    ) -> Mapping[str, Attempt]:
        numbers = [int(name) for name in names if is_number(name)]
        known = await self._index.letters(numbers, tenants=tenants)
        found = await self._read_all(known)
        return {str(letter.number): _on_letter(request, letter, found.get(letter.number)) for letter in known}

    async def _read_all(self, letters: Sequence[IndexedLetter]) -> Mapping[int, DeadLetter]:
        """What Kafka has of these letters, by number; what stands there and is another letter counts as gone."""
        found: dict[int, DeadLetter] = {}
        for consumer in {letter.entry.consumer for letter in letters}:
            topic = dead_letter_topic(consumer)
            placed = {
                (letter.partition, letter.offset): letter
                for letter in letters
                if letter.entry.consumer == consumer and letter.partition is not None and letter.offset is not None
            }
            read = await self._read(topic, sorted(placed)) if placed else {}
            for place, letter in placed.items():
                one = read.get(place)
                if one is not None and is_letter_of(one.headers, letter, topic):
                    found[letter.number] = one
        return found


def _on_letter(request: ActRequest, letter: IndexedLetter, read: DeadLetter | None) -> Attempt:
    async def attempt(how: Try) -> ActionResult:
        if letter.settled is not None:
            return ActionResult("handled", note("settled_before", act=letter.settled.lower()))
        if letter.offset is None:
            return ActionResult("refused", note("not_in_kafka_yet"))
        if request.act is Act.DISCARD:
            return await how.actions.discard(read or _shell(letter), how.reason, apply=how.apply, also=how.also)
        if read is None:
            return ActionResult("refused", note("gone_from_kafka"))
        return await how.actions.redrive(read, apply=how.apply, cap=REPLAY_CAP, force=request.force, also=how.also)

    return attempt


def _shell(letter: IndexedLetter) -> DeadLetter:
    """A letter that Kafka has no more, as far as the index knows it: enough to take it off the list."""
    entry = letter.entry
    headers = {
        "dpj-consumer": entry.consumer,
        "dpj-code": entry.code,
        "dpj-error-class": entry.error_class,
        "dpj-origin-topic": entry.origin_topic,
        "dpj-origin-partition": str(entry.origin_partition),
        "dpj-origin-offset": str(entry.origin_offset),
        "dpj-event-id": str(entry.event_id),
        CUT_BYTES: "1",
    }
    made = int(letter.made_at.timestamp() * 1000)
    place = RecordPosition(dead_letter_topic(entry.consumer), letter.partition or 0, letter.offset or 0, made)
    return DeadLetter(place, None, None, headers)


# --- held events -------------------------------------------------------------------------------------------------------


class HeldEvents(Protocol):
    async def held(self, limit: int) -> Sequence[HeldEventStatus]: ...


class Held:
    """Events that a consumer holds, as ``consumer/event id``."""

    def __init__(self, queries: HeldEvents) -> None:
        self._queries = queries

    async def select(self, request: ActRequest, tenants: Sequence[str] | None) -> Selection:
        held = await self._visible(tenants)
        names = [
            _held_name(one)
            for one in held
            if request.consumer in {None, one.event.consumer}
            and request.code in {None, one.event.code}
            and one.given_up_by is None
        ]
        return Selection(names[: request.limit + 1])

    async def prepare(
        self,
        request: ActRequest,  # noqa: ARG002 - what an event is given up for is in the reason alone
        names: Sequence[str],
        tenants: Sequence[str] | None,
    ) -> Mapping[str, Attempt]:
        there = {_held_name(one): one for one in await self._visible(tenants)}
        return {name: _on_held(there[name]) for name in names if name in there}

    async def _visible(self, tenants: Sequence[str] | None) -> Sequence[HeldEventStatus]:
        held = await self._queries.held(MOST_LISTED)
        return [one for one in held if tenants is None or one.event.tenant in tenants]


def _held_name(one: HeldEventStatus) -> str:
    return f"{one.event.consumer}/{one.event.event_id}"


def _on_held(one: HeldEventStatus) -> Attempt:
    async def attempt(how: Try) -> ActionResult:
        event: UUID = one.event.event_id
        return await how.actions.give_up(one.event.consumer, event, how.reason, apply=how.apply, also=how.also)

    return attempt


# --- the outbox --------------------------------------------------------------------------------------------------------


class RefusedRowQueries(Protocol):
    async def refused(self, limit: int) -> Sequence[RefusedRow]: ...


class Refused:
    """Outbox rows that Kafka refuses for good, by their ids."""

    def __init__(self, queries: RefusedRowQueries) -> None:
        self._queries = queries

    async def select(self, request: ActRequest, tenants: Sequence[str] | None) -> Selection:  # noqa: ARG002
        rows = await self._queries.refused(MOST_LISTED)
        names = [str(row.id) for row in rows if request.code in {None, row.code}]
        return Selection(names[: request.limit + 1])

    async def prepare(
        self,
        request: ActRequest,
        names: Sequence[str],
        tenants: Sequence[str] | None,  # noqa: ARG002 - see OF_ALL_TENANTS
    ) -> Mapping[str, Attempt]:
        there = {str(row.id): row for row in await self._queries.refused(MOST_LISTED)}
        return {name: _on_row(request, there[name]) for name in names if name in there}


def _on_row(request: ActRequest, row: RefusedRow) -> Attempt:
    async def attempt(how: Try) -> ActionResult:
        if request.act is Act.DROP_REFUSED:
            return await how.actions.drop_refused(row.id, how.reason, apply=how.apply, also=how.also)
        return await how.actions.retry_refused(row.id, apply=how.apply, also=how.also)

    return attempt


class LostReport(Protocol):
    """See ``processors.reconcile.owed_events.OwedReport``."""

    @property
    def known(self) -> bool: ...

    @property
    def lost(self) -> Sequence[LostEvent]: ...


Look = Callable[[], Awaitable[LostReport]]


class Lost:
    """Events that are owed and that Kafka brings no more, by their outbox rows."""

    def __init__(self, look: Look) -> None:
        self._look = look

    async def select(self, request: ActRequest, tenants: Sequence[str] | None) -> Selection:  # noqa: ARG002
        lost = await self._lost()
        names = [name for name, one in lost.items() if request.consumer is None or request.consumer in one.consumers]
        return Selection(names[: request.limit + 1])

    async def prepare(
        self,
        request: ActRequest,  # noqa: ARG002
        names: Sequence[str],
        tenants: Sequence[str] | None,  # noqa: ARG002 - see OF_ALL_TENANTS
    ) -> Mapping[str, Attempt]:
        lost = await self._lost()
        return {name: _on_lost(lost[name]) for name in names if name in lost}

    async def _lost(self) -> Mapping[str, LostEvent]:
        report = await self._look()
        if not report.known:
            raise BrokerUnavailable
        return {str(one.event.row_id): one for one in report.lost}


def _on_lost(lost: LostEvent) -> Attempt:
    async def attempt(how: Try) -> ActionResult:
        return await how.actions.re_emit(lost, how.reason, apply=how.apply, also=how.also)

    return attempt
