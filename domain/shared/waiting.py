"""Waiting and working until an event cuts it short."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def pause(event: asyncio.Event, seconds: float) -> None:
    """Until ``event`` is set or ``seconds`` have passed.

    Not by ``asyncio.wait_for``: Python 3.11's loses a cancellation that comes in the moment in which the event is set.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def unless_stopped(stopping: asyncio.Event, work: Awaitable[T]) -> T | None:
    """What ``work`` gives or raises; None once ``stopping`` is set: ``work`` is then cancelled, and has ended when this returns."""
    working = asyncio.ensure_future(work)
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        working.cancel()
        await asyncio.wait({working, stopped})
    return None if working.cancelled() else working.result()


async def until_stopped(stopping: asyncio.Event, turn: Callable[[], Awaitable[float]]) -> None:
    """Call ``turn`` again and again until ``stopping`` is set. It gives the seconds to pause before the next; what it raises ends
    this."""
    while not stopping.is_set():
        await pause(stopping, await turn())
