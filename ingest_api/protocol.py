"""HTTP/1.1 connections with what uvicorn's have not: a deadline and a size for a request's head.

A head is the request line and the headers. Its time begins with the connection, or with the first bytes after an earlier
request; a connection that is at rest between two requests is uvicorn's to close. The same size bounds what may come beside a
body: trailers and chunk extensions, which nobody reads.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ingest_api.middleware import HSTS, SECURITY_HEADERS
from ingest_api.problems import MEDIA_TYPE, TYPE_PREFIX

MAX_HEAD_BYTES: Final = 48 * 1024
HEAD_SECONDS: Final = 10.0

_MALFORMED, _SLOW, _LARGE = 400, 408, 431
#: Code, title and advice by status.
_REFUSALS: Final = {
    _MALFORMED: ("request_malformed", "Malformed request", "Send HTTP/1.1 as RFC 9112 has it."),
    _SLOW: ("head_too_slow", "Headers too slow", "Send a request's headers at once."),
    _LARGE: ("head_too_large", "Headers too large", f"Request line and headers have at most {MAX_HEAD_BYTES} bytes."),
}


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. ``head_seconds`` is for each head."""

    head_seconds: float = HEAD_SECONDS

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._in_head = True
        #: Bytes of this head, or since the last ones that were of a body.
        self._beside_body = 0
        self._fields = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._beside_body += len(data)
        super().data_received(data)
        # Looked at afterwards: most heads come whole, and then nothing is left to be done here.
        if (self._in_head or self._beside_body > MAX_HEAD_BYTES) and not self.transport.is_closing():
            if self._beside_body > MAX_HEAD_BYTES:
                self._refuse(_LARGE)
            elif self._deadline is None and self._beside_body:
                self._arm()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += len(name) + len(value)
        if self._fields > MAX_HEAD_BYTES:
            raise ValueError(
                "the headers are too large"
            )  # ends the parser's run; what is answered is send_400_response
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._beside_body = 0
        self._disarm()
        if self._fields + len(self.url) > MAX_HEAD_BYTES:
            self._fields = MAX_HEAD_BYTES + 1
            raise ValueError("the request line is too large")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._beside_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._beside_body = self._fields = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - what the parser says of the client's bytes stays here
        """What uvicorn calls when the parser gave up."""
        self._refuse(_LARGE if self._fields > MAX_HEAD_BYTES else _MALFORMED)

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self.head_seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._answering:
            self._arm()  # what comes too slowly is a next request; the answer to this one is still under way
        else:
            self._refuse(_SLOW)

    @property
    def _answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, whatever its declaration says
        return cycle is not None and not cycle.response_complete

    def _refuse(self, status: int) -> None:
        """Answer, unless an answer has begun, and close."""
        self._disarm()
        if not self.transport.is_closing():
            if not (self._answering and self.cycle.response_started):
                self.transport.write(_answer(status, over_tls=self.scheme == "https"))
            self.transport.close()


def bounded(head_seconds: float) -> type[BoundedHttpProtocol]:
    """The protocol with that deadline: uvicorn makes connections of a class."""
    return type("BoundedHttpProtocol", (BoundedHttpProtocol,), {"head_seconds": head_seconds})


def _answer(status: int, *, over_tls: bool) -> bytes:
    code, title, advice = _REFUSALS[status]
    body = orjson.dumps(
        {
            "type": TYPE_PREFIX + code,
            "title": title,
            "status": status,
            "detail": advice,
            "code": code,
            "advice": advice,
        }
    )
    headers = {
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Cache-Control": "no-store",
        **SECURITY_HEADERS,
        **({"Strict-Transport-Security": HSTS} if over_tls else {}),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return STATUS_LINE[status] + lines.encode("latin-1") + b"\r\n" + body
