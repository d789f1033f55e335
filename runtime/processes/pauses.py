"""What a worker says of its consumers that an operator has paused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from runtime.observability.telemetry import PauseMetrics
from runtime.wiring.site import Site


def follow_pauses(site: Site, consumers: Sequence[str]) -> Callable[[], Mapping[str, Mapping[str, str]]]:
    """Has metrics and readiness tell of pauses; gives those that count now, by consumer: by whom, why, since and until when."""
    gate = site.pause_gate

    def paused() -> Mapping[str, Mapping[str, str]]:
        return {
            name: {
                "by": pause.by,
                "reason": pause.reason,
                "since": pause.since.isoformat(timespec="seconds"),
                "until": pause.until.isoformat(timespec="seconds"),
            }
            for name in consumers
            if (pause := gate.paused(name)) is not None
        }

    PauseMetrics(site.metrics, consumers, gate.paused)
    site.readiness_facts["paused"] = paused
    return paused
