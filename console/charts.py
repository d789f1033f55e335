"""Charts as SVG, made on the server from the very numbers that a table beside them shows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from markupsafe import Markup

WIDTH: Final = 120
HEIGHT: Final = 28
_PAD: Final = 2

#: A moment and a value; None where nobody knows it.
Point = tuple[datetime, float | None]


def sparkline(points: Sequence[Point], *, label: str, seconds: float, until: datetime) -> Markup:
    """A line over the last ``seconds`` before ``until``. What is unknown is a gap, never nought. ``label`` says it to who can't see it."""
    top = max((value for _, value in points if value is not None), default=0.0)
    paths: list[str] = []
    pen = False
    for at, value in points:
        place = 1 - (until - at).total_seconds() / seconds
        if value is None or not 0 <= place <= 1:
            pen = False
            continue
        x = _PAD + place * (WIDTH - 2 * _PAD)
        y = HEIGHT - _PAD - (value / top if top else 0.0) * (HEIGHT - 2 * _PAD)
        paths.append(f"{'L' if pen else 'M'}{x:.1f} {y:.1f}")
        # A lone point is a dot: a line of no length with round ends.
        if not pen:
            paths.append(f"L{x:.1f} {y:.1f}")
        pen = True
    return Markup(
        '<svg class="sparkline" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{label}" focusable="false">'
        '<path class="base" d="M{pad} {base}H{end}"/><path class="line" d="{path}"/></svg>'
    ).format(w=WIDTH, h=HEIGHT, label=label, pad=_PAD, base=HEIGHT - _PAD, end=WIDTH - _PAD, path="".join(paths))
