"""A real outage, seen by a real Prometheus that scrapes the running pipeline, and told by a real Alertmanager: once, and taken back.

All `for` last a thirtieth of what the rules say (``tests.support.monitoring``); thresholds are those of a site. What other tests
have left behind in the stores fires as well: only what is new counts.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from deploy.native import site
from deploy.native.parts.base import NotReady
from deploy.native.parts.smtp import Smtp
from deploy.native.supervisor import Supervisor
from tests.support.monitoring import Alertmanager, Prometheus, Told, alertmanager, prometheus, routed_to, webhook
from tests.support.pipeline import Pipeline, metadata, small_pdf, wait_for
from tests.support.programs import needs_monitoring

FACTOR = 30
#: How fast a busy machine is, is no business of these tests.
OF_SPEED = {"DpjReadsSlow", "DpjEventsLate"}
#: For a busy machine; the longest `for` that a test waits out lasts 20.
SECONDS = 90


@dataclass(frozen=True)
class Before:
    """``known``: labels of alerts. ``told``: how many messages about alerts there were."""

    known: tuple[dict[str, str], ...]
    told: int


@dataclass(frozen=True)
class Watch:
    prometheus: Prometheus
    alertmanager: Alertmanager
    told: Told

    def look(self) -> Before:
        """What fires or is about to now, and how much was told."""
        alerts = self.prometheus.get("alerts")["alerts"]
        return Before(tuple(one["labels"] for one in alerts), len(self.told.alerts))

    def new(self, before: Before) -> list[tuple[str, str, dict[str, str]]]:
        """What the webhook was told since, of alerts that were not known ``before``: status, receiver and labels, each once."""
        found: list[tuple[str, str, dict[str, str]]] = []
        for said in self.told.alerts[before.told :]:
            if said[2]["alertname"] not in OF_SPEED and said[2] not in before.known and said not in found:
                found.append(said)
        return found

    def is_taken_back(self, before: Before) -> bool:
        return any(status == "resolved" for status, _, _ in self.new(before))


@pytest.fixture(scope="module")
def watch(running: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """Scrapes what ``dpj up`` has written down as targets, and tells a webhook."""
    needs_monitoring()
    folder = tmp_path_factory.mktemp("monitoring")
    targets = site.targets_file(running.home)
    with (
        webhook() as (url, told),
        alertmanager(folder, routed_to(url)) as tells,
        prometheus(folder, targets, tells, FACTOR) as found,
    ):
        processes = len(json.loads(targets.read_text("utf-8")))
        wait_for(lambda: found.value('sum(up{job="dpj"})') == processes, "every process is scraped", SECONDS)
        scraped = datetime.now(UTC)
        wait_for(lambda: found.evaluated() > scraped, "all rules were evaluated on it", SECONDS)
        yield Watch(found, tells, told)


def test_a_mail_server_that_is_away_is_told_once_and_taken_back(pipeline: Pipeline, watch: Watch) -> None:
    here = site.load(pipeline.name)
    assert here is not None
    dossier, servers, smtp = pipeline.dossier(), Supervisor(here.folder), Smtp()
    before = watch.look()
    servers.stop([smtp.name])
    try:
        document = pipeline.upload(small_pdf("away"), metadata(dossier))["id"]
        wait_for(lambda: watch.new(before), "somebody is told", SECONDS)
        held = watch.prometheus.value('dpj_events_waiting{consumer="notification", dependency="smtp"}')
        assert held == 1
    finally:
        servers.start(smtp.name, smtp.command(here))

    def is_back() -> bool:
        try:
            smtp.ask(here)
        except NotReady:
            return False
        return True

    wait_for(is_back, "the mail server is back", SECONDS)
    wait_for(lambda: watch.is_taken_back(before), "it is taken back", SECONDS)
    labels = {"alertname": "DpjCircuitOpen", "dependency": "smtp", "severity": "ticket"}
    assert watch.new(before) == [("firing", "tickets", labels), ("resolved", "tickets", labels)]
    wait_for(lambda: pipeline.mails(document), "the mail came all the same", SECONDS)


def test_a_watchdog_that_is_down_is_one_page_and_not_three(pipeline: Pipeline, watch: Watch) -> None:
    before = watch.look()
    pipeline.end(signal.SIGTERM, "watchdog")
    blind = {"DpjProcessDown", "DpjWatchdogBlind", "DpjOverviewStands"}

    def names(*, inhibited: bool) -> set[str]:
        alerts = [one for one in watch.alertmanager.alerts() if one["labels"] not in before.known]
        return {one["labels"]["alertname"] for one in alerts if bool(one["status"]["inhibitedBy"]) == inhibited}

    wait_for(
        lambda: blind - {"DpjProcessDown"} <= names(inhibited=True), "what follows is known and inhibited", SECONDS
    )
    wait_for(lambda: watch.new(before), "somebody is woken", SECONDS)
    [(status, receiver, labels)] = watch.new(before)
    assert (status, receiver) == ("firing", "pages")
    assert (labels["alertname"], labels["process"]) == ("DpjProcessDown", "watchdog")
    pipeline.up()
    wait_for(lambda: ("resolved", receiver, labels) in watch.new(before), "it is taken back", SECONDS)
