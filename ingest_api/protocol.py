"""HTTP/1.1 connections with what uvicorn's have not: bounds on what one connection, and one address, may hold.

* A head, which is the request line and the headers, has a deadline and a size. Its time begins with the connection, or with the
  first bytes after an earlier request; a connection that is at rest between two requests is uvicorn's to close. The same size
  bounds what may come beside a body: trailers and chunk extensions, which nobody reads.
* Requests that are sent ahead of earlier ones' answers are few: those beyond are left unread, and the connection is closed after
  the last answer, so that the client knows what to send again.
* An answer that its client leaves unread is cut, also after the connection was told to close.
* An address has so many open connections at most.
* What is still to come of a request that was answered is read and thrown away, within DRAIN_BYTES and DRAIN_SECONDS, so that the
  client gets to the answer. A client that ends its side after its request is answered.
* An upgrade that is offered is passed over (RFC 9110, section 7.8): Java's HttpClient offers HTTP/2 with its first requests. The parser
  takes what follows such a head for another protocol, so the head is parsed again without the offer.
* A request of HTTP/1.1 names one Host, and no transfer coding but ``chunked``: what servers on its way may read in two ways is refused.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import httptools
import orjson
import structlog
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ingest_api.client_addresses import Network
from ingest_api.connection_limiter import ConnectionLimiter
from ingest_api.middleware import DRAIN_BYTES, HSTS, SECURITY_HEADERS
from ingest_api.problems import MEDIA_TYPE, TYPE_PREFIX
from ingest_api.transports import ClosingTransport

MAX_HEAD_BYTES: Final = 48 * 1024
#: Requests of one connection that may wait for the one being answered.
MAX_PIPELINED: Final = 8
#: How long a client may go on sending a body whose answer it has: as long as a body may let us wait by default.
DRAIN_SECONDS: Final = 30.0
#: The same after what is no HTTP: its sender has no claim on us.
REFUSED_SECONDS: Final = 2.0
REFUSED_BYTES: Final = 16 * 1024 * 1024
#: Answered whatever the load: a process with too many clients is not to be started anew for it.
LIVENESS: Final = "/livez"
#: What a client is told to wait, in seconds, that comes when there are too many.
RETRY_AFTER: Final = 5


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is given without asking the application."""

    status: int
    code: str
    title: str
    advice: str
    retry_after: int | None = None


MALFORMED: Final = Refusal(400, "request_malformed", "Malformed request", "Send HTTP/1.1 as RFC 9112 has it.")
HOST_INVALID: Final = Refusal(
    400, "host_invalid", "Host missing or invalid", "Send one header Host, with the name and port that you call."
)
TRANSFER_CODING_UNSUPPORTED: Final = Refusal(
    501,
    "transfer_coding_unsupported",
    "Unsupported transfer coding",
    "Send the body with Content-Length, or with Transfer-Encoding: chunked and no other coding.",
)
TOO_SLOW: Final = Refusal(408, "head_too_slow", "Headers too slow", "Send a request's headers at once.")
HEAD_TOO_LARGE: Final = Refusal(
    431, "head_too_large", "Headers too large", f"Request line and headers have at most {MAX_HEAD_BYTES} bytes."
)
TOO_MANY_CONNECTIONS: Final = Refusal(
    429,
    "too_many_connections",
    "Too many connections",
    "Close connections of this address, or send more requests over each.",
    RETRY_AFTER,
)
OVERLOADED: Final = Refusal(
    503, "overloaded", "Too many clients", "Send the request again after the time in Retry-After.", RETRY_AFTER
)

#: A name, an IPv4 address, or an IPv6 address in brackets, then perhaps a port (RFC 9110, section 7.2); RFC 9112 allows an empty one.
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]{0,5})?")

#: Headers of an offer, which ``Connection`` names as well (RFC 7540, section 3.2).
_OFFER: Final = frozenset({b"upgrade", b"http2-settings"})

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of connections, in seconds: ``head`` for each head, ``send`` for a client to read what was sent. ``per_address``:
    open connections of one address, 0 for any number; not those of ``proxies``."""

    head: float = 10.0
    send: float = 60.0
    per_address: int = 0
    proxies: tuple[Network, ...] = ()


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection; ``bounded_protocol`` makes the class for a server."""

    bounds: Bounds = Bounds()
    limiter: ConnectionLimiter = ConnectionLimiter(0)

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._in_head = True
        #: Bytes of this head, or since the last ones that were of a body.
        self._bytes_outside_body = 0
        self._fields = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        #: The request that is being answered; ``cycle`` is the last that came.
        self._answered: RequestResponseCycle | None = None
        #: Too much came ahead: nothing more is taken.
        self._reading_stopped = False
        self._limiter_key = ""
        #: What is answered once the parser has given up.
        self._refusal = MALFORMED
        #: The parser has given up: what comes is thrown away.
        self._parser_ended = False
        #: Bytes that may still come of a request that was answered, and until when.
        self._drain_left = DRAIN_BYTES
        self._drain: asyncio.TimerHandle | None = None
        #: This head offers an upgrade: it counts once it is parsed again.
        self._offers_upgrade = False
        #: What is being parsed.
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        inner = cast("asyncio.Transport", transport)
        super().connection_made(
            ClosingTransport(inner, self.loop, self.bounds.send, self._note_unread, self._lingering_for)
        )
        key = self.limiter.acquire(self.client[0] if self.client else "")
        if key is None:
            self._refuse(TOO_MANY_CONNECTIONS)
        else:
            self._limiter_key = key
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._drained()
        self.resume_writing()
        self.limiter.release(self._limiter_key)
        self._limiter_key = ""
        self.pipeline.clear()
        if self._answered is not None and not self._answered.response_complete:
            # uvicorn tells the last request that came, which may be one that waited.
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)
        self._closing.lost()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio takes both
        """The client ended its side: its last request is answered if it came whole. Else the transport closes; by us, so that this
        too has its deadline. Over TLS there is no half of a connection."""
        if self._answering and self._in_head and self.scheme == "http" and not self.transport.is_closing():
            self.cycle.keep_alive = False
            return True
        self._closing.finish()
        return None

    def shutdown(self) -> None:
        if self._closing.lingering:
            self._closing.finish()
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.bounds.send, self._cut)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def data_received(self, data: bytes) -> None:
        if self._closing.lingering or self._drain is not None:
            self._drain_left -= len(data)
            if self._drain_left < 0:
                self._closing.finish()
                return
        if self._parser_ended:
            return
        if not self._reading_stopped:
            self._bytes_outside_body += len(data)
            self._data = data
            super().data_received(data)
            self._data = b""
        if self._reading_stopped:
            self.flow.pause_reading()  # each answer's end resumes it
            return
        # Looked at afterwards: most heads come whole, and then nothing is left to be done here.
        if (self._in_head or self._bytes_outside_body > MAX_HEAD_BYTES) and not self.transport.is_closing():
            if self._bytes_outside_body > MAX_HEAD_BYTES:
                self._parser_ended = True
                self._refuse(HEAD_TOO_LARGE)
            elif self._deadline is None and self._bytes_outside_body:
                self._arm()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += len(name) + len(value)
        if self._fields > MAX_HEAD_BYTES:
            raise ValueError(
                "the headers are too large"
            )  # ends the parser's run; what is answered is send_400_response
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._offers_upgrade = True
            return
        self._in_head = False
        self._bytes_outside_body = 0
        self._disarm()
        self._unset_keepalive_if_required()
        if self._fields + len(self.url) > MAX_HEAD_BYTES:
            self._fields = MAX_HEAD_BYTES + 1
            raise ValueError("the request line is too large")
        if len(self.pipeline) >= MAX_PIPELINED:
            self._reading_stopped = True
            self.cycle.keep_alive = False  # the last one that waits: its answer says that it is the last
            raise ValueError("too many requests ahead of their answers")
        refusal = _refusal_of(self.headers, self.parser.get_http_version())
        if refusal is not None:
            self._refusal = refusal
            raise ValueError(refusal.code)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._bytes_outside_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._offers_upgrade:
            return
        self._in_head = True
        self._bytes_outside_body = self._fields = 0
        super().on_message_complete()
        if self._closing.lingering:
            self._closing.finish()
        elif self._drain is not None:
            self._drained()
            # At rest from now on, which uvicorn notes at the end of answers alone.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._in_head and not self.transport.is_closing() and not self._answering:
            self._drain_left = DRAIN_BYTES
            self._drain = self.loop.call_later(DRAIN_SECONDS, self._closing.finish)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - what the parser says of the client's bytes stays here
        """What uvicorn calls when the parser gave up."""
        self._parser_ended = not self._reading_stopped
        if not self._reading_stopped:
            self._refuse(HEAD_TOO_LARGE if self._fields > MAX_HEAD_BYTES else self._refusal)

    def _unsupported_upgrade_warning(self) -> None:
        """What uvicorn calls while the parser says, by an exception, where in the data another protocol would begin."""
        error = sys.exception()
        if not self._offers_upgrade or not isinstance(error, httptools.HttpParserUpgrade):
            super()._unsupported_upgrade_warning()
            return
        self._offers_upgrade = False
        head = _without_offer(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)
        self._fields = 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn makes its own
        self._data = head + self._data[error.args[0] :]
        super().data_received(self._data)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        if app is service_unavailable:
            cycle.keep_alive = False
            app = self.app if cycle.scope["path"] == LIVENESS else overloaded
        super()._start_asgi_task(cycle, app)

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self.bounds.head, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._answering:
            self._arm()  # what comes too slowly is a next request; the answer to this one is still under way
        else:
            self._refuse(TOO_SLOW)

    @property
    def _closing(self) -> ClosingTransport:
        return cast("ClosingTransport", self.transport)

    def _lingering_for(self) -> float:
        """How long a close waits for the client, in seconds: while it is sending what nobody needs any more."""
        if self._parser_ended or self._reading_stopped:
            return REFUSED_SECONDS
        cycle: Any = self.cycle
        return DRAIN_SECONDS if cycle is not None and cycle.response_complete and not self._in_head else 0.0

    def _drained(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
            self._drain = None

    @property
    def _answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, whatever its declaration says
        return cycle is not None and not cycle.response_complete

    def _cut(self) -> None:
        self._note_unread()
        self.transport.abort()

    def _note_unread(self) -> None:
        _log.warning("client_cut", code="client_too_slow")

    def _refuse(self, refusal: Refusal) -> None:
        """Answer, unless an answer has begun, and close."""
        self._disarm()
        if not self.transport.is_closing():
            begun, draining = self._answered, self._drain is not None
            self._drain_left = REFUSED_BYTES
            if draining:
                self._closing.finish()  # its answer is there: a second one would be that of nothing
            elif begun is None or begun.response_complete or not begun.response_started:
                self.transport.write(_answer(refusal, over_tls=self.scheme == "https"))
                self.transport.close()
            else:
                self._closing.finish()


def _refusal_of(headers: Sequence[tuple[bytes, bytes]], version: str) -> Refusal | None:
    """What is wrong with a head (RFC 9112, sections 3.2 and 6.1) that the parser lets pass. Names are in lower case."""
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1 or (not hosts and version == "1.1") or not all(_HOST.fullmatch(host.strip()) for host in hosts):
        return HOST_INVALID
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    return None if codings in ([], [b"chunked"]) else TRANSFER_CODING_UNSUPPORTED


def _without_offer(method: bytes, url: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The head of a request that offers no upgrade and is the same otherwise; one that the parser has taken, so each line is one."""
    lines = [b"%s %s HTTP/%s" % (method, url, version.encode())]
    for name, value in headers:
        if name == b"connection":
            tokens = [token for token in map(bytes.strip, value.split(b",")) if token.lower() not in _OFFER]
            lines += [b"connection: " + b", ".join(tokens)] if tokens else []
        elif name not in _OFFER:
            lines.append(b"%s: %s" % (name, value))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def bounded_protocol(bounds: Bounds) -> type[BoundedHttpProtocol]:
    """The protocol of one server within those bounds: uvicorn makes connections of a class."""
    limiter = ConnectionLimiter(bounds.per_address, bounds.proxies)
    return type("BoundedHttpProtocol", (BoundedHttpProtocol,), {"bounds": bounds, "limiter": limiter})


async def overloaded(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI's signature
    """What is answered in place of the application while the server has as many connections as it takes."""
    headers, body = _problem(OVERLOADED, over_tls=scope["scheme"] == "https")
    lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": OVERLOADED.status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


def _answer(refusal: Refusal, *, over_tls: bool) -> bytes:
    headers, body = _problem(refusal, over_tls=over_tls)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return STATUS_LINE[refusal.status] + lines.encode("latin-1") + b"\r\n" + body


def _problem(refusal: Refusal, *, over_tls: bool) -> tuple[dict[str, str], bytes]:
    """Headers and body, as RFC 9457 has them."""
    body = orjson.dumps(
        {
            "type": TYPE_PREFIX + refusal.code,
            "title": refusal.title,
            "status": refusal.status,
            "detail": f"{refusal.title}.",
            "code": refusal.code,
            "advice": refusal.advice,
        }
    )
    headers = {
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Cache-Control": "no-store",
        **SECURITY_HEADERS,
        **({"Strict-Transport-Security": HSTS} if over_tls else {}),
        **({} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}),
    }
    return headers, body
