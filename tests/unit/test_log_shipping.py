"""The way of logs to Loki, and of Grafana to what it shows.

Alloy and Loki are not run here: their configuration is read as text and YAML, and what matters to us is compared with what our
processes write. Whether they take it, nobody has seen.
"""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from typing import Any

import pytest
import structlog
import yaml

from domain.shared.correlation import current_traceparent
from runtime.observability.telemetry import configure_logging
from tests.support.alerting import FOLDER

ALLOY = (FOLDER / "logs" / "config.alloy").read_text("utf-8")
LABELS = {"stack", "service", "level"}
IDS = {"trace_id", "document_id"}


def stage(name: str) -> str:
    """What is between the braces of a stage, which has one level of its own."""
    [found] = re.findall(rf"stage\.{name} \{{\n(.*?)\n  \}}", ALLOY, re.DOTALL)
    return str(found)


def keys(text: str) -> dict[str, str]:
    return dict(re.findall(r'^\s+(\w+)\s+= "(\w*)",$', text, re.MULTILINE))


def loaded(*path: str) -> Any:
    return yaml.safe_load(FOLDER.joinpath(*path).read_text("utf-8"))


def test_blocks_are_closed() -> None:
    code = re.sub(r'"[^"\n]*"|//[^\n]*', "", ALLOY)
    for opening, closing in ("{}", "[]", "()"):
        depths = [0]
        for sign in code:
            depths.append(depths[-1] + (sign == opening) - (sign == closing))
        assert min(depths) == depths[-1] == 0


def test_every_part_hands_on_to_one_that_is_there() -> None:
    parts = {f"{kind}.{name}" for kind, name in re.findall(r'^([\w.]+) "(\w+)" \{$', ALLOY, re.MULTILINE)}
    named = set(re.findall(r"\b((?:local|loki)\.\w+\.\w+)\.(?:receiver|targets)", ALLOY))
    assert named <= parts
    assert parts - named == {"loki.source.file.dpj"}


def test_ids_are_structured_metadata_and_no_labels() -> None:
    [target] = re.findall(r"path_targets = \[\{\n(.*?)\n  \}\]", ALLOY, re.DOTALL)
    static = set(re.findall(r"^\s+(\w+)\s+=", target, re.MULTILINE)) - {"__path__"}
    assert static | set(keys(stage("labels"))) == LABELS
    assert set(keys(stage("structured_metadata"))) == IDS
    assert 'values = ["filename"]' in stage("label_drop")


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a process writes about a document."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(written, write_through=True))
    token = current_traceparent.set("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    try:
        configure_logging("worker-archiving")
        structlog.get_logger().warning("event_failed", document_id="1f0e", code="GED_UNAVAILABLE")
    finally:
        current_traceparent.reset(token)
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
        logging.getLogger().handlers.clear()
    found: dict[str, Any] = json.loads(written.getvalue())
    return found


def test_what_is_extracted_is_what_our_processes_write(line: dict[str, Any]) -> None:
    extracted = {name: field or name for name, field in keys(stage("json")).items()}
    assert set(extracted) == (LABELS - {"stack"}) | IDS | {"timestamp"}
    assert {name: line[field] for name, field in extracted.items() if name != "timestamp"} == {
        "service": "worker-archiving",
        "level": "warning",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "document_id": "1f0e",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", line["timestamp"])  # RFC3339Nano
    assert 'format = "RFC3339Nano"' in stage("timestamp")


def test_loki_keeps_ids_and_refuses_more_labels() -> None:
    loki = loaded("logs", "loki.yml")
    assert [(one["schema"], one["store"]) for one in loki["schema_config"]["configs"]] == [("v13", "tsdb")]
    limits = loki["limits_config"]
    assert limits["allow_structured_metadata"] is True
    assert limits["max_label_names_per_series"] == len(LABELS)
    assert (limits["discover_service_name"], limits["discover_log_levels"]) == ([], False)
    assert loki["server"]["http_listen_address"] == "127.0.0.1"


def test_grafana_goes_from_a_line_to_its_trace_and_back() -> None:
    sources = {one["uid"]: one for one in loaded("grafana", "provisioning", "datasources", "dpj.yml")["datasources"]}
    assert {uid: one["type"] for uid, one in sources.items()} == {
        "dpj-prometheus": "prometheus",
        "dpj-loki": "loki",
        "dpj-tempo": "tempo",
    }
    [to_trace] = sources["dpj-loki"]["jsonData"]["derivedFields"]
    assert (to_trace["matcherType"], to_trace["matcherRegex"]) == ("label", "trace_id")
    assert to_trace["datasourceUid"] in sources
    to_logs = sources["dpj-tempo"]["jsonData"]["tracesToLogsV2"]
    assert to_logs["datasourceUid"] in sources
    assert "| trace_id = " in to_logs["query"]
    scraped = loaded("prometheus.yml")["global"]["scrape_interval"]
    assert sources["dpj-prometheus"]["jsonData"]["timeInterval"] == scraped


def test_dashboards_are_provisioned_from_files() -> None:
    [provider] = loaded("grafana", "provisioning", "dashboards", "dpj.yml")["providers"]
    assert (provider["type"], provider["allowUiUpdates"]) == ("file", False)
