"""Looking for lost events as a regular job of one process, which also removes what everybody has finished."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from domain.consumers import CONSUMERS
from domain.shared.waiting import unless_stopped
from processors.reconcile.owed_events import ACTOR, OwedReport
from runtime.processes.lifetime import repeat
from runtime.wiring.site import Site

#: Between two looks.
LOOK_SECONDS: Final = 60.0
#: A look through a backlog takes a while: the next comes after so many times that, so that it takes a tenth of the time at most.
REST: Final = 10.0
#: Lost events are sent again at this rate: consumers have other work, too.
EVENTS_PER_SECOND: Final = 100.0


class OwedMetrics:
    """Events that a consumer must still finish and that Kafka brings no more; label: consumer. Unknown is absent, never 0."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._owed = Gauge(
            "dpj_events_owed", "Events owed to a consumer that Kafka brings no more", ["consumer"], registry=registry
        )
        self._oldest = Gauge(
            "dpj_events_owed_oldest_timestamp_seconds",
            "When the oldest of them was published",
            ["consumer"],
            registry=registry,
        )
        self._sent = Counter("dpj_events_re_emitted_total", "Lost events published again", registry=registry)
        self._looked = Gauge(
            "dpj_events_owed_looked_timestamp_seconds", "When they were last looked for", registry=registry
        )

    def looked(self, report: OwedReport) -> None:
        self._oldest.clear()
        if not report.known:
            self._owed.clear()
            return
        for consumer in CONSUMERS:
            self._owed.labels(consumer).set(report.count[consumer])
        for consumer, at in report.oldest.items():
            self._oldest.labels(consumer).set(at.timestamp())
        self._looked.set_to_current_time()

    def sent(self, count: int) -> None:
        self._sent.inc(count)

    def unknown(self) -> None:
        """Another process looks, or none."""
        self._owed.clear()
        self._oldest.clear()


async def watch_owed_events(site: Site, stopping: asyncio.Event, is_chosen: Callable[[], bool]) -> None:
    """Once a minute, more seldom where that takes long, wherever ``is_chosen`` says so.

    What is lost is sent again, unless the site is not to do so by itself, or it was ``MOST_RE_EMISSIONS`` times already; all of it is told.
    """
    settings, metrics, owed = site.settings, OwedMetrics(site.metrics), site.owed_events()
    found: dict[str, int] = {}
    rests_until = 0.0
    site.readiness_facts["events_owed"] = lambda: found

    async def once() -> None:
        nonlocal rests_until
        if not is_chosen():
            found.clear()
            metrics.unknown()
            return
        began = time.monotonic()
        if began < rests_until:
            return
        report = await owed.look(after_seconds=settings.events_lost_after, prune=True)
        rests_until = time.monotonic() + REST * (time.monotonic() - began)
        found.clear()
        found.update(report.count)
        metrics.looked(report)
        await owed.note_lost(report, by_itself=settings.events_re_emit)
        lost = [one for one in report.lost if one.goes_by_itself]
        if lost and settings.events_re_emit:
            await site.codec.check()
            metrics.sent(await owed.re_emit(lost, ACTOR, reason="lost", rate=EVENTS_PER_SECOND))

    await unless_stopped(stopping, repeat(stopping, "owed_events", min(LOOK_SECONDS, settings.events_lost_after), once))
