"""What a bench hands back: a table, ratios against goals, notes and a picture. Plain values, so that it is also its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Cell = str | int | float | None
Verdict = Literal["met", "below goal", "missed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """One figure that has a goal. ``floor`` is the worst value that is still acceptable (default: the goal itself).

    ``at_most`` turns the comparison round: the value must not be above goal and floor (a time, a growth).
    """

    name: str
    value: float
    goal: float
    floor: float | None = None
    at_most: bool = False
    unit: str = "x"

    @property
    def verdict(self) -> Verdict:
        """met: the goal; below goal: within the floor; missed: neither."""
        if self._reaches(self.goal):
            return "met"
        return "below goal" if self.floor is not None and self._reaches(self.floor) else "missed"

    def _reaches(self, bound: float) -> bool:
        return self.value <= bound if self.at_most else self.value >= bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A bar plot: one group of bars per category with one bar per series, or (``stacked``) one bar made of the series.

    ``series`` maps a series' name to its values, one per category, None where there is none; ``spread`` to (lowest, highest)
    pairs, drawn as whiskers. ``goal`` draws a line across.
    """

    title: str
    unit: str
    categories: tuple[str, ...]
    series: Mapping[str, tuple[float | None, ...]]
    spread: Mapping[str, tuple[tuple[float, float] | None, ...]] = field(default_factory=dict)
    stacked: bool = False
    goal: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """The outcome of one bench. ``method`` and ``notes`` are sentences for docs/benchmarks.md (Markdown);
    their line breaks do not count."""

    name: str
    title: str
    method: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    ratios: tuple[Ratio, ...] = ()
    notes: tuple[str, ...] = ()
    chart: Chart | None = None

    def document(self) -> dict[str, Any]:
        """The report as JSON types; ratios carry their verdict."""
        found = asdict(self)
        found["method"], found["notes"] = (
            [" ".join(text.split()) for text in texts] for texts in (self.method, self.notes)
        )
        found["ratios"] = [{**asdict(ratio), "verdict": ratio.verdict} for ratio in self.ratios]
        return found


def figure(value: Cell) -> str:
    """A cell as text: numbers with three significant digits, thousands set apart, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"
