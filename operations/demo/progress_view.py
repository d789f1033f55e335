"""What the person at the terminal sees while documents are on their way: a live table, or one line per change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.table import Table

from operations.demo.run import Journey, View

_NAME: Final = 32
_COLOURS: Final = {"ARCHIVED": "green", "REJECTED": "yellow", "QUARANTINED": "red", "refused": "yellow"}


class PlainView:
    """One line per change, with the seconds since the command began."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def changed(self, journey: Journey) -> None:
        state = f"refused: {journey.refusal}" if journey.refusal else journey.state
        self._write(f"{journey.since:6.1f} s  {journey.sample.name[:_NAME]:<{_NAME}}  {state}")


class LiveView:
    """Redrawn by ``live``; the changes themselves need no word."""

    def changed(self, journey: Journey) -> None:
        pass


@contextmanager
def live(console: Console, journeys: Sequence[Journey], clock: Callable[[], float]) -> Iterator[None]:
    """The table of ``journeys`` while the block runs, if there is a terminal."""
    if not console.is_terminal:
        yield
        return
    with Live(get_renderable=lambda: _table(journeys, clock()), console=console, refresh_per_second=4, transient=True):
        yield


def view_for(console: Console) -> View:
    """The view that suits where ``console`` writes to."""
    if console.is_terminal:
        return LiveView()
    return PlainView(lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True))


def _table(journeys: Sequence[Journey], now: float) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for journey in journeys:
        colour = _COLOURS.get(journey.state, "white")
        table.add_row(journey.sample.name[:_NAME], f"[{colour}]{_progress(journey)}[/]")
    table.add_row("", f"[dim]{now:.0f} s[/]")
    return table


def _progress(journey: Journey) -> str:
    if journey.refusal:
        return f"refused: {journey.refusal}"
    if journey.state == "sending" and journey.size:
        return f"sending {100 * journey.sent // journey.size} %"
    return journey.state
