"""What watches as parts of a stack, in clear and with TLS: all start, know each other, what to scrape and what to read, and end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.native import certificates, files, site, stack
from deploy.native.launch import Launch
from deploy.native.parts import of
from deploy.native.parts.observability import NAME, addresses
from deploy.native.parts.victorialogs import VictoriaLogs
from deploy.native.report import Silent
from deploy.native.site import StackSite, targets_file
from deploy.native.supervisor import Supervisor
from tests.support.pipeline import wait_for
from tests.support.programs import needs_monitoring

TRACE = "0af7651916cd43dd8448eb211c80319c"
#: A process that says something about a document, and dies with words that are no JSON.
TALKING = f"""
import structlog
from domain.shared.correlation import current_traceparent
from runtime.observability.telemetry import configure_logging
configure_logging("worker-archiving")
current_traceparent.set("00-{TRACE}-b7ad6b7169203331-01")
structlog.get_logger().warning("event_failed", document_id="1f0e", code="GED_UNAVAILABLE", attempt=3)
raise SystemExit("these were its last words")
"""


def lines(here: StackSite, query: str) -> list[dict[str, Any]]:
    """What VictoriaLogs answers to a question in LogsQL."""
    url, given = f"{VictoriaLogs().url(here)}/select/logsql/query", {"query": query}
    answer = httpx.post(url, data=given, verify=certificates.trusting(here) or True, trust_env=False)
    return [json.loads(line) for line in answer.raise_for_status().text.splitlines()]


def asked(here: StackSite, path: str) -> Any:
    url = f"{addresses(here)['prometheus']}/api/v1/{path}"
    answer = httpx.get(url, verify=certificates.trusting(here) or True, trust_env=False)
    return answer.raise_for_status().json()["data"]


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "TLS"])
def test_they_run_beside_a_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, tls: bool) -> None:
    needs_monitoring()
    monkeypatch.setenv("DPJ_HOME", str(tmp_path))
    here = site.load_or_create("mine", "embedded")
    files.private_folder(files.home() / ".locks")
    here.identity |= {"extras": [NAME], "tls": tls}
    stack._assign_ports(here, [], None)
    parts = [part for part in of(here.profile, here.extras) if part.extra == NAME]
    stack._certify(here, parts, {})
    supervisor = Supervisor(here.folder)
    launch = Launch(here, supervisor, Silent(), parts, frozenset())
    try:
        launch.run()
        files.write_json(targets_file(here.folder), [{"targets": ["127.0.0.1:1"], "labels": {"process": "api"}}])

        def scraped() -> list[str]:
            return [one["labels"]["process"] for one in asked(here, "targets")["activeTargets"]]

        wait_for(lambda: scraped() == ["api"], "the changed file is read", 60)
        wait_for(lambda: asked(here, "alertmanagers")["activeAlertmanagers"], "Alertmanager is known", 60)
        [alertmanager] = asked(here, "alertmanagers")["activeAlertmanagers"]
        assert alertmanager["url"].startswith(addresses(here)["alertmanager"])
        assert {group["name"] for group in asked(here, "rules")["groups"]} >= {
            "dpj-recorded",
            "dpj-objectives",
            "dpj-sight",
        }

        with (here.folder / "logs" / "worker-archiving.log").open("w") as log:
            subprocess.run([sys.executable, "-c", TALKING], stderr=log, timeout=60, check=False)
        [line] = wait_for(lambda: lines(here, f"trace_id:={TRACE}"), "the line is found by its trace", 60)
        wanted = {"_msg": "event_failed", "level": "warning", "document_id": "1f0e", "code": "GED_UNAVAILABLE"}
        assert {**wanted, "attempt": "3", "_stream": '{service.name="worker-archiving"}'}.items() <= line.items()
        assert lines(here, "document_id:=1f0e") == [line]
        assert [one["_msg"] for one in lines(here, '"last words"')] == ["these were its last words"]
    finally:
        launch.undo()
    assert supervisor.running() == {}
