"""Waiting that a stop cuts short."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def pause(stopping: asyncio.Event, seconds: float) -> None:
    """Until ``stopping`` is set or ``seconds`` have passed."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
