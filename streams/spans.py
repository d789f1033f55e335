"""Spans of the way through Kafka: *publish* in the relay, *process* in consumers, and the times that something lay waiting.

By OpenTelemetry's conventions for messaging. The context that an event carries is that of its *create* span; both *publish* and *process*
are its children and link to it, so that an event's whole way is one trace. The relay adds its own context in ``PUBLISHED_BY``, to which
*process* links as well: of an event that was published twice it tells which record it was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, Protocol

from domain.consumers import group_of
from domain.events import DocumentEvent, Event
from domain.shared import tracing
from domain.shared.correlation import is_recorded, is_traceparent
from domain.shared.ids import uuid_or_none
from domain.shared.tracing import Attributes, Span, SpanKind
from streams.in_flight_rows import OutboxRow
from streams.lanes import Record

#: A record's header with the context of the *publish* span, where that is recorded.
PUBLISHED_BY: Final = "dpj-published-by"
_IDS: Final = {"event-id": "messaging.message.id", "correlation-id": "messaging.message.conversation_id"}


class Place(Protocol):
    """Where Kafka put a record; see ``confluent_kafka.Message``."""

    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...


class PublishSpans:
    """Of the rows that one relay has in flight."""

    def __init__(self) -> None:
        self._spans: dict[int, tuple[Span, float]] = {}

    def begin(self, row: OutboxRow) -> Mapping[str, str]:
        """The row goes to Kafka now, with these headers."""
        if not tracing.is_on():
            return row.headers
        creator = _creator(row.headers)
        if creator is None:
            return row.headers
        now, attributes = time.time(), _messaging(row.headers, row.topic)
        attributes |= {"messaging.operation.name": "publish", "messaging.operation.type": "send"}
        name = f"publish {row.topic}"
        span = tracing.start(name, SpanKind.PRODUCER, creator, links=(creator,), attributes=attributes, at=now)
        if span is None:
            return row.headers
        self._spans[row.id] = span, now
        return {**row.headers, PUBLISHED_BY: span.traceparent}

    def confirm(self, row: OutboxRow, place: Place) -> None:
        """Kafka has the row: until then it lay in the outbox."""
        if row.id not in self._spans:
            return
        span, until = self._spans.pop(row.id)
        creator = _creator(row.headers)
        if creator is not None and row.waiting_since is not None:
            since = row.waiting_since.timestamp()
            about = _waited(row.topic, since, until)
            tracing.waited(f"wait outbox {row.topic}", creator, since, until, about)
        partition, offset = place.partition(), place.offset()
        span.annotate({} if partition is None or offset is None else _place(partition, offset))
        span.end()

    def fail(self, row: OutboxRow, code: str) -> None:
        """The row is not with Kafka, or nobody knows."""
        if row.id in self._spans:
            span, _ = self._spans.pop(row.id)
            span.end(code)

    def close(self) -> None:
        """The relay leads no more."""
        spans, self._spans = self._spans, {}
        for span, _ in spans.values():
            span.end("term_ended")


def start_processing(consumer: str, record: Record) -> Span | None:
    """The *process* span of a record, from now on; and the time that it lay in its topic, or in its lane behind others."""
    creator = _creator(record.headers)
    if creator is None:
        return None
    place = record.partition
    attributes = _messaging(record.headers, place.topic) | _place(place.number, record.offset)
    attributes["messaging.consumer.group.name"] = group_of(consumer)
    now = time.time()
    if record.timestamp > 0:
        about = _waited(place.topic, record.timestamp, now)
        tracing.waited(f"wait topic {place.topic}", creator, record.timestamp, now, about)
    published = record.headers.get(PUBLISHED_BY)
    links = (creator, published) if is_traceparent(published) else (creator,)
    attributes |= {"messaging.operation.name": "process", "messaging.operation.type": "process"}
    return tracing.start(
        f"process {place.topic}", SpanKind.CONSUMER, creator, links=links, attributes=attributes, at=now
    )


def finish_processing(span: Span, event: Event | None, outcome: str, code: str) -> None:
    """End a *process* span. ``outcome`` and ``code``: as in the metrics; the code is "none" where nothing was given up."""
    found: dict[str, str | int | float | bool] = {"dpj.outcome": outcome}
    if isinstance(event, DocumentEvent):
        found["dpj.document_id"] = str(event.document_id)
    span.annotate(found)
    span.end(None if code == "none" else code)


def hold(dependency: str, code: str) -> tracing.SpanBlock:
    """The time that an event in hand is held before its next try. ``dependency``: what it waits for."""
    if not tracing.is_on():
        return tracing.NOTHING
    attributes = {"dpj.waiting_for": dependency, "dpj.code": code}
    return tracing.block(f"hold {dependency}", SpanKind.INTERNAL, attributes=attributes)


def _creator(headers: Mapping[str, str]) -> str | None:
    """The context that the event was created in, if its trace is recorded. Headers may come from a stranger."""
    creator = headers.get("traceparent")
    # The cheap question first: most traces are not recorded.
    return creator if creator and is_recorded(creator) and is_traceparent(creator) else None


def _messaging(headers: Mapping[str, str], topic: str) -> dict[str, str | int | float | bool]:
    found: dict[str, str | int | float | bool] = {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
    }
    for header, name in _IDS.items():
        value = uuid_or_none(headers.get(header, ""))
        if value is not None:
            found[name] = str(value)
    return found


def _place(partition: int, offset: int) -> dict[str, str | int | float | bool]:
    return {"messaging.destination.partition.id": str(partition), "messaging.kafka.offset": offset}


def _waited(topic: str, since: float, until: float) -> Attributes:
    """Whose time it was says the span beside it, which has the same parent."""
    return {"messaging.destination.name": topic, "dpj.waited_seconds": round(max(0.0, until - since), 6)}
