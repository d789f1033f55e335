"""The index of dead letters: what PostgreSQL knows of a letter without reading Kafka, made of the letter's own headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from domain.dead_letters import REDRIVEN_EVENT, REPLAYS, RecordPosition
from domain.events import TOPICS, dead_letter_topic
from domain.keys import is_tenant
from domain.shared.ids import uuid_or_none

#: What stands for a code, a class or a topic that a letter's headers do not name, or not in the form of one.
UNKNOWN: Final = "unknown"
_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_CLASS: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_MOST_TRIES: Final = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterEntry:
    """What is kept of a letter. Ids, codes and places only: a header that has another form is not taken over.

    A letter is named by its consumer, its event and the record that was given up (``origin``): written twice, it has one entry.
    """

    consumer: str
    event_id: UUID
    tenant: str | None
    document_id: UUID | None
    code: str
    error_class: str
    origin_topic: str
    origin_partition: int
    origin_offset: int
    attempts: int
    replays: int
    redriven_event: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedLetter:
    """An entry with its number, the letter's place in Kafka (None until the relay has published it) and what became of it.

    ``settled`` is REDRIVEN or DISCARDED; ``came_back``: the event was redriven, and its consumer gave it up again.
    """

    number: int
    entry: DeadLetterEntry
    made_at: datetime
    partition: int | None
    offset: int | None
    settled: str | None
    settled_by: str | None
    settled_at: datetime | None
    came_back: bool

    @property
    def address(self) -> str | None:
        """As ``dpj dlq`` takes it: ``archiving/0/12``; None while the letter is not in Kafka yet."""
        return None if self.offset is None else f"{self.entry.consumer}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterGroup:
    """Open letters of one consumer with one code and class of error. ``new``: those written since the time that was asked for."""

    consumer: str
    code: str
    error_class: str
    count: int
    oldest: datetime
    newest: datetime
    new: int


def entry_of(
    consumer: str,
    key: bytes | None,
    headers: Mapping[str, str],
    *,
    tenant: str | None = None,
    place: RecordPosition | None = None,
) -> DeadLetterEntry:
    """The entry of a letter of ``consumer`` with that key and those headers.

    ``place`` is where the letter itself stands: it names a stranger's letter, whose headers name no record.
    """
    topic = headers.get("dpj-origin-topic", "")
    partition, offset = _number(headers.get("dpj-origin-partition")), _number(headers.get("dpj-origin-offset"))
    if topic not in TOPICS or partition is None or offset is None or partition > _MOST_TRIES:
        topic, partition, offset = (place.topic, place.partition, place.offset) if place else (UNKNOWN, 0, 0)
    event_id = _id(headers.get("dpj-event-id")) or uuid5(NAMESPACE_URL, f"kafka:{topic}/{partition}/{offset}")
    return DeadLetterEntry(
        consumer=consumer,
        event_id=event_id,
        tenant=tenant if tenant is not None and is_tenant(tenant) else None,
        document_id=None if key is None else _id(key.decode("utf-8", "replace")),
        code=_matching(_CODE, headers.get("dpj-code")),
        error_class=_matching(_CLASS, headers.get("dpj-error-class")),
        origin_topic=topic,
        origin_partition=partition,
        origin_offset=offset,
        attempts=min(_number(headers.get("dpj-attempts")) or 0, _MOST_TRIES),
        replays=min(_number(headers.get(REPLAYS)) or 0, _MOST_TRIES),
        redriven_event=_id(headers.get(REDRIVEN_EVENT)),
    )


def is_letter_of(headers: Mapping[str, str], letter: IndexedLetter, topic: str) -> bool:
    """Whether a letter that was read at the place in Kafka is the one of the index: its topic may have been made anew."""
    found = entry_of(letter.entry.consumer, None, headers)
    asked = letter.entry
    return topic == dead_letter_topic(asked.consumer) and (
        (found.event_id, found.origin_topic, found.origin_partition, found.origin_offset)
        == (asked.event_id, asked.origin_topic, asked.origin_partition, asked.origin_offset)
        or asked.origin_topic == topic  # a stranger's letter is named by its own place
    )


def _matching(form: re.Pattern[str], text: str | None) -> str:
    return text if text is not None and form.fullmatch(text) else UNKNOWN


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None


def _id(text: str | None) -> UUID | None:
    return uuid_or_none(text) if text is not None and len(text) == 36 else None
