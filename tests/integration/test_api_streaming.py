"""The API in a real server: bodies far larger than memory may grow, clients that misbehave on a real connection."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.api import BOUNDARY, FORM_END, FORM_TYPE, bearer, form_head
from tests.support.fakes_intake import PDF
from tests.support.free_ports import free_port

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
MARKER = b"clear-bytes-of-a-document."
BLOCK = (MARKER * (MIB // len(MARKER) + 1))[:MIB]
HEAD = b"%PDF-1.7\n1 0 obj\nnull\nendobj\n"
END = b"\ntrailer\n<<>>\n%%EOF\n"
ALLOWED_GROWTH = 64 * MIB


@dataclass
class Server:
    """The server process, and the folders that it can write to."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    dossier: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"

    def memory(self, field: str) -> int:
        """``VmRSS`` or ``VmHWM`` (its peak), in bytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(field)

    def open_files(self) -> list[Path]:
        """Regular files that the process holds open, deleted ones included, but for programs and libraries."""
        found = []
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                if link.is_file() and str(link.readlink()).startswith(str(self.folder)):
                    found.append(link)
            except OSError:
                continue
        return found

    def sockets(self) -> int:
        """How many sockets the process holds open."""
        found = 0
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(OSError):
                found += str(link.readlink()).startswith("socket:")
        return found

    def objects(self) -> list[Path]:
        return [path for path in (self.folder / "objects" / "documents").rglob("*") if path.is_file()]

    def documents(self) -> list[Any]:
        return httpx.get(f"{self.url}/documents", headers=bearer()).json()["items"]

    def metadata(self, **changes: Any) -> dict[str, Any]:
        base = {"type": "BIG", "dossier_id": self.dossier, "depositor": {"email": "marie@example.org"}}
        return {**base, **changes}


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[Server]:
    for name in ("objects", "tmp"):
        (folder / name).mkdir()
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.api_server", str(port), str(folder)],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder / "tmp"), **settings},
            stdout=log,
            stderr=log,
        )
    server = Server(process, port, folder)
    try:
        deadline = time.monotonic() + 30
        while not server.dossier:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            try:
                found = httpx.get(f"{server.url}/dossiers", headers=bearer()).json()
                server.dossier = found["items"][0]["id"]
            except httpx.TransportError:
                time.sleep(0.05)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as made:
        yield made


def a_form(server: Server, size: int, digest: Any = None) -> Iterator[bytes]:
    """A multipart body whose file has ``size`` bytes, made as it is sent."""
    yield form_head(server.metadata())
    left = size - len(END)
    for block in (HEAD, *[BLOCK] * (size // MIB + 1), END):
        left += len(END) if block is END else 0
        piece = block[:left]
        left -= len(piece)
        if digest is not None:
            digest.update(piece)
        yield piece
    yield FORM_END


def holds_clear_bytes(path: Path) -> bool:
    """Whether the marker is in a file, looked for in bounded memory."""
    with path.open("rb") as opened:
        tail = b""
        while piece := opened.read(4 * MIB):
            if MARKER in tail + piece:
                return True
            tail = piece[-len(MARKER) :]
    return False


class Watch(threading.Thread):
    """Looks, while the upload runs, for clear bytes in what the server holds open."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self._stop_now = threading.Event()
        self.seen = 0
        self.clear: list[str] = []

    def run(self) -> None:
        while not self._stop_now.wait(0.5):
            for link in self._server.open_files():
                self.seen += 1
                with link.open("rb") as opened:
                    if MARKER in opened.read(8 * MIB):
                        self.clear.append(str(link.readlink()))

    def stop(self) -> None:
        self._stop_now.set()
        self.join()


@pytest.mark.timeout(600)
def test_a_gigabyte_passes_through_in_bounded_memory_and_never_in_clear_on_disk(server: Server) -> None:
    headers = {**bearer(), **FORM_TYPE}
    with httpx.Client(timeout=300) as client:
        warm = client.post(f"{server.url}/documents", headers=headers, content=a_form(server, 8 * MIB))
        assert warm.status_code == 201, warm.text
        before = server.memory("VmRSS")
        digest = hashlib.sha256()
        watch = Watch(server)
        watch.start()
        stored = client.post(f"{server.url}/documents", headers=headers, content=a_form(server, 1 << 30, digest))
        watch.stop()
        assert stored.status_code == 201, stored.text
        assert (stored.json()["size"], stored.json()["sha256"]) == (1 << 30, digest.hexdigest())
        growth = server.memory("VmHWM") - before
        assert growth <= ALLOWED_GROWTH, f"{growth / MIB:.0f} MiB"
        assert watch.seen
        assert not watch.clear

        back = hashlib.sha256()
        link = f"http://127.0.0.1:{server.port}{stored.json()['links']['content']}"
        with client.stream("GET", link, headers=bearer()) as response:
            assert response.headers["content-length"] == str(1 << 30)
            for piece in response.iter_raw():
                back.update(piece)
        assert back.hexdigest() == digest.hexdigest()
        growth = server.memory("VmHWM") - before
        assert growth <= ALLOWED_GROWTH, f"{growth / MIB:.0f} MiB"
    files = [path for path in server.folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) > 1 << 30
    assert not [path for path in files if holds_clear_bytes(path)]


def request_head(server: Server, length: int | None, extra: str = "") -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return (
        f"POST /api/v1/documents HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer()['Authorization']}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n{extra}{size}\r\n\r\n"
    ).encode()


def eventually_clean(server: Server) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not server.objects() and not list((server.folder / "objects" / ".incoming").glob("*")):
            break
        time.sleep(0.05)
    assert not server.objects()
    assert not server.documents()


def test_a_client_that_vanishes_leaves_nothing(server: Server) -> None:
    body = form_head(server.metadata()) + HEAD + BLOCK * 3
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(request_head(server, len(body) + MIB) + body)
        time.sleep(0.3)
    eventually_clean(server)


def test_a_missing_final_boundary_is_answered(server: Server) -> None:
    body = form_head(server.metadata()) + PDF
    response = httpx.post(f"{server.url}/documents", headers={**bearer(), **FORM_TYPE}, content=body)
    assert (response.status_code, response.json()["code"]) == (400, "body_truncated")
    eventually_clean(server)


def test_a_refusal_reaches_a_client_that_is_still_sending(server: Server) -> None:
    """Of a type of 1 MiB at most, 8 MiB are sent: the answer comes, and the connection serves on."""

    def body() -> Iterator[bytes]:
        yield form_head(server.metadata(type="CNI"))
        yield HEAD
        for _ in range(8):
            yield BLOCK
        yield FORM_END

    with httpx.Client() as client:
        response = client.post(f"{server.url}/documents", headers={**bearer(), **FORM_TYPE}, content=body())
        assert (response.status_code, response.json()["code"]) == (413, "file_too_large")
        assert client.get(f"{server.url}/documents", headers=bearer()).status_code == 200
    eventually_clean(server)


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    connection.settimeout(10)
    received = b""
    # A server that closes on bytes it has not read resets the connection, after its answer.
    with suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return int(received.split()[1]), received


def test_an_endless_refused_body_is_cut_off_with_its_answer(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(request_head(server, 1 << 40).replace(b"Bearer", b"Basic"))
        sender = threading.Thread(target=flood, args=(connection,))
        sender.start()
        status, received = read_answer(connection)
        sender.join(30)
    assert status == 401
    assert b"connection: close" in received.lower()


def flood(connection: socket.socket) -> None:
    try:
        while True:
            connection.sendall(BLOCK)
    except OSError:
        return


def test_an_announced_size_over_the_limit_is_refused_before_the_body(server: Server) -> None:
    """The file itself is not waited for."""
    head = form_head(server.metadata(type="CNI"))
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(request_head(server, 1 << 30) + head)
        status, received = read_answer(connection)
    assert status == 413
    assert json.loads(received.partition(b"\r\n\r\n")[2])["code"] == "file_too_large"
    eventually_clean(server)


def test_who_expects_100_continue_is_refused_without_sending(server: Server) -> None:
    head = request_head(server, 1 << 30, "Expect: 100-continue\r\n").replace(b"Bearer", b"Basic")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head)
        status, received = read_answer(connection)
    assert status == 401
    assert b"100 Continue" not in received


def test_a_damaged_object_never_looks_whole(server: Server) -> None:
    """The download ends short of its Content-Length."""
    form = b"".join(a_form(server, 4 * MIB))
    stored = httpx.post(f"{server.url}/documents", headers={**bearer(), **FORM_TYPE}, content=form, timeout=30)
    (path,) = server.objects()
    content = bytearray(path.read_bytes())
    content[3 * MIB] ^= 1
    path.write_bytes(content)
    link = f"http://127.0.0.1:{server.port}{stored.json()['links']['content']}"
    received: list[bytes] = []
    with httpx.stream("GET", link, headers=bearer()) as response:
        assert response.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            received.extend(response.iter_raw())
    assert len(b"".join(received)) < 4 * MIB


@pytest.mark.parametrize("half_closed", [False, True])
def test_who_does_not_read_its_answer_is_cut(tmp_path: Path, half_closed: bool) -> None:
    """Over plain HTTP, where a close waits until all is read: the server gets its socket back all the same."""
    with running(tmp_path, SEND_SECONDS="1.5") as server, socket.socket() as connection:
        form = b"".join(a_form(server, 32 * MIB))
        stored = httpx.post(f"{server.url}/documents", headers={**bearer(), **FORM_TYPE}, content=form, timeout=60)
        assert stored.status_code == 201, stored.text
        alone = settled(server)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        link, token = stored.json()["links"]["content"], bearer()["Authorization"]
        connection.sendall(f"GET {link} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
        time.sleep(1.0)
        assert server.sockets() == alone + 1
        if half_closed:
            connection.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + 10
        while server.sockets() > alone:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        status, received = read_answer(connection)
    assert status == 200
    assert len(received) < 32 * MIB


def settled(server: Server) -> int:
    """Sockets of the server once its clients of before are gone."""
    found = 0
    for _ in range(3):
        time.sleep(0.2)
        found = server.sockets()
    return found
