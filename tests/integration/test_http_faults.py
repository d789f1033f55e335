"""The HTTP line of the fault tests: transparent, until it is told to answer by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import httpx
import pytest

from tests.faults.http_faults import HttpFaults, s3_error


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    connections: ClassVar[set[int]] = set()
    seen: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.connections.add(self.client_address[1])
        self.seen.append(self.path)
        body = self._body()
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(body), 10_000):
                piece = body[start : start + 10_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "12345")
        self.end_headers()

    def do_DELETE(self) -> None:
        self.send_response(204)
        self.end_headers()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def line() -> Iterator[HttpFaults]:
    _Echo.connections, _Echo.seen = set(), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with HttpFaults(f"127.0.0.1:{server.server_address[1]}", s3_error) as opened:
            yield opened
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def client(line: HttpFaults) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{line.endpoint}", timeout=10, trust_env=False) as opened:
        yield opened


@pytest.mark.parametrize("path", ["/plain", "/stream"])
def test_bodies_pass_whole_on_one_connection(client: httpx.Client, path: str) -> None:
    body = bytes(range(256)) * 2000
    for _ in range(3):
        assert client.post(path, content=body).content == body
        assert client.post(path, content=iter([body[:7], body[7:]])).content == body
    assert client.head("/").headers["content-length"] == "12345"
    assert client.delete("/").status_code == 204
    assert client.post(path, content=b"").content == b""
    assert len(_Echo.connections) == 1


def test_errors_are_the_servers_own_in_form_and_it_sees_nothing(line: HttpFaults, client: httpx.Client) -> None:
    line.fail(507, methods={"POST"})
    refused = client.post("/plain", content=b"x" * 100_000)
    assert refused.status_code == 507
    assert "<Code>XMinioStorageFull</Code>" in refused.text
    assert client.post("/plain", content=iter([b"a", b"b"])).status_code == 507
    assert client.delete("/").status_code == 204
    assert _Echo.seen == []
    line.clear()
    assert client.post("/plain", content=b"back").content == b"back"
    assert line.answered == 2


def test_a_share_of_the_requests(line: HttpFaults, client: httpx.Client) -> None:
    line.fail(503, ratio=0.5)
    statuses = [client.post("/plain", content=b"x").status_code for _ in range(60)]
    assert 10 < statuses.count(503) < 50
    assert set(statuses) == {200, 503}


def test_a_server_that_is_away_is_a_broken_connection() -> None:
    with HttpFaults("127.0.0.1:9", s3_error) as line, pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{line.endpoint}/", trust_env=False, timeout=10)
