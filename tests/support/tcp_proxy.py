"""A line between a client and a server of this machine that damages, cuts or stalls what passes, as told."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self


class Proxy:
    """``replace`` swaps bytes (of equal length) on their way to the server; ``cut_answers_after`` closes a connection once
    that many bytes came back; ``silent`` lets nothing pass any more. ``port`` to listen on; 0 takes a free one."""

    def __init__(self, target: str, *, port: int = 0) -> None:
        host, target_port = target.rsplit(":", 1)
        self._target = (host, int(target_port))
        self._port = port
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.Task[None]] = set()
        self.replace: tuple[bytes, bytes] | None = None
        self.replaced = False
        self.cut_answers_after: int | None = None
        self.silent = False
        self.endpoint = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self.endpoint = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Refuse further connections and end those there are."""
        if self._server is not None:
            self._server.close()
        for line in list(self._lines):
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)
        await asyncio.sleep(0.01)  # an aborted transport closes its socket at the loop's next turn

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = asyncio.current_task()
        assert line is not None
        self._lines.add(line)
        ends, ways = [writer], list[asyncio.Task[None]]()
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
            ends.append(there_writer)
            ways.append(asyncio.create_task(self._pass(reader, there_writer, back=False)))
            ways.append(asyncio.create_task(self._pass(there_reader, writer, back=True)))
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in ends:
                end.transport.abort()
            self._lines.discard(line)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool) -> None:
        passed, held = 0, b""
        with suppress(ConnectionError):
            while piece := await reader.read(65536):
                while self.silent:
                    await asyncio.sleep(0.05)
                if not back and self.replace is not None:
                    piece, held = self._damage(held + piece)
                writer.write(piece)
                await writer.drain()
                passed += len(piece)
                if back and self.cut_answers_after is not None and passed > self.cut_answers_after:
                    return

    def _damage(self, data: bytes) -> tuple[bytes, bytes]:
        """What passes now, and what is held back because the mark may go on in the next piece."""
        assert self.replace is not None
        old, new = self.replace
        if old in data:
            self.replaced = True
            data = data.replace(old, new)
        for length in range(len(old) - 1, 0, -1):
            if data.endswith(old[:length]):
                return data[:-length], data[-length:]
        return data, b""
