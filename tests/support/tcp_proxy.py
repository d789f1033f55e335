"""A line between a client and a server of this machine that damages, cuts or stalls what passes, as told."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.support.line_server import LineServer


class Proxy(LineServer):
    """``replace`` swaps bytes (of equal length) on their way to the server; ``cut_answers_after`` closes a connection once
    that many bytes came back; ``silent`` lets nothing pass any more. ``port`` to listen on; 0 takes a free one."""

    def __init__(self, target: str, *, port: int = 0) -> None:
        super().__init__(target, port=port)
        self.replace: tuple[bytes, bytes] | None = None
        self.replaced = False
        self.cut_answers_after: int | None = None
        self.silent = False

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        ways = [
            asyncio.create_task(self._pass(reader, there_writer, back=False)),
            asyncio.create_task(self._pass(there_reader, writer, back=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            there_writer.transport.abort()

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
