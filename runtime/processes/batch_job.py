"""Carrying out operators' batches as a job of one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from domain.shared.waiting import unless_stopped
from runtime.processes.lifetime import repeat
from runtime.wiring.operators import batch_runner
from runtime.wiring.site import Site

#: Between two looks for items to do; each does up to ``CHUNK`` of them, so that is the rate, too.
BATCH_SECONDS: Final = 1.0


async def run_batches(site: Site, stopping: asyncio.Event, is_chosen: Callable[[], bool]) -> None:
    """Wherever ``is_chosen`` says so. A stop cuts a batch off where it is: each item is done or not."""
    runner = batch_runner(site)

    async def once() -> None:
        if is_chosen() and await runner.is_needed():
            await site.codec.check()
            await runner.run_once()

    await unless_stopped(stopping, repeat(stopping, "batches", BATCH_SECONDS, once))
