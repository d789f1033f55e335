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

from domain.act_notes import note
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
from processors.operators.letter_reader import Decoder, LetterReader
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


class OperatorActions:
    """Acts of the operator whose pseudonym is ``actor``. Raises DatabaseUnavailable, RegistryUnavailable."""

    def __init__(self, database: Transactions[OperatorWork], decoder: Decoder, clock: Clock, actor: str) -> None:
        self._database = database
        self._letters = LetterReader(decoder)
        self._clock = clock
        self._actor = actor

    @property
    def actor(self) -> str:
        """The operator's pseudonym."""
        return self._actor

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
                raise _Refusal(note("redriven_too_often", replays=letter.replays, cap=cap))
            if event is None and not force:
                raise _Refusal(note("undecodable_here"))
            await self._mark(work, letter, event, REDRIVEN, None)
            said = note("sent_as_it_is")
            if event is not None:
                await _reopen(work, consumer, event)
                said = await reinstate(work, consumer, event, self._origin(event))
            owed = None if event is None else (event.event_id, consumer)
            await work.outbox.add_record(topic, letter.key, letter.value, _redriven_headers(letter, consumer), owed)
            await self._audit(work, letter, event, "dead_letter.redriven", {"replays": letter.replays + 1})
            return said

        return await self._run(act, apply=apply, also=also)

    async def discard(self, letter: DeadLetter, reason: str, *, apply: bool, also: Also | None = None) -> ActionResult:
        """Take the letter off the list for good. The document stays what it is."""
        event = await self.decoded(letter)

        async def act(work: OperatorWork) -> str:
            await self._mark(work, letter, event, DISCARDED, reason)
            await self._audit(work, letter, event, "dead_letter.discarded", {"reason": reason})
            return note("off_the_list", reason=reason)

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
                raise _Refusal(note("not_held"))
            entity = _entity(held.document_key, ("event", str(event_id)))
            details = {**_of(held), "reason": reason}
            await self._audit_line(work, held.tenant, entity, "event.given_up", details, None)
            return note("gives_up", consumer=consumer)

        return await self._run(act, apply=apply, also=also)

    async def retry_refused(self, row_id: int, *, apply: bool, also: Also | None = None) -> ActionResult:
        """Have the relay send a refused outbox row again."""

        async def act(work: OperatorWork) -> str:
            row = _existing_row(await work.refused.retry(row_id))
            await self._settled(work, row, "outbox.retried", {})
            return note("row_sent_again", count=row.waiting)

        return await self._run(act, apply=apply, also=also)

    async def drop_refused(self, row_id: int, reason: str, *, apply: bool, also: Also | None = None) -> ActionResult:
        """Never send a refused outbox row."""

        async def act(work: OperatorWork) -> str:
            row = _existing_row(await work.refused.drop(row_id))
            await self._settled(work, row, "outbox.dropped", {"reason": reason})
            return note("row_never_sent", count=row.waiting)

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
            return note("published_again", consumers=", ".join(lost.consumers))

        return await self._run(act, apply=apply, also=also)

    async def replay(
        self, consumer: str, event_id: UUID, record: DeadLetter, reason: str, *, apply: bool, also: Also | None = None
    ) -> ActionResult:
        """Have ``consumer`` take an event again that its inbox knows nothing of. ``record``: the one that its own topic still holds."""
        event = await self._letters.of_record(record)

        async def act(work: OperatorWork) -> str:
            if event is None or event.event_id != event_id:
                raise _Refusal(note("another_record"))
            state = await work.inbox.reopen(consumer, event_id)
            if state == "DONE":
                raise _AlreadyHandled(note("dropped_as_done", consumer=consumer))
            if state is not None:  # rolled back: what was given up stays so
                raise _Refusal(note("at_work" if state == "CLAIMED" else "given_up", consumer=consumer))
            if isinstance(event, DocumentEvent):
                await _existing_document(work, event)
            headers = {name: record.headers[name] for name in _KEPT if name in record.headers}
            headers |= {"event-id": str(event_id), REDRIVEN_FOR: consumer}
            await work.outbox.add_record(record.place.topic, record.key, record.value, headers, (event_id, consumer))
            entity = ("event", str(event_id))
            if isinstance(event, DocumentEvent):
                entity = ("document", str(event.document_id))
            facts = {
                "consumer": consumer,
                "event_id": str(event_id),
                "record": f"{record.place.topic}/{record.place.partition}/{record.place.offset}",
                "reason": reason,
            }
            await self._audit_line(work, event.tenant, entity, "event.replayed", facts, event)
            return note("replayed", consumer=consumer)

        return await self._run(act, apply=apply, also=also)

    # --- common --------------------------------------------------------------------------------------------------

    async def _run(self, act: _Action, *, apply: bool, also: Also | None) -> ActionResult:
        said = ""
        try:
            async with self._database.transaction() as work:
                said = await act(work)
                if not apply:
                    raise _DryRun
                if also is not None:
                    await also(work, said)
        except _DryRun:
            return ActionResult("done", said)
        except _AlreadyHandled as before:
            return ActionResult("handled", str(before) or note("handled_before"))
        except _Refusal as refusal:
            return ActionResult("refused", str(refusal))
        except Transient:
            raise
        except DPJError as error:
            return ActionResult("refused", error.detail or error.code)
        return ActionResult("done", said)

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
        return note("no_state")
    document = await _existing_document(work, event)
    if consumer == "integrity":
        return _checked_status(document, Status.STORED)
    if consumer == "archiving" and isinstance(event, DocumentValidated):
        return await _validated_again(work, document, origin)
    if consumer == "archiving" and isinstance(event, DocumentUploaded) and document.archive_planned is not None:
        raise _Refusal(note("planned_since"))
    if consumer == "renditions" and document.thumbnail_note is not None:
        await update_fields(work, document, origin.at, thumbnail_note=None)
        return note("thumbnail_again")
    return note("document_stays", status=document.status.value)


async def _existing_document(work: StateWork, event: DocumentEvent) -> Document:
    """Raises _Refusal if nothing can be done with it any more."""
    try:
        document = await work.documents.lock(event.document_id)
    except DocumentNotFound:
        raise _Refusal(note("document_missing")) from None
    if document.status in ERASURE_STATES:
        raise _Refusal(note("document_is", status=document.status.value))
    return document


async def _validated_again(work: StateWork, document: Document, origin: Origin) -> str:
    if document.status is not Status.ARCHIVE_FAILED:
        return _checked_status(document, Status.VALIDATED)
    details = {"after": document.failure_code}
    await transition(work, document, Status.VALIDATED, origin, details=details, failure_code=None)
    return note("validated_again")


def _checked_status(document: Document, needed: Status) -> str:
    """The document is as the event needs it. Raises _Refusal if it is not."""
    if document.status is needed:
        return note("document_stays", status=needed.value)
    if document.status is Status.QUARANTINED and not is_allowed(document.status, needed):
        raise _Refusal(note("quarantined"))
    raise _Refusal(note("nothing_left", status=document.status.value))


def _checked_route(letter: DeadLetter) -> tuple[str, str]:
    """Consumer and origin topic. Raises _Refusal if it can't be sent anywhere."""
    if letter.cut_bytes:
        raise _Refusal(note("letter_cut", size=letter.cut_bytes, origin=letter.origin))
    if letter.consumer is None or dead_letter_topic(letter.consumer) != letter.place.topic:
        raise _Refusal(note("headers_name_another"))
    if letter.origin_topic not in TOPICS:
        raise _Refusal(note("headers_name_no_topic"))
    return letter.consumer, letter.origin_topic


async def _reopen(work: OperatorWork, consumer: str, event: Event) -> None:
    state = await work.inbox.reopen(consumer, event.event_id)
    if state == "DONE":
        raise _Refusal(note("done_since", consumer=consumer))
    if state == "CLAIMED":
        raise _Refusal(note("at_work", consumer=consumer))
    await work.held.withdraw(consumer, event.event_id)


def _redriven_headers(letter: DeadLetter, consumer: str) -> dict[str, str]:
    kept = {name: letter.headers[name] for name in _KEPT if name in letter.headers}
    event_id = {} if letter.event_id is None else {"event-id": str(letter.event_id)}
    return {**kept, **event_id, REPLAYS: str(letter.replays + 1), REDRIVEN_FOR: consumer}


def _existing_row(row: RefusedRow | None) -> RefusedRow:
    if row is None:
        raise _Refusal(note("no_such_row"))
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
