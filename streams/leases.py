"""What bounds one try of an event: its claim's lease, renewed while its owner works, and a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from traceback import walk_tb
from types import TracebackType
from typing import Final, cast

import structlog

from domain.errors import ClaimLost, WorkStuck

#: Frames that are logged of work that is stuck, the innermost last.
FRAMES: Final = 6

log = structlog.get_logger()


class RenewedLease:
    """``async with RenewedLease(renew, every=seconds): ...`` calls ``renew`` as long as the block runs.

    Once that says False, the block is cancelled where it waits, and ClaimLost raised; so it is when the block cancels itself.
    """

    def __init__(self, renew: Callable[[], Awaitable[bool]], *, every: float) -> None:
        self._renew = renew
        self._every: Final = every
        self._lost = False
        self._renewing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._task = cast("asyncio.Task[object]", asyncio.current_task())
        self._cancellations = self._task.cancelling()
        # Most blocks end long before their lease must be renewed: a timer costs less than a task.
        self._timer = asyncio.get_running_loop().call_later(self._every, self._begin)

    def _begin(self) -> None:
        self._renewing = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            if not await self._renew():
                self._lost = True
                self._task.cancel()
                return
            await asyncio.sleep(self._every)

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._renewing is not None:
            self._renewing.cancel()
        cancellations = self._task.uncancel() if self._lost else self._task.cancelling()
        if isinstance(error, asyncio.CancelledError) and cancellations <= self._cancellations:
            raise ClaimLost from error


@asynccontextmanager
async def deadline(seconds: float, consumer: str) -> AsyncIterator[None]:
    """Cancel the block after ``seconds``, log where it stood, and raise WorkStuck: the event is tried again.

    Whatever the block waits for has a deadline of its own; this one is for what forgot it.
    """
    try:
        async with asyncio.timeout(seconds) as bound:
            yield
    except TimeoutError as error:
        if not bound.expired():
            raise
        # Before Python 3.11.3 it says only in which context it was raised.
        stood = error.__cause__ or error.__context__
        log.error("event_stuck", consumer=consumer, where=error_location(stood))
        raise WorkStuck("Work on this event came to no end in time.") from error


def error_location(error: BaseException | None) -> list[str]:
    """Modules and lines that an error came through; neither its message nor values, which may be a document's."""
    trace = error.__traceback__ if error else None
    return [f"{frame.f_globals.get('__name__', '?')}:{line}" for frame, line in walk_tb(trace)][-FRAMES:]
