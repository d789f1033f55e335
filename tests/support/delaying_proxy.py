"""A line to an HTTP server of this machine on which one request arrives late, though its sender has given up long ago."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.support.line_server import LineServer


class DelayingProxy(LineServer):
    """Passes everything, but a request that contains ``mark``: that one is taken whole, and passed on ``late`` seconds
    later, its sender there or not; its answer goes nowhere. ``arrived`` is set once the server has answered it. Only
    the first ``times`` such requests are late."""

    def __init__(self, target: str, mark: bytes, late: float, *, times: int = 1) -> None:
        super().__init__(target)
        self._mark = mark
        self._late = late
        self._times = times
        self.arrived = asyncio.Event()
        self.answer = b""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while request := await _request(reader):
                    if self._mark in request and self._times > 0:
                        self._times -= 1
                        await asyncio.sleep(self._late)
                        there_writer.write(request)
                        await there_writer.drain()
                        self.answer = await _request(there_reader)
                        self.arrived.set()
                        return
                    there_writer.write(request)
                    await there_writer.drain()
                    writer.write(await _request(there_reader))
                    await writer.drain()
        finally:
            there_writer.transport.abort()


async def _request(reader: asyncio.StreamReader) -> bytes:
    """One message of HTTP/1.1 with its body, of known length or in chunks; empty at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    lowered = head.lower()
    if b"transfer-encoding: chunked" in lowered:
        body = b""
        while not body.endswith(b"\r\n0\r\n\r\n") and body != b"0\r\n\r\n":
            body += await reader.readuntil(b"\r\n")
        return head + body
    length = next(
        (int(line.split(b":")[1]) for line in lowered.split(b"\r\n") if line.startswith(b"content-length:")), 0
    )
    return head + await reader.readexactly(length)
