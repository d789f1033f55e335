"""A dead letter: a record that a consumer gave up, with the place it stands at and what its headers say."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

#: How often the event was given to its consumer again by an operator.
REPLAYS: Final = "dpj-replays"
#: The event of the letter whose redriven record was given up again: an undecodable record has no event of its own.
REDRIVEN_EVENT: Final = "dpj-redriven-event"
#: The one consumer that a redriven record is for; every other acknowledges it unread.
REDRIVEN_FOR: Final = "dpj-redriven-for"
#: Bytes of key and value that were left out of the letter, because Kafka would not have taken it whole.
CUT_BYTES: Final = "dpj-cut-bytes"


@dataclass(frozen=True, slots=True, order=True)
class RecordPosition:
    """Where a letter stands. ``written_ms`` (Unix milliseconds) tells it from one of a topic that was made anew."""

    topic: str
    partition: int
    offset: int
    written_ms: int

    @property
    def address(self) -> str:
        """As operators name it: ``archiving/0/12``."""
        return f"{self.topic.removeprefix('dpj.dlq.')}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Headers come from Kafka, where strangers may write too: each property is None where its header is missing or malformed."""

    place: RecordPosition
    key: bytes | None
    value: bytes | None = field(repr=False)
    headers: Mapping[str, str]

    @property
    def consumer(self) -> str | None:
        return self.headers.get("dpj-consumer")

    @property
    def code(self) -> str | None:
        return self.headers.get("dpj-code")

    @property
    def error_class(self) -> str | None:
        return self.headers.get("dpj-error-class")

    @property
    def origin_topic(self) -> str | None:
        return self.headers.get("dpj-origin-topic")

    @property
    def origin(self) -> str:
        """Topic, partition and offset of the record that was given up."""
        return "/".join(self.headers.get(f"dpj-origin-{part}", "?") for part in ("topic", "partition", "offset"))

    @property
    def event_id(self) -> UUID | None:
        with suppress(ValueError):
            return UUID(self.headers.get("dpj-event-id", ""))
        return None

    @property
    def entity_id(self) -> str | None:
        """The record's key: the id of the document that the event is about."""
        return None if self.key is None else self.key.decode("utf-8", "replace")

    @property
    def replays(self) -> int:
        return _count(self.headers.get(REPLAYS)) or 0

    @property
    def cut_bytes(self) -> int:
        """Bytes that are not in the letter; then key and value are only at its origin."""
        return _count(self.headers.get(CUT_BYTES)) or 0


@dataclass(frozen=True, slots=True)
class GivenUpEvent:
    """An event that ``consumer`` gave up at ``at``, and that nobody gave it again or discarded. ``code``, ``tries`` and ``address``: of its
    letter, None where the index of letters does not have it, or not yet where it stands."""

    consumer: str
    event_id: UUID
    at: datetime
    code: str | None = None
    tries: int | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class OperatorMark:
    """What an operator did with a letter: ``act`` is REDRIVEN or DISCARDED; ``actor`` is a pseudonym."""

    act: str
    actor: str
    reason: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldEvent:
    """An event that a worker holds because it can't be processed now. ``attempts`` are those of the worker that has it."""

    consumer: str
    event_id: UUID
    document_key: str
    tenant: str | None
    topic: str
    partition: int
    offset: int
    code: str
    waiting_for: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldEventStatus:
    """A held event as operators see it: since when, last tried when, and whether it was ordered to be given up."""

    event: HeldEvent
    since: datetime
    noted_at: datetime
    given_up_by: str | None
    given_up_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRow:
    """An outbox row that Kafka refuses for good; ``waiting`` later rows of its key wait for it."""

    id: int
    topic: str
    key: str | None
    event_id: UUID | None
    size: int
    code: str
    refused_at: datetime
    waiting: int


def _count(text: str | None) -> int | None:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 12:
        return None
    return int(text)
