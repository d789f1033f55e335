"""The watchdog's look at the whole pipeline once a minute: its figures are kept for trends."""

from __future__ import annotations

import asyncio
from typing import Final

from domain.shared.waiting import unless_stopped
from operations.overview.look import samples_of
from runtime.processes.lifetime import repeat
from runtime.processes.process_answers import process_answers
from runtime.wiring.site import Site

#: Between two looks; also what the history has a row for.
LOOK_SECONDS: Final = 60.0


async def keep_figures(site: Site, stopping: asyncio.Event) -> None:
    """Look until told to stop. What is away is unknown in the look; without the database nothing is kept of it."""
    overview, history = site.overview(process_answers(site.settings)), site.overview_rows()

    async def once() -> None:
        found = await overview.look()
        await history.record(found.at, samples_of(found))

    await unless_stopped(stopping, repeat(stopping, "overview", LOOK_SECONDS, once))
