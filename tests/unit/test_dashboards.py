"""The dashboards in the repository are those that the generator makes of their description."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.observability.dashboards import document, generate
from tests.support.alerting import DASHBOARDS

MADE = generate.documents()
LOADED: dict[str, Any] = {name: json.loads(text) for name, text in MADE.items()}


def test_the_files_are_what_the_generator_makes() -> None:
    kept = {path.name: path.read_text("utf-8") for path in DASHBOARDS.iterdir()}
    assert kept == MADE, "make docs"


def test_a_file_that_nobody_describes_any_more_goes(tmp_path: Path) -> None:
    (tmp_path / "gone.json").write_text("{}")
    generate.main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(MADE)


@pytest.mark.parametrize("name", MADE)
def test_panels_lie_beside_each_other_and_have_names_of_their_own(name: str) -> None:
    panels = LOADED[name]["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= generate.WIDTH
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        references = [target["refId"] for target in panel.get("targets", [])]
        assert all(references)
        assert len(set(references)) == len(references)


@pytest.mark.parametrize("name", MADE)
def test_every_panel_asks_a_source_that_the_dashboard_offers(name: str) -> None:
    variables = {one["name"]: one for one in LOADED[name]["templating"]["list"]}
    asked = {
        (one["datasource"]["uid"], one["datasource"]["type"]) for one in LOADED[name]["panels"] if "targets" in one
    }
    offered = {(f"${{{key}}}", one["query"]) for key, one in variables.items() if one["type"] == "datasource"}
    assert asked == offered


def test_a_document_is_looked_for_by_what_its_logs_have() -> None:
    asks = set(document.DASHBOARD.asks)
    variables = {one["name"] for one in LOADED["document.json"]["templating"]["list"] if one["type"] == "textbox"}
    assert variables == asks
    queries = " ".join(query.expr for row in document.DASHBOARD.rows for panel in row.panels for query in panel.queries)
    assert all(f"${name}" in queries for name in asks - {"console"})
