"""What processes say of themselves: lines that are not repeated, circuits and stalls as metrics."""

from __future__ import annotations

from itertools import pairwise

import pytest
import structlog
from prometheus_client import CollectorRegistry

from processors.breakers import State
from runtime.telemetry import CircuitMetrics, WatchdogMetrics, _SaidOnce


def test_what_is_said_at_every_try_is_said_once_a_minute() -> None:
    now = [100.0]
    once = _SaidOnce(lambda: now[0])

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
    states = [State.CLOSED, State.OPEN, State.HALF_OPEN, State.OPEN, State.HALF_OPEN, State.CLOSED]
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
