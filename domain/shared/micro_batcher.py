"""Many small calls of a moment in one: what makes a key, a claim or a commit per event cheap.

While all calls that may run at once are under way, items pile up into the next batch by themselves. No item waits for others
unless its policy says so. For one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Generic, TypeVar

from domain.shared.tracing import detached

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPolicy:
    """When a call starts and how much goes into it. Times in seconds.

    ``size``: items in one call, at most. ``calls``: calls at once, at most. ``enough``: items that must wait before another call
    starts beside one that is under way. ``waiting``: items in the queue, at most; None for any number, where callers bound it.
    ``window``: how long a first item waits for others. ``pace``: from one call's start to the next one's, where at least
    ``min_arrivals`` items come in that time. ``deadline``: for one item, from the queue to its answer; None for as long as it takes.
    """

    size: int
    calls: int = 1
    enough: int = 1
    waiting: int | None = None
    window: float = 0.0
    pace: float = 0.0
    min_arrivals: int = 4
    deadline: float | None = None


class QueueFull(Exception):
    """As many items wait as the policy allows."""


class DeadlineExceeded(Exception):
    """The item had no answer within the policy's deadline."""


class BatcherClosed(Exception):
    """The batcher was closed, or its event loop ends, before the item had its answer."""


class BatchItem(Generic[Item, Result]):
    """An item, and who waits for its answer. The first answer counts."""

    __slots__ = ("_future", "item")

    def __init__(self, item: Item, future: asyncio.Future[Result]) -> None:
        self.item = item
        self._future = future

    @property
    def is_over(self) -> bool:
        """It has its answer, or whoever waited gave up."""
        return self._future.done()

    def answer(self, result: Result) -> None:
        if not self._future.done():
            self._future.set_result(result)

    def fail(self, error: Exception) -> None:
        if not self._future.done():
            self._future.set_exception(error)


#: Answers each of a batch. What it leaves unanswered fails with what it raised.
Send = Callable[[Sequence[BatchItem[Item, Result]]], Awaitable[None]]


def _loop_time() -> float:
    """The clock that a loop's own sleeps go by."""
    return asyncio.get_running_loop().time()


class MicroBatcher(Generic[Item, Result]):
    """Collects items and sends them as a batch. ``error_of`` makes the caller's own error of a QueueFull,
    DeadlineExceeded or BatcherClosed."""

    def __init__(
        self,
        send: Send[Item, Result],
        policy: BatchPolicy,
        error_of: Callable[[QueueFull | DeadlineExceeded | BatcherClosed], Exception] = lambda ended: ended,
        *,
        now: Callable[[], float] = _loop_time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._send = send
        self._policy = policy
        self._error_of = error_of
        self._now = now
        self._sleep = sleep
        self._waiting: deque[BatchItem[Item, Result]] = deque()
        self._senders: set[asyncio.Task[None]] = set()
        self._running = 0
        self._closed = False
        self._next_at = 0.0
        self._called_at = float("-inf")

    async def submit(self, item: Item) -> Result:
        """The item's own answer. Raises its own error, that of its whole call, or what ``error_of`` makes.

        A caller that is cancelled may find its item sent all the same.
        """
        policy = self._policy
        if self._closed:
            raise self._error_of(BatcherClosed())
        if policy.waiting is not None and len(self._waiting) >= policy.waiting:
            raise self._error_of(QueueFull())
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(BatchItem(item, future))
        if self._running == 0 or (self._running < policy.calls and len(self._waiting) >= policy.enough):
            self._running += 1
            task = asyncio.create_task(self._send_waiting(), context=detached())
            self._senders.add(task)
            task.add_done_callback(self._senders.discard)
        if policy.deadline is None:
            return await future
        try:
            async with asyncio.timeout(policy.deadline):
                return await future
        except TimeoutError:
            raise self._error_of(DeadlineExceeded()) from None

    async def aclose(self) -> None:
        """Take no more items; those that wait fail."""
        self._closed = True
        senders = list(self._senders)
        for task in senders:
            task.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        self._fail_waiting()

    async def _send_waiting(self) -> None:
        """One call after the other until nothing waits."""
        try:
            if self._policy.window:
                await self._sleep(self._policy.window)
            while self._waiting:
                if (early := self._next_at - self._now()) > 0:
                    await self._sleep(early)
                    continue  # another sender may have been first
                self._pace_next_call()
                if batch := self._take():
                    await self._call(batch)
        except asyncio.CancelledError:
            if self._running == 1:  # nobody else will send them
                self._fail_waiting()
            raise
        finally:
            self._running -= 1

    def _pace_next_call(self) -> None:
        """When the call after this one may start: at once, unless items come so fast that waiting collects several."""
        policy, now = self._policy, self._now()
        if not (policy.pace and self._waiting):
            return
        elapsed, self._called_at = now - self._called_at, now
        arrives_fast = len(self._waiting) * policy.pace >= policy.min_arrivals * elapsed
        self._next_at = now + policy.pace if arrives_fast else now

    def _take(self) -> list[BatchItem[Item, Result]]:
        """The next batch. What nobody waits for any more is dropped."""
        batch: list[BatchItem[Item, Result]] = []
        while self._waiting and len(batch) < self._policy.size:
            waiting = self._waiting.popleft()
            if not waiting.is_over:
                batch.append(waiting)
        return batch

    async def _call(self, batch: Sequence[BatchItem[Item, Result]]) -> None:
        try:
            await self._send(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, each of the batch's callers must hear of it
            fail_all(batch, error)
        except BaseException:
            fail_all(batch, self._error_of(BatcherClosed()))
            raise
        else:
            fail_all(batch, RuntimeError("a call left items without an answer"))

    def _fail_waiting(self) -> None:
        if self._waiting:
            fail_all(self._waiting, self._error_of(BatcherClosed()))
            self._waiting.clear()


def fail_all(batch: Sequence[BatchItem[Item, Result]] | deque[BatchItem[Item, Result]], error: Exception) -> None:
    """Fail what has no answer yet, each with an error of its own: several tasks that raise the same object would write into each
    other's traceback."""
    for waiting in batch:
        if not waiting.is_over:
            waiting.fail(_copy_of(error))


def _copy_of(error: Exception) -> Exception:
    try:
        copied = copy(error)
    except Exception:  # noqa: BLE001 - one whose making needs more than its arguments
        return error
    if type(copied) is not type(error):
        return error
    copied.__cause__ = error.__cause__
    copied.__traceback__ = error.__traceback__
    return copied
