"""Measuring: alternating rounds, medians and spreads, processor time of processes."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.report import figure

_TICKS: Final = os.sysconf("SC_CLK_TCK")
#: Places of utime, stime, cutime, cstime in /proc/PID/stat, counted behind the command's closing bracket (proc(5)).
_TIMES: Final = slice(11, 15)
_PARENT: Final = 1


@dataclass(frozen=True, slots=True)
class RoundValues:
    """What repeated rounds gave: their median, lowest and highest."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        return min(self.values), max(self.values)

    def __str__(self) -> str:
        low, high = self.spread
        return f"{figure(low)} - {figure(high)}"


async def alternate(
    contestants: Mapping[str, Callable[[], Awaitable[float]]], rounds: int, *, warm_up: int = 1
) -> dict[str, RoundValues]:
    """Run the contestants in turn, A B A B ..., ``rounds`` times each after ``warm_up`` uncounted ones.

    Each call returns its figure (a rate, a time). In turn, so that what else the machine does falls on all of them alike;
    the order is turned round every second round, so that none always runs behind the same other.
    """
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(warm_up + rounds):
        names = list(contestants) if number % 2 == 0 else list(contestants)[::-1]
        for name in names:
            gc.collect()
            value = await contestants[name]()
            if number >= warm_up:
                found[name].append(value)
    return {name: RoundValues(tuple(values)) for name, values in found.items()}


def ratio_of(ours: RoundValues, theirs: RoundValues) -> RoundValues:
    """The ratio of each round's pair: what disturbs both of a pair cancels out."""
    return RoundValues(tuple(a / b for a, b in zip(ours.values, theirs.values, strict=True)))


def percentile(values: Sequence[float], share: float) -> float:
    """The ``share`` (0 to 1) quantile by the nearest-rank method. Raises ValueError without values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


class CpuMeter:
    """Processor time, user and system, of named processes with all their children, between two readings.

    Children are counted while they live (each by its own line) and after they were waited for (their parent's cutime and
    cstime), so a pool that replaces its children loses nothing.
    """

    def __init__(self, processes: Mapping[str, int]) -> None:
        self._processes = dict(processes)
        self._since = self._read()
        self._began = time.monotonic()

    def seconds(self) -> dict[str, float]:
        """Processor seconds of each process since the meter was made."""
        now = self._read()
        return {name: now[name] - self._since[name] for name in self._processes}

    @property
    def elapsed(self) -> float:
        """Wall-clock seconds since the meter was made."""
        return time.monotonic() - self._began

    def _read(self) -> dict[str, float]:
        children = _children()
        return {name: cpu_seconds(pid, children) for name, pid in self._processes.items()}


def cpu_seconds(pid: int, children: Mapping[int, Sequence[int]] | None = None) -> float:
    """User and system seconds of a process and everything below it; 0 for one that is gone."""
    known = _children() if children is None else children
    fields = _stat(pid)
    if fields is None:
        return 0.0
    own = sum(int(value) for value in fields[_TIMES]) / _TICKS
    return own + sum(cpu_seconds(child, known) for child in known.get(pid, ()))


class MemoryMeter:
    """Growth of one process's resident memory from here on, its peaks included.

    The kernel keeps the highest resident size (VmHWM) since a process began; it is set back first, or a peak while starting would
    hide what comes later (proc(5): clear_refs, 5). Raises OSError for a process that is gone or another user's.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._before = resident_bytes(pid, "VmRSS")

    def growth(self) -> int:
        """Bytes between the resident size at the start and the highest one since."""
        return resident_bytes(self._pid) - self._before


def resident_bytes(pid: int, field: str = "VmHWM") -> int:
    """Resident memory of one process, its highest so far (VmHWM) or what it is now (VmRSS). Raises OSError if it is gone."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{field}:"))


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))) is not None:
            found.setdefault(int(fields[_PARENT]), []).append(int(folder.name))
    return found


def _stat(pid: int) -> list[str] | None:
    """The fields behind the command name, which may itself hold blanks and brackets."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return line[line.rindex(")") + 2 :].split()
