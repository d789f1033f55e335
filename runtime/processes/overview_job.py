"""The watchdog's look at the whole pipeline once a minute: it becomes metrics, and its figures are kept for trends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from domain.shared.waiting import unless_stopped
from operations.overview.look import samples_of
from runtime.observability.overview_metrics import OverviewMetrics
from runtime.processes.lifetime import repeat
from runtime.processes.process_answers import process_answers
from runtime.wiring.site import Site

#: Between two looks; also what the history has a row for.
LOOK_SECONDS: Final = 60.0
#: A look that found a store away is repeated sooner, so that its return shows.
AGAIN_SECONDS: Final = 15.0


async def watch_overview(site: Site, stopping: asyncio.Event, looked_at_offsets: Callable[[], float | None]) -> None:
    """Look until told to stop. What is away is unknown in the look; without the database nothing is kept of it.

    ``looked_at_offsets``: when the stall watchdog last saw the offsets, in Unix seconds.
    """
    overview, history = site.overview(process_answers(site.settings)), site.overview_rows()
    metrics = OverviewMetrics(site.metrics, looked_at_offsets)
    due = 0.0

    async def once() -> None:
        nonlocal due
        if time.monotonic() < due:
            return
        found = await overview.look()
        metrics.looked(found)
        if found.outbox is not None and all(one.partitions is not None for one in found.consumers):
            due = time.monotonic() + LOOK_SECONDS - AGAIN_SECONDS / 2
        await history.record(found.at, samples_of(found))

    await unless_stopped(stopping, repeat(stopping, "overview", AGAIN_SECONDS, once))
