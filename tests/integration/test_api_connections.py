"""Connections that want too much: raw sockets against the server process that ``dpj api`` runs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from ingest_api.protocol import MAX_HEAD_BYTES, MAX_PIPELINED
from tests.support.api import BOUNDARY
from tests.support.free_ports import free_port

ROOT = Path(__file__).resolve().parents[2]
HEAD_SECONDS, BODY_SECONDS = 0.6, 0.6
TOKEN = "Authorization: Bearer acme/u1/portal\r\n"
FORM = f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
UPLOAD = f"POST /api/v1/documents HTTP/1.1\r\nHost: api\r\n{TOKEN}{FORM}"
ALIVE = b"GET /livez HTTP/1.1\r\nHost: api\r\n\r\n"
ASKED = b"GET /readyz HTTP/1.1\r\nHost: api\r\n\r\n"
SAFE = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[int]:
    folder.mkdir(exist_ok=True)
    (folder / "objects").mkdir()
    port = free_port()
    environment = {
        **os.environ,
        "HEAD_SECONDS": str(HEAD_SECONDS),
        "BODY_SECONDS": str(BODY_SECONDS),
        **settings,
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.api_server", str(port), str(folder)],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serving(tmp_path_factory.mktemp("api")) as found:
        yield found


@pytest.fixture
def line(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        yield connection
    with socket.create_connection(("127.0.0.1", port), timeout=20) as after:
        after.sendall(ALIVE)
        assert answer(after)[0] == 200  # whatever it was, the server goes on


def answer(line: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one answer."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = line.recv(65536)
        assert piece, f"closed without an answer: {head!r}"
        head += piece
    lines, _, body = head.partition(b"\r\n\r\n")
    first, *rest = lines.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in rest)}
    while len(body) < int(headers.get("content-length", "0")):
        body += line.recv(65536)
    return int(first.split()[1]), headers, body


def is_closed(line: socket.socket) -> bool:
    with suppress(ConnectionError):
        while line.recv(65536):
            pass
    return True


def assert_refused(line: socket.socket, status: int, code: str, *, within: float | None = None) -> None:
    began = time.monotonic()
    found, headers, body = answer(line)
    took = time.monotonic() - began
    problem = json.loads(body)
    assert (found, problem["code"], problem["status"]) == (status, code, status)
    assert headers["content-type"] == "application/problem+json"
    assert {name: headers[name] for name in SAFE} == SAFE
    assert headers["connection"] == "close"
    assert is_closed(line)
    assert within is None or took < within


# --- Heads ------------------------------------------------------------------------------------------------------------


def test_who_says_nothing_is_cut(line: socket.socket) -> None:
    assert_refused(line, 408, "head_too_slow", within=HEAD_SECONDS + 5)


def test_a_head_that_drips_is_cut(line: socket.socket) -> None:
    """Each byte in time, the whole not."""
    began = time.monotonic()
    line.sendall(b"GET /livez HTTP/1.1\r\nHost: api\r\n")
    line.settimeout(0.05)
    with suppress(ConnectionError):
        while time.monotonic() - began < HEAD_SECONDS + 10:
            line.sendall(b"x")
            with suppress(TimeoutError):
                if line.recv(1, socket.MSG_PEEK):
                    break
    line.settimeout(20)
    assert_refused(line, 408, "head_too_slow")
    assert HEAD_SECONDS * 0.9 < time.monotonic() - began < HEAD_SECONDS + 5


def test_a_second_head_has_a_deadline_too(line: socket.socket) -> None:
    line.sendall(ALIVE)
    assert answer(line)[0] == 200
    line.sendall(b"GET /livez HT")
    assert_refused(line, 408, "head_too_slow", within=HEAD_SECONDS + 5)


def test_a_rest_between_requests_is_not_a_slow_head(line: socket.socket) -> None:
    for _ in range(3):
        line.sendall(ALIVE)
        assert answer(line)[0] == 200
        time.sleep(HEAD_SECONDS * 1.5)
    line.sendall(ALIVE)
    assert answer(line)[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.1\r\nHost: api\r\nX: " + b"x" * (MAX_HEAD_BYTES * 2) + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: api\r\n" + b"X: y\r\n" * MAX_HEAD_BYTES,
        b"GET /livez?" + b"q" * (MAX_HEAD_BYTES * 2) + b" HTTP/1.1\r\nHost: api\r\n\r\n",
        b"GET /livez?" + b"q" * MAX_HEAD_BYTES,
        b"GET /livez HTTP/1.1\r\nHost: api\r\nX: " + b"x" * (MAX_HEAD_BYTES + 9),
    ],
    ids=["one header", "many headers", "a long target", "a target without end", "a header without end"],
)
def test_a_head_that_is_too_large_is_refused(line: socket.socket, head: bytes) -> None:
    with suppress(ConnectionError):
        line.sendall(head)
    with suppress(ConnectionResetError):  # the server closed while bytes of ours were still on their way
        assert_refused(line, 431, "head_too_large")


def test_a_large_head_within_the_bounds_passes(line: socket.socket) -> None:
    line.sendall(b"GET /livez HTTP/1.1\r\nHost: api\r\nX-DPJ-Metadata: " + b"x" * 40_000 + b"\r\n\r\n")
    assert answer(line)[0] == 200


def test_what_is_no_http_is_refused_without_an_echo(line: socket.socket) -> None:
    line.sendall(b"\x16\x03\x01 <script>\r\n\r\n")
    assert_refused(line, 400, "request_malformed")


# --- Bodies -----------------------------------------------------------------------------------------------------------


def test_a_body_that_does_not_come_is_cut(line: socket.socket) -> None:
    line.sendall((UPLOAD + "Content-Length: 1000\r\n\r\n").encode())
    assert_refused(line, 408, "body_too_slow", within=BODY_SECONDS + 8)


def test_a_body_that_stops_is_cut(line: socket.socket) -> None:
    line.sendall((UPLOAD + f"Content-Length: 1000\r\n\r\n--{BOUNDARY}\r\n").encode())
    assert_refused(line, 408, "body_too_slow", within=BODY_SECONDS + 8)


def test_a_body_that_drips_is_cut(line: socket.socket) -> None:
    """Bytes always come in time, but too few of them."""
    began = time.monotonic()
    head = f"POST /api/v1/dossiers HTTP/1.1\r\nHost: api\r\n{TOKEN}Content-Type: application/json\r\n"
    line.sendall((head + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n").encode())
    line.settimeout(0.1)
    with suppress(ConnectionError):
        while time.monotonic() - began < 15:
            line.sendall(b"1\r\n \r\n")
            with suppress(TimeoutError):
                if line.recv(1, socket.MSG_PEEK):
                    break
    line.settimeout(20)
    assert_refused(line, 408, "body_too_slow")
    assert BODY_SECONDS < time.monotonic() - began < 12


def test_a_json_body_has_the_same_deadline(line: socket.socket) -> None:
    head = f"POST /api/v1/dossiers HTTP/1.1\r\nHost: api\r\n{TOKEN}Content-Type: application/json\r\n"
    line.sendall((head + "Content-Length: 50\r\n\r\n{").encode())
    assert_refused(line, 408, "body_too_slow", within=BODY_SECONDS + 8)


def test_trailers_without_end_are_cut(line: socket.socket) -> None:
    line.sendall((UPLOAD + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n").encode())
    sent = 0
    with suppress(ConnectionError):
        while sent < 32 << 20:
            line.sendall(b"X-Trailer: " + b"y" * 1000 + b"\r\n")
            sent += 1013
    assert 0 < sent < 32 << 20


def test_the_body_of_who_may_not_is_not_read_for_ever(line: socket.socket) -> None:
    line.sendall(b"POST /api/v1/documents HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n")
    began = time.monotonic()
    assert answer(line)[0] == 401
    assert rest(line) == b""  # it comes to rest, and to its end
    assert time.monotonic() - began < 10


# --- Too much of it ---------------------------------------------------------------------------------------------------


def rest(line: socket.socket) -> bytes:
    found = b""
    with suppress(ConnectionError):
        while piece := line.recv(1 << 20):
            found += piece
    return found


def test_of_requests_sent_ahead_a_few_are_answered_and_the_last_says_so(line: socket.socket) -> None:
    with suppress(ConnectionError):
        line.sendall(ALIVE * 5_000)
    answers = rest(line).split(b"HTTP/1.1 ")[1:]
    assert 1 <= len(answers) <= MAX_PIPELINED + 1
    assert all(one.startswith(b"200 ") for one in answers)


def test_an_address_has_so_many_connections_and_gets_their_places_back(tmp_path: Path) -> None:
    with serving(tmp_path / "crowded", PER_ADDRESS="3") as port, ExitStack() as stack:
        lines = []
        for _ in range(4):
            lines.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)))
            lines[-1].sendall(ALIVE)
            if answer(lines[-1])[0] == 429:
                break
        assert len(lines) in {3, 4}  # the one that found the server may not be gone yet
        lines[0].close()
        deadline = time.monotonic() + 10
        while True:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as later:
                later.sendall(ALIVE)
                if answer(later)[0] == 200:
                    break
            assert time.monotonic() < deadline


def test_beyond_the_connections_of_a_server_it_says_so(tmp_path: Path) -> None:
    with serving(tmp_path / "full", CONNECTIONS="2") as port:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as first,
            socket.create_connection(("127.0.0.1", port), timeout=20) as second,
        ):
            second.sendall(ASKED)
            assert_refused(second, 503, "overloaded")
            first.sendall(ASKED)
            status, headers, _ = answer(first)
        assert status == 200
        assert "retry-after" not in headers


# --- Answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/livez", "/nowhere", "/api/v1/documents", "/api/v1/openapi.json"])
def test_every_answer_is_hardened(line: socket.socket, target: str) -> None:
    line.sendall(f"GET {target} HTTP/1.1\r\nHost: api\r\n{TOKEN}\r\n".encode())
    _, headers, _ = answer(line)
    assert {name: headers[name] for name in SAFE} == SAFE
    assert "server" not in headers
    assert "strict-transport-security" not in headers  # it was not encrypted, and nobody said that it was


def test_nobody_says_where_it_comes_from_but_a_trusted_proxy(port: int, tmp_path: Path) -> None:
    asked = b"GET /livez HTTP/1.1\r\nHost: api\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        line.sendall(asked)
        assert "strict-transport-security" not in answer(line)[1]
    with (
        serving(tmp_path / "proxied", TRUSTED_PROXIES="127.0.0.0/8") as trusting,
        socket.create_connection(("127.0.0.1", trusting), timeout=20) as line,
    ):
        line.sendall(asked)
        assert answer(line)[1]["strict-transport-security"] == "max-age=63072000; includeSubDomains"


# --- Answers before the body is there ---------------------------------------------------------------------------------


def test_who_sends_all_before_reading_gets_the_answer(port: int) -> None:
    """Longer than any pause of the server's: what it does not read would end in a reset, which takes the answer along."""
    refused = UPLOAD.replace(TOKEN, "").encode() + b"Content-Length: 3000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sender:
        for number in range(2):  # and the connection goes on
            sender.sendall(refused)
            for _ in range(30):
                sender.sendall(b"x" * 100_000)
                time.sleep(0.1 if number == 0 else 0)
            head, _, rest = sender.recv(65536).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 401"), head
            assert b"unauthenticated" in rest


def test_who_ends_its_side_gets_the_answer(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sender:
        sender.sendall(UPLOAD.replace(TOKEN, "").encode() + b"Content-Length: 3\r\n\r\nabc")
        sender.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := sender.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 401")
