"""Writes the dashboards as JSON for Grafana 11.6 and later: ``python -m deploy.observability.dashboards.generate [FOLDER]``.

Which Prometheus, Loki and Tempo are asked is a variable of each dashboard: it names no data source, and fits every Grafana.
The library is generated from Grafana's own schemas; only development has it (dependency group ``dev``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Final

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    logs,
    loki,
    prometheus,
    stat,
    statetimeline,
    tempo,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as shown
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.tempo import SearchTableType

from deploy.observability.dashboards import api, delivery, document, overview, pipeline, proof
from deploy.observability.dashboards.description import Dashboard, Kind, Panel, Query

FOLDER: Final = Path(__file__).resolve().parents[1] / "grafana" / "dashboards"
ALL: Final = tuple(page.DASHBOARD for page in (overview, pipeline, api, delivery, proof, document))
TAG: Final = "dpj"
#: The grid's width, of Grafana.
WIDTH: Final = 24
HEIGHT: Final = 8
LOW: Final = 4
NOW_IN_A_ROW: Final = 6
TRENDS_IN_A_ROW: Final = 3
#: Kind of query -> variable of the dashboard that says which data source of which plugin.
SOURCES: Final = {
    "metrics": ("metrics", "prometheus", "Prometheus"),
    Kind.LOGS: ("logs", "loki", "Loki"),
    Kind.TRACES: ("traces", "tempo", "Tempo"),
    Kind.TRACE: ("traces", "tempo", "Tempo"),
}
_COLOURS: Final = ("green", "orange", "red")
#: States of which a person should know when they are there, and not when they are missing.
_BAD: Final = frozenset({"open", "half open"})


def documents() -> dict[str, str]:
    """Each dashboard's JSON by the name of its file."""
    return {
        f"{one.name}.json": json.dumps(_built(one), cls=JSONEncoder, indent=2, sort_keys=True) + "\n" for one in ALL
    }


def main(folder: Path = FOLDER) -> None:
    """Write them all; files of dashboards that are no more are removed."""
    made = documents()
    for path in folder.glob("*.json"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, "utf-8")


def _built(described: Dashboard) -> Any:
    builder = (
        dashboard.Dashboard(described.title)
        .uid(f"dpj-{described.name}")
        .description(described.about)
        .tags([TAG])
        .readonly()
        .refresh("1m")
        .time("now-6h", "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("DPJ")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)  # noqa: FBT003 - the library's own form
            .include_vars(False)  # noqa: FBT003
        )
    )
    kinds = (panel.kind for row in described.rows for panel in row.panels)
    for name, plugin, label in dict.fromkeys(SOURCES.get(kind, SOURCES["metrics"]) for kind in kinds):
        builder.with_variable(dashboard.DatasourceVariable(name).type(plugin).label(label))
    for name, label in described.asks.items():
        builder.with_variable(dashboard.TextBoxVariable(name).label(label).default_value(""))
    if "console" in described.asks:
        builder.link(
            dashboard.DashboardLink("The document in the console")
            .type(model.DashboardLinkType.LINK)
            .url("${console}/documents/${document}")
            .target_blank(True)  # noqa: FBT003
        )
    ids = count(1)
    for row in described.rows:
        builder.with_row(dashboard.Row(row.title).id(next(ids)))
        for panel, width in _laid_out(row.panels):
            builder.with_panel(_panel(panel).id(next(ids)).span(width))
    return builder.build()


def _laid_out(panels: tuple[Panel, ...]) -> Iterator[tuple[Panel, int]]:
    """Each panel with its width; numbers come first, and share a line. The last line is filled."""
    numbers = [panel for panel in panels if panel.kind is Kind.NOW]
    others = [panel for panel in panels if panel.kind is not Kind.NOW]
    for group, most in ((numbers, NOW_IN_A_ROW), (others, TRENDS_IN_A_ROW)):
        for start in range(0, len(group), most):
            line = group[start : start + most]
            wide = any(panel.kind in SOURCES for panel in line)
            for place, panel in enumerate(line):
                share = WIDTH // len(line)
                filled = WIDTH - share * (len(line) - 1) if place == len(line) - 1 else share
                yield panel, WIDTH if wide else filled


def _panel(panel: Panel) -> Any:
    made = {
        Kind.NOW: _now,
        Kind.TREND: _trend,
        Kind.STATES: _states,
        Kind.LOGS: _logs,
        Kind.TRACES: _traces,
        Kind.TRACE: _trace,
    }[panel.kind](panel)
    name, plugin, _ = SOURCES.get(panel.kind, SOURCES["metrics"])
    made.title(panel.title).datasource(model.DataSourceRef(plugin, f"${{{name}}}"))
    if panel.about:
        made.description(panel.about)
    return made


def _now(panel: Panel) -> Any:
    made = (
        stat.Panel()
        .height(LOW)
        .unit(panel.unit)
        .no_value(panel.absent)
        .graph_mode(shown.BigValueGraphMode.NONE)
        .color_mode(shown.BigValueColorMode.BACKGROUND if panel.red is not None else shown.BigValueColorMode.NONE)
        .thresholds(_thresholds(panel.red))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    for reference, query in _lettered(panel):
        made.with_target(_promql(query).instant().ref_id(reference))
    return made


def _trend(panel: Panel) -> Any:
    made = (
        timeseries.Panel()
        .height(HEIGHT)
        .unit(panel.unit)
        .no_value(panel.absent)
        .min(0)
        .line_width(1)
        .fill_opacity(0)
        .show_points(shown.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions().display_mode(shown.LegendDisplayMode.LIST).placement(shown.LegendPlacement.BOTTOM)
        )
        .tooltip(common.VizTooltipOptions().mode(shown.TooltipDisplayMode.MULTI))
        .thresholds(_thresholds(panel.red))
    )
    if panel.red is not None:
        made.thresholds_style(common.GraphThresholdsStyleConfig().mode(shown.GraphThresholdsStyleMode.DASHED))
    for reference, query in _lettered(panel):
        made.with_target(_promql(query).range().ref_id(reference))
    return made


def _states(panel: Panel) -> Any:
    values = {
        str(value): model.ValueMappingResult(text=text, color=_colour(value, text), index=place)
        for place, (value, text) in enumerate(panel.values.items())
    }
    made = (
        statetimeline.Panel()
        .height(HEIGHT)
        .no_value(panel.absent)
        .mappings([model.ValueMap(options=values)])
        .show_value(shown.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions().display_mode(shown.LegendDisplayMode.LIST).placement(shown.LegendPlacement.BOTTOM)
        )
    )
    for reference, query in _lettered(panel):
        made.with_target(_promql(query).range().ref_id(reference))
    return made


def _colour(value: int, text: str) -> str:
    """Of a state; whether a plain yes is good the panel's title says, so that it gets no colour of a judgement."""
    if text in _BAD:
        return _COLOURS[value]
    return "green" if text == "closed" else {"yes": "blue", "no": "text"}[text]


def _logs(panel: Panel) -> Any:
    made = logs.Panel().height(2 * HEIGHT).show_time(True).wrap_log_message(True)  # noqa: FBT003
    made.enable_log_details(True).sort_order(shown.LogsSortOrder.ASCENDING)  # noqa: FBT003
    for reference, query in _lettered(panel):
        made.with_target(loki.Dataquery().expr(query.expr).query_type("range").ref_id(reference))
    return made


def _traces(panel: Panel) -> Any:
    made = dashboard.Panel().type("table").height(HEIGHT)
    for reference, query in _lettered(panel):
        made.with_target(
            tempo.TempoQuery()
            .query(query.expr)
            .query_type("traceql")
            .table_type(SearchTableType.TRACES)
            .ref_id(reference)
        )
    return made


def _trace(panel: Panel) -> Any:
    made = dashboard.Panel().type("traces").height(2 * HEIGHT)
    for reference, query in _lettered(panel):
        made.with_target(tempo.TempoQuery().query(query.expr).query_type("traceql").ref_id(reference))
    return made


def _lettered(panel: Panel) -> Iterator[tuple[str, Query]]:
    """Grafana tells the queries of a panel apart by a letter."""
    return zip(ascii_uppercase, panel.queries, strict=False)


def _promql(query: Query) -> Any:
    legend = " ".join([*(f"{{{{{label}}}}}" for label in query.by), *([query.name] if query.name else [])])
    made = prometheus.Dataquery().expr(query.expr)
    return made.legend_format(legend) if legend else made


def _thresholds(red: float | None) -> Any:
    steps = [model.Threshold(value=None, color="green" if red is not None else "text")]
    if red is not None:
        steps.append(model.Threshold(value=red, color="red"))
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:]))
