"""Bar plots as SVG, readable on a light and on a dark page: no background, and colours that follow the reader's scheme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from io import StringIO
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from benchmarks.report import Chart, figure

#: In points, which are the picture's own units.
WIDTH: Final = 720
LEFT: Final = 150
RIGHT: Final = 90
BAR: Final = 18
GAP: Final = 14
TOP: Final = 34
LEGEND: Final = 22
FOOT: Final = 46
_CHARACTER: Final = 6.6
_INK: Final = "#24292f"
_LINES: Final = "#8c959f"
#: Okabe and Ito's palette, told apart by people who see few colours, in tones that carry on white and on black.
_COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#b8a800")
_DARK: Final = (
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3 !important}"
    "[id^=whisker] *{stroke:#e6edf3 !important}#goal *{stroke:#ff7b72 !important}}"
)
#: Texts stay texts, and the same chart is the same file.
_STYLE: Final = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dpj",
    "font.family": "sans-serif",
    "font.sans-serif": ["system-ui", "DejaVu Sans"],
    "font.size": 12,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def plot(chart: Chart) -> str:
    """``chart`` as an SVG document of horizontal bars; values stand beside them, so that colour is never needed to read."""
    columns = _legend_columns(list(chart.series))
    top = TOP + LEGEND * math.ceil(len(chart.series) / columns)
    in_group = 1 if chart.stacked else len(chart.series)
    body = len(chart.categories) * (in_group * BAR + GAP)
    height = top + body + FOOT
    with rc_context(_STYLE):
        picture = Figure(figsize=(WIDTH / 72, height / 72))
        axes = picture.add_axes(
            (LEFT / WIDTH, FOOT / height, (WIDTH - LEFT - RIGHT) / WIDTH, body / height), facecolor="none"
        )
        picture.text(8 / WIDTH, 1 - 20 / height, chart.title, size=14, weight="bold")
        picture.legend(
            handles=[Patch(color=_colour(number), label=name) for number, name in enumerate(chart.series)],
            loc="upper left",
            bbox_to_anchor=(0, 1 - 26 / height),
            ncols=columns,
            frameon=False,
            handlelength=1,
            handleheight=1,
        )
        _draw_axes(axes, chart, body)
        (_stacked if chart.stacked else _grouped)(axes, chart)
        written = StringIO()
        picture.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _finished(written.getvalue(), chart.title)


def _finished(text: str, title: str) -> str:
    """With a name for those who don't see it, and colours for a dark page. What stands before the picture is left out."""
    text = text[text.index("<svg ") :].replace("<svg ", f'<svg role="img" aria-label="{escape(title, quote=True)}" ', 1)
    text = text.replace("</style>", f"{_DARK}</style>", 1)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _draw_axes(axes: Any, chart: Chart, body: int) -> None:
    """Values from left to right with round marks; one point of the picture is one unit from top to bottom."""
    highest = _highest(chart)
    marks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(0, highest)
    axes.set_xlim(0, next(mark for mark in marks if mark >= highest))
    axes.set_xticks([mark for mark in marks if mark <= axes.get_xlim()[1]])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlabel(chart.unit, labelpad=6)
    axes.set_ylim(body, 0)
    group = body / len(chart.categories)
    axes.set_yticks([(index + 0.5) * group for index in range(len(chart.categories))], chart.categories)
    axes.tick_params(length=0, pad=6)
    axes.grid(visible=True, axis="x", color=_LINES, alpha=0.3, linewidth=1)
    axes.set_axisbelow(True)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color(_LINES)
    if chart.goal is not None:
        axes.axvline(chart.goal, color="#cf222e", linewidth=1, linestyle=(0, (4, 3)), gid="goal", zorder=1.5)


def _grouped(axes: Any, chart: Chart) -> None:
    for index in range(len(chart.categories)):
        y = index * (len(chart.series) * BAR + GAP) + GAP / 2 + BAR / 2
        for number, (name, values) in enumerate(chart.series.items()):
            value, spread = values[index], chart.spread[name][index] if name in chart.spread else None
            if value is not None:
                _bar(axes, y, number, value, spread)
            y += BAR


def _bar(axes: Any, y: float, number: int, value: float, spread: Sequence[float] | None) -> None:
    axes.barh(y, value, height=BAR - 3, color=_colour(number))
    end = value
    if spread is not None:
        low, high = spread
        axes.plot([low, high], [y, y], color=_INK, linewidth=1.2, gid=f"whisker-{number}-{y:.0f}", clip_on=False)
        end = max(end, high)
    _label(axes, end, y, value)


def _stacked(axes: Any, chart: Chart) -> None:
    for index in range(len(chart.categories)):
        y, end = index * (BAR + GAP) + (BAR + GAP) / 2, 0.0
        for number, values in enumerate(chart.series.values()):
            axes.barh(y, values[index] or 0.0, left=end, height=BAR - 2, color=_colour(number))
            end += values[index] or 0.0
        _label(axes, end, y, end)


def _label(axes: Any, x: float, y: float, value: float) -> None:
    axes.annotate(figure(value), (x, y), (5, 0), textcoords="offset points", va="center", annotation_clip=False)


def _highest(chart: Chart) -> float:
    if chart.stacked:
        values = [sum(row[index] or 0.0 for row in chart.series.values()) for index in range(len(chart.categories))]
    else:
        values = [value or 0.0 for row in chart.series.values() for value in row]
        values += [pair[1] for row in chart.spread.values() for pair in row if pair]
    return max([*values, chart.goal or 0.0]) or 1.0


def _legend_columns(names: Sequence[str]) -> int:
    """As many as fit beside each other."""
    widest = max(40 + len(name) * _CHARACTER for name in names)
    return max(1, min(len(names), int((WIDTH - 16) / widest)))


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]
