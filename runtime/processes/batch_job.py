"""Carrying out operators' batches as a job of one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from domain.shared.waiting import unless_stopped
from runtime.processes.lifetime import repeat
from runtime.wiring.operators import batch_runner
from runtime.wiring.site import Site

if TYPE_CHECKING:
    from operations.restore.repair import DueErasures

#: Between two looks for items to do; each does up to ``CHUNK`` of them, so that is the rate, too.
BATCH_SECONDS: Final = 1.0


async def run_batches(site: Site, eraser: DueErasures, stopping: asyncio.Event, is_chosen: Callable[[], bool]) -> None:
    """Wherever ``is_chosen`` says so. A stop cuts a batch off where it is: each item is done or not. ``eraser``: see ``repair_parts``."""

    async def repair(step: str, actor: str, reason: str) -> tuple[int, int]:
        from runtime.wiring.restore import repaired_step

        return await repaired_step(site, step, actor, reason, eraser)

    runner = batch_runner(site, repair)

    async def once() -> None:
        if is_chosen() and await runner.is_needed():
            await site.codec.check()
            await runner.run_once()

    await unless_stopped(stopping, repeat(stopping, "batches", BATCH_SECONDS, once))
