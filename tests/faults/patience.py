"""How long a test waits: as long as something moves. A busy machine takes its time; what stands still is broken."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

LONGEST_SECONDS = 600.0
INSIST = 3


class Patience:
    """``seconds`` without any change, or ten minutes in all, and it is over. ``now`` gives monotonic seconds."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._now = now
        self._began = self._moved = now()
        self._seen: object = None

    def is_over(self, seen: object) -> bool:
        """``seen`` is what there is to see of the progress; any other than the last time is a move."""
        at = self._now()
        if seen != self._seen:
            self._seen, self._moved = seen, at
        return at - self._moved > self._seconds or self.waited > LONGEST_SECONDS

    @property
    def waited(self) -> float:
        """Seconds since the beginning."""
        return self._now() - self._began

    @property
    def told(self) -> str:
        return f"nothing moved for {self._now() - self._moved:.0f} s, {self.waited:.0f} s after the beginning"


def insist(start: Callable[[], None]) -> None:
    """Start a server; one that takes longer than it should (the machine may be busy) is waited for again. Raises AssertionError."""
    for _ in range(INSIST - 1):
        with suppress(AssertionError):
            return start()
    return start()
