"""The end of a consumer's work: what is at work gets to its end, nothing more begins, what is held stays as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from domain.shared.waiting import pause
from streams.lanes import Record


class Drain:
    """Counts what is at work. After ``close`` whatever would begin, or go on after a pause, waits for its cancellation."""

    def __init__(self) -> None:
        self._at_work = 0
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def work(self, body: Callable[[Record], Awaitable[None]], record: Record) -> None:
        """Run ``body`` as work that the end waits for."""
        await self._go_on()
        self._enter()
        try:
            await body(record)
        finally:
            self._leave()

    async def pause(self, pausing: Awaitable[None]) -> None:
        """Within ``work``: a pause that the end does not wait for."""
        self._leave()
        try:
            await pausing
            await self._go_on()
        finally:
            self._enter()

    async def close(self, seconds: float) -> None:
        """Let nothing begin any more; returns once nothing is at work, or after ``seconds``."""
        self._closed = True
        await pause(self._idle, seconds)

    async def _go_on(self) -> None:
        if self._closed:
            await asyncio.Event().wait()

    def _enter(self) -> None:
        self._at_work += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._at_work -= 1
        if self._at_work == 0:
            self._idle.set()
