"""Bar plots as SVG, readable on a light and on a dark page: no background, and colours that follow the reader's scheme."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise
from math import floor, log10
from typing import Final

from benchmarks.report import Chart, figure

WIDTH: Final = 720
LEFT: Final = 150
RIGHT: Final = 90
BAR: Final = 18
GAP: Final = 14
TOP: Final = 40
LEGEND: Final = 22
FOOT: Final = 46
_CHARACTER: Final = 6.6
#: Okabe and Ito's palette, told apart by people who see few colours, in tones that carry on white and on black.
_COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#b8a800")
_STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-weight:600;font-size:14px}"
    ".axis{stroke:#8c959f;stroke-width:1}.grid{stroke:#8c959f;stroke-opacity:.3}"
    ".whisker{stroke:#24292f;stroke-width:1.2}.goal{stroke:#cf222e;stroke-dasharray:4 3}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.whisker{stroke:#e6edf3}.goal{stroke:#ff7b72}}"
)


def plot(chart: Chart) -> str:
    """``chart`` as an SVG document of horizontal bars; values stand beside them, so that colour is never needed to read."""
    legend = list(_legend_rows(list(chart.series)))
    top = TOP + LEGEND * len(legend)
    per_group = 1 if chart.stacked else len(chart.series)
    height = top + len(chart.categories) * (per_group * BAR + GAP) + FOOT
    scale = _Scale(chart)
    label = escape(chart.title, quote=True)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="8" y="22">{escape(chart.title)}</text>',
        *_legend(legend, list(chart.series)),
        *_axis(chart, scale, top, height - FOOT),
        *(_stacked(chart, scale, top) if chart.stacked else _grouped(chart, scale, top)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Scale:
    """From values to pixels, with round marks."""

    def __init__(self, chart: Chart) -> None:
        self.step = _round_step(_highest(chart) / 5)
        self.top = self.step * max(1, -int(-_highest(chart) // self.step))

    def x(self, value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * min(value, self.top) / self.top, 1)

    @property
    def marks(self) -> list[float]:
        return [self.step * number for number in range(round(self.top / self.step) + 1)]


def _highest(chart: Chart) -> float:
    if chart.stacked:
        values = [_total(chart, index) for index in range(len(chart.categories))]
    else:
        values = [value or 0.0 for row in chart.series.values() for value in row]
        values += [pair[1] for row in chart.spread.values() for pair in row if pair]
    return max([*values, chart.goal or 0.0]) or 1.0


def _total(chart: Chart, index: int) -> float:
    return sum(row[index] or 0.0 for row in chart.series.values())


def _round_step(rough: float) -> float:
    power = 10.0 ** floor(log10(rough))
    return power * next(digit for digit in (1, 2, 2.5, 5, 10) if digit * power >= rough * (1 - 1e-9))


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _legend_rows(names: Sequence[str]) -> Iterator[list[tuple[int, float]]]:
    """Rows of (series, x): as many in a row as fit."""
    row: list[tuple[int, float]] = []
    x = 8.0
    for number, name in enumerate(names):
        width = 30 + len(name) * _CHARACTER
        if row and x + width > WIDTH:
            yield row
            row, x = [], 8.0
        row.append((number, x))
        x += width
    if row:
        yield row


def _legend(rows: Sequence[Sequence[tuple[int, float]]], names: Sequence[str]) -> Iterator[str]:
    for line, row in enumerate(rows):
        y = TOP + LEGEND * line
        for number, x in row:
            yield f'<rect x="{x:.0f}" y="{y - 9}" width="11" height="11" fill="{_colour(number)}"/>'
            yield f'<text x="{x + 16:.0f}" y="{y + 1}">{escape(names[number])}</text>'


def _axis(chart: Chart, scale: _Scale, top: int, bottom: int) -> Iterator[str]:
    for mark in scale.marks:
        x = scale.x(mark)
        yield f'<line class="grid" x1="{x}" y1="{top}" x2="{x}" y2="{bottom}"/>'
        yield f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{mark:,g}</text>'
    yield f'<line class="axis" x1="{LEFT}" y1="{top}" x2="{LEFT}" y2="{bottom}"/>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle}" y="{bottom + 34}" text-anchor="middle">{escape(chart.unit)}</text>'
    if chart.goal is not None:
        x = scale.x(chart.goal)
        yield f'<line class="goal" x1="{x}" y1="{top}" x2="{x}" y2="{bottom}"/>'


def _category(text: str, y: float) -> str:
    return f'<text x="{LEFT - 8}" y="{y:.0f}" text-anchor="end">{escape(text)}</text>'


def _grouped(chart: Chart, scale: _Scale, top: int) -> Iterator[str]:
    y = top + GAP / 2
    for index, category in enumerate(chart.categories):
        yield _category(category, y + len(chart.series) * BAR / 2 + 4)
        for number, (name, values) in enumerate(chart.series.items()):
            value = values[index]
            if value is not None:
                spread = chart.spread[name][index] if name in chart.spread else None
                yield from _bar(scale, y, _colour(number), value, spread)
            y += BAR
        y += GAP


def _bar(scale: _Scale, y: float, colour: str, value: float, spread: tuple[float, float] | None) -> Iterator[str]:
    width = max(scale.x(value) - LEFT, 0.5)
    yield f'<rect x="{LEFT}" y="{y:.0f}" width="{width:.1f}" height="{BAR - 3}" fill="{colour}"/>'
    end = scale.x(value)
    if spread is not None:
        low, high = (scale.x(bound) for bound in spread)
        middle = y + (BAR - 3) / 2
        yield f'<line class="whisker" x1="{low}" y1="{middle:.1f}" x2="{high}" y2="{middle:.1f}"/>'
        end = max(end, high)
    yield f'<text x="{end + 5:.1f}" y="{y + 12:.0f}">{figure(value)}</text>'


def _stacked(chart: Chart, scale: _Scale, top: int) -> Iterator[str]:
    y = top + GAP / 2
    for index, category in enumerate(chart.categories):
        yield _category(category, y + 13)
        parts = [row[index] or 0.0 for row in chart.series.values()]
        ends = [0.0]
        for part in parts:
            ends.append(ends[-1] + part)
        for number, (begin, end) in enumerate(pairwise(ends)):
            x, width = scale.x(begin), scale.x(end) - scale.x(begin)
            if width > 0:
                yield f'<rect x="{x}" y="{y:.0f}" width="{width:.1f}" height="{BAR - 2}" fill="{_colour(number)}"/>'
        yield f'<text x="{scale.x(ends[-1]) + 5:.1f}" y="{y + 13:.0f}">{figure(ends[-1])}</text>'
        y += BAR + GAP
