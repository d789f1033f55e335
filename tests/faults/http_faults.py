"""An HTTP/1.1 line before a server that answers with errors of its own, in the server's form, for as long as it is told to.

Requests are told apart on kept connections, so that an error is an answer and no broken connection. It runs in a thread.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from tests.support.line_server import LineServer

HEAD_LIMIT = 64 * 1024
PIECE = 64 * 1024
CONNECT_SECONDS = 5.0

#: What MinIO says with each status: (code, message).
S3_ERRORS = {
    500: ("InternalError", "We encountered an internal error, please try again."),
    503: ("SlowDownWrite", "Resource requested is unwritable, please reduce your request rate"),
    507: ("XMinioStorageFull", "Storage backend has reached its minimum free drive threshold."),
}
S3_UNKNOWN = ("InternalError", "We encountered an internal error, please try again.")

#: Makes content type and body of an error answer with a status.
Form = Callable[[int], tuple[str, bytes]]


def s3_error(status: int) -> tuple[str, bytes]:
    """As in the S3 API's reference, "Error responses"."""
    code, message = S3_ERRORS.get(status, S3_UNKNOWN)
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return "application/xml", text.encode()


def vault_error(status: int) -> tuple[str, bytes]:
    """As in Vault's HTTP API, "Error response"."""
    return "application/json", json.dumps({"errors": [f"an internal error ({status})"]}).encode()


def page_error(status: int) -> tuple[str, bytes]:
    """A web server's page, which is what stands before a CMIS repository when the repository itself fails."""
    return "text/html", f"<html><body><h1>Error {status}</h1></body></html>".encode()


@dataclass(frozen=True)
class _Fault:
    status: int
    ratio: float
    methods: frozenset[str] | None


@dataclass(frozen=True)
class _Head:
    raw: bytes
    first: list[str]
    fields: dict[str, str]

    @property
    def length(self) -> int | None:
        """Bytes of the body; None if it is chunked, -1 if nothing says."""
        if "chunked" in self.fields.get("transfer-encoding", ""):
            return None
        return int(self.fields.get("content-length", "-1"))

    @property
    def closes(self) -> bool:
        return "close" in self.fields.get("connection", "")


class HttpFaults(LineServer):
    """The line to ``target`` ("host:port"); clients go to ``endpoint``. Transparent until ``fail``."""

    def __init__(self, target: str, form: Form) -> None:
        super().__init__(target, limit=HEAD_LIMIT)
        self._form = form
        self._fault: _Fault | None = None
        self._dice = random.Random(0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"http-faults-{self._target[1]}", daemon=True
        )
        self.answered = 0

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.open(), self._loop).result(CONNECT_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.close(), self._loop).result(CONNECT_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CONNECT_SECONDS)
        self._loop.close()

    def fail(self, status: int, ratio: float = 1.0, methods: Collection[str] | None = None) -> None:
        """Answer this share of the requests (of ``methods``, or all) with an error from now on; the server sees none of them."""
        self._fault = _Fault(status, ratio, None if methods is None else frozenset(methods))

    def clear(self) -> None:
        """Pass everything on again."""
        self._fault = None

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while True:
                head = await _head(reader)
                if self._strikes(head.first[0]):
                    await self._refuse(head, reader, writer)
                    continue
                if there is None or there[0].at_eof():
                    if there is not None:
                        there[1].transport.abort()
                    connecting = asyncio.open_connection(*self._target, limit=HEAD_LIMIT)
                    there = await asyncio.wait_for(connecting, CONNECT_SECONDS)
                if not await _exchange(head, (reader, writer), there):
                    return
        except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError):
            pass  # either end has gone; the other one sees the same
        finally:
            if there is not None:
                there[1].transport.abort()

    def _strikes(self, method: str) -> bool:
        fault = self._fault
        if fault is None or (fault.methods is not None and method not in fault.methods):
            return False
        return self._dice.random() < fault.ratio

    async def _refuse(self, head: _Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _pass_body(head.length, reader, None, at_end=0)
        fault = self._fault
        status = fault.status if fault else 500
        kind, body = self._form(status)
        self.answered += 1
        lines = f"HTTP/1.1 {status} Error\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(lines.encode() + (b"" if head.first[0] == "HEAD" else body))
        await writer.drain()


_Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _exchange(head: _Head, here: _Ends, there: _Ends) -> bool:
    """Pass one request on and its answer back; whether the connection may be used again."""
    there[1].write(head.raw)
    sending = asyncio.create_task(_pass_body(head.length, here[0], there[1], at_end=0))
    try:
        answer = await _head(there[0])
        while answer.first[1].startswith("1"):
            here[1].write(answer.raw)
            answer = await _head(there[0])
        here[1].write(answer.raw)
        empty = head.first[0] == "HEAD" or answer.first[1] in {"204", "304"}
        ended = await _pass_body(0 if empty else answer.length, there[0], here[1], at_end=-1)
        await here[1].drain()
        return ended and sending.done() and not answer.closes and not head.closes
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError, OSError, EOFError):
            await sending


async def _head(reader: asyncio.StreamReader) -> _Head:
    raw = await reader.readuntil(b"\r\n\r\n")
    first, *lines = raw.decode("latin-1").split("\r\n")
    fields = {}
    for line in filter(None, lines):
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip().lower()
    return _Head(raw, first.split(" ", 2), fields)


async def _pass_body(
    length: int | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None, *, at_end: int
) -> bool:
    """Pass a body on, or drop it. False if its end was the connection's: then nothing else said so (``at_end`` is -1)."""
    if length is None:
        while size := int((await _piece(reader.readuntil(b"\r\n"), writer)).split(b";")[0], 16):
            await _bytes(size + 2, reader, writer)
        while await _piece(reader.readuntil(b"\r\n"), writer) != b"\r\n":
            pass
        return True
    if length >= 0:
        await _bytes(length, reader, writer)
        return True
    if at_end == 0:
        return True
    while piece := await reader.read(PIECE):
        if writer is not None:
            writer.write(piece)
            await writer.drain()
    return False


async def _piece(reading: Coroutine[None, None, bytes], writer: asyncio.StreamWriter | None) -> bytes:
    piece = await reading
    if writer is not None:
        writer.write(piece)
    return piece


async def _bytes(count: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
    while count:
        piece = await reader.read(min(count, PIECE))
        if not piece:
            raise EOFError
        count -= len(piece)
        if writer is not None:
            writer.write(piece)
            await writer.drain()
