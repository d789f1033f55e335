"""Waiting in tests for what other tasks and threads bring about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(holds: Callable[[], object], seconds: float = 10.0) -> None:
    """Return once ``holds()`` is true. Raises TimeoutError after ``seconds`` of the loop's time."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.001)
