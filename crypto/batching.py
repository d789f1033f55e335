"""Many small calls of a moment in one: what makes a wrap per upload cheap."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from domain.errors import DPJError, KeyringUnavailable

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """``window``: seconds that a first item waits for company; ``size``: items in one call; ``waiting``: items in the queue;
    ``calls``: calls at once; ``pace``: seconds from one call's start to the next one's, where at least ``company`` items come in
    that time; ``deadline``: seconds for one item, from the queue to its answer."""

    window: float = 0.002
    size: int = 256
    waiting: int = 4096
    calls: int = 2
    pace: float = 0.0
    company: int = 4
    deadline: float = 10.0


class Batcher(Generic[Item, Result]):
    """Gathers items and sends them together. ``send`` answers in the order of its items, an error where one failed.

    While all calls are under way, items pile up into the next batch by themselves; the window matters to the first ones only.
    """

    def __init__(
        self, send: Callable[[list[Item]], Awaitable[Sequence[Result | DPJError]]], limits: BatchLimits
    ) -> None:
        self._send = send
        self._limits = limits
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._free = asyncio.Semaphore(limits.calls)
        self._gathering: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._closed = False
        self._next_at = 0.0
        self._called_at = 0.0

    async def submit(self, item: Item) -> Result:
        """The item's own result. Raises its own error, that of its whole call, or KeyringUnavailable (queue full, too late)."""
        if self._closed or len(self._waiting) >= self._limits.waiting:
            raise KeyringUnavailable("Too many calls wait for the keyring.", outage=False)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._gathering is None or self._gathering.done():
            self._gathering = asyncio.create_task(self._gather())
        try:
            async with asyncio.timeout(self._limits.deadline):
                return await future
        except TimeoutError:
            raise KeyringUnavailable("The keyring did not answer in time.") from None

    async def aclose(self) -> None:
        """Take no more items; those that wait fail with KeyringUnavailable."""
        self._closed = True
        tasks = [task for task in (self._gathering, *self._calls) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        _fail([future for _, future in self._waiting], KeyringUnavailable("The keyring is closed."))
        self._waiting.clear()

    async def _gather(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(self._limits.window, self._next_at - loop.time()))
        while self._waiting:
            await self._free.acquire()
            if (early := self._next_at - loop.time()) > 0:
                await asyncio.sleep(early)
            self._next_at = self._next_call(loop.time())
            # An item whose caller gave up is dropped here: nobody waits for its key.
            wanted = ((item, future) for item, future in self._drain() if not future.done())
            batch = list(islice(wanted, self._limits.size))
            call = asyncio.create_task(self._call(batch))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    def _next_call(self, now: float) -> float:
        """When the call after this one may start: at once, unless items come so fast that waiting gathers several."""
        limits = self._limits
        elapsed, self._called_at = now - self._called_at, now
        in_company = len(self._waiting) * limits.pace >= limits.company * elapsed
        return now + limits.pace if in_company else now

    def _drain(self) -> Iterator[tuple[Item, asyncio.Future[Result]]]:
        while self._waiting:
            yield self._waiting.popleft()

    async def _call(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        futures = [future for _, future in batch]
        try:
            results = await self._send([item for item, _ in batch]) if batch else []
            for future, result in zip(futures, results, strict=True):
                if isinstance(result, DPJError):
                    _fail([future], result)
                elif not future.done():
                    future.set_result(result)
        except asyncio.CancelledError:
            _fail(futures, KeyringUnavailable("The keyring is closed."))
            raise
        except Exception as failure:  # noqa: BLE001 - whatever it is, each of the batch's callers must hear of it
            _fail(futures, failure)
        finally:
            self._free.release()


def _fail(futures: list[asyncio.Future[Result]], failure: Exception) -> None:
    for future in futures:
        if not future.done():
            # One error each: several tasks raising the same object would write into each other's traceback.
            future.set_exception(copy(failure) if isinstance(failure, DPJError) else failure)
