"""Sending content as it is decrypted. A failure midway cuts the connection short of Content-Length: never a false whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from domain.errors import DPJError

_log = structlog.get_logger()


class ContentResponse(Response):
    """Made by ``begin``, which has the first piece in hand, so that what fails early is answered as a problem."""

    def __init__(self, status: int, headers: Mapping[str, str], first: bytes, rest: AsyncIterator[bytes]) -> None:
        super().__init__(None, status, headers=dict(headers))
        self._first = first
        self._rest = rest

    @classmethod
    async def begin(
        cls, stream: AsyncIterator[bytes], length: int, headers: Mapping[str, str], status: int = 200
    ) -> ContentResponse:
        """``length`` in bytes. Raises what the stream raises before its first piece."""
        first = await anext(stream, b"")
        return cls(status, {**headers, "Content-Length": str(length)}, first, stream)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        # The server drops what is sent to a client that left, or that it cut: without this we would decrypt on for nobody.
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await self._send(self._first, send)
            async for piece in self._rest:
                if gone.done():
                    return
                await self._send(piece, send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except DPJError as error:
            # Leaving without the last message makes the server close the connection.
            _log.error("content_cut_short", code=error.code)
        finally:
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone
            if isinstance(self._rest, AsyncGenerator):
                await self._rest.aclose()

    @staticmethod
    async def _send(piece: bytes, send: Send) -> None:
        await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
