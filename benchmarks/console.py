"""What the terminal shows: progress on standard error, the tables on standard output, at most 80 columns wide."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.report import BenchReport, Ratio, figure

WIDTH = 80
_COLOURS = {"met": "green", "below goal": "yellow", "missed": "red"}


def note(text: str) -> None:
    """One line of progress."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def show(report: BenchReport) -> None:
    """The report's table, ratios and notes."""
    console = Console(width=min(WIDTH, Console().width) if sys.stdout.isatty() else WIDTH, highlight=False)
    table = Table(title=report.title, title_justify="left", title_style="bold", header_style="bold")
    for number, column in enumerate(report.columns):
        table.add_column(column, justify="left" if _is_text(report, number) else "right", overflow="fold")
    for row in report.rows:
        table.add_row(*(figure(cell) for cell in row))
    console.print(table)
    for ratio in report.ratios:
        console.print(_line(ratio))
    for text in report.notes:
        console.print(Text(" ".join(text.split()), style="dim"))
    console.print()


def goal_of(ratio: Ratio) -> str:
    """The goal as text: ``goal >= 0.60, floor 0.45``."""
    sign = "≤" if ratio.at_most else "≥"
    floor = "" if ratio.floor is None else f", floor {figure(ratio.floor)}"
    return f"goal {sign} {figure(ratio.goal)}{floor}"


def _line(ratio: Ratio) -> Text:
    value = f"{figure(ratio.value)} {ratio.unit}"
    return Text.assemble(
        f"{ratio.name}: ", (value, "bold"), f" ({goal_of(ratio)}) ", (ratio.verdict, _COLOURS[ratio.verdict])
    )


def _is_text(report: BenchReport, column: int) -> bool:
    return any(not figure(row[column])[:1].isdigit() for row in report.rows if row[column] is not None)
