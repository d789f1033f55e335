"""What the dashboards show. No word of Grafana's JSON here: ``generate`` knows that.

Queries of metrics are PromQL; where a rule records a figure, the dashboards show that one and reckon nothing themselves. Unknown
figures are absent, never 0: a panel says so instead of a number. Labels of series (``by``) are those that our processes export;
a test holds that, and that every metric is on a dashboard or in an alert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

UNKNOWN: Final = "unknown"
#: A figure that is there while something waits, and absent also while nobody knows.
NONE: Final = "nothing, or unknown"


class Kind(StrEnum):
    """``NOW``: a number with its colour. ``TREND``: lines over time. ``STATES``: bars of states over time. ``LOGS``: lines of logs.
    ``TRACES``: traces that are found. ``TRACE``: one, whole."""

    NOW = "now"
    TREND = "trend"
    STATES = "states"
    LOGS = "logs"
    TRACES = "traces"
    TRACE = "trace"


class Unit(StrEnum):
    """Grafana's names."""

    NUMBER = "short"
    SECONDS = "s"
    PER_SECOND = "ops"
    SHARE = "percentunit"
    BYTES_PER_SECOND = "Bps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """``by``: the label that names each series; empty: ``name`` does."""

    expr: str
    by: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """``red``: from this value on a person should look. ``absent``: what is said instead of a number that is not there."""

    title: str
    queries: tuple[Query, ...]
    kind: Kind = Kind.TREND
    unit: Unit = Unit.NUMBER
    about: str = ""
    red: float | None = None
    absent: str = UNKNOWN
    values: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """``asks``: text fields by the name of their variable, with what is to be put there."""

    name: str
    title: str
    about: str
    rows: tuple[Row, ...]
    asks: Mapping[str, str] = field(default_factory=dict)


def now(
    title: str, expr: str, *, unit: Unit = Unit.NUMBER, red: float | None = None, about: str = "", absent: str = UNKNOWN
) -> Panel:
    return Panel(
        title=title, queries=(Query(expr=expr),), kind=Kind.NOW, unit=unit, red=red, about=about, absent=absent
    )


def trend(
    title: str, *queries: Query, unit: Unit = Unit.NUMBER, red: float | None = None, about: str = "", absent: str = NONE
) -> Panel:
    return Panel(title=title, queries=queries, unit=unit, red=red, about=about, absent=absent)


def states(title: str, query: Query, values: Mapping[int, str], *, about: str = "") -> Panel:
    return Panel(title=title, queries=(query,), kind=Kind.STATES, values=values, about=about)


def q(expr: str, *by: str, name: str = "") -> Query:
    return Query(expr=expr, by=by, name=name)


def age(metric: str) -> str:
    """Seconds since the moment that a metric is."""
    return f"time() - {metric}"


def quantiles(metric: str, by: str, chosen: str = "") -> tuple[Query, ...]:
    """Median and 95 % of a histogram."""
    return tuple(
        Query(
            expr=f"histogram_quantile({share}, sum by (le, {by}) (rate({metric}_bucket{chosen}[$__rate_interval])))",
            by=(by,),
            name=f"{percent} %",
        )
        for share, percent in ((0.5, 50), (0.95, 95))
    )


YES_NO: Final = {0: "no", 1: "yes"}

LAG_SECONDS: Final = trend(
    "Lag in seconds",
    q("dpj:lag_seconds:max", "consumer"),
    unit=Unit.SECONDS,
    red=300,
    about="How long ago the first record was written that the consumer has not consumed.",
)
HELD_AGE: Final = trend(
    "Oldest event that is held",
    q(age("dpj_events_held_oldest_timestamp_seconds"), "consumer", "dependency"),
    unit=Unit.SECONDS,
    red=900,
    about="By what it waits for.",
)
