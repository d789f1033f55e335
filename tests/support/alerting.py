"""The rules and dashboards as they are in deploy/observability, and what our processes export."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from runtime.observability.overview_metrics import LABELS
from tests.support.metrics import all_metrics

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "deploy" / "observability"
RULES: Final = (FOLDER / "rules" / "recording.yml", FOLDER / "rules" / "alerts.yml")
DASHBOARDS: Final = FOLDER / "grafana" / "dashboards"
#: What Prometheus says itself: of a target, with the labels that our configuration gives it, and of alerts.
OF_PROMETHEUS: Final = {
    "up": {"job", "instance", "process"},
    "ALERTS": {"alertname", "alertstate", "severity"},
}

_METRIC: Final = re.compile(r"\b(dpj_\w+|up|ALERTS)\b(?:\{([^}]*)\})?")
_MATCHED: Final = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
_GROUPED: Final = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


@dataclass(frozen=True, slots=True)
class Rule:
    """``name``: of the alert, or of the series that is recorded."""

    name: str
    expr: str
    lasting: str
    labels: dict[str, str]
    annotations: dict[str, str]

    @property
    def is_alert(self) -> bool:
        return bool(self.annotations)

    @property
    def selected(self) -> list[tuple[str, set[str]]]:
        """Each metric that is asked for, with the labels by which it is chosen."""
        return [(name, set(_MATCHED.findall(chosen))) for name, chosen in _METRIC.findall(_without_texts(self.expr))]

    @property
    def grouped_by(self) -> set[str]:
        found = (names.split(",") for names in _GROUPED.findall(self.expr))
        return {name.strip() for names in found for name in names if name.strip()}

    @property
    def told(self) -> set[str]:
        """Labels that the texts speak of."""
        return set(re.findall(r"\$labels\.(\w+)", "".join(self.annotations.values())))


def _without_texts(expr: str) -> str:
    """Values of labels hold braces of their own (route templates)."""
    return re.sub(r'"[^"]*"', '""', expr)


def rules() -> list[Rule]:
    groups = (group for path in RULES for group in yaml.safe_load(path.read_text("utf-8"))["groups"])
    return [
        Rule(
            name=one.get("alert") or one["record"],
            expr=one["expr"],
            lasting=one.get("for", ""),
            labels=one.get("labels", {}),
            annotations=one.get("annotations", {}),
        )
        for group in groups
        for one in group["rules"]
    ]


def shown() -> list[Rule]:
    """What the dashboards ask Prometheus, each query as a rule of its panel's name whose text is the legend."""
    found = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(path.read_text("utf-8"))["panels"]:
            if panel.get("datasource", {}).get("type") == "prometheus":
                for target in panel["targets"]:
                    legend = re.sub(r"\{\{(\w+)\}\}", r"{{ $labels.\1 }}", target.get("legendFormat", ""))
                    name = f"{path.stem}: {panel['title']} {target['refId']}"
                    found.append(Rule(name, target["expr"], "", {}, {"legend": legend}))
    return found


def alerts() -> list[Rule]:
    return [one for one in rules() if one.is_alert]


def exported() -> dict[str, set[str]]:
    """Every series that our processes export, by name, with its labels."""
    registry: Any = all_metrics()
    found = {name: set(labels) for name, labels in LABELS.items()}
    for name, collector in registry._names_to_collectors.items():
        if not name.endswith("_created"):
            found[name] = set(collector._labelnames) | ({"le"} if name.endswith("_bucket") else set())
    return found | OF_PROMETHEUS


def cases() -> dict[str, dict[str, dict[str, Any]]]:
    loaded: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load(
        (ROOT / "tests" / "vectors" / "alerts.yml").read_text("utf-8")
    )
    return loaded
