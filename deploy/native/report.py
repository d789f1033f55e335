"""What the user sees while a stack comes up: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table


class Reporter(Protocol):
    """Told of every step. Called from several threads."""

    def step(self, part: str, what: str) -> None:
        """``part`` is now doing ``what`` ("building", "starting", "ready", "failed", ...)."""

    def note(self, text: str) -> None:
        """Something that concerns no single part."""


class Silent:
    """Says nothing: for tests and ``--json``."""

    def step(self, part: str, what: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Plain:
    """One line per step, with the seconds since the start."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def step(self, part: str, what: str) -> None:
        self.note(f"{part:<10} {what}")

    def note(self, text: str) -> None:
        with self._lock:
            self._write(f"{time.monotonic() - self._began:6.1f} s  {text}")


class LiveTable:
    """A table that is redrawn in place. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def step(self, part: str, what: str) -> None:
        with self._lock:
            self._rows[part] = (what, time.monotonic())

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False)

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        now = time.monotonic()
        with self._lock:
            for part, (what, since) in self._rows.items():
                finished = what == "ready"
                elapsed = since - self._began if finished else now - since
                table.add_row(part, f"[green]{what}[/]" if finished else what, f"{elapsed:.0f} s")
        table.add_row("", "", f"[dim]{now - self._began:.0f} s in all[/]")
        return table
