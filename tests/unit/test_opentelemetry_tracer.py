"""The adapter of OpenTelemetry's SDK: what is recorded, what is told of an error, and that nobody waits for a collector."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode, format_span_id
from pydantic import ValidationError
from structlog.testing import capture_logs

from domain.shared import tracing
from domain.shared.correlation import is_recorded, is_traceparent
from domain.shared.tracing import SpanKind
from runtime.errors import CommandFailed
from runtime.observability import tracing as adapter
from runtime.observability.tracing import QUEUED, OpenTelemetryTracer
from runtime.processes.lifetime import run_process
from tests.support.settings import settings_of
from tests.support.spans import NOT_RECORDED, RECORDED

WORDS = "Marie Dupont"


class Kept(SpanExporter):
    """Keeps what it is given, once ``gate`` is open; says ``result``."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.result = SpanExportResult.SUCCESS
        self.gate = threading.Event()
        self.gate.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.gate.wait(60)
        self.spans += spans
        return self.result


@pytest.fixture
def kept() -> Iterator[Kept]:
    exporter = Kept()
    yield exporter
    exporter.gate.set()


def a_tracer(exporter: SpanExporter, **how: Any) -> OpenTelemetryTracer:
    return OpenTelemetryTracer(exporter, "api", **{"ratio": 1.0, **how})


def test_a_span_is_told_with_its_parent_links_and_times(kept: Kept) -> None:
    tracer = a_tracer(kept)
    span = tracer.start(
        "publish t", SpanKind.PRODUCER, RECORDED, links=[RECORDED], attributes={"messaging.kafka.offset": 7}, at=12.5
    )
    assert span is not None
    assert is_traceparent(span.traceparent)
    assert is_recorded(span.traceparent)
    assert span.traceparent.split("-")[1] == RECORDED.split("-")[1]
    span.end(at=13.25)
    span.end("twice", at=14.0)
    tracer.close()
    (told,) = kept.spans
    assert told.parent is not None
    assert format_span_id(told.parent.span_id) == RECORDED.split("-")[2]
    assert [format_span_id(link.context.span_id) for link in told.links] == [RECORDED.split("-")[2]]
    assert (told.start_time, told.end_time) == (12_500_000_000, 13_250_000_000)
    assert (told.name, told.kind.name, dict(told.attributes or {})) == (
        "publish t",
        "PRODUCER",
        {"messaging.kafka.offset": 7},
    )
    assert told.status.status_code is StatusCode.UNSET
    about = told.resource.attributes
    assert (about["service.namespace"], about["service.name"]) == ("dpj-documents", "dpj-api")


def test_an_error_is_a_code_and_no_words(kept: Kept) -> None:
    tracer = a_tracer(kept)
    for error in (KeyError(WORDS), OSError(WORDS)):
        span = tracer.start("x", SpanKind.INTERNAL, RECORDED)
        assert span is not None
        span.end(tracing.code_of(error))
    tracer.close()
    assert [(told.status.status_code, told.attributes) for told in kept.spans] == [
        (StatusCode.ERROR, {"error.type": "KeyError"}),
        (StatusCode.ERROR, {"error.type": "OSError"}),
    ]
    assert [(told.status.description, tuple(told.events)) for told in kept.spans] == [(None, ())] * 2
    assert WORDS not in "".join(told.to_json() for told in kept.spans)


@pytest.mark.parametrize(("ratio", "recorded"), [(0.0, False), (1.0, True)])
def test_the_ratio_decides_about_traces_that_begin_here(kept: Kept, ratio: float, recorded: bool) -> None:
    tracer = a_tracer(kept, ratio=ratio)
    assert (tracer.start("x", SpanKind.INTERNAL, None) is not None) is recorded
    assert (tracer.start_request("GET", None) is not None) is recorded


def test_about_other_traces_their_beginning_has_decided(kept: Kept) -> None:
    assert a_tracer(kept, ratio=0.0).start("x", SpanKind.CONSUMER, RECORDED) is not None
    assert a_tracer(kept, ratio=0.0).start_request("GET", RECORDED) is not None
    assert a_tracer(kept, ratio=1.0).start("x", SpanKind.CONSUMER, NOT_RECORDED) is None
    assert a_tracer(kept, ratio=1.0).start_request("GET", NOT_RECORDED) is None


@pytest.mark.parametrize("caller", [RECORDED, NOT_RECORDED])
def test_a_caller_that_is_not_followed_decides_nothing(kept: Kept, caller: str) -> None:
    assert a_tracer(kept, ratio=0.0, follow_callers=False).start_request("GET", caller) is None
    span = a_tracer(kept, ratio=1.0, follow_callers=False).start_request("GET", caller)
    assert span is not None
    assert span.traceparent.split("-")[1] == caller.split("-")[1], "it is the caller's trace all the same"


def test_about_one_trace_in_five_is_recorded_at_a_fifth(kept: Kept) -> None:
    tracer = a_tracer(kept, ratio=0.2)
    found = [tracer.start("x", SpanKind.INTERNAL, None) for _ in range(2000)]
    assert 300 < sum(span is not None for span in found) < 500


def test_a_collector_that_hangs_holds_nobody_up_and_fills_no_memory(kept: Kept) -> None:
    kept.gate.clear()
    tracer, began = a_tracer(kept), time.monotonic()
    for _ in range(QUEUED + 2000):
        span = tracer.start("x", SpanKind.INTERNAL, RECORDED)
        assert span is not None
        span.end()
    assert time.monotonic() - began < 30, "nobody waited for the gate"
    kept.gate.set()
    tracer.close()
    assert len(kept.spans) <= QUEUED + 2 * adapter.BATCH


async def test_the_end_of_a_process_waits_for_a_collector_only_so_long(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.gate.clear()
    monkeypatch.setattr(adapter, "otlp_exporter", lambda _: kept)
    adapter.install(settings_of(tracing_ratio=1), "api")
    span = tracing.start("x", SpanKind.INTERNAL, None)
    assert span is not None
    span.end()
    with capture_logs() as logs:
        await adapter.close()
    assert not tracing.is_on()
    assert [line["event"] for line in logs] == ["spans_not_exported"]


def test_what_was_not_taken_is_said_in_our_words(kept: Kept) -> None:
    kept.result = SpanExportResult.FAILURE
    tracer = a_tracer(kept)
    span = tracer.start("x", SpanKind.INTERNAL, RECORDED)
    assert span is not None
    span.end()
    with capture_logs() as logs:
        tracer.close()
    assert logs == [{"event": "spans_not_exported", "spans": 1, "log_level": "warning"}]


def test_a_defect_of_the_sdk_reaches_nobody(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = a_tracer(kept)
    span = tracer.start("x", SpanKind.INTERNAL, RECORDED)
    assert span is not None

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError(WORDS)

    monkeypatch.setattr(tracer._ids, "generate_span_id", fails)
    monkeypatch.setattr(tracer._processor, "on_end", fails)
    with capture_logs() as logs:
        assert tracer.start("x", SpanKind.INTERNAL, RECORDED) is None
        span.end()
    assert [line["error"] for line in logs] == ["RuntimeError"] * 2
    assert WORDS not in str(logs)


def test_without_the_extra_a_process_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    monkeypatch.delitem(sys.modules, "runtime.observability.tracing")

    async def work(*_: object) -> None: ...

    with pytest.raises(CommandFailed, match="OpenTelemetry is not installed") as raised:
        run_process(settings_of(tracing_endpoint="http://127.0.0.1:4318"), work, traced_as="api")
    assert (raised.value.code, raised.value.next_step) == (
        "tracing_not_installed",
        "Install dpj-documents[tracing], or take the setting away.",
    )


@pytest.mark.parametrize("address", ["localhost:4318", "ftp://x", "http://", "http://user@x:4318", "http://x y"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        settings_of(tracing_endpoint=address)
