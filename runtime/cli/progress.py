"""Progress of long work, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn


@contextmanager
def progress_bars(*columns: ProgressColumn, quiet: bool) -> Iterator[Progress]:
    """Bars with these columns, else those of things that are counted. Nothing is shown if ``quiet``, or where no terminal is."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    counted = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    unseen = quiet or not sys.stderr.isatty()
    with Progress(*columns or counted, console=Console(stderr=True), transient=True, disable=unseen) as bars:
        yield bars
