"""Spans where they are made: whose children they are, what they say, and that nothing else changes by them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from domain.errors import ArchiveRefused, GedUnavailable, KeyringUnavailable
from domain.shared import tracing
from domain.shared.correlation import current_traceparent, is_recorded, new_traceparent
from domain.shared.micro_batcher import BatchPolicy, MicroBatcher
from domain.shared.tracing import SpanKind
from processors.resilience.circuit_breakers import CircuitBreaker
from storage.postgres.delivery.outbox import CreateSpans, NewRows
from streams.lanes import Partition, Record
from streams.spans import PUBLISHED_BY, PublishSpans
from tests.support.api import a_client, an_app, bearer
from tests.support.fakes_intake import IntakeBench
from tests.support.fakes_streams import PARTITION, DeliveryBench, an_event
from tests.support.spans import NOT_RECORDED, RECORDED, KeepingTracer, kept_spans
from tests.support.waiting import until

TOPIC = PARTITION.topic
WORDS = "Marie Dupont marie@example.org"


@pytest.fixture
def tracer() -> Iterator[KeepingTracer]:
    with kept_spans() as tracer:
        yield tracer


# --- where nothing is recorded ---------------------------------------------------------------------------------------


def test_without_a_tracer_nothing_is_made() -> None:
    assert not tracing.is_on()
    assert tracing.start("x", SpanKind.INTERNAL, RECORDED) is None
    with tracing.call("ged", "create") as span:
        assert span is None
    assert tracing.detached() is None
    assert not is_recorded(new_traceparent())


def test_a_trace_that_is_not_recorded_has_no_spans(tracer: KeepingTracer) -> None:
    assert tracing.start("x", SpanKind.INTERNAL, NOT_RECORDED) is None
    token = current_traceparent.set(NOT_RECORDED)
    with tracing.call("ged", "create") as span:
        assert span is None
    current_traceparent.reset(token)
    with tracing.call("ged", "create") as span:
        assert span is None, "nothing is in hand"
    assert tracer.spans == []


async def test_a_request_that_is_not_recorded_says_so_to_whoever_goes_on(tracer: KeepingTracer) -> None:
    tracer.records = False
    span, context = tracing.start_request("GET", None)
    assert span is None
    assert not is_recorded(context)


@pytest.mark.parametrize("context", [RECORDED, NOT_RECORDED, None])
async def test_a_document_keeps_the_trace_that_its_upload_is_recorded_in(
    tracer: KeepingTracer, context: str | None
) -> None:
    for installed in (tracer, None):
        tracing.install(installed)
        bench = IntakeBench()
        token = current_traceparent.set(context)
        await bench.receive()
        current_traceparent.reset(token)
        (document,) = bench.database.rows.documents.values()
        kept = bytes.fromhex(RECORDED.split("-")[1]) if installed is not None and context == RECORDED else None
        assert document.trace_id == kept


# --- requests --------------------------------------------------------------------------------------------------------


async def test_a_request_is_a_span_of_its_caller_s_trace(tracer: KeepingTracer) -> None:
    bench = IntakeBench()
    document = await bench.stored()
    async with a_client(an_app(bench)) as client:
        headers = {**bearer(), "traceparent": RECORDED, "correlation-id": str(bench.dossier.id)}
        response = await client.get(f"/api/v1/documents/{document.id}", headers=headers)
    (span,) = tracer.named("GET /api/v1/documents/{document_id}")
    assert (span.kind, span.parent, span.ends) == (SpanKind.SERVER, RECORDED, [None])
    assert response.headers["traceparent"] == span.traceparent
    assert span.attributes == {
        "http.request.method": "GET",
        "http.route": "/api/v1/documents/{document_id}",
        "http.response.status_code": response.status_code,
        "dpj.correlation_id": str(bench.dossier.id),
    }


async def test_what_a_request_was_refused_for_is_a_code(tracer: KeepingTracer) -> None:
    async with a_client(an_app(IntakeBench())) as client:
        await client.get(f"/api/v1/{WORDS}?x={WORDS}", headers=bearer())
        await client.get("/livez")
    (span,) = tracer.spans
    assert (span.name, span.attributes["dpj.code"]) == ("GET unmatched", "route_not_found")
    assert span.ends == [None], "a client's fault is not the server's"
    assert WORDS not in repr(span)


# --- creation --------------------------------------------------------------------------------------------------------


def rows_of(*events: Any) -> tuple[CreateSpans, list[str]]:
    spans = CreateSpans()
    rows = NewRows(lambda _: SimpleNamespace(body=b"x", schema="1"), spans)
    for event in events:
        rows.add(event)
    return spans, [headers["traceparent"] for headers in rows.columns()[3]]


def test_an_event_carries_the_context_of_its_creation(tracer: KeepingTracer) -> None:
    event = an_event()
    token = current_traceparent.set(RECORDED)
    spans, (carried,) = rows_of(event)
    current_traceparent.reset(token)
    (span,) = tracer.spans
    assert (span.name, span.kind, span.parent) == (f"create {event.TOPIC}", SpanKind.PRODUCER, RECORDED)
    assert carried == span.traceparent
    assert span.attributes["messaging.message.id"] == str(event.event_id)
    assert span.attributes["dpj.document_id"] == str(event.document_id)
    assert span.ends == [], "not before it is committed"
    with spans:
        pass
    assert span.ends == [None]


def test_an_event_that_was_rolled_back_says_so(tracer: KeepingTracer) -> None:
    spans, _ = rows_of(an_event(), an_event())

    def fail() -> None:
        with spans:
            raise GedUnavailable

    with pytest.raises(GedUnavailable):
        fail()
    assert [span.ends for span in tracer.spans] == [[GedUnavailable.code]] * 2


def test_an_event_of_no_recorded_trace_carries_that_of_the_work(tracer: KeepingTracer) -> None:
    token = current_traceparent.set(NOT_RECORDED)
    _, (carried,) = rows_of(an_event())
    current_traceparent.reset(token)
    assert (carried, tracer.spans) == (NOT_RECORDED, [])
    tracer.records = False
    _, (fresh,) = rows_of(an_event())
    assert not is_recorded(fresh)


# --- publishing ------------------------------------------------------------------------------------------------------

PLACE = SimpleNamespace(partition=lambda: 3, offset=lambda: 17)
WRITTEN = datetime.now(UTC) - timedelta(seconds=30)


def a_row(number: int = 1, **headers: str) -> Any:
    ids = {"event-id": str(uuid4()), "traceparent": RECORDED}
    return SimpleNamespace(id=number, topic=TOPIC, headers={**ids, **headers}, waiting_since=WRITTEN)


def test_a_row_is_published_in_its_creator_s_trace_and_its_wait_is_seen(tracer: KeepingTracer) -> None:
    spans, row = PublishSpans(), a_row(**{"correlation-id": WORDS})
    sent = spans.begin(row)
    (publish,) = tracer.spans
    assert (publish.name, publish.kind) == (f"publish {TOPIC}", SpanKind.PRODUCER)
    assert (publish.parent, publish.links) == (RECORDED, (RECORDED,))
    assert sent == {**row.headers, PUBLISHED_BY: publish.traceparent}
    spans.confirm(row, PLACE)
    assert publish.ends == [None]
    assert publish.attributes == {
        "messaging.system": "kafka",
        "messaging.destination.name": TOPIC,
        "messaging.message.id": row.headers["event-id"],
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 17,
    }
    (wait,) = tracer.named(f"wait outbox {TOPIC}")
    assert (wait.parent, wait.at, wait.ended_at) == (RECORDED, WRITTEN.timestamp(), publish.at)
    assert wait.attributes["dpj.waited_seconds"] >= 30
    spans.close()
    assert publish.ends == [None]


def test_a_row_that_is_not_taken_says_why_and_may_go_again(tracer: KeepingTracer) -> None:
    spans, row = PublishSpans(), a_row()
    spans.begin(row)
    spans.fail(row, "MSG_SIZE_TOO_LARGE")
    spans.begin(row)
    spans.close()
    assert [span.ends for span in tracer.spans] == [["MSG_SIZE_TOO_LARGE"], ["term_ended"]]


def test_a_row_that_is_published_once_more_did_not_wait_since_it_was_written(tracer: KeepingTracer) -> None:
    spans, row = PublishSpans(), a_row()
    row.waiting_since = None
    spans.begin(row)
    spans.confirm(row, PLACE)
    assert [span.name for span in tracer.spans] == [f"publish {TOPIC}"]


@pytest.mark.parametrize("carried", [NOT_RECORDED, WORDS, ""])
def test_a_row_of_no_recorded_trace_goes_as_it_is(tracer: KeepingTracer, carried: str) -> None:
    spans, row = PublishSpans(), a_row(traceparent=carried)
    assert spans.begin(row) == row.headers
    spans.confirm(row, PLACE)
    assert tracer.spans == []


# --- processing ------------------------------------------------------------------------------------------------------


async def finished(bench: DeliveryBench) -> None:
    await until(lambda: bool(bench.metrics.outcomes))


async def test_an_event_is_processed_in_its_creator_s_trace_and_its_wait_is_seen(tracer: KeepingTracer) -> None:
    bench, event, published = DeliveryBench(), an_event(), f"00-{'a' * 32}-{'c' * 16}-01"
    seen: list[str | None] = []

    async def look() -> None:
        seen.append(current_traceparent.get())

    bench.processor.steps = [look]
    ids = {"event-id": str(event.event_id), "correlation-id": str(event.correlation_id)}
    bench.send(event, headers={**ids, "traceparent": RECORDED, PUBLISHED_BY: published})
    await finished(bench)
    (span,) = tracer.named(f"process {TOPIC}")
    assert (span.kind, span.parent, span.links) == (SpanKind.CONSUMER, RECORDED, (RECORDED, published))
    assert seen == [span.traceparent], "what follows is its child"
    assert span.ends == [None]
    assert span.attributes == {
        "messaging.system": "kafka",
        "messaging.destination.name": TOPIC,
        "messaging.message.id": str(event.event_id),
        "messaging.message.conversation_id": str(event.correlation_id),
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 0,
        "messaging.consumer.group.name": "dpj.scripted",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "dpj.outcome": "done",
        "dpj.document_id": str(event.document_id),
    }
    (wait,) = tracer.named(f"wait topic {TOPIC}")
    assert (wait.parent, wait.at, wait.ended_at) == (RECORDED, 12.5, span.at)


async def test_each_hold_is_seen_with_what_it_is_for(tracer: KeepingTracer) -> None:
    bench = DeliveryBench()
    bench.processor.steps = [GedUnavailable(), KeyringUnavailable()]
    bench.send(an_event(), headers={"traceparent": RECORDED})
    await finished(bench)
    (span,) = tracer.named(f"process {TOPIC}")
    holds = [*tracer.named("hold ged"), *tracer.named("hold keyring")]
    assert [(hold.parent, hold.attributes["dpj.code"], hold.ends) for hold in holds] == [
        (span.traceparent, "ged_unavailable", [None]),
        (span.traceparent, "keyring_unavailable", [None]),
    ]
    assert span.ends == [None], "held, then done"


async def test_an_event_given_up_is_a_span_that_failed(tracer: KeepingTracer) -> None:
    bench = DeliveryBench()
    bench.processor.steps = [ArchiveRefused(WORDS)]
    bench.send(an_event(), headers={"traceparent": RECORDED})
    await finished(bench)
    (span,) = tracer.named(f"process {TOPIC}")
    assert (span.ends, span.attributes["dpj.outcome"]) == ([ArchiveRefused.code], "dead_letter")
    assert bench.database.dead_letters[0][3]["traceparent"] == RECORDED, "a redrive goes on in its creator's trace"
    assert WORDS not in repr(tracer.spans)


async def test_work_that_is_taken_away_ends_its_span(tracer: KeepingTracer) -> None:
    bench, begun = DeliveryBench(), asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.sleep(3600)

    bench.processor.steps = [hang]
    bench.send(an_event(), headers={"traceparent": RECORDED})
    await begun.wait()
    await bench.delivery.revoke()
    (span,) = tracer.named(f"process {TOPIC}")
    assert span.ends == ["CancelledError"]


async def test_a_stranger_s_headers_are_in_no_span(tracer: KeepingTracer) -> None:
    bench = DeliveryBench()
    ids = {"event-id": WORDS, "correlation-id": WORDS, PUBLISHED_BY: WORDS, "other": WORDS}
    bench.send(None, headers={"traceparent": RECORDED, **ids})
    await finished(bench)
    (span,) = tracer.named(f"process {TOPIC}")
    assert span.links == (RECORDED,)
    assert WORDS not in repr(tracer.spans)


async def test_what_is_for_another_consumer_is_no_span(tracer: KeepingTracer) -> None:
    bench = DeliveryBench()
    bench.send(an_event(), headers={"traceparent": RECORDED, "dpj-redriven-for": "another"})
    bench.delivery.accept(Record(Partition(TOPIC, 0), 1, None, None, {"traceparent": RECORDED}, gap=True))
    await finished(bench)
    assert tracer.spans == []


# --- calls of servers ------------------------------------------------------------------------------------------------


async def nothing() -> None: ...


async def test_a_call_through_a_breaker_is_a_child_with_the_code_it_failed_of(tracer: KeepingTracer) -> None:
    breaker = CircuitBreaker(GedUnavailable, nothing, clock=lambda: 0.0)

    async def create(_: str) -> None:
        raise GedUnavailable(WORDS)

    async def read(pieces: int) -> Any:
        for _ in range(pieces):
            yield b"piece"

    token = current_traceparent.set(RECORDED)
    with pytest.raises(GedUnavailable):
        await breaker.call(create, WORDS)
    assert [piece async for piece in breaker.stream(read, 2)] == [b"piece"] * 2
    left_early = breaker.stream(read, 2)
    assert await anext(left_early) == b"piece"
    await left_early.aclose()
    assert current_traceparent.get() == RECORDED
    current_traceparent.reset(token)
    created, was_read, was_left = tracer.spans
    assert (created.name, created.kind, created.parent) == ("ged create", SpanKind.CLIENT, RECORDED)
    assert created.attributes == {"peer.service": "ged", "dpj.operation": "create"}
    assert created.ends == [GedUnavailable.code]
    assert (was_read.name, was_read.ends) == (was_left.name, was_left.ends) == ("ged read", [None])
    assert WORDS not in repr(tracer.spans)


async def test_a_shared_call_belongs_to_no_trace(tracer: KeepingTracer) -> None:
    seen: list[str | None] = []

    async def send(batch: Any) -> None:
        seen.append(current_traceparent.get())
        for waiting in batch:
            waiting.answer(None)

    batcher: MicroBatcher[int, None] = MicroBatcher(send, BatchPolicy(size=1))
    token = current_traceparent.set(RECORDED)
    await asyncio.gather(batcher.submit(1), batcher.submit(2))
    current_traceparent.reset(token)
    assert seen == [None, None]
