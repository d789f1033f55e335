"""Blocking object-store calls in a bounded pool of threads, each with a deadline; the way of a put and of a reading."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from typing import Any, Protocol, TypeVar

import structlog

from domain.errors import ObjectStoreUnavailable
from domain.objects import StoredObject

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: How long a failed put waits for its remains to be removed before it tells its caller; the removal goes on behind it.
UNDO_TIMEOUT = 5.0
#: Parts under way beyond the first of each put, in all puts together: what their speed may cost in memory.
EXTRA_PARTS = 8

log = structlog.get_logger()


class BlockingRead(Protocol[T_co]):
    """An open object or listing being read in threads. Its methods are called one at a time, never at once."""

    def next(self) -> tuple[T_co, bool]:
        """The next piece, and whether it was the last; after the last one the reading has closed itself."""
        ...

    def close(self) -> None:
        """Let go of file or connection; waits for a ``next`` that still runs. Closing twice is fine."""
        ...


class BlockingWrite(Protocol):
    """A put in progress. Its methods are called one at a time, but for ``add`` where the put is made ``at_once``."""

    def add(self, part: bytearray, number: int) -> None:
        """Send a part that isn't the last; they are numbered from 1. The buffer is used again after the call."""
        ...

    def finish(self, part: bytearray) -> StoredObject:
        """Send the last part, which may be the only one; then, and not before, the object is visible."""
        ...

    def undo(self) -> None:
        """Remove what was sent, and the object itself if it became visible and is still ours."""
        ...


class ObjectStoreThreads:
    """``workers`` threads; ``deadline`` in seconds for one call, time in the queue included; ``bound`` calls at once."""

    def __init__(self, name: str, workers: int, deadline: float, *, bound: int = 1024) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._deadline = deadline
        self._bound = bound
        self._under_way = 0
        self._extra = 0
        self._undoing: set[asyncio.Task[None]] = set()

    async def run(self, call: Callable[..., T], *args: object) -> T:
        """The call's result. Raises what it raises, or ObjectStoreUnavailable: too many calls, or its deadline passed."""
        return await self._finish(self._start(call, *args))

    async def write(
        self, writing: BlockingWrite, data: AsyncIterable[bytes], part_size: int, at_once: int = 1
    ) -> StoredObject:
        """Put a stream: up to ``at_once`` parts under way while the next one fills. Undone if anything fails.

        So a put holds two parts in memory, and up to ``at_once - 1`` more while all puts together have no more than EXTRA_PARTS of
        those. A stream that comes faster than the store takes it is not read on.
        """
        sending: deque[tuple[asyncio.Future[Any], bytearray]] = deque()
        spare: list[bytearray] = []
        number = 0
        try:
            async with aclosing(parts_of(data, part_size, spare)) as parts:
                async for part, last in parts:
                    while sending and (last or sending[0][0].done() or not self._may_add(len(sending), at_once)):
                        await self._finish(sending[0][0])
                        spare[:] = [sending.popleft()[1]]
                    if last:
                        break
                    number += 1
                    future = self._start(writing.add, part, number)
                    if sending:
                        self._extra += 1
                        future.add_done_callback(self._extra_ended)
                    sending.append((future, part))
            sending.append((self._start(writing.finish, part), part))
            return await self._finish(sending[0][0])
        except (Exception, asyncio.CancelledError) as failure:
            if number or sending:
                ended = asyncio.gather(*(future for future, _ in sending), return_exceptions=True)
                awaited = bool(sending) and not sending[0][0].done()
                stuck = isinstance(failure, ObjectStoreUnavailable) and awaited
                await self.undo(writing, ended, patience=0 if stuck else UNDO_TIMEOUT)
            raise

    def _may_add(self, under_way: int, at_once: int) -> bool:
        return under_way < at_once and self._extra < EXTRA_PARTS

    def _extra_ended(self, _: asyncio.Future[Any]) -> None:
        self._extra -= 1

    async def stream(self, reading: BlockingRead[T]) -> AsyncGenerator[T, None]:
        """The pieces of a reading, which is closed however this ends. One is read ahead while its forerunner is used."""
        done = False
        try:
            ahead = self._start(reading.next)
            while not done:
                piece, done = await self._finish(ahead)
                if not done:
                    ahead = self._start(reading.next)
                if piece:
                    yield piece
        finally:
            if not done:
                with suppress(RuntimeError):  # the pool is closed: so is the process, nearly
                    self._executor.submit(reading.close)  # not awaited: we may be in a generator being closed

    async def aclose(self) -> None:
        """Take no more calls; those that run end by their own timeouts. Waits a little for what is being undone."""
        if self._undoing:
            await asyncio.wait(self._undoing, timeout=UNDO_TIMEOUT)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _start(self, call: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """Begin a call; ``_finish`` waits for it. Left alone, it runs to its end and its error goes unseen."""
        if self._under_way >= self._bound:
            raise ObjectStoreUnavailable("Too many calls wait for the object store.", outage=False)
        future = asyncio.get_running_loop().run_in_executor(self._executor, call, *args)
        self._under_way += 1
        future.add_done_callback(self._ended)
        return future

    async def _finish(self, future: asyncio.Future[T]) -> T:
        """Raises ObjectStoreUnavailable when the deadline passes; the thread itself can't be stopped."""
        try:
            async with asyncio.timeout(self._deadline):
                return await asyncio.shield(future)
        except TimeoutError:
            raise ObjectStoreUnavailable("The object store did not answer in time.") from None

    def _ended(self, future: asyncio.Future[T]) -> None:
        self._under_way -= 1
        if not future.cancelled():
            future.exception()  # seen, or asyncio complains of an error nobody looked at

    async def undo(self, writing: BlockingWrite, sending: asyncio.Future[Any], patience: float = UNDO_TIMEOUT) -> None:
        """Undo what was written once ``sending`` has ended; after ``patience`` seconds that goes on behind us."""

        async def undone() -> None:
            await asyncio.wait({sending})
            try:
                await self._finish(asyncio.get_running_loop().run_in_executor(self._executor, writing.undo))
            except Exception as failure:  # noqa: BLE001 - the put's own error is the one its caller must see
                log.warning("object_put_not_undone", error=type(failure).__name__)

        task = asyncio.create_task(undone())
        self._undoing.add(task)
        task.add_done_callback(self._undoing.discard)
        await asyncio.wait({task}, timeout=patience)


async def parts_of(
    data: AsyncIterable[bytes], size: int, spare: list[bytearray] | None = None
) -> AsyncGenerator[tuple[bytearray, bool], None]:
    """``data`` cut anew into buffers of exactly ``size`` bytes, the last one 0 to ``size`` and flagged as such.

    Buffers in ``spare`` must be full ones and are filled again: new memory costs more than the copying into it.
    """
    part = bytearray()
    filled = 0
    async for piece in data:
        view = memoryview(piece)
        while view:
            if filled == size:
                yield part, False
                part, filled = spare.pop() if spare else bytearray(size), 0
            taken = min(size - filled, len(view))
            # Beyond the first buffer's end this assignment lets it grow: a short object never allocates a whole part.
            part[filled : filled + taken] = view[:taken]
            filled += taken
            view = view[taken:]
    yield part if filled == len(part) else part[:filled], True
