"""Prometheus and Alertmanager as parts of a stack, in clear and with TLS: they start, know each other and what to scrape, and end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.native import certificates, files, site, stack
from deploy.native.launch import Launch
from deploy.native.parts import of
from deploy.native.parts.observability import NAME, addresses
from deploy.native.report import Silent
from deploy.native.site import StackSite, targets_file
from deploy.native.supervisor import Supervisor
from tests.support.pipeline import wait_for
from tests.support.programs import needs_monitoring


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
    finally:
        launch.undo()
    assert supervisor.running() == {}
