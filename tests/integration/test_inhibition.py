"""One cause is told once: what it makes fire is given to a real Alertmanager with our routes and inhibition."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from domain.consumers import CONSUMERS
from tests.support.alerting import alerts
from tests.support.monitoring import Alertmanager, alertmanager, routed_to
from tests.support.pipeline import wait_for
from tests.support.programs import needs_monitoring

SEVERITIES = {rule.name: rule.labels["severity"] for rule in alerts()}


def fires(name: str, **labels: str) -> dict[str, str]:
    return {"alertname": f"Dpj{name}", "severity": SEVERITIES[f"Dpj{name}"], **labels}


def of_every_consumer(name: str) -> list[dict[str, str]]:
    return [fires(name, consumer=consumer) for consumer in CONSUMERS]


NO_KAFKA = [
    fires("KafkaAway", part="kafka"),
    fires("WatchdogBlind"),
    fires("OutboxStands"),
    fires("DocumentWaits"),
    fires("NoRelayLeads"),
    fires("CircuitOpen", dependency="kafka"),
    *of_every_consumer("LagUnknown"),
    *of_every_consumer("ConsumerBehind"),
    *of_every_consumer("PartitionStalled"),
    *of_every_consumer("EventsLate"),
]
NO_DATABASE = [
    fires("DatabaseAway", part="outbox"),
    fires("ErrorsFast"),
    fires("ErrorsSlow"),
    fires("ErrorsCounted"),
    fires("UploadsFail"),
    fires("NoRelayLeads"),
    fires("CheckpointOverdue"),
    fires("CircuitOpen", dependency="postgresql"),
    *of_every_consumer("ConsumerBehind"),
    *of_every_consumer("PartitionStalled"),
    *[fires("EventsHeld", consumer=consumer, dependency="postgresql") for consumer in CONSUMERS],
]
NO_WATCHDOG = [fires("ProcessDown", process="watchdog"), fires("WatchdogBlind"), fires("OverviewStands")]
NO_SMTP = [
    fires("CircuitOpen", dependency="smtp"),
    fires("EventsHeld", consumer="notification", dependency="smtp"),
    fires("EventsLate", consumer="notification"),
]
NO_RELAY = [fires("NoRelayLeads"), fires("OutboxStands"), fires("DocumentWaits")]
#: Each alert says something that the other does not.
SMTP_AND_A_REFUSING_GED = [*NO_SMTP, fires("EventsHeld", consumer="archiving", dependency="ged")]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Alertmanager]:
    needs_monitoring()
    with alertmanager(tmp_path, routed_to("http://127.0.0.1:9/", group_wait="1h")) as found:
        yield found


@pytest.mark.parametrize(
    ("fired", "told"),
    [
        pytest.param(NO_KAFKA, {"DpjKafkaAway"}, id="Kafka"),
        pytest.param(NO_DATABASE, {"DpjDatabaseAway"}, id="PostgreSQL"),
        pytest.param(NO_WATCHDOG, {"DpjProcessDown"}, id="watchdog"),
        pytest.param(NO_SMTP, {"DpjCircuitOpen"}, id="SMTP"),
        pytest.param(NO_RELAY, {"DpjNoRelayLeads"}, id="relay"),
        pytest.param(SMTP_AND_A_REFUSING_GED, {"DpjCircuitOpen", "DpjEventsHeld"}, id="two causes"),
    ],
)
def test_one_cause_is_told_once(running: Alertmanager, fired: list[dict[str, str]], told: set[str]) -> None:
    expected = (sorted(told), len(fired) - len(told))

    def outcome() -> tuple[list[str], int]:
        """Names of what is told, and how many are inhibited."""
        known = running.alerts()
        active = sorted(one["labels"]["alertname"] for one in known if one["status"]["state"] == "active")
        return active, sum(bool(one["status"]["inhibitedBy"]) for one in known)

    running.post(fired)
    with suppress(AssertionError):
        wait_for(lambda: outcome() == expected, "Alertmanager has looked at all of them", 10)
    assert outcome() == expected
