"""Waiting that an event cuts short."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def pause(event: asyncio.Event, seconds: float) -> None:
    """Until ``event`` is set or ``seconds`` have passed.

    Not by ``asyncio.wait_for``: Python 3.11's loses a cancellation that comes in the moment in which the event is set.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
