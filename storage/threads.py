"""Blocking object-store calls in a bounded pool of threads, each with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from domain.errors import ObjectStoreUnavailable

T = TypeVar("T")


class Reading(Protocol):
    """An open object being read in threads. Its methods are called one at a time, never at once."""

    def next(self) -> tuple[bytes, bool]:
        """The next piece, and whether it was the last; after the last one the reading has closed itself."""
        ...

    def close(self) -> None:
        """Let go of file or connection; waits for a ``next`` that still runs. Closing twice is fine."""
        ...


class Threads:
    """``workers`` threads; ``deadline`` in seconds for one call, time in the queue included."""

    def __init__(self, name: str, workers: int, deadline: float) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._deadline = deadline

    def start(self, call: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """Begin a call; ``finish`` waits for it. Left alone, it runs to its end and its error goes unseen."""
        future = asyncio.get_running_loop().run_in_executor(self._executor, call, *args)
        future.add_done_callback(_see)
        return future

    async def finish(self, future: asyncio.Future[T]) -> T:
        """The call's result. Raises ObjectStoreUnavailable when its deadline passes; the thread itself can't be stopped."""
        try:
            async with asyncio.timeout(self._deadline):
                return await asyncio.shield(future)
        except TimeoutError:
            raise ObjectStoreUnavailable("The object store did not answer in time.") from None

    async def run(self, call: Callable[..., T], *args: object) -> T:
        return await self.finish(self.start(call, *args))

    async def stream(self, reading: Reading) -> AsyncIterator[bytes]:
        """The pieces of a reading, which is closed however this ends."""
        done = False
        try:
            while not done:
                piece, done = await self.run(reading.next)
                if piece:
                    yield piece
        finally:
            if not done:
                self.start(reading.close)  # not awaited: we may be in a generator that is being closed

    def close(self) -> None:
        """Take no more calls; those that run end by their own timeouts."""
        self._executor.shutdown(wait=False, cancel_futures=True)


async def parts_of(data: AsyncIterable[bytes], size: int) -> AsyncIterator[tuple[bytearray, bool]]:
    """``data`` cut anew into buffers of exactly ``size`` bytes, the last one 0 to ``size`` and flagged as such."""
    part = bytearray()
    async for piece in data:
        view = memoryview(piece)
        while view:
            if len(part) == size:
                yield part, False
                part = bytearray()
            taken = min(size - len(part), len(view))
            part += view[:taken]
            view = view[taken:]
    yield part, True


def _see(future: asyncio.Future[T]) -> None:
    """Take notice of the error, or asyncio complains of one nobody looked at."""
    if not future.cancelled():
        future.exception()
