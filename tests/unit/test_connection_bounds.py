"""One connection, without a socket: what may come ahead, what may be left unread, how many an address may have."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from ingest_api.client_addresses import client_key, proxy_networks
from ingest_api.middleware import DRAIN_BYTES
from ingest_api.protocol import (
    DRAIN_SECONDS,
    MAX_PIPELINED,
    REFUSED_SECONDS,
    BoundedHttpProtocol,
    Bounds,
    bounded_protocol,
)

ASKED = b"GET /x HTTP/1.1\r\nHost: api\r\n\r\n"
ANSWERED = b"HTTP/1.1 200 OK"


class Line(asyncio.Transport):
    """A client's end: what was written, and whether the client takes it."""

    def __init__(self, peer: str = "192.0.2.1", *, reads: bool = True) -> None:
        super().__init__({"peername": (peer, 4711), "sockname": ("127.0.0.1", 80)})
        self.written = b""
        self.reads = reads
        self.reading = True
        self.closing = self.aborted = self.ended = False
        self.protocol: BoundedHttpProtocol | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        """As the loop's own: the connection is lost once all is sent."""
        if not self.closing:
            self.closing = True
            if self.reads:
                asyncio.get_running_loop().call_soon(self._lost)

    def abort(self) -> None:
        self.closing = self.aborted = True
        self._lost()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def _lost(self) -> None:
        if self.protocol is not None:
            protocol, self.protocol = self.protocol, None
            protocol.connection_lost(None)


class Application:
    """Answers once it may; says what it was told."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.begun = 0
        self.told: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun += 1
        await receive()
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"o", "more_body": True})
        if not self.may_end.is_set():
            self.told.append((await receive())["type"])
        await send({"type": "http.response.body", "body": b"k"})


Connect = Callable[..., BoundedHttpProtocol]


@pytest.fixture
async def app() -> Application:
    return Application()


@pytest.fixture
def connect(app: Application) -> Iterator[Connect]:
    """Connections to one server: all with the same bounds, those of the first."""
    made: list[tuple[type[BoundedHttpProtocol], ServerState]] = []

    def connected(line: Line, *, limit: int | None = None, **bounds: Any) -> BoundedHttpProtocol:
        if not made:
            made.append((bounded_protocol(Bounds(**bounds)), ServerState()))
        protocols, state = made[0]
        config = uvicorn.Config(cast("Any", app), log_config=None, lifespan="off", limit_concurrency=limit)
        protocol = protocols(config=config, server_state=state, app_state={})
        line.protocol = protocol
        protocol.connection_made(line)
        return protocol

    yield connected
    for _, state in made:
        for task in state.tasks:
            task.cancel()


async def soon(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.001)


def heads(line: Line) -> list[bytes]:
    return [b"HTTP/1.1 " + part.partition(b"\r\n\r\n")[0] for part in line.written.split(b"HTTP/1.1 ")[1:]]


# --- Requests ahead of answers ----------------------------------------------------------------------------------------


async def test_of_a_flood_of_requests_few_are_kept_and_those_are_answered(app: Application, connect: Connect) -> None:
    line = Line()
    protocol = connect(line)
    protocol.data_received(ASKED * 5_000)
    assert len(protocol.pipeline) == MAX_PIPELINED
    assert not line.reading
    protocol.flow.resume_reading()  # as an application's receive does
    protocol.data_received(ASKED * 5_000)
    assert len(protocol.pipeline) == MAX_PIPELINED
    assert not line.reading
    app.may_answer.set()
    await soon(lambda: line.protocol is None)
    answers = heads(line)
    assert len(answers) == app.begun == MAX_PIPELINED + 1
    assert all(head.startswith(ANSWERED) for head in answers)
    assert [b"connection: close" in head for head in answers] == [False] * MAX_PIPELINED + [True]
    assert not line.aborted


async def test_a_few_requests_ahead_are_fine(app: Application, connect: Connect) -> None:
    line = Line()
    protocol = connect(line)
    for round_ in (1, 2):
        protocol.data_received(ASKED * (MAX_PIPELINED + 1))
        app.may_answer.set()
        await soon(lambda round_=round_: len(heads(line)) == round_ * (MAX_PIPELINED + 1))
    assert not line.closing
    assert line.reading


async def test_a_refusal_does_not_get_into_an_answer_under_way(app: Application, connect: Connect) -> None:
    line = Line()
    protocol = connect(line)
    app.may_answer.set()
    app.may_end.clear()
    protocol.data_received(ASKED * 2)
    await soon(lambda: bool(line.written))
    protocol.data_received(b"\x16\x03\x01\r\n\r\n")
    assert line.closing
    assert len(heads(line)) == 1


async def test_who_is_answered_learns_that_the_client_left_and_who_waits_is_forgotten(
    app: Application, connect: Connect
) -> None:
    line = Line()
    protocol = connect(line)
    app.may_answer.set()
    app.may_end.clear()
    protocol.data_received(ASKED * 3)
    await soon(lambda: bool(line.written))
    line.abort()
    await soon(lambda: app.told == ["http.disconnect"])
    assert (app.begun, len(protocol.pipeline)) == (1, 0)


# --- Answers that are left unread -------------------------------------------------------------------------------------


async def test_who_does_not_read_is_cut(connect: Connect) -> None:
    line = Line(reads=False)
    protocol = connect(line, send=0.02)
    protocol.pause_writing()
    await soon(lambda: line.aborted)
    assert protocol not in protocol.connections


async def test_who_reads_on_is_not_cut(connect: Connect) -> None:
    line = Line()
    protocol = connect(line, send=0.05)
    for _ in range(4):
        protocol.pause_writing()
        await asyncio.sleep(0.02)
        protocol.resume_writing()
    await asyncio.sleep(0.1)
    assert not line.aborted


@pytest.mark.parametrize(
    "end",
    [
        lambda protocol: protocol.timeout_keep_alive_handler(),
        lambda protocol: protocol.eof_received(),
        lambda protocol: protocol.data_received(b"\x16\x03\x01\r\n\r\n"),
        lambda protocol: protocol.shutdown(),
    ],
    ids=["at rest", "end of input", "refused", "shutdown"],
)
async def test_closing_has_an_end_though_nobody_reads(
    connect: Connect, end: Callable[[BoundedHttpProtocol], Awaitable[None]]
) -> None:
    line = Line(reads=False)
    protocol = connect(line, send=0.02)
    end(protocol)
    assert line.closing or line.ended
    assert not line.aborted
    await soon(lambda: line.aborted)
    assert protocol not in protocol.connections


async def test_a_close_that_comes_to_its_end_is_left_alone(connect: Connect) -> None:
    line = Line()
    protocol = connect(line, send=0.02)
    protocol.timeout_keep_alive_handler()
    await asyncio.sleep(0.06)
    assert line.protocol is None
    assert not line.aborted


# --- Connections ------------------------------------------------------------------------------------------------------


def problem(line: Line) -> dict[str, Any]:
    head, _, body = line.written.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert {
        "content-type: application/problem+json",
        "retry-after: 5",
        "connection: close",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "x-frame-options: deny",
    } <= set(lines)
    found: dict[str, Any] = json.loads(body)
    assert int(lines[0].split()[1]) == found["status"]
    return found


async def test_an_address_has_so_many_connections(connect: Connect) -> None:
    first, second, third, other = (Line(), Line(), Line(), Line("192.0.2.2"))
    for line in (first, second, third, other):
        connect(line, per_address=2)
    assert [line.closing for line in (first, second, third, other)] == [False, False, True, False]
    assert (problem(third)["status"], problem(third)["code"]) == (429, "too_many_connections")
    await asyncio.sleep(0)  # the refused one goes, and takes nobody's place with it
    connect(again := Line())
    assert again.closing
    first.abort()
    connect(later := Line())
    assert not later.closing


async def test_a_network_of_ipv6_counts_as_one_address(connect: Connect) -> None:
    lines = [Line(peer) for peer in ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1")]
    for line in lines:
        connect(line, per_address=1)
    assert [line.closing for line in lines] == [False, True, False]


async def test_proxies_have_as_many_connections_as_they_like(connect: Connect) -> None:
    lines = [Line("198.51.100.7") for _ in range(5)]
    for line in lines:
        connect(line, per_address=1, proxies=proxy_networks("192.0.2.1, 198.51.100.0/24"))
    assert not any(line.closing for line in lines)


async def test_beyond_the_servers_limit_the_answer_is_a_problem(app: Application, connect: Connect) -> None:
    line = Line()
    protocol = connect(line, limit=1)
    protocol.data_received(ASKED)
    await soon(lambda: line.protocol is None)
    assert (problem(line)["status"], problem(line)["code"]) == (503, "overloaded")
    assert app.begun == 0


async def test_beyond_it_the_process_still_says_that_it_lives_and_closes(app: Application, connect: Connect) -> None:
    line = Line()
    protocol = connect(line, limit=1)
    app.may_answer.set()
    protocol.data_received(ASKED.replace(b"/x", b"/livez"))
    await soon(lambda: line.protocol is None)
    (head,) = heads(line)
    assert head.startswith(ANSWERED)
    assert b"connection: close" in head


# --- Addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", ""),
        ("", ""),
    ],
)
def test_what_an_address_counts_as(address: str, key: str) -> None:
    assert client_key(address) == key


@pytest.mark.parametrize(
    "text", ["*", "0.0.0.0/0", "::/0", "10.0.0.0/8,*", "10.0.0.1/8", "gateway.example", "10.0.0.1,"]
)
def test_what_is_no_proxy(text: str) -> None:
    with pytest.raises(ValueError, match=r"address"):
        proxy_networks(text)


def test_proxies_are_addresses_and_networks() -> None:
    assert proxy_networks(" ") == ()
    assert [str(network) for network in proxy_networks("10.0.0.1, 2001:db8::/32")] == ["10.0.0.1/32", "2001:db8::/32"]


# --- Heads that could be read in two ways -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (b"GET /x HTTP/1.1\r\n\r\n", 400, "host_invalid"),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "host_invalid"),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "host_invalid"),
        (b"GET /x HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "host_invalid"),
        (b"GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "host_invalid"),
        (b"GET /x HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400, "host_invalid"),
        (
            b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
            "transfer_coding_unsupported",
        ),
        (
            b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            501,
            "transfer_coding_unsupported",
        ),
        (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 501, "transfer_coding_unsupported"),
        (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "transfer_coding_unsupported"),
    ],
)
async def test_an_ambiguous_head_is_refused(
    app: Application, connect: Connect, head: bytes, status: int, code: str
) -> None:
    line = Line()
    connect(line).data_received(head)
    await soon(lambda: line.closing)
    answer, _, body = line.written.partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    told = json.loads(body)
    assert told["code"] == code
    assert told["detail"] != told["advice"]
    assert not app.begun


@pytest.mark.parametrize(
    "head",
    [
        b"GET /x HTTP/1.0\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: [::1]:8082\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: api.example:8082\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_a_plain_head_is_taken(app: Application, connect: Connect, head: bytes) -> None:
    line = Line()
    connect(line).data_received(head)
    app.may_answer.set()
    await soon(lambda: ANSWERED in line.written)


# --- What is still to come of a request that was answered -------------------------------------------------------------


async def refused_early(scope: Scope, receive: Receive, send: Send) -> None:
    """As a route that needs no body: it is answered before it came."""
    headers = [(b"content-length", b"2"), *([(b"connection", b"close")] if scope["path"] == "/closes" else [])]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": b"no"})


def upload(path: bytes, length: int) -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: api\r\nContent-Length: %d\r\n\r\n" % (path, length)


@pytest.fixture
def app_refuses(app: Application) -> None:
    app.__class__ = type("Refusing", (Application,), {"__call__": staticmethod(refused_early)})


@pytest.mark.usefixtures("app_refuses")
async def test_what_comes_after_an_answer_is_read_and_the_connection_goes_on(connect: Connect) -> None:
    line = Line()
    protocol = connect(line)
    protocol.data_received(upload(b"/x", 1_000))
    await soon(lambda: b"401" in line.written)
    protocol.data_received(b"x" * 999)
    assert not line.closing
    protocol.data_received(b"x" + ASKED)
    await soon(lambda: len(heads(line)) == 2)
    assert not line.closing
    assert line.reading


@pytest.mark.usefixtures("app_refuses")
async def test_a_drained_connection_that_rests_is_closed(connect: Connect) -> None:
    line = Line()
    protocol = connect(line)
    protocol.data_received(upload(b"/x", 10))
    await soon(lambda: b"401" in line.written)
    protocol.data_received(b"x" * 10)
    await asyncio.sleep(protocol.timeout_keep_alive + 1)
    assert line.closing


@pytest.mark.usefixtures("app_refuses")
@pytest.mark.parametrize("path", [b"/x", b"/closes"])
async def test_a_body_is_drained_within_bytes_and_time(connect: Connect, path: bytes) -> None:
    endless, slow = Line(), Line()
    for line in (endless, slow):
        protocol = connect(line)
        protocol.data_received(upload(path, 10 * DRAIN_BYTES))
        await soon(lambda line=line: b"401" in line.written)  # type: ignore[misc]
        assert not line.closing
        assert line.ended == (path == b"/closes")
        assert line.reading
        if line is endless:
            for _ in range(DRAIN_BYTES // 2**20):
                protocol.data_received(b"x" * 2**20)
            assert not line.closing
            protocol.data_received(b"x")
        else:
            for _ in range(int(DRAIN_SECONDS) - 1):
                await asyncio.sleep(1)
                protocol.data_received(b"x")
            assert not line.closing
            await asyncio.sleep(2)
        assert line.closing


@pytest.mark.usefixtures("app_refuses")
async def test_a_close_waits_for_the_end_of_the_body_alone(connect: Connect) -> None:
    line = Line()
    protocol = connect(line)
    protocol.data_received(upload(b"/closes", 10) + b"x")
    await soon(lambda: line.ended)
    assert not line.closing
    protocol.data_received(b"x" * 9)
    assert line.closing
    assert len(heads(line)) == 1


@pytest.mark.usefixtures("app_refuses")
async def test_trailers_of_what_was_answered_get_no_second_answer(connect: Connect) -> None:
    line = Line()
    protocol = connect(line)
    protocol.data_received(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
    await soon(lambda: b"401" in line.written)
    protocol.data_received((b"X: " + b"y" * 1_000 + b"\r\n") * 60)
    assert line.closing
    assert len(heads(line)) == 1


@pytest.mark.usefixtures("app_refuses")
async def test_the_end_of_the_server_waits_for_no_client(connect: Connect) -> None:
    line = Line()
    protocol = connect(line)
    protocol.data_received(upload(b"/closes", 10))
    await soon(lambda: line.ended)
    protocol.shutdown()
    assert line.closing


async def test_what_is_no_http_is_read_for_a_moment(connect: Connect) -> None:
    line = Line()
    protocol = connect(line)
    protocol.data_received(b"\x16\x03\x01 no http\r\n\r\n")
    assert b"400" in line.written
    for _ in range(3):
        protocol.data_received(b"GET / HTTP/1.1\r\n\r\n")
    assert (line.closing, line.ended, line.written.count(b"HTTP/1.1 400")) == (False, True, 1)
    await asyncio.sleep(REFUSED_SECONDS + 0.1)
    assert line.closing


async def test_a_client_that_ends_its_side_is_answered(app: Application, connect: Connect) -> None:
    line = Line()
    protocol = connect(line)
    protocol.data_received(upload(b"/x", 2) + b"xx")
    await soon(lambda: app.begun == 1)
    assert protocol.eof_received()
    app.may_answer.set()
    await soon(lambda: line.closing)
    assert line.written.endswith(b"ok")
    assert b"connection: close" in line.written


async def test_a_client_that_ends_its_side_within_a_body_is_left(app: Application, connect: Connect) -> None:
    line = Line()
    protocol = connect(line)
    protocol.data_received(upload(b"/x", 2) + b"x")
    await soon(lambda: app.begun == 1)
    assert not protocol.eof_received()
    assert line.closing


OFFERS = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\nUpgrade: h2c\r\n"


class Bodies(Application):
    """Takes each body whole."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes] = []
        self.headers: list[list[bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            body, more = body + message["body"], message.get("more_body", False)
        self.bodies.append(body)
        self.headers.append([name for name, _ in scope["headers"]])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def bodies() -> Bodies:
    return Bodies()


def offering(body: bytes, *, chunked: bool = False, offer: bytes = OFFERS) -> bytes:
    head = b"POST /x HTTP/1.1\r\nHost: api\r\n" + offer
    if chunked:
        return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("step", [1, 7, 64, 10_000])
async def test_a_body_comes_whole_though_its_head_offers_an_upgrade(
    bodies: Bodies, connect: Connect, step: int, *, chunked: bool
) -> None:
    """As Java's HttpClient sends it, in pieces of any size, one request after another and ahead of its answer."""
    line = Line()
    protocol = connect(line)
    protocol.app = bodies
    sent = offering(b"first " * 20, chunked=chunked) + offering(b"second", chunked=chunked) + ASKED
    for start in range(0, len(sent), step):
        protocol.data_received(sent[start : start + step])
        await asyncio.sleep(0)
    await soon(lambda: line.written.count(ANSWERED) == 3)
    assert bodies.bodies == [b"first " * 20, b"second", b""]
    assert not line.closing
    assert not {b"upgrade", b"http2-settings", b"connection"} & {name for names in bodies.headers for name in names}


async def test_an_offer_leaves_the_rest_of_a_head_as_it_is(bodies: Bodies, connect: Connect) -> None:
    line = Line()
    protocol = connect(line)
    protocol.app = bodies
    offer = b"Connection: close, Upgrade\r\nUpgrade: websocket\r\nX-Kept: 1\r\n"
    protocol.data_received(offering(b"body", offer=offer))
    await soon(lambda: line.closing)
    assert bodies.bodies == [b"body"]
    assert set(bodies.headers[0]) == {b"host", b"connection", b"x-kept", b"content-length"}
    assert b"connection: close" in line.written


async def test_what_is_refused_is_refused_with_an_offer_as_well(app: Application, connect: Connect) -> None:
    line = Line()
    connect(line).data_received(b"POST /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n" + OFFERS + b"\r\n")
    await soon(lambda: line.closing)
    assert line.written.startswith(b"HTTP/1.1 400")
    assert app.begun == 0


async def test_no_tunnel_is_opened(app: Application, connect: Connect) -> None:
    line = Line()
    connect(line).data_received(b"CONNECT api:443 HTTP/1.1\r\nHost: api:443\r\n" + OFFERS + b"\r\n")
    await soon(lambda: line.closing)
    assert line.written.startswith(b"HTTP/1.1 400")
    assert app.begun == 0
