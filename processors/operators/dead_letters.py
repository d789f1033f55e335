"""What an operator may do about dead letters, held events and refused outbox rows.

Each act is one transaction: the letter's mark, the inbox, the document's state, the record to publish (in the outbox) and the
audit line are written together or not at all. So it may be cut off anywhere, and done twice it happens once. A redriven
record goes to the topic it came from with a header that names the consumer that gave it up; every other consumer acknowledges
it unread.

A dry run does the same and rolls back: what it tells is what would happen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol
from uuid import UUID, uuid4

from domain.audit_chain import SYSTEM_TENANT
from domain.batches import ActionResult
from domain.dead_letter_index import entry_of
from domain.dead_letters import REDRIVEN_FOR, REPLAYS, DeadLetter, HeldEvent, RefusedRow
from domain.documents import Document
from domain.errors import DPJError, Transient
from domain.events import (
    SCHEMA_HEADER,
    TOPICS,
    DocumentEvent,
    DocumentUploaded,
    DocumentValidated,
    Event,
    dead_letter_topic,
)
from domain.lifecycle import ERASURE_STATES, Status, is_allowed
from domain.owed_events import LostEvent
from domain.refusals import DocumentNotFound
from domain.shared.ids import uuid_or_none
from processors.documents.transitions import Origin, audit_line, transition, update_fields
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.work import (
    HasBatches,
    HasDeadLetterIndex,
    HasDeadLetterMarks,
    HasHeldOrders,
    HasInbox,
    HasOutbox,
    HasReEmissions,
    HasRefusedRows,
    StateWork,
)

REDRIVEN: Final = "REDRIVEN"
DISCARDED: Final = "DISCARDED"
#: Whose audit chain holds acts on what names no tenant: a record that can't be decoded.
REPLAY_CAP: Final = 3
#: Headers of a letter that its redriven record keeps.
_KEPT: Final = ("traceparent", "correlation-id", SCHEMA_HEADER)


class Decoder(Protocol):
    async def decode(self, topic: str, value: bytes, schema: str | None = None) -> Event:
        """Raises EventUndecodable, or RegistryUnavailable."""
        ...


#: Written in the act's own transaction, with the note that the act ends with.
Also = Callable[["OperatorWork", str], Awaitable[None]]


class _Refusal(Exception):
    """The act makes no sense; its text is for the operator and holds no personal data."""


class OperatorWork(
    StateWork,
    HasInbox,
    HasDeadLetterMarks,
    HasDeadLetterIndex,
    HasHeldOrders,
    HasRefusedRows,
    HasReEmissions,
    HasBatches,
    Protocol,
):
    """What an act of an operator needs: the letter's mark, the inbox, the document and the audit line change together, or nothing does."""


class _DryRun(Exception):
    """Rolls back a transaction that was only tried."""


class LetterReader:
    """Reads the events of letters."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    async def decoded(self, letter: DeadLetter) -> Event | None:
        """The letter's event, if it has one that this release can read. Raises RegistryUnavailable."""
        if letter.value is None or letter.origin_topic not in TOPICS:
            return None
        try:
            return await self._decoder.decode(letter.origin_topic, letter.value, letter.headers.get(SCHEMA_HEADER))
        except Transient:
            raise
        except Exception:  # noqa: BLE001 - what made it a letter may be a decoder's defect
            return None


class OperatorActions:
    """Acts of the operator whose pseudonym is ``actor``. Raises DatabaseUnavailable, RegistryUnavailable."""

    def __init__(self, database: Transactions[OperatorWork], decoder: Decoder, clock: Clock, actor: str) -> None:
        self._database = database
        self._letters = LetterReader(decoder)
        self._clock = clock
        self._actor = actor

    # --- dead letters --------------------------------------------------------------------------------------------

    async def redrive(
        self,
        letter: DeadLetter,
        *,
        apply: bool,
        cap: int = REPLAY_CAP,
        force: bool = False,
        also: Also | None = None,
    ) -> ActionResult:
        """Have the consumer that gave the event up take it again. ``force`` passes over cap and decodability."""
        event = await self.decoded(letter)

        async def act(work: OperatorWork) -> str:
            consumer, topic = _checked_route(letter)
            if letter.replays >= cap and not force:
                raise _Refusal(f"redriven {letter.replays} times already (cap {cap}); --force passes over that")
            if event is None and not force:
                raise _Refusal("this release can't decode it either; --force sends it all the same")
            await self._mark(work, letter, event, REDRIVEN, None)
            note = "sent again as it is"
            if event is not None:
                await _reopen(work, consumer, event)
                note = await reinstate(work, consumer, event, self._origin(event))
            owed = None if event is None else (event.event_id, consumer)
            await work.outbox.add_record(topic, letter.key, letter.value, _redriven_headers(letter, consumer), owed)
            await self._audit(work, letter, event, "dead_letter.redriven", {"replays": letter.replays + 1})
            return note

        return await self._run(act, apply=apply, also=also)

    async def discard(self, letter: DeadLetter, reason: str, *, apply: bool, also: Also | None = None) -> ActionResult:
        """Take the letter off the list for good. The document stays what it is."""
        event = await self.decoded(letter)

        async def act(work: OperatorWork) -> str:
            await self._mark(work, letter, event, DISCARDED, reason)
            await self._audit(work, letter, event, "dead_letter.discarded", {"reason": reason})
            return f"off the list: {reason}"

        return await self._run(act, apply=apply, also=also)

    async def decoded(self, letter: DeadLetter) -> Event | None:
        """See ``LetterReader.decoded``."""
        return await self._letters.decoded(letter)

    # --- held events, refused rows -------------------------------------------------------------------------------

    async def give_up(
        self, consumer: str, event_id: UUID, reason: str, *, apply: bool, also: Also | None = None
    ) -> ActionResult:
        """Have ``consumer`` give up an event that it holds, at its next try: the document's state says so, and a letter is written."""

        async def act(work: OperatorWork) -> str:
            held = await work.held.give_up(consumer, event_id, self._actor, reason)
            if held is None:
                raise _Refusal("not held by that consumer, or ordered already; see: dpj dlq held")
            entity = _entity(held.document_key, ("event", str(event_id)))
            details = {**_of(held), "reason": reason}
            await self._audit_line(work, held.tenant, entity, "event.given_up", details, None)
            return f"{consumer} gives it up at its next try, with code given_up_by_operator"

        return await self._run(act, apply=apply, also=also)

    async def retry_refused(self, row_id: int, *, apply: bool, also: Also | None = None) -> ActionResult:
        """Have the relay send a refused outbox row again."""

        async def act(work: OperatorWork) -> str:
            row = _existing_row(await work.refused.retry(row_id))
            await self._settled(work, row, "outbox.retried", {})
            return f"sent again, then {row.waiting} that wait for it"

        return await self._run(act, apply=apply, also=also)

    async def drop_refused(self, row_id: int, reason: str, *, apply: bool, also: Also | None = None) -> ActionResult:
        """Never send a refused outbox row."""

        async def act(work: OperatorWork) -> str:
            row = _existing_row(await work.refused.drop(row_id))
            await self._settled(work, row, "outbox.dropped", {"reason": reason})
            return f"never sent; {row.waiting} that wait for it go on"

        return await self._run(act, apply=apply, also=also)

    async def re_emit(self, lost: LostEvent, reason: str, *, apply: bool, also: Also | None = None) -> ActionResult:
        """Have an event that Kafka lost published again; see ``processors.reconcile.owed_events``."""

        async def act(work: OperatorWork) -> str:
            event = lost.event
            if not await work.re_emissions.re_emit([event.row_id]):
                raise _AlreadyHandled
            entity = _entity(event.key, ("outbox_row", str(event.row_id)))
            consumers = list(lost.consumers)
            details = {"row": event.row_id, "consumers": consumers, "event_id": str(event.event_id), "reason": reason}
            await self._audit_line(work, None, entity, "outbox.re_emitted", details, None)
            return f"published again for {', '.join(lost.consumers)}"

        return await self._run(act, apply=apply, also=also)

    # --- common --------------------------------------------------------------------------------------------------

    async def _run(self, act: _Action, *, apply: bool, also: Also | None) -> ActionResult:
        note = ""
        try:
            async with self._database.transaction() as work:
                note = await act(work)
                if not apply:
                    raise _DryRun
                if also is not None:
                    await also(work, note)
        except _DryRun:
            return ActionResult("done", note)
        except _AlreadyHandled:
            return ActionResult("handled", "redriven or discarded before")
        except _Refusal as refusal:
            return ActionResult("refused", str(refusal))
        except Transient:
            raise
        except DPJError as error:
            return ActionResult("refused", error.detail or error.code)
        return ActionResult("done", note)

    async def _mark(
        self, work: OperatorWork, letter: DeadLetter, event: Event | None, act: str, reason: str | None
    ) -> None:
        if not await work.dead_letters.mark(letter.place, act, self._actor, reason):
            raise _AlreadyHandled
        consumer = letter.place.topic.removeprefix(dead_letter_topic(""))
        tenant = None if event is None else event.tenant
        entry = entry_of(consumer, letter.key, letter.headers, tenant=tenant, place=letter.place)
        await work.letter_index.settle(entry, letter.place, act, self._actor)

    def _origin(self, event: Event | None) -> Origin:
        correlation_id = uuid4() if event is None else event.correlation_id
        return Origin(actor=self._actor, at=self._clock.now(), correlation_id=correlation_id)

    async def _audit(
        self, work: HasOutbox, letter: DeadLetter, event: Event | None, action: str, details: Mapping[str, object]
    ) -> None:
        entity = ("dead_letter", letter.place.address)
        if isinstance(event, DocumentEvent):
            entity = ("document", str(event.document_id))
        facts = {
            "consumer": letter.consumer,
            "code": letter.code,
            "event_id": letter.event_id and str(letter.event_id),
            "letter": letter.place.address,
            **details,
        }
        await self._audit_line(work, event.tenant if event else None, entity, action, facts, event)

    async def _settled(self, work: HasOutbox, row: RefusedRow, action: str, details: Mapping[str, object]) -> None:
        entity = _entity(row.key, ("outbox_row", str(row.id)))
        facts = {"row": row.id, "topic": row.topic, "code": row.code, "event_id": row.event_id and str(row.event_id)}
        await self._audit_line(work, None, entity, action, {**facts, **details}, None)

    async def _audit_line(
        self,
        work: HasOutbox,
        tenant: str | None,
        entity: tuple[str, str],
        action: str,
        details: Mapping[str, object],
        event: Event | None,
    ) -> None:
        line = audit_line(self._origin(event), tenant or SYSTEM_TENANT, *entity, action, details=details)
        await work.outbox.add(line)


class _Action(Protocol):
    async def __call__(self, work: OperatorWork) -> str: ...


class _AlreadyHandled(Exception):
    """Another run, or another operator, was first."""


async def reinstate(work: StateWork, consumer: str, event: Event, origin: Origin) -> str:
    """Undo what ``consumer``'s giving up changed in the document, so that the event finds it as it was before; says what changed.

    Raises _Refusal where the event would have nothing to do or the lifecycle has no way back.
    """
    if not isinstance(event, DocumentEvent):
        return "no document's state depends on it"
    try:
        document = await work.documents.lock(event.document_id)
    except DocumentNotFound:
        raise _Refusal("its document is not in the database") from None
    if document.status in ERASURE_STATES:
        raise _Refusal(f"its document is {document.status.value}")
    if consumer == "integrity":
        return _checked_status(document, Status.STORED)
    if consumer == "archiving" and isinstance(event, DocumentValidated):
        return await _validated_again(work, document, origin)
    if consumer == "archiving" and isinstance(event, DocumentUploaded) and document.archive_planned is not None:
        raise _Refusal("its plan was made since: nothing is left to do")
    if consumer == "renditions" and document.thumbnail_note is not None:
        await update_fields(work, document, origin.at, thumbnail_note=None)
        return "its thumbnail is still to come again"
    return f"its document stays {document.status.value}"


async def _validated_again(work: StateWork, document: Document, origin: Origin) -> str:
    if document.status is not Status.ARCHIVE_FAILED:
        return _checked_status(document, Status.VALIDATED)
    details = {"after": document.failure_code}
    await transition(work, document, Status.VALIDATED, origin, details=details, failure_code=None)
    return "its document: ARCHIVE_FAILED -> VALIDATED"


def _checked_status(document: Document, needed: Status) -> str:
    """The document is as the event needs it. Raises _Refusal if it is not."""
    if document.status is needed:
        return f"its document stays {needed.value}"
    if document.status is Status.QUARANTINED and not is_allowed(document.status, needed):
        raise _Refusal("its document is QUARANTINED, from where no way leads back: have it uploaded again")
    raise _Refusal(f"its document is {document.status.value}: nothing is left to do")


def _checked_route(letter: DeadLetter) -> tuple[str, str]:
    """Consumer and origin topic. Raises _Refusal if it can't be sent anywhere."""
    if letter.cut_bytes:
        raise _Refusal(
            f"too large for a letter ({letter.cut_bytes} bytes); the record itself stands at {letter.origin}"
        )
    if letter.consumer is None or dead_letter_topic(letter.consumer) != letter.place.topic:
        raise _Refusal("its headers don't name the consumer whose letters stand in its topic")
    if letter.origin_topic not in TOPICS:
        raise _Refusal("its headers name no topic of ours")
    return letter.consumer, letter.origin_topic


async def _reopen(work: OperatorWork, consumer: str, event: Event) -> None:
    state = await work.inbox.reopen(consumer, event.event_id)
    if state == "DONE":
        raise _Refusal(f"{consumer} has done this event since: nothing is left to do")
    if state == "CLAIMED":
        raise _Refusal(f"{consumer} works on this event now")
    await work.held.withdraw(consumer, event.event_id)


def _redriven_headers(letter: DeadLetter, consumer: str) -> dict[str, str]:
    kept = {name: letter.headers[name] for name in _KEPT if name in letter.headers}
    event_id = {} if letter.event_id is None else {"event-id": str(letter.event_id)}
    return {**kept, **event_id, REPLAYS: str(letter.replays + 1), REDRIVEN_FOR: consumer}


def _existing_row(row: RefusedRow | None) -> RefusedRow:
    if row is None:
        raise _Refusal("no such refused row, or settled before; see: dpj outbox refused")
    return row


def _of(held: HeldEvent) -> dict[str, object]:
    return {
        "consumer": held.consumer,
        "event_id": str(held.event_id),
        "code": held.code,
        "waiting_for": held.waiting_for,
        "record": f"{held.topic}/{held.partition}/{held.offset}",
    }


def _entity(key: str | None, otherwise: tuple[str, str]) -> tuple[str, str]:
    """What an act on a record with that key is about: its document, as far as the key names one."""
    return otherwise if key is None or uuid_or_none(key) is None else ("document", key)
