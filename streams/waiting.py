"""Work that a stop cuts short."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def unless_stopped(stopping: asyncio.Event, work: Awaitable[T]) -> T | None:
    """What ``work`` gives or raises; None, and ``work`` is cancelled, once ``stopping`` is set."""
    working = asyncio.ensure_future(work)
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        stopped.cancel()
        working.cancel()
