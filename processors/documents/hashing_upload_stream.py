"""An upload's clear bytes as a stream: counted and hashed in one pass, never held whole."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Final

from domain.refusals import FileEmpty, FileTooLarge
from processors.documents.upload_attempts import UploadLease

#: From here on a stream is hashed in a thread, so that receiving, sealing and sending go on meanwhile: so many bytes at a time, and as
#: many more at most wait for it.
THREADED_FROM_BYTES: Final = 4 << 20
HASH_BATCH_BYTES: Final = 1 << 20
#: What files are filled up with behind their end: it is no part of the tail.
_PADDING: Final = b"\0 \t\r\n"


class HashingUploadStream:
    """Counts and hashes a stream in one pass; stops where the limit or the lease ends.

    ``sha256`` and ``tail`` hold once ``chunks`` has ended. Pieces must not change after they were given. ``limit`` and
    ``tail_wanted`` in bytes: no more than twice as many are kept for the tail.
    """

    def __init__(self, content: AsyncIterable[bytes], limit: int, lease: UploadLease, *, tail_wanted: int = 0) -> None:
        self._source = aiter(content)
        self._limit = limit
        self._lease = lease
        self._digest = hashlib.sha256()
        self._head = bytearray()
        self._tail = bytearray()
        self._tail_wanted = tail_wanted
        self._unhashed: list[bytes] = []
        self._unhashed_size = 0
        self._hashing: asyncio.Future[None] | None = None
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    @property
    def tail(self) -> bytes:
        """The last bytes, padding left out."""
        return bytes(self._tail[-self._tail_wanted :]) if self._tail_wanted else b""

    async def head(self, wanted: int) -> bytes:
        """The first ``wanted`` bytes, fewer if there are no more. Raises FileEmpty or FileTooLarge."""
        while len(self._head) < wanted and (piece := await self._next()):
            self._head += piece
        if not self._head:
            raise FileEmpty("The file has no content.")
        return bytes(self._head[:wanted])

    async def chunks(self) -> AsyncIterator[bytes]:
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
            if self.size <= THREADED_FROM_BYTES:
                self._digest.update(piece)
            else:
                await self._hash_in_thread(piece)
            if piece:
                self._keep_tail(piece)
                return piece
        if self._hashing is not None:
            await self._hashing
        self._update(self._unhashed)
        self._unhashed = []
        return b""

    def _keep_tail(self, piece: bytes) -> None:
        if self._tail_wanted:
            self._tail += piece.rstrip(_PADDING)[-self._tail_wanted :]
            if len(self._tail) > 2 * self._tail_wanted:
                del self._tail[: -self._tail_wanted]

    async def _hash_in_thread(self, piece: bytes) -> None:
        self._unhashed.append(piece)
        self._unhashed_size += len(piece)
        if self._unhashed_size >= HASH_BATCH_BYTES:
            if self._hashing is not None:
                await self._hashing
            batch, self._unhashed, self._unhashed_size = self._unhashed, [], 0
            self._hashing = asyncio.get_running_loop().run_in_executor(None, self._update, batch)

    def _update(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            self._digest.update(piece)
