"""Headers and payload of dead letters, and the entries of held events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from domain.dead_letters import CUT_BYTES, REDRIVEN_EVENT, REDRIVEN_FOR, REPLAYS, HeldEvent
from domain.errors import DPJError, RecordDamaged, Transient, UnexpectedFailure
from domain.events import SCHEMA_HEADER, Event
from domain.shared.correlation import current_traceparent
from streams.lanes import Record

#: Key and value of a dead letter: with its headers below the 1,000,000 bytes that librdkafka sends. Our events are smaller.
MAX_DEAD_LETTER_BYTES: Final = 900_000
#: Characters kept of a header that came with the record.
MAX_HEADER_CHARACTERS: Final = 256


@dataclass(frozen=True, slots=True)
class GiveUpReason:
    """Why an event is given up. ``given_up``: even the processor's ``give_up`` failed, so only the dead letter is left."""

    code: str
    error_class: str
    attempts: int
    given_up: bool

    @classmethod
    def of(cls, error: Exception, *, attempts: int, after: GiveUpReason | None) -> GiveUpReason:
        """``after``: why it was to be given up before ``error`` came in between. A broken record stays one."""
        if after is not None and after.code == RecordDamaged.code:
            return after
        code = error.code if isinstance(error, DPJError) else UnexpectedFailure.code
        return cls(code, type(error).__name__, attempts, given_up=after is not None)


def record_id(record: Record) -> UUID:
    """A stable id for a record that can't be decoded: its place in Kafka."""
    return uuid5(NAMESPACE_URL, f"kafka:{record.partition.topic}/{record.partition.number}/{record.offset}")


def held_event(consumer: str, record: Record, event: Event | None, error: Transient, attempts: int) -> HeldEvent:
    return HeldEvent(
        consumer=consumer,
        event_id=event.event_id if event else record_id(record),
        document_key=event.key if event else (record.key or b"").decode("utf-8", "replace"),
        tenant=event.tenant if event else None,
        topic=record.partition.topic,
        partition=record.partition.number,
        offset=record.offset,
        code=error.code,
        waiting_for=error.waiting_for,
        attempts=attempts,
    )


def _size(record: Record) -> int:
    return len(record.key or b"") + len(record.value or b"")


def dead_letter_payload(record: Record) -> tuple[bytes | None, bytes | None]:
    """Key and value of a dead letter. One too large to be sent would stop the relay; its headers still say where it is."""
    if _size(record) > MAX_DEAD_LETTER_BYTES:
        return None, None
    return record.key, record.value


def dead_letter_headers(record: Record, consumer: str, event_id: UUID, give_up_reason: GiveUpReason) -> dict[str, str]:
    """Headers of a dead letter: where it comes from and why it is one."""
    return {
        # A stranger's record may have no trace: then that of our work on it, which is in the logs.
        "traceparent": current_traceparent.get() or "",
        **{
            name: record.headers[name][:MAX_HEADER_CHARACTERS]
            for name in ("traceparent", "correlation-id", SCHEMA_HEADER, REPLAYS)
            if name in record.headers
        },
        **_redriven_event(record),
        **({CUT_BYTES: str(_size(record))} if _size(record) > MAX_DEAD_LETTER_BYTES else {}),
        "dpj-origin-topic": record.partition.topic,
        "dpj-origin-partition": str(record.partition.number),
        "dpj-origin-offset": str(record.offset),
        "dpj-origin-timestamp": str(int(record.timestamp * 1000)),
        "dpj-consumer": consumer,
        "dpj-code": give_up_reason.code,
        "dpj-error-class": give_up_reason.error_class,
        "dpj-attempts": str(give_up_reason.attempts),
        "dpj-event-id": str(event_id),
    }


def _redriven_event(record: Record) -> dict[str, str]:
    """Of a record that an operator had sent again: which letter's event it was."""
    event_id = record.headers.get("event-id")
    if REDRIVEN_FOR not in record.headers or event_id is None:
        return {}
    return {REDRIVEN_EVENT: event_id[:MAX_HEADER_CHARACTERS]}
