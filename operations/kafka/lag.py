"""How far each consumer group is behind, per topic and partition.

Read from outside the workers, by the broker's own numbers: a consumer that stalled silently shows here as lag that does
not fall, whatever it says of itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import admin as kafka_admin

from domain.consumers import consumer_of
from domain.errors import BrokerUnavailable
from domain.owed_events import PartitionProgress, Progress

POLL_SECONDS: Final = 0.2
#: Records are read for their timestamp only: fetch as little as the broker will give.
FETCH_BYTES: Final = 64 * 1024

#: A longer key is no id of ours.
KEY_BYTES: Final = 128

_LEADERLESS: Final = frozenset({KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE})

_kafka: Any = kafka_admin  # the package says it is typed, but exports these names only implicitly
_LINE: Final = "  {topic:<24} {partition:>3} {end:>11} {committed:>11} {lag:>10} {behind:>9}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRecord:
    """The first record that a group has not consumed: when it was written (None if the broker does not say), its key, mostly a
    document's id, and its event's id. Strangers may write to a topic: both are None where they are missing or malformed."""

    written_at: datetime | None
    key: str | None
    event_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLag:
    """``start`` is the first offset that is kept, ``end`` the next to be written; ``committed`` None if the group has none yet;
    ``behind`` is how many seconds ago the first unconsumed record was written, None if there is none or it could not be read in time;
    ``head`` is that record."""

    group: str
    topic: str
    partition: int
    start: int
    end: int
    committed: int | None
    lag: int
    behind: float | None
    head: HeadRecord | None = None


@dataclass(frozen=True, slots=True)
class GroupLag:
    """A group's ``lag`` in records, and how many seconds ago the oldest that it has not consumed was written."""

    group: str
    lag: int
    behind: float | None


@dataclass(frozen=True, slots=True)
class Span:
    """A partition's offsets: ``start`` is the first one still kept, ``end`` the next to be written."""

    start: int
    end: int


def next_offset(span: Span, committed: int | None) -> int:
    """The offset that the group reads next: what retention has dropped is skipped, and a new group starts at the first."""
    return span.start if committed is None else min(max(committed, span.start), span.end)


def measure(
    bootstrap: str,
    groups: Mapping[str, Sequence[str]],
    *,
    ages: bool = True,
    deadline: float = 10.0,
    security: Mapping[str, str] | None = None,
) -> list[PartitionLag]:
    """The lag of every group on its topics, in the order given; a topic that does not exist has no rows.

    Without ``ages`` no record is read and ``behind`` is None everywhere. ``security`` is what librdkafka is told beside the
    address. Raises BrokerUnavailable. Joins no group and commits nothing.
    """
    kafka = {"bootstrap.servers": bootstrap, "log_level": 0, **(security or {})}
    try:
        spans = _spans(kafka, {topic for topics in groups.values() for topic in topics}, deadline)
        committed = {group: _committed(kafka, group, topics, spans, deadline) for group, topics in groups.items()}
        wanted: set[tuple[str, int, int]] = set()
        for group, topics in groups.items():
            for topic, number in _partitions(topics, spans):
                offset = next_offset(spans[topic, number], committed[group].get((topic, number)))
                if offset < spans[topic, number].end:
                    wanted.add((topic, number, offset))
        heads = _heads(kafka, wanted, deadline) if ages else {}
    except KafkaException as error:
        reason = error.args[0].name() if error.args and isinstance(error.args[0], KafkaError) else "unknown"
        raise BrokerUnavailable(f"Kafka at {bootstrap} does not answer ({reason}).") from None
    now = datetime.now(UTC)
    rows = []
    for group, topics in groups.items():
        for topic, number in _partitions(topics, spans):
            span, consumed = spans[topic, number], committed[group].get((topic, number))
            position = next_offset(span, consumed)
            head = heads.get((topic, number, position))
            at = None if head is None else head.written_at
            rows.append(
                PartitionLag(
                    group=group,
                    topic=topic,
                    partition=number,
                    start=span.start,
                    end=span.end,
                    committed=consumed,
                    lag=span.end - position,
                    behind=None if at is None else max(0.0, (now - at).total_seconds()),
                    head=head,
                )
            )
    return rows


def progress_of(rows: Iterable[PartitionLag]) -> Progress:
    """How far every group is, without what its lag is made of."""
    return {
        (consumer_of(row.group), row.topic, row.partition): PartitionProgress(row.start, row.end, row.committed)
        for row in rows
    }


def table_lines(rows: Sequence[PartitionLag]) -> list[str]:
    """The rows as lines of at most 80 characters (for offsets below 100 billion), one block per group."""
    lines: list[str] = []
    for group in dict.fromkeys(row.group for row in rows):
        mine = [row for row in rows if row.group == group]
        lines += ["", f"{group}: lag {sum(row.lag for row in mine)}"]
        lines.append(
            _LINE.format(topic="TOPIC", partition="P", end="END", committed="COMMITTED", lag="LAG", behind="BEHIND")
        )
        lines += [
            _LINE.format(
                topic=row.topic,
                partition=row.partition,
                end=row.end,
                committed="-" if row.committed is None else row.committed,
                lag=row.lag,
                behind=duration(row.behind),
            )
            for row in mine
        ]
    return lines[1:]


def totals(rows: Sequence[PartitionLag]) -> list[GroupLag]:
    """One per group, in the order of ``rows``."""
    found: list[GroupLag] = []
    for group in dict.fromkeys(row.group for row in rows):
        mine = [row for row in rows if row.group == group]
        oldest = max((row.behind for row in mine if row.behind is not None), default=None)
        found.append(GroupLag(group, sum(row.lag for row in mine), oldest))
    return found


def total_lines(groups: Sequence[GroupLag]) -> list[str]:
    """One line per group, below a heading."""
    lines = [f"{'GROUP':<24} {'LAG':>10} {'BEHIND':>9}"]
    lines += [f"{one.group:<24} {one.lag:>10} {duration(one.behind):>9}" for one in groups]
    return lines


def duration(seconds: float | None) -> str:
    """Seconds in the unit that suits them; ``-`` for none."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} d"


def _partitions(topics: Iterable[str], spans: Mapping[tuple[str, int], Span]) -> list[tuple[str, int]]:
    return [(topic, number) for topic in topics for name, number in sorted(spans) if name == topic]


def _spans(kafka: Mapping[str, Any], topics: set[str], deadline: float) -> dict[tuple[str, int], Span]:
    admin = _kafka.AdminClient(dict(kafka))
    known = admin.list_topics(timeout=deadline).topics
    partitions = [(topic, number) for topic in topics if topic in known for number in known[topic].partitions]
    starts = _offsets(admin, partitions, _kafka.OffsetSpec.earliest(), deadline)
    ends = _offsets(admin, partitions, _kafka.OffsetSpec.latest(), deadline)
    return {place: Span(starts[place], ends[place]) for place in partitions}


def _offsets(
    admin: Any, partitions: Sequence[tuple[str, int]], which: Any, deadline: float
) -> dict[tuple[str, int], int]:
    if not partitions:
        return {}
    asked = {TopicPartition(topic, number): which for topic, number in partitions}
    ends = time.monotonic() + deadline
    while True:
        answers = admin.list_offsets(asked, request_timeout=deadline)
        try:
            return {(tp.topic, tp.partition): future.result(deadline).offset for tp, future in answers.items()}
        except KafkaException as error:
            # A topic that has just been made has no leader for a moment.
            if error.args[0].code() not in _LEADERLESS or time.monotonic() > ends:
                raise
        time.sleep(POLL_SECONDS)


def _committed(
    kafka: Mapping[str, Any], group: str, topics: Sequence[str], spans: Mapping[tuple[str, int], Span], deadline: float
) -> dict[tuple[str, int], int]:
    asked = [TopicPartition(topic, number) for topic, number in _partitions(topics, spans)]
    if not asked:
        return {}
    client = Consumer({**kafka, "group.id": group})
    try:
        answers = client.committed(asked, timeout=deadline)
    finally:
        client.close()
    for answer in answers:
        if answer.error is not None:
            raise KafkaException(answer.error)
    return {(answer.topic, answer.partition): answer.offset for answer in answers if answer.offset >= 0}


def _heads(
    kafka: Mapping[str, Any], places: set[tuple[str, int, int]], deadline: float
) -> dict[tuple[str, int, int], HeadRecord]:
    """The records at these (topic, partition, offset); within ``deadline`` or not at all.

    Groups may wait at different offsets of one partition, which can be assigned once only: such places are read in turns.
    """
    found: dict[tuple[str, int, int], HeadRecord] = {}
    ends = time.monotonic() + deadline
    left = set(places)
    client = Consumer(
        {
            **kafka,
            "group.id": "dpj.lag",
            "enable.auto.commit": False,
            "queued.min.messages": 1,
            "fetch.message.max.bytes": FETCH_BYTES,
        }
    )
    try:
        while left and time.monotonic() < ends:
            turn = {(topic, number): offset for topic, number, offset in sorted(left, reverse=True)}
            left -= {(*place, offset) for place, offset in turn.items()}
            found |= _read_turn(client, turn, ends)
    finally:
        client.close()
    return found


def _read_turn(client: Any, turn: Mapping[tuple[str, int], int], ends: float) -> dict[tuple[str, int, int], HeadRecord]:
    found: dict[tuple[str, int, int], HeadRecord] = {}
    waiting = dict(turn)
    client.assign([TopicPartition(topic, number, offset) for (topic, number), offset in turn.items()])
    while waiting and (remaining := ends - time.monotonic()) > 0:
        message = client.poll(min(POLL_SECONDS, remaining))
        if message is None or message.error() is not None:
            continue
        place = (message.topic(), message.partition())
        offset = waiting.pop(place, None)
        if offset is None:
            continue
        client.incremental_unassign([TopicPartition(*place)])
        found[(*place, offset)] = _head(message)
    client.unassign()
    return found


def _head(message: Any) -> HeadRecord:
    kind, milliseconds = message.timestamp()
    written = None if kind == TIMESTAMP_NOT_AVAILABLE else datetime.fromtimestamp(milliseconds / 1000, UTC)
    key: bytes | None = message.key()
    event_id = None
    with suppress(ValueError):
        event_id = UUID(dict(message.headers() or ()).get("event-id", b"").decode("ascii", "replace"))
    text = None if key is None or len(key) > KEY_BYTES else key.decode("utf-8", "replace")
    return HeadRecord(written_at=written, key=text, event_id=event_id)
