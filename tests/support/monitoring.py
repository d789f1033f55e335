"""Real Prometheus and Alertmanager for a test: our rules, a site's routes and inhibition, all of it in a hurry.

The hurry is one documented change of the files as they are: every `for` and `keep_firing_for` lasts a part of what it says, the
groups are evaluated and the targets scraped every second, and Alertmanager waits a second where it waits for more. Expressions,
with their thresholds and windows, labels, routes and inhibition stay as they are.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from deploy.native import ports
from deploy.native.parts import observability
from tests.support.alerting import FOLDER, RULES
from tests.support.free_ports import free_port
from tests.support.pipeline import wait_for

EVERY = "1s"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def hurried(rules: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """The same rules with every `for` and `keep_firing_for` divided by ``factor``, and evaluated every second."""
    groups = [
        {**group, "interval": EVERY, "rules": [_hurried(rule, factor) for rule in group["rules"]]}
        for group in rules["groups"]
    ]
    return {**rules, "groups": groups}


def _hurried(rule: Mapping[str, Any], factor: float) -> dict[str, Any]:
    found = dict(rule)
    for name in ("for", "keep_firing_for"):
        if name in found:
            number, unit = re.fullmatch(r"(\d+)([smhd])", found[name]).groups()  # type: ignore[union-attr]
            found[name] = f"{round(int(number) * _SECONDS[unit] * 1000 / factor)}ms"
    return found


def routed_to(url: str, *, group_wait: str = EVERY) -> dict[str, Any]:
    """A site's configuration of Alertmanager whose receivers all tell ``url``, soon."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / "alertmanager.yml").read_text("utf-8"))
    for route in (found["route"], *found["route"]["routes"]):
        route |= {"group_wait": group_wait, "group_interval": EVERY}
    webhook = {"url": url, "send_resolved": True}
    found["receivers"] = [{"name": one["name"], "webhook_configs": [webhook]} for one in found["receivers"]]
    return found


@dataclass
class Told:
    """What a webhook was told, in order: status, receiver and labels of each alert."""

    alerts: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def names(self, status: str) -> list[str]:
        """Names of the alerts that were told with ``status``: firing or resolved."""
        return [labels["alertname"] for said, _, labels in self.alerts if said == status]


@contextmanager
def webhook() -> Iterator[tuple[str, Told]]:
    """Its URL, and what it was told so far."""
    told = Told()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.alerts += [(one["status"], body["receiver"], one["labels"]) for one in body["alerts"]]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((ports.LOOPBACK, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{ports.LOOPBACK}:{server.server_port}/", told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class Alertmanager:
    """One that runs."""

    url: str

    def post(self, alerts: list[dict[str, str]]) -> None:
        """Say that these (labels) fire, as Prometheus does."""
        body = [{"labels": labels} for labels in alerts]
        httpx.post(f"{self.url}/api/v2/alerts", json=body, trust_env=False).raise_for_status()

    def alerts(self) -> list[dict[str, Any]]:
        """All that it knows, in its own form."""
        found: list[dict[str, Any]] = httpx.get(f"{self.url}/api/v2/alerts", trust_env=False).raise_for_status().json()
        return found


@contextmanager
def alertmanager(folder: Path, configuration: Mapping[str, Any]) -> Iterator[Alertmanager]:
    program = observability.alertmanager_program()
    assert program is not None
    config = folder / "alertmanager.yml"
    config.write_text(json.dumps(configuration), "utf-8")
    address = f"{ports.LOOPBACK}:{free_port()}"
    arguments = [
        program,
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        "--cluster.listen-address=",
        f"--web.listen-address={address}",
    ]
    with _running(arguments, folder / "alertmanager.log", f"http://{address}") as url:
        yield Alertmanager(url)


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    url: str

    def get(self, path: str, **query: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=query, trust_env=False, timeout=10)
        return answer.raise_for_status().json()["data"]

    def value(self, expr: str) -> float | None:
        """Of an expression that gives one sample at most; None for none."""
        found = self.get("query", query=expr)["result"]
        return float(found[0]["value"][1]) if found else None

    def evaluated(self) -> datetime:
        """When the group of rules that has waited longest was evaluated."""
        return min(datetime.fromisoformat(group["lastEvaluation"]) for group in self.get("rules")["groups"])


@contextmanager
def prometheus(folder: Path, targets: Path, tells: Alertmanager, factor: float) -> Iterator[Prometheus]:
    """Scrapes what ``targets`` (``file_sd_config``) says every second and evaluates our rules ``factor`` times as soon."""
    rules = []
    for path in RULES:
        rules.append(folder / path.name)
        rules[-1].write_text(yaml.safe_dump(hurried(yaml.safe_load(path.read_text("utf-8")), factor)), "utf-8")
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    configuration["global"] = {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY}
    configuration["rule_files"] = [str(path) for path in rules]
    configuration["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [tells.url.rpartition("/")[2]]}]}]
    configuration["scrape_configs"][0]["file_sd_configs"] = [{"files": [str(targets)]}]
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(configuration), "utf-8")
    address = f"{ports.LOOPBACK}:{free_port()}"
    arguments = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={address}",
    ]
    with _running(arguments, folder / "prometheus.log", f"http://{address}") as url:
        yield Prometheus(url)


@contextmanager
def _running(arguments: list[str], log: Path, url: str) -> Iterator[str]:
    def answers() -> bool:
        assert process.poll() is None, log.read_text("utf-8")[-2000:]
        try:
            return httpx.get(f"{url}/-/ready", trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    with log.open("wb") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=output, cwd=log.parent)
    try:
        wait_for(answers, f"{arguments[0]} is ready", 60)
        yield url
    finally:
        process.terminate()
        process.wait(30)
