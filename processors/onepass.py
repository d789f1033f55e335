"""The one pass over an upload's clear bytes: counted, hashed, and never held whole."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator

from domain.errors import FileEmpty, FileTooLarge
from processors.attempts import Lease


class OnePass:
    """The one pass over a stream: counts, hashes, and stops where the limit or the lease ends."""

    def __init__(self, content: AsyncIterable[bytes], limit: int, lease: Lease) -> None:
        self._source = aiter(content)
        self._limit = limit
        self._lease = lease
        self._digest = hashlib.sha256()
        self._head = bytearray()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    async def head(self, wanted: int) -> bytes:
        """The first ``wanted`` bytes, fewer if there are no more. Raises FileEmpty or FileTooLarge."""
        while len(self._head) < wanted and (piece := await self._next()):
            self._head += piece
        if not self._head:
            raise FileEmpty("The file has no content.")
        return bytes(self._head[:wanted])

    async def all(self) -> AsyncIterator[bytes]:
        """Everything, the head included. Raises FileTooLarge, UploadSuperseded, and what the source raises."""
        yield bytes(self._head)
        self._head.clear()
        while piece := await self._next():
            yield piece

    async def _next(self) -> bytes:
        """The next piece that is not empty; empty at the end."""
        async for piece in self._source:
            self._lease.check()
            self.size += len(piece)
            if self.size > self._limit:
                raise FileTooLarge(f"The document type takes at most {self._limit} bytes.")
            self._digest.update(piece)
            if piece:
                return piece
        return b""
