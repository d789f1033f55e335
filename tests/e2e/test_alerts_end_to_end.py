"""A real outage, seen by a real Prometheus that scrapes the running pipeline, and told by a real Alertmanager: once, and taken back.

All `for` last a twentieth of what the rules say (``tests.support.monitoring``); thresholds are those of a site. What other tests
have left behind in the stores fires as well: only what is new counts.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from deploy.native import site
from deploy.native.parts import observability
from deploy.native.parts.base import NotReady
from deploy.native.parts.smtp import Smtp
from deploy.native.supervisor import Supervisor
from tests.support.monitoring import Alertmanager, Prometheus, Told, alertmanager, prometheus, routed_to, webhook
from tests.support.pipeline import Pipeline, metadata, small_pdf, wait_for
from tests.support.programs import needs_monitoring

FACTOR = 20
#: Of the longest `for` that a test waits out (10 minutes), and as much again for a busy machine.
SECONDS = 90


@dataclass(frozen=True)
class Watch:
    prometheus: Prometheus
    alertmanager: Alertmanager
    told: Told

    def known(self) -> list[dict[str, str]]:
        """Labels of what fires or is about to."""
        return [one["labels"] for one in self.prometheus.get("alerts")["alerts"]]

    def new(self, before: list[dict[str, str]]) -> list[tuple[str, str, dict[str, str]]]:
        """What the webhook was told beside what was known ``before``; each alert by its status, receiver and labels, once."""
        found: list[tuple[str, str, dict[str, str]]] = []
        for said in self.told.alerts:
            if said[2] not in before and said not in found:
                found.append(said)
        return found


@pytest.fixture(scope="module")
def watch(running: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """Scrapes what ``dpj up`` has written down as targets, and tells a webhook."""
    needs_monitoring()
    folder = tmp_path_factory.mktemp("monitoring")
    targets = observability.targets_file(running.home)
    with (
        webhook() as (url, told),
        alertmanager(folder, routed_to(url)) as tells,
        prometheus(folder, targets, tells, FACTOR) as found,
    ):
        processes = (
            len(running.pids().keys() & {"api", "relay", "watchdog", "console"}) + 5
        )  # and a worker per consumer
        wait_for(lambda: found.value('sum(up{job="dpj"})') == processes, "every process is scraped", SECONDS)
        # An alert is known when its rule was evaluated on these figures: one evaluation more.
        seen = found.value("time()")
        wait_for(lambda: (found.value("time()") or 0) > (seen or 0) + 3, "the rules were evaluated", SECONDS)
        yield Watch(found, tells, told)


def test_a_mail_server_that_is_away_is_told_once_and_taken_back(pipeline: Pipeline, watch: Watch) -> None:
    here = site.load(pipeline.name)
    assert here is not None
    dossier, servers, smtp = pipeline.dossier(), Supervisor(here.folder), Smtp()
    before = watch.known()
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
    wait_for(lambda: "resolved" in [status for status, _, _ in watch.new(before)], "it is taken back", SECONDS)
    labels = {"alertname": "DpjCircuitOpen", "dependency": "smtp", "severity": "ticket"}
    assert watch.new(before) == [("firing", "tickets", labels), ("resolved", "tickets", labels)]
    wait_for(lambda: pipeline.mails(document), "the mail came all the same", SECONDS)


def test_a_watchdog_that_is_down_is_one_page_and_not_three(pipeline: Pipeline, watch: Watch) -> None:
    before = watch.known()
    pipeline.end(signal.SIGTERM, "watchdog")
    blind = {"DpjProcessDown", "DpjWatchdogBlind", "DpjOverviewStands"}

    def names(*, inhibited: bool) -> set[str]:
        alerts = [one for one in watch.alertmanager.alerts() if one["labels"] not in before]
        return {one["labels"]["alertname"] for one in alerts if bool(one["status"]["inhibitedBy"]) == inhibited}

    wait_for(
        lambda: names(inhibited=True) == blind - {"DpjProcessDown"}, "what follows is known and inhibited", SECONDS
    )
    wait_for(lambda: watch.new(before), "somebody is woken", SECONDS)
    pipeline.up()
    wait_for(lambda: "resolved" in [status for status, _, _ in watch.new(before)], "it is taken back", SECONDS)
    told = watch.new(before)
    assert [(status, receiver, labels["alertname"], labels.get("process")) for status, receiver, labels in told] == [
        ("firing", "pages", "DpjProcessDown", "watchdog"),
        ("resolved", "pages", "DpjProcessDown", "watchdog"),
    ]
