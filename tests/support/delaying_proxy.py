"""A line to an HTTP server of this machine on which one request arrives late, though its sender has given up long ago."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self


class DelayingProxy:
    """Passes everything, but a request that contains ``mark``: that one is taken whole, and passed on ``late`` seconds
    later, its sender there or not; its answer goes nowhere. ``arrived`` is set once the server has answered it. Only
    the first ``times`` such requests are late."""

    def __init__(self, target: str, mark: bytes, late: float, *, times: int = 1) -> None:
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self._mark = mark
        self._late = late
        self._times = times
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.Task[None]] = set()
        self.arrived = asyncio.Event()
        self.answer = b""
        self.endpoint = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.endpoint = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for line in list(self._lines):
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)
        await asyncio.sleep(0.01)  # an aborted transport closes its socket at the loop's next turn

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = asyncio.current_task()
        assert line is not None
        self._lines.add(line)
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
            writer.transport.abort()
            there_writer.transport.abort()
            self._lines.discard(line)


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
