"""What processes say of themselves: lines that are not repeated, circuits and stalls as metrics."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest
import structlog
from prometheus_client import CollectorRegistry

from processors.resilience.circuit_breakers import CircuitState
from runtime.observability.telemetry import REMEMBERED, CircuitMetrics, RepeatedLines, WatchdogMetrics, _RepeatedEvents


def test_what_is_said_at_every_try_is_said_once_a_minute() -> None:
    now = [100.0]
    once = _RepeatedEvents(lambda: now[0])

    def says(event: str, **fields: str) -> bool:
        try:
            return once(None, "warning", {"event": event, **fields}) == {"event": event, **fields}
        except structlog.DropEvent:
            return False

    assert says("vault_call_failed", error="ConnectionError")
    assert not says("vault_call_failed", error="ConnectionError")
    assert says("vault_call_failed", error="Forbidden")
    assert says("object_store_refused", code="AccessDenied")
    assert all(says("event_failed", error="ConnectionError") for _ in range(3))
    now[0] += 60
    assert says("vault_call_failed", error="ConnectionError")


def test_what_a_library_says_again_and_again_is_said_once_a_minute() -> None:
    now = [100.0]
    repeated = RepeatedLines(lambda: now[0])

    def says(name: str, message: str, *values: object) -> str | None:
        record = logging.LogRecord(name, logging.ERROR, __file__, 1, message, values, None)
        return record.getMessage() if repeated.filter(record) else None

    assert says("aiokafka", "Unable connect to node with id %s", 1) == "Unable connect to node with id 1"
    assert [says("aiokafka", "Unable connect to node with id %s", n) for n in (1, 2, 1)] == [None] * 3
    assert says("aiokafka", "Heartbeat failed") == "Heartbeat failed"
    assert says("other", "Heartbeat failed") == "Heartbeat failed"
    now[0] += 60
    again = says("aiokafka", "Unable connect to node with id %s", 1)
    assert again == "Unable connect to node with id 1 (and 3 times in between)"
    assert says("aiokafka", "Heartbeat failed") == "Heartbeat failed"


def test_what_libraries_said_is_remembered_within_bounds() -> None:
    repeated = RepeatedLines(lambda: 0.0)
    for number in range(REMEMBERED + 10):
        word = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        assert repeated.filter(logging.LogRecord("x", logging.ERROR, __file__, 1, word, None, None))
    assert len(repeated._said) == REMEMBERED


def test_a_circuits_state_and_openings_are_metrics() -> None:
    registry = CollectorRegistry()
    metrics = CircuitMetrics(registry)
    ged = {"dependency": "ged"}

    def seen() -> tuple[float | None, float | None]:
        return registry.get_sample_value("dpj_circuit_state", ged), registry.get_sample_value(
            "dpj_circuit_opened_total", ged
        )

    metrics.known("ged")
    assert seen() == (0, 0)
    states = [
        CircuitState.CLOSED,
        CircuitState.OPEN,
        CircuitState.HALF_OPEN,
        CircuitState.OPEN,
        CircuitState.HALF_OPEN,
        CircuitState.CLOSED,
    ]
    values = []
    for previous, state in pairwise(states):
        metrics.changed("ged", state, previous)
        values.append(seen())
    assert values == [(2, 1), (1, 1), (2, 1), (1, 1), (0, 1)]


@pytest.mark.parametrize("stalled", [True, False])
def test_a_stall_is_a_metric(stalled: bool) -> None:
    registry = CollectorRegistry()
    metrics = WatchdogMetrics(registry)
    metrics.stalled(("audit", "topic", 3), stalled=stalled)
    metrics.restarted("audit")
    labels = {"consumer": "audit", "topic": "topic", "partition": "3"}
    assert registry.get_sample_value("dpj_stalled", labels) == int(stalled)
    assert registry.get_sample_value("dpj_watchdog_restarts_total", {"consumer": "audit"}) == 1
