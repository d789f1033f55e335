"""What is timed of an incident, on a monotonic clock: from the fault to the end of the repair."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

ALARM, SIGN, DIAGNOSIS, REPAIR, REST = "alarm", "sign", "diagnosis", "repair", "rest"


@dataclass
class Stopwatch:
    """Marks in seconds since the fault. What the drill itself does for its pictures is not counted (``aside``)."""

    title: str
    marks: dict[str, float] = field(default_factory=dict)
    #: The alert whose condition held first, and how long its rule waits before it tells somebody.
    alert: str = ""
    alert_waits: str = ""
    clicks: int = 0
    #: What Now said, line by line.
    sentences: list[str] = field(default_factory=list)
    path: list[str] = field(default_factory=list)
    checked: str = ""
    code: str = ""
    load: float = 0.0
    _began: float = field(default_factory=time.monotonic)
    _aside: float = 0.0

    def fault(self) -> None:
        """Now it happens."""
        self._began, self._aside = time.monotonic(), 0.0

    def mark(self, name: str) -> None:
        self.marks.setdefault(name, self.seconds)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began - self._aside

    def since_fault(self, moment: float) -> float:
        """Of a moment of the monotonic clock."""
        return max(0.0, moment - self._began)

    @contextmanager
    def aside(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._aside += time.monotonic() - began

    @property
    def to_diagnosis(self) -> float:
        """Seconds from the first thing that anybody could see, an alert's condition or the console's line, to the diagnosis."""
        first = min(self.marks[name] for name in (ALARM, SIGN) if name in self.marks)
        return self.marks[DIAGNOSIS] - first
