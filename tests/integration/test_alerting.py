"""Rules, dashboards' queries and Alertmanager's configuration, by the real promtool and amtool."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.native import certificates
from deploy.native.parts import observability
from tests.support.alerting import FOLDER, RULES, alerts, cases, shown
from tests.support.programs import needs_monitoring
from tests.support.stack_sites import site_of

SECONDS = 180


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    needs_monitoring()


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=SECONDS, check=False)


def told(annotations: dict[str, str], labels: dict[str, str]) -> dict[str, str]:
    """As Prometheus fills them in: our texts speak of labels, and of nothing else."""
    return {
        name: re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], text)
        for name, text in annotations.items()
    }


def unit_tests() -> dict[str, list[dict[str, Any]]]:
    """One per case, in promtool's own form, by how often the rules are evaluated: of hours every tenth minute will do."""
    tests: dict[str, list[dict[str, Any]]] = {"1m": [], "10m": []}
    for rule in alerts():
        for outcome, case in cases()[rule.name].items():
            expected = []
            if outcome == "fires":
                labels = dict(case.get("labels", {}))
                expected.append({"exp_labels": labels | rule.labels, "exp_annotations": told(rule.annotations, labels)})
            tests["10m" if case["at"].endswith("h") else "1m"].append(
                {
                    "name": f"{rule.name} {outcome}",
                    "interval": "1m",
                    "input_series": [
                        {"series": series, "values": str(values)} for series, values in case["series"].items()
                    ],
                    "alert_rule_test": [
                        {
                            "eval_time": case["at"],
                            "alertname": rule.name,
                            "exp_alerts": expected,
                        }
                    ],
                }
            )
    return tests


def test_the_rules_are_rules() -> None:
    done = run("promtool", "check", "rules", *RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_is_one() -> None:
    done = run("promtool", "check", "config", FOLDER / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_and_does_not_fire_as_its_cases_say(tmp_path: Path) -> None:
    # promtool takes groups in any order unless told, and what was recorded ten minutes ago is too old: the recording ones first.
    order = [group["name"] for path in RULES for group in yaml.safe_load(path.read_text("utf-8"))["groups"]]
    files = []
    for every, tests in unit_tests().items():
        files.append(tmp_path / f"{every}.yml")
        document = {
            "rule_files": [str(path) for path in RULES],
            "evaluation_interval": every,
            "group_eval_order": order,
            "tests": tests,
        }
        files[-1].write_text(yaml.safe_dump(document), "utf-8")
    done = run("promtool", "test", "rules", *files)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_dashboards_ask_is_promql(tmp_path: Path) -> None:
    recorded = [
        {"record": f"shown:{number}", "expr": one.expr.replace("$__rate_interval", "1m")}
        for number, one in enumerate(shown())
    ]
    file = tmp_path / "shown.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "shown", "rules": recorded}]}), "utf-8")
    done = run("promtool", "check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(recorded)} rules found" in done.stdout


def test_a_local_stacks_configuration_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPJ_HOME", str(tmp_path))
    here = site_of("embedded", tls=True)
    certificates.ensure(here, ["prometheus", "alertmanager"])
    for part in (observability.Prometheus(), observability.Alertmanager()):
        part.prepare(here)
        part.command(here)
    config = here.folder / "config"
    for words in (
        ("promtool", "check", "config", config / "prometheus.yml"),
        ("promtool", "check", "web-config", config / "prometheus-web.json"),
        ("promtool", "check", "web-config", config / "alertmanager-web.json"),
        ("amtool", "check-config", config / "alertmanager.yml"),
    ):
        done = run(*words)
        assert done.returncode == 0, done.stdout + done.stderr


def test_alertmanager_takes_its_configuration() -> None:
    done = run("amtool", "check-config", FOLDER / "alertmanager.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("severity", "receiver"), [("page", "pages"), ("ticket", "tickets"), ("", "tickets")])
def test_who_hears_of_it(severity: str, receiver: str) -> None:
    configuration = FOLDER / "alertmanager.yml"
    done = run("amtool", "config", "routes", "test", f"--config.file={configuration}", f"severity={severity}")
    assert (done.returncode, done.stdout.strip()) == (0, receiver)
