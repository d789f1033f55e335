"""Around every request: trace and correlation ids, access log, metrics, the last resort for errors, security headers.

Plain ASGI, so that bodies stream through both ways with back-pressure.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.errors import DPJError
from domain.shared import tracing
from domain.shared.correlation import continue_trace, current_traceparent, trace_id
from domain.shared.ids import uuid_or_none
from ingest_api import problems
from ingest_api.metrics import ApiMetrics

CORRELATION_HEADER: Final = "correlation-id"
CORRELATION_STATE: Final = "dpj.correlation_id"
#: Where the state of the client's quota is left for the answer.
QUOTA_STATE: Final = "dpj.quota"
#: True in the scope of a HEAD request, which the routes answer as a GET.
HEAD_STATE: Final = "dpj.head"
#: What is read of a body that no answer needs, so that a client that first sends all of it gets to its answer: what most types of
#: documents take. A longer one's sender is told that the connection is closed.
DRAIN_BYTES: Final = 64 * 1024 * 1024
_TOO_SLOW: Final = 408
_UNMATCHED: Final = "unmatched"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: In a span, for whatever else a client calls its method.
_OTHER_METHOD: Final = "_OTHER"
#: Asked every few seconds, by machines.
_HEALTH: Final = frozenset({"/livez", "/readyz"})

SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}

#: Two years, as browsers ask for it before they trust it; on connections that are encrypted, where alone it counts.
HSTS: Final = "max-age=63072000; includeSubDomains"

_log = structlog.get_logger()


class _Exchange:
    """One request and its answer, as far as they have gone."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self._scope = scope
        self._head = scope["method"] == "HEAD"
        self._receive = receive
        self._send = send
        self._expects = headers.get("expect", "").lower() == "100-continue"
        length = headers.get("content-length", "0")
        self._body_ended = "transfer-encoding" not in headers and length == "0"
        self._too_long = not (length.isascii() and length.isdigit()) or len(length) > 18 or int(length) > DRAIN_BYTES
        self._body_begun = False
        self.span, self.traceparent = _begin_span(scope, headers.get("traceparent"))
        self.correlation_id = _uuid(headers.get(CORRELATION_HEADER)) or uuid4()
        self.status = 0
        self.sent = 0

    async def receive(self) -> Message:
        self._body_begun = True
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._body_ended = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["traceparent"] = self.traceparent
            headers[CORRELATION_HEADER] = str(self.correlation_id)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
            if self._scope.get("scheme") == "https":
                headers["Strict-Transport-Security"] = HSTS
            quota = self._scope["state"].get(QUOTA_STATE)
            if quota is not None:
                for name, value in quota.headers:
                    headers[name] = value
            # What is left of the body the server reads, within bounds (``ingest_api.protocol``). Who waits to be told to go on
            # may send it or not, and who sends too slowly is not waited for.
            unsure = self._too_long or self.status == _TOO_SLOW or (self._expects and not self._body_begun)
            if not self._body_ended and unsure:
                headers["Connection"] = "close"
        elif message["type"] == "http.response.body":
            if self._head:
                message = {**message, "body": b""}
            self.sent += len(message.get("body", b""))
        await self._send(message)


class ExchangeMiddleware:
    """The outermost of our layers; nothing that a route raises passes it. A HEAD is answered as a GET, without its body.

    ``fast_paths`` holds applications for the requests of one method and path, which they get instead of ``app``.
    """

    def __init__(
        self, app: ASGIApp, metrics: ApiMetrics, fast_paths: Mapping[tuple[str, str], ASGIApp] | None = None
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._fast_paths = fast_paths or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        scope.setdefault("state", {})[CORRELATION_STATE] = exchange.correlation_id
        method = scope["method"]
        if method == "HEAD":
            # A copy: the server goes by the method in its own.
            scope = {**scope, "method": "GET", HEAD_STATE: True}
        token = current_traceparent.set(exchange.traceparent)
        started = time.perf_counter()
        self._metrics.begun()
        try:
            app = self._fast_paths.get((scope["method"], scope["path"]), self._app)
            await app(scope, exchange.receive, exchange.send)
        except Exception as error:  # noqa: BLE001 - the boundary: whatever it is, the client gets a problem and no internals
            _log.error("request_failed", error=type(error).__name__, at=_where(error))
            scope["state"][problems.CODE_STATE] = DPJError.code
            if not exchange.status:
                await problems.unexpected()(scope, exchange.receive, exchange.send)
        finally:
            self._note(scope, method, exchange, time.perf_counter() - started)
            current_traceparent.reset(token)

    def _note(self, scope: Scope, method: str, exchange: _Exchange, seconds: float) -> None:
        code = scope["state"].get(problems.CODE_STATE)
        route = getattr(scope.get("route"), "path", _UNMATCHED)
        self._metrics.finished(route, method, exchange.status, seconds, code)
        if exchange.span is not None:
            _end_span(exchange, exchange.span, route, method, code)
        log_request = _log.debug if route in _HEALTH else _log.info
        log_request(
            "request",
            route=route,
            method=method,
            status=exchange.status,
            code=code,
            seconds=round(seconds, 4),
            sent=exchange.sent,
            trace_id=trace_id(exchange.traceparent),
            correlation_id=str(exchange.correlation_id),
        )


def _begin_span(scope: Scope, received: str | None) -> tuple[tracing.Span | None, str]:
    """The request's span, if it is recorded, and the trace context of the work on it."""
    if scope["path"] in _HEALTH:
        return None, continue_trace(received)
    return tracing.start_request(scope["method"] if scope["method"] in _METHODS else _OTHER_METHOD, received)


def _end_span(exchange: _Exchange, span: tracing.Span, route: str, method: str, code: str | None) -> None:
    """By OpenTelemetry's conventions for HTTP: a client's fault is no error of the server's."""
    method = method if method in _METHODS else _OTHER_METHOD
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": exchange.status,
        "dpj.correlation_id": str(exchange.correlation_id),
    }
    if code is not None:
        attributes["dpj.code"] = code
    span.rename(f"{method} {route}")
    span.annotate(attributes)
    if not exchange.status:
        span.end(code or "no_answer")
    else:
        span.end((code or str(exchange.status)) if exchange.status >= 500 else None)


def _uuid(text: str | None) -> UUID | None:
    return uuid_or_none(text) if text and len(text) == 36 else None


def _where(error: BaseException) -> str:
    """File, line and function of an error: never its message, which may quote data."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].name}" if frames else ""
