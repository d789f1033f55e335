"""How long somebody waits for a process to be ready: as long as it lives and something moves, up to a bound.

A fixed minute fails on a busy machine, where everything comes up, only later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: The bound, in seconds.
LONGEST_SECONDS: Final = 600.0
#: A process whose log, processor time and answer stay as they are for so long hangs.
STILL_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Sign:
    """What is seen of a process from outside. ``log_bytes``: its log's size; ``ticks``: the processor time of it and its children,
    in clock ticks; ``answer``: what it says when it is asked, None if it does not answer."""

    log_bytes: int
    ticks: int
    answer: str | None = None


class Patience:
    """Waiting for one process, from now on. ``still`` and ``longest`` in seconds; ``clock`` is monotonic."""

    def __init__(
        self,
        *,
        still: float = STILL_SECONDS,
        longest: float = LONGEST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._still: Final = still
        self._longest: Final = longest
        self._clock = clock
        self._began: Final = clock()
        self._moved = self._began
        self._last: Sign | None = None

    def over(self, sign: Sign) -> str | None:
        """Why there is no more waiting, by this sign and the earlier ones; None as long as there is."""
        now = self._clock()
        # One that says what it waits for lives, if that is all it does.
        if sign != self._last or sign.answer is not None:
            self._last, self._moved = sign, now
        if now - self._began >= self._longest:
            return f"is not ready after {self._longest / 60:.0f} min"
        if now - self._moved >= self._still:
            return f"is not ready, and nothing of it has moved for {self._still:.0f} s"
        return None


def sign_of(pid: int, log: Path, answer: str | None = None) -> Sign:
    """The sign of the process ``pid`` that writes ``log``; zeros for what is not there (any more)."""
    size = 0
    with suppress(OSError):
        size = log.stat().st_size
    return Sign(size, processor_ticks(pid), answer)


def family_of(pid: int) -> Iterator[int]:
    """A process and its descendants, as far as they live; proc(5), /proc/pid/task/tid/children."""
    yield pid
    with suppress(OSError, ValueError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text("ascii").split():
                yield from family_of(int(child))


def processor_ticks(pid: int) -> int:
    """Clock ticks (``os.sysconf("SC_CLK_TCK")`` per second) that a process and its descendants have had; proc(5), fields 14 to 17."""
    ticks = 0
    for one in family_of(pid):
        with suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{one}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks
