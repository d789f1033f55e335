"""A clamd that misbehaves on purpose, on a Unix socket."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

Talk = Callable[["Session"], Awaitable[None]]


class Session:
    """One connection; ``received`` are the clear bytes of the stream so far, ``pieces`` their lengths."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.received = bytearray()
        self.pieces: list[int] = []

    async def command(self) -> bytes:
        return await self.reader.readuntil(b"\0")

    async def stream(self, at_most: int | None = None) -> None:
        """Read the stream to its end, or until there is more of it than ``at_most``."""
        while True:
            (length,) = struct.unpack(">I", await self.reader.readexactly(4))
            if length == 0:
                return
            self.pieces.append(length)
            self.received += await self.reader.readexactly(length)
            if at_most is not None and len(self.received) > at_most:
                return

    async def say(self, text: bytes) -> None:
        self.writer.write(text + b"\0")
        await self.writer.drain()


def answering(reply: bytes) -> Talk:
    async def talk(session: Session) -> None:
        assert await session.command() == b"zINSTREAM\0"
        await session.stream()
        await session.say(reply)

    return talk


@asynccontextmanager
async def a_clamd(folder: Path, talk: Talk) -> AsyncIterator[tuple[str, list[Session]]]:
    """Its address, and the sessions so far."""
    sessions: list[Session] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(reader, writer)
        sessions.append(session)
        try:
            await talk(session)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    path = folder / "clamd.sock"
    server = await asyncio.start_unix_server(serve, path)
    try:
        yield f"unix:{path}", sessions
    finally:
        server.close()
        await server.wait_closed()
