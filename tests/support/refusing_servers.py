"""Neighbours that refuse, and quote what they were sent: a mail server and a GED."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller

from tests.support.free_ports import free_port

HOP = {"connection", "content-length", "transfer-encoding", "keep-alive"}


class _Refusing:
    async def handle_RCPT(self, _: Any, __: Any, ___: Any, address: str, ____: Any) -> str:  # noqa: N802 - the library's name
        return f"550 5.1.1 <{address}>: recipient of {address} is unknown here"


@contextmanager
def refusing_mail_server(port: int | None = None) -> Iterator[int]:
    """Its port, a free one if none is asked for. It refuses every recipient for good, by the address."""
    port = port or free_port()
    server = Controller(_Refusing(), hostname="127.0.0.1", port=port, server_hostname="localhost", ready_timeout=30)
    server.start()
    try:
        yield port
    finally:
        server.stop()


class _Gate(BaseHTTPRequestHandler):
    """What reads is the real GED's; what creates a document is refused for good, in CMIS's own form."""

    protocol_version = "HTTP/1.1"
    real = ""

    def do_GET(self) -> None:
        request = urllib.request.Request(self.real + self.path, headers=self._headers())  # noqa: S310 - on this machine
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                self._answer(answer.status, answer.headers.get("content-type", ""), answer.read())
        except urllib.error.HTTPError as error:
            self._answer(error.code, error.headers.get("content-type", ""), error.read())

    def do_POST(self) -> None:
        body = self._body()
        if b"createDocument" in body:
            quoted = body[:4000].decode("latin-1")
            said = {"exception": "constraint", "message": f"this was not taken: {quoted}"}
            self._answer(409, "application/json", json.dumps(said).encode())
            return
        request = urllib.request.Request(self.real + self.path, body, self._headers())  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                self._answer(answer.status, answer.headers.get("content-type", ""), answer.read())
        except urllib.error.HTTPError as error:
            self._answer(error.code, error.headers.get("content-type", ""), error.read())

    def _headers(self) -> dict[str, str]:
        return {name: value for name, value in self.headers.items() if name.lower() not in {*HOP, "host"}}

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", "0")))
        found = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _answer(self, status: int, media_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def refusing_ged(real: str) -> Iterator[int]:
    """The port of a GED that refuses every new document; ``real``: scheme and place of the one behind it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Gate", (_Gate,), {"real": real}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
