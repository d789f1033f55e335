"""Spans of this process by OpenTelemetry's SDK, sent to a collector over OTLP/HTTP. Loaded only where DPJ_TRACING_ENDPOINT is set.

The SDK keeps at most ``QUEUED`` ended spans and drops the oldest beyond; a thread of its own sends them. What can't be sent within
``SEND_SECONDS`` is lost, and said once a minute. The end of a process waits for the last ones no longer than ``FLUSH_SECONDS``.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import ssl
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final
from uuid import uuid4

import requests
import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    StatusCode,
    TraceFlags,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace import Span as SdkSpan
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
_NANO: Final = 1_000_000_000


class OpenTelemetryTracer:
    """See ``domain.shared.tracing.Tracer``. ``ratio``: the part of the traces that begin here which are recorded; others are recorded if
    their beginning is. A caller's decision counts only with ``follow_callers``; else the ratio decides, by the trace's id."""

    def __init__(self, exporter: SpanExporter, process: str, *, ratio: float, follow_callers: bool = True) -> None:
        self._ratio = TraceIdRatioBased(ratio)
        self._follow_callers = follow_callers
        resource = Resource.create(
            {
                "service.namespace": "dpj-documents",
                "service.name": f"dpj-{process}",
                "service.version": version("dpj-documents"),
                "service.instance.id": str(uuid4()),
            }
        )
        self._provider = TracerProvider(ParentBased(self._ratio), resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                _ReportedFailures(exporter),
                max_queue_size=QUEUED,
                max_export_batch_size=BATCH,
                schedule_delay_millis=EVERY_SECONDS * 1000,
            )
        )
        self._tracer = self._provider.get_tracer("dpj-documents")

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
            span = self._tracer.start_span(
                name,
                _NO_PARENT if parent is None else set_span_in_context(NonRecordingSpan(_context(parent)), _NO_PARENT),
                _KINDS[kind],
                attributes,
                [Link(_context(link)) for link in links],
                None if at is None else int(at * _NANO),
                record_exception=False,
                set_status_on_exception=False,
            )
            return _RecordedSpan(span) if span.is_recording() else None
        except Exception as error:  # noqa: BLE001 - whatever it is, the work goes on without its span
            log.warning("span_failed", error=type(error).__name__)
            return None

    def start_request(self, name: str, caller: str | None) -> tracing.Span | None:
        if caller is not None and not self._follow_callers:
            decision = self._ratio.should_sample(None, _context(caller).trace_id, name).decision
            caller = f"{unrecorded(caller)[:-1]}{int(decision is Decision.RECORD_AND_SAMPLE)}"
        return self.start(name, SpanKind.SERVER, caller)

    def close(self) -> None:
        """Send what is left. May take as long as the collector lets us wait."""
        self._provider.shutdown()


class _RecordedSpan:
    """See ``domain.shared.tracing.Span``."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: SdkSpan) -> None:
        context = span.get_span_context()
        trace, own = format_trace_id(context.trace_id), format_span_id(context.span_id)
        self._span = span
        self.traceparent = f"00-{trace}-{own}-{context.trace_flags:02x}"

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def annotate(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def end(self, error: str | None = None, at: float | None = None) -> None:
        try:
            if error is not None:
                # No description: an error's words may quote what is not ours to tell.
                self._span.set_status(StatusCode.ERROR)
                self._span.set_attribute("error.type", error)
            self._span.end(None if at is None else int(at * _NANO))
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


_NO_PARENT: Final = Context()


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
