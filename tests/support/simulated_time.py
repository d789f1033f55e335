"""An event loop on which waiting takes no time: when all tasks wait, its clock moves to the next timer at once.

A sleep, a timeout, a lease or a pause comes due in its order and after exactly its seconds, however busy the machine is.
While a thread of the loop is at work, time is real: nobody can know how long it will take.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any


class _SkippingSelector(selectors.DefaultSelector):
    """Sees what is ready now; where nothing is, the time that it was to wait for counts as waited."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0.0
        self.threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is not None and not self.threads:
            self.waited += timeout
            return []
        # A thread, or without a timer something outside: it wakes the loop when it is done.
        began = time.monotonic()
        ready = super().select(timeout)
        self.waited += time.monotonic() - began if ready or timeout is None else timeout
        return ready


class SimulatedTimeLoop(asyncio.SelectorEventLoop):
    """``time`` gives the simulated seconds since the loop was made."""

    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.waited

    def suspend(self, seconds: float) -> None:
        """As when the machine stops the process for so long: nothing runs meanwhile, timers neither."""
        self._skipping.waited += seconds

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        running = super().run_in_executor(executor, func, *args)
        self._skipping.threads += 1
        running.add_done_callback(self._thread_done)
        return running

    def _thread_done(self, _: asyncio.Future[Any]) -> None:
        self._skipping.threads -= 1
