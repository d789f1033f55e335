"""What lines between a client and a server of this machine have in common: they listen, keep their connections, and end."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod


class LineServer(ABC):
    """Connections to ``endpoint`` ("host:port") are passed to ``target`` by ``connect``. ``port`` to listen on; 0 takes a free one.
    ``limit``: bytes of a line or head at most."""

    def __init__(self, target: str, *, port: int = 0, limit: int = 2**16) -> None:
        host, target_port = target.rsplit(":", 1)
        self._target = (host, int(target_port))
        self._port = port
        self._limit = limit
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.Task[None]] = set()
        self.endpoint = ""

    @abstractmethod
    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection, until it ends; the client's end is closed afterwards."""

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, limit=self._limit)
        self.endpoint = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

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
        try:
            await self.connect(reader, writer)
        finally:
            writer.transport.abort()
            self._lines.discard(line)
