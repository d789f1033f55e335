"""Spans of this process by OpenTelemetry's SDK, sent to a collector over OTLP/HTTP. Loaded only where DPJ_TRACING_ENDPOINT is set.

The SDK keeps at most ``QUEUED`` ended spans and drops the oldest beyond; a thread of its own sends them. What can't be sent within
``SEND_SECONDS`` is lost, and said once a minute. The end of a process waits for the last ones no longer than ``FLUSH_SECONDS``.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final
from uuid import uuid4

import requests
import structlog
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags, format_span_id, format_trace_id
from opentelemetry.trace import SpanKind as SdkSpanKind
from requests.adapters import HTTPAdapter

from domain.shared import tracing
from domain.shared.correlation import unrecorded
from domain.shared.tracing import Attributes, SpanKind
from runtime.config.settings import Settings
from runtime.config.transport import client_tls

log = structlog.get_logger()

QUEUED: Final = 2048
BATCH: Final = 512
#: How long spans are gathered before they are sent.
EVERY_SECONDS: Final = 2.0
#: For one batch, with the exporter's own tries.
SEND_SECONDS: Final = 5.0
#: A process's end has other things to do in its ``lifetime.CLOSE_SECONDS``.
FLUSH_SECONDS: Final = 1.0

_KINDS: Final = {kind: SdkSpanKind[kind.name] for kind in SpanKind}
_RECORDED: Final = TraceFlags(TraceFlags.SAMPLED)
_SCOPE: Final = InstrumentationScope("dpj-documents")
_GOOD: Final = Status(StatusCode.UNSET)
_FAILED: Final = Status(StatusCode.ERROR)


class _OneResource(Resource):
    """The SDK's hash of a resource writes its attributes as JSON, and its encoder asks for it at every span. A process has one alone."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


class OpenTelemetryTracer:
    """See ``domain.shared.tracing.Tracer``. ``ratio``: the part of the traces that begin here which are recorded; others are recorded if
    their beginning is. A caller's decision counts only with ``follow_callers``; else the ratio decides, by the trace's id.

    Sampler, queue, exporter and what they are given are the SDK's. Its own tracer is passed by: what it does for spans of any origin
    (locks, bounds and copies of attributes) costs a consumer of small events five times as much as the span itself.
    """

    def __init__(self, exporter: SpanExporter, process: str, *, ratio: float, follow_callers: bool = True) -> None:
        self._ratio = TraceIdRatioBased(ratio)
        self._follow_callers = follow_callers
        self._ids = RandomIdGenerator()
        about = Resource.create(
            {
                "service.namespace": "dpj-documents",
                "service.name": f"dpj-{process}",
                "service.version": version("dpj-documents"),
                "service.instance.id": str(uuid4()),
            }
        )
        self._resource = _OneResource(dict(about.attributes))
        self._processor = BatchSpanProcessor(
            _ReportedFailures(exporter),
            max_queue_size=QUEUED,
            max_export_batch_size=BATCH,
            schedule_delay_millis=EVERY_SECONDS * 1000,
        )

    def start(
        self,
        name: str,
        kind: SpanKind,
        parent: str | None,
        *,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
        at: float | None = None,
    ) -> tracing.Span | None:
        try:
            origin = None if parent is None else _context(parent)
            trace = self._ids.generate_trace_id() if origin is None else origin.trace_id
            if not (self._chooses(trace) if origin is None else origin.trace_flags.sampled):
                return None
            context = SpanContext(trace, self._ids.generate_span_id(), is_remote=False, trace_flags=_RECORDED)
            began, known = _nanoseconds(at), dict(attributes or {})
            return _RecordedSpan(self._tell, name, kind, context, origin, links, known, began)
        except Exception as error:  # noqa: BLE001 - whatever it is, the work goes on without its span
            log.warning("span_failed", error=type(error).__name__)
            return None

    def start_request(self, name: str, caller: str | None) -> tracing.Span | None:
        if caller is not None and not self._follow_callers:
            caller = f"{unrecorded(caller)[:-1]}{int(self._chooses(_context(caller).trace_id))}"
        return self.start(name, SpanKind.SERVER, caller)

    def close(self) -> None:
        """Send what is left. May take as long as the collector lets us wait."""
        shutdown: Callable[[], None] = self._processor.shutdown  # the package says it is typed, and this is not
        shutdown()

    def _chooses(self, trace: int) -> bool:
        return self._ratio.should_sample(None, trace, "").decision is Decision.RECORD_AND_SAMPLE

    def _tell(self, span: _RecordedSpan, status: Status, end: int) -> None:
        """Hand an ended span over to the SDK."""
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=span.context,
                parent=span.parent,
                resource=self._resource,
                attributes=span.attributes,
                links=[Link(_context(link)) for link in span.links],
                kind=_KINDS[span.kind],
                status=status,
                start_time=span.began,
                end_time=end,
                instrumentation_scope=_SCOPE,
            )
        )


@dataclass(slots=True)
class _RecordedSpan:
    """See ``domain.shared.tracing.Span``."""

    tell: Callable[[_RecordedSpan, Status, int], None]
    name: str
    kind: SpanKind
    context: SpanContext
    parent: SpanContext | None
    links: Sequence[str]
    attributes: dict[str, str | int | float | bool]
    began: int
    ended: bool = False

    @property
    def traceparent(self) -> str:
        return f"00-{format_trace_id(self.context.trace_id)}-{format_span_id(self.context.span_id)}-01"

    def rename(self, name: str) -> None:
        self.name = name

    def annotate(self, attributes: Attributes) -> None:
        self.attributes |= attributes

    def end(self, error: str | None = None, at: float | None = None) -> None:
        if self.ended:
            return
        self.ended = True
        try:
            if error is not None:
                self.attributes["error.type"] = error
            # No description: an error's words may quote what is not ours to tell.
            self.tell(self, _GOOD if error is None else _FAILED, _nanoseconds(at))
        except Exception as failure:  # noqa: BLE001 - as at the start
            log.warning("span_failed", error=type(failure).__name__)


class _ReportedFailures(SpanExporter):
    """Says in our log what was not taken; the exporter's own words quote the collector's answer."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._context = contextvars.copy_context()  # for the log: the SDK's thread has an empty one

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._context.run(log.warning, "spans_not_exported", spans=len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class _TlsAdapter(HTTPAdapter):
    """With the site's own lowest version and authorities, as every client of ours."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, ssl_context=self._context)


def _nanoseconds(at: float | None) -> int:
    return time.time_ns() if at is None else int(at * 1_000_000_000)


def _context(traceparent: str) -> SpanContext:
    _, trace, span, flags = traceparent.split("-")
    return SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def otlp_exporter(settings: Settings) -> SpanExporter:
    """Sends to the collector that the settings name. Raises CertificateUnusable."""
    url = f"{settings.tracing_endpoint.rstrip('/')}/v1/traces"
    session = requests.Session()
    session.trust_env = False
    if url.startswith("https://"):
        session.mount("https://", _TlsAdapter(client_tls(settings)))
    return OTLPSpanExporter(
        url,
        certificate_file=None if settings.tls_ca_file is None else str(settings.tls_ca_file),
        timeout=SEND_SECONDS,
        compression=Compression.NoCompression,
        session=session,
    )


_installed: OpenTelemetryTracer | None = None


def install(settings: Settings, process: str) -> None:
    """Make spans from now on, as ``process``. Raises CertificateUnusable."""
    global _installed  # noqa: PLW0603 - one per process, as ``domain.shared.tracing`` has it
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    _installed = OpenTelemetryTracer(
        otlp_exporter(settings),
        process,
        ratio=settings.tracing_ratio,
        follow_callers=settings.tracing_follow_callers,
    )
    tracing.install(_installed)


async def close() -> None:
    """Make no more spans, and send what is left within ``FLUSH_SECONDS``."""
    tracing.install(None)
    if _installed is not None:
        done, _ = await asyncio.wait(
            {asyncio.ensure_future(asyncio.to_thread(_installed.close))}, timeout=FLUSH_SECONDS
        )
        if not done:
            log.warning("spans_not_exported", spans="at the end")
