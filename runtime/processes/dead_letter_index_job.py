"""The index of dead letters as a job of one process: it learns where letters stand, and takes in what earlier releases wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from domain.shared.waiting import unless_stopped
from runtime.processes.lifetime import repeat
from runtime.wiring.site import Site

log = structlog.get_logger()

#: How often the relay's outbox is asked where letters were put.
PLACE_SECONDS: Final = 5.0


async def index_dead_letters(site: Site, stopping: asyncio.Event, is_chosen: Callable[[], bool]) -> None:
    """Wherever ``is_chosen`` says so: read the topics of letters once, then note places as they become known."""
    index = site.letter_index()
    is_filled = False

    async def once() -> None:
        nonlocal is_filled
        if not is_chosen():
            is_filled = False  # who leads next may have come by another way
            return
        await index.note_places()
        if not is_filled:
            count = await site.fill_letter_index()
            is_filled = True
            if count:
                log.info("dead_letters_indexed", letters=count)

    await unless_stopped(stopping, repeat(stopping, "dead_letter_index", PLACE_SECONDS, once))
