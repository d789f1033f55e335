"""The alerting rules and dashboards speak of metrics, labels and pages that exist, and every one has its two cases."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.support.alerting import FOLDER, ROOT, Rule, alerts, cases, exported, rules, shown

EXPORTED = exported()
RECORDED = {one.name for one in rules() if not one.is_alert}
ALERTS = {one.name: one for one in alerts()}


@pytest.mark.parametrize("rule", [*rules(), *shown()], ids=lambda rule: rule.name)
def test_every_metric_and_label_is_one_that_our_processes_export(rule: Rule) -> None:
    recorded = set(re.findall(r"dpj:[\w:]+", rule.expr))
    assert recorded <= RECORDED
    assert rule.selected or recorded
    known: set[str] = {"consumer"} if recorded else set()
    for name, chosen_by in rule.selected:
        assert name in EXPORTED, name
        assert chosen_by <= EXPORTED[name], (name, chosen_by)
        known |= EXPORTED[name]
    assert rule.grouped_by <= known
    assert rule.told <= known


def test_a_metric_or_label_that_nobody_exports_is_found() -> None:
    def of(expr: str) -> Rule:
        return Rule(name="x", expr=expr, lasting="", labels={}, annotations={})

    for expr in ("dpj_no_such_thing > 1", 'dpj_lag_seconds{tenant="a"} > 1'):
        with pytest.raises(AssertionError):
            test_every_metric_and_label_is_one_that_our_processes_export(of(expr))
    with pytest.raises(AssertionError):
        test_every_metric_and_label_is_one_that_our_processes_export(of("sum by (tenant) (dpj_lag_seconds) > 1"))
    legend = Rule("x", "dpj_lag_seconds", "", {}, {"legend": "{{ $labels.tenant }}"})
    with pytest.raises(AssertionError):
        test_every_metric_and_label_is_one_that_our_processes_export(legend)


def test_every_metric_is_on_a_dashboard() -> None:
    asked = {name for one in [*rules(), *shown()] for name, _ in one.selected}
    named = {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in asked}
    exported = {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in EXPORTED}
    assert sorted(exported - named) == []


def test_every_figure_that_is_recorded_is_shown() -> None:
    asked = {name for one in shown() for name in re.findall(r"dpj:[\w:]+", one.expr)}
    assert asked == RECORDED


def _anchors(page: str) -> set[str]:
    """Of the headings, as they are made on the pages that show Markdown."""
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule.name)
def test_every_alert_says_how_urgent_it_is_and_where_it_says_what_to_do(rule: Rule) -> None:
    assert rule.labels == {"severity": rule.labels["severity"]}
    assert rule.labels["severity"] in {"page", "ticket"}
    assert rule.lasting
    assert rule.annotations["summary"]
    page, _, anchor = rule.annotations["runbook"].partition("#")
    assert anchor in _anchors(page)


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    assert {name: set(found) for name, found in cases().items()} == {name: {"fires", "quiet"} for name in ALERTS}


def test_every_alert_is_explained_to_operators() -> None:
    page = (ROOT / "docs" / "OPERATIONS.md").read_text("utf-8")
    assert [name for name in ALERTS if f"`{name}`" not in page] == []


def test_inhibition_and_routes_speak_of_alerts_that_exist() -> None:
    configuration = yaml.safe_load((FOLDER / "alertmanager.yml").read_text("utf-8"))
    matchers = [
        matcher
        for one in configuration["inhibit_rules"]
        for side in ("source_matchers", "target_matchers")
        for matcher in one[side]
        if matcher.startswith("alertname")
    ]
    for matcher in matchers:
        for pattern in re.split(r"=~?", matcher, maxsplit=1)[1].strip('"').split("|"):
            assert any(re.fullmatch(pattern, name) for name in ALERTS), pattern


def test_targets_are_scraped_as_often_as_the_rules_expect() -> None:
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    assert configuration["global"]["scrape_interval"] == "15s"
    assert [one["job_name"] for one in configuration["scrape_configs"]] == ["dpj"]
