"""What protects the console in a browser: headers of every answer, whom it answers as, and where a form may come from."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Nothing from another host, nothing written into the page: no script, no style, no frame around us and none in us.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # The address of a document's page is nobody else's; to ourselves a form has to say where it comes from.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
#: Two years, on connections that are encrypted, where alone it counts.
HSTS: Final = "max-age=63072000"
#: Names of this machine: a page of another host whose name was made to lead here has another one.
_HERE: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
_HEALTH: Final = frozenset({"/livez", "/readyz"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST"})
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0)

_log = structlog.get_logger()


class ConsoleMetrics:
    """Answers by route and status, and their duration."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "dpj_console_requests_total", "Pages answered", ["route", "method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "dpj_console_request_seconds",
            "Seconds from a request's head to the end of its answer, streams apart",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )

    def answered(self, route: str, method: str, status: int, seconds: float, *, stream: bool) -> None:
        self._requests.labels(route, method if method in _METHODS else "OTHER", str(status)).inc()
        if not stream:
            self._seconds.labels(route).observe(seconds)


class ShieldMiddleware:
    """The outermost layer: answers only to our own name, hardens every answer, logs it, and lets no error's text out.

    ``public_url``: where browsers reach us (``https://console.bank.example``); empty: this machine alone, under its loopback names.
    """

    def __init__(self, app: ASGIApp, metrics: ConsoleMetrics, public_url: str) -> None:
        self._app = app
        self._metrics = metrics
        self._public = urlsplit(public_url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, stream = time.perf_counter(), 0, False

        async def hardened(message: Message) -> None:
            nonlocal status, stream
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                stream = headers.get("content-type", "").startswith("text/event-stream")
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
                if self._public.scheme == "https":
                    headers["Strict-Transport-Security"] = HSTS
            await send(message)

        scope.setdefault("state", {})
        try:
            app = self._app if self._is_ours(Headers(scope=scope).get("host", ""), scope["path"]) else _MISDIRECTED
            await app(scope, receive, hardened)
        except Exception as error:  # noqa: BLE001 - the boundary: nobody is shown an error's text
            _log.error("page_failed", error=type(error).__name__, at=_where(error))
            if not status:
                await PlainTextResponse("Internal error\n", 500)(scope, receive, hardened)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.answered(route, scope["method"], status, seconds, stream=stream)
            log = _log.debug if route in _HEALTH or route.startswith("/static") else _log.info
            log("page", route=route, method=scope["method"], status=status, seconds=round(seconds, 4))

    def _is_ours(self, host: str, path: str) -> bool:
        if path in _HEALTH:
            return True
        if self._public.netloc:
            return host.lower() == self._public.netloc.lower()
        return _without_port(host.lower()) in _HERE


_MISDIRECTED: Final = PlainTextResponse("This host is none of ours.\n", 421)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def is_from_us(headers: Mapping[str, str], public_url: str) -> bool:
    """Whether a form came from a page of ours, by what the browser says itself (Fetch Metadata, else Origin). A browser of today sends
    one of them with every POST."""
    site = headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return False
    origin = headers.get("origin")
    if origin is None:
        return site == "same-origin"
    expected = public_url or f"http://{headers.get('host', '')}"
    return origin.lower() == expected.lower()


def _where(error: BaseException) -> str:
    """File, line and function of an error: never its message, which may quote data."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].name}" if frames else ""
