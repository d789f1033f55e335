"""Dead letters read from Kafka, one after another: a topic of any size is gone through in bounded memory."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from operator import call
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from domain.consumers import CONSUMERS
from domain.dead_letters import DeadLetter, RecordPosition
from domain.errors import BrokerUnavailable
from domain.events import dead_letter_topic

_CONSUMER: Final = re.compile(r"[a-z0-9.-]{1,64}")
DEADLINE_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.5
#: Bytes that the client keeps of what it has fetched ahead.
QUEUE_KBYTES: Final = 8_192
#: Records that are read over rather than sought past.
READ_ON: Final = 20


class AddressInvalid(ValueError):
    """Not an address of a letter: consumer/partition/offset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """What to look for; None lets everything through. Times in Unix milliseconds, ``until`` exclusive.

    ``topic`` is the topic that the record came from.
    """

    consumers: tuple[str, ...] = ()
    code: str | None = None
    error_class: str | None = None
    document: str | None = None
    event: str | None = None
    topic: str | None = None
    since: int | None = None
    until: int | None = None

    @property
    def is_empty(self) -> bool:
        return self == DeadLetterFilter()

    def takes(self, letter: DeadLetter) -> bool:
        asked = (
            (self.code, letter.code),
            (self.error_class, letter.error_class),
            (self.document, letter.entity_id),
            (self.event, letter.headers.get("dpj-event-id")),
            (self.topic, letter.origin_topic),
        )
        if any(wanted is not None and wanted != found for wanted, found in asked):
            return False
        written = letter.place.written_ms
        return (self.since is None or written >= self.since) and (self.until is None or written < self.until)


def parse_address(text: str) -> tuple[str, int, int]:
    """Topic, partition, offset of ``archiving/0/12`` or ``dpj.dlq.archiving/0/12``. Raises AddressInvalid."""
    parts = text.split("/")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts[1:]):
        raise AddressInvalid(text)
    consumer = parts[0].removeprefix("dpj.dlq.")
    if not _CONSUMER.fullmatch(consumer):
        raise AddressInvalid(text)
    return dead_letter_topic(consumer), int(parts[1]), int(parts[2])


def read_dead_letters(
    bootstrap: str,
    wanted: DeadLetterFilter,
    *,
    deadline: float = DEADLINE_SECONDS,
    security: Mapping[str, str] | None = None,
) -> Generator[DeadLetter, None, None]:
    """The letters that ``wanted`` takes and that stood there when reading began, partition by partition, oldest first.

    ``security`` is what librdkafka is told beside the address. Raises BrokerUnavailable if the broker says nothing for
    ``deadline`` seconds.
    """
    with _reader(bootstrap, security) as client:
        for consumer in wanted.consumers or CONSUMERS:
            topic = dead_letter_topic(consumer)
            for number in _partitions(client, topic, deadline):
                start, end = _span(client, TopicPartition(topic, number), wanted.since, deadline)
                yield from (
                    letter
                    for letter in _read(client, TopicPartition(topic, number, start), end, deadline)
                    if wanted.takes(letter)
                )


def read_dead_letter(
    bootstrap: str,
    topic: str,
    partition: int,
    offset: int,
    *,
    deadline: float = DEADLINE_SECONDS,
    security: Mapping[str, str] | None = None,
) -> DeadLetter | None:
    """The letter at that place; None if there is none, or no more. Raises BrokerUnavailable."""
    with _reader(bootstrap, security) as client:
        if partition not in _partitions(client, topic, deadline):
            return None
        start, end = _span(client, TopicPartition(topic, partition), None, deadline)
        if not start <= offset < end:
            return None
        found = next(_read(client, TopicPartition(topic, partition, offset), end, deadline), None)
        return found if found is not None and found.place.offset == offset else None


def read_dead_letters_at(
    bootstrap: str,
    topic: str,
    places: Sequence[tuple[int, int]],
    *,
    deadline: float = DEADLINE_SECONDS,
    security: Mapping[str, str] | None = None,
) -> dict[tuple[int, int], DeadLetter]:
    """The letters of a topic at these places (partition, offset), as far as they are there. Raises BrokerUnavailable.

    What stands close together is read in one go; what lies further apart is sought.
    """
    found: dict[tuple[int, int], DeadLetter] = {}
    with _reader(bootstrap, security) as client:
        known = _partitions(client, topic, deadline)
        for number in sorted({partition for partition, _ in places} & set(known)):
            start, end = _span(client, TopicPartition(topic, number), None, deadline)
            wanted = sorted({offset for partition, offset in places if partition == number and start <= offset < end})
            for first, last in _runs(wanted):
                with closing(_read(client, TopicPartition(topic, number, first), last + 1, deadline)) as letters:
                    found |= {
                        (number, letter.place.offset): letter for letter in letters if letter.place.offset in wanted
                    }
    return found


def _runs(offsets: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of offsets that stand close together."""
    first: int | None = None
    last = 0
    for offset in offsets:
        if first is not None and offset - last > READ_ON:
            yield first, last
            first = None
        first, last = (offset if first is None else first), offset
    if first is not None:
        yield first, last


def read_dead_letters_from(
    bootstrap: str,
    topic: str,
    begins: Mapping[int, int],
    *,
    deadline: float = DEADLINE_SECONDS,
    security: Mapping[str, str] | None = None,
) -> Generator[DeadLetter, None, None]:
    """The letters of a topic from the offset ``begins`` of each partition on, from its first one where none is given.

    An offset that the partition no longer has, or does not have yet, is of a topic that was made anew: it is read from its
    beginning. Raises BrokerUnavailable.
    """
    with _reader(bootstrap, security) as client:
        for number in _partitions(client, topic, deadline):
            start, end = _span(client, TopicPartition(topic, number), None, deadline)
            begin = begins.get(number, start)
            yield from _read(
                client, TopicPartition(topic, number, begin if start <= begin <= end else start), end, deadline
            )


def read_records(
    bootstrap: str, topic: str, *, deadline: float = DEADLINE_SECONDS, security: Mapping[str, str] | None = None
) -> Generator[DeadLetter, None, None]:
    """All records of any topic that stood there when reading began, partition by partition, oldest first. Raises BrokerUnavailable."""
    with _reader(bootstrap, security) as client:
        for number in _partitions(client, topic, deadline):
            start, end = _span(client, TopicPartition(topic, number), None, deadline)
            yield from _read(client, TopicPartition(topic, number, start), end, deadline)


def read_window(
    bootstrap: str,
    topic: str,
    since: int | None,
    until: int | None,
    *,
    deadline: float = DEADLINE_SECONDS,
    security: Mapping[str, str] | None = None,
) -> Generator[DeadLetter, None, None]:
    """The records of any topic that were written from ``since`` to before ``until`` (Unix milliseconds; None: from the first one, up to
    the last one of now), partition by partition. Raises BrokerUnavailable."""
    with _reader(bootstrap, security) as client:
        for number in _partitions(client, topic, deadline):
            start, end = _span(client, TopicPartition(topic, number), since, deadline)
            if until is not None:
                (found,) = client.offsets_for_times([TopicPartition(topic, number, until)], timeout=deadline)
                end = min(end, found.offset) if found.offset >= 0 else end
            yield from _read(client, TopicPartition(topic, number, start), end, deadline)


@contextmanager
def _reader(bootstrap: str, security: Mapping[str, str] | None) -> Iterator[Any]:
    client = Consumer(
        {
            "bootstrap.servers": bootstrap,
            **(security or {}),
            "group.id": "dpj.dlq",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "queued.min.messages": 100,
            "queued.max.messages.kbytes": QUEUE_KBYTES,
            "log_level": 0,
        }
    )
    try:
        yield client
    except KafkaException as error:
        raise BrokerUnavailable("The broker does not answer.") from error
    finally:
        client.close()


def _partitions(client: Any, topic: str, deadline: float) -> Sequence[int]:
    known = client.list_topics(topic, timeout=deadline).topics[topic]
    if known.error is not None:
        if known.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return ()
        raise KafkaException(known.error)
    return sorted(known.partitions)


def _span(client: Any, place: Any, since: int | None, deadline: float) -> tuple[int, int]:
    """First offset to read, and the one after the last."""
    start, end = client.get_watermark_offsets(place, timeout=deadline)
    if since is not None:
        (found,) = client.offsets_for_times([TopicPartition(place.topic, place.partition, since)], timeout=deadline)
        start = max(start, found.offset) if found.offset >= 0 else end
    return start, end


def _read(client: Any, start: Any, end: int, deadline: float) -> Generator[DeadLetter, None, None]:
    if start.offset >= end:
        return
    client.assign([start])
    try:
        silent_until = time.monotonic() + deadline
        while True:
            message = client.poll(POLL_SECONDS)
            if message is None:
                if time.monotonic() > silent_until:
                    raise BrokerUnavailable("The broker does not answer.")
                continue
            silent_until = time.monotonic() + deadline
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the client's own name for it
                    return
                if error.retriable():
                    continue
                raise KafkaException(error)
            if message.offset() >= end:
                return
            yield _letter(message)
            silent_until = time.monotonic() + deadline  # whoever reads may take their time
            if message.offset() + 1 >= end:
                return
    finally:
        client.unassign()


def _letter(message: Any) -> DeadLetter:
    # For a name that is not UTF-8 (a stranger's record) confluent-kafka 2 returns half-made headers, whose use ends the process,
    # with the error set beside them. ``call`` looks whether one is set; Python's own fast call of a method does not.
    try:
        found = call(message.headers) or ()
    except (SystemError, UnicodeDecodeError):
        found = ()
    headers = {name: value.decode("utf-8", "replace") for name, value in found if isinstance(value, bytes)}
    place = RecordPosition(message.topic(), message.partition(), message.offset(), message.timestamp()[1])
    return DeadLetter(place, message.key(), message.value(), headers)
