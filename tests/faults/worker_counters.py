"""What the workers' own counters say while they are killed and started again: redeliveries, and tries repeated."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx

from tests.faults.plain_http import NO_TLS

if TYPE_CHECKING:
    from tests.faults.site import FaultSite

EVERY_SECONDS = 1.0
FINISHED = re.compile(r'^dpj_events_finished_total\{([^}]*outcome="duplicate"[^}]*)\} (\S+)$', re.MULTILINE)
RETRIED = re.compile(r"^dpj_event_retries_total\{([^}]*)\} (\S+)$", re.MULTILINE)
CODE = re.compile(r'code="([^"]*)"')
CONSUMER = re.compile(r'consumer="([^"]*)"')


class WorkerCounters:
    """Adds up counters over restarts. What a process counted in the last second before it was killed is missed.

    ``redeliveries``: events that a consumer was given again after it had done them. ``retries``: by error code.
    """

    def __init__(self, site: FaultSite) -> None:
        self._site = site
        self._last: dict[tuple[str, int, str], float] = {}
        self.redeliveries: Counter[str] = Counter()
        self.retries: Counter[str] = Counter()

    async def run(self) -> None:
        """Look every second until cancelled."""
        first = True
        async with httpx.AsyncClient(timeout=EVERY_SECONDS, trust_env=False, verify=NO_TLS) as client:
            while True:
                workers = [name for name in self._site.processes if name.startswith("worker-")]
                await asyncio.gather(*(self._look(client, name, count=not first) for name in workers))
                first = False
                await asyncio.sleep(EVERY_SECONDS)

    async def _look(self, client: httpx.AsyncClient, name: str, *, count: bool) -> None:
        process = self._site.processes.get(name)
        if process is None:
            return
        starts = process.starts
        with suppress(httpx.HTTPError):
            text = (await client.get(process.health.replace("/readyz", "/metrics"))).text
            for into, pattern, label in ((self.redeliveries, FINISHED, CONSUMER), (self.retries, RETRIED, CODE)):
                for labels, value in pattern.findall(text):
                    place = (name, starts, labels)
                    grown = float(value) - self._last.get(place, 0.0)
                    self._last[place] = float(value)
                    found = label.search(labels)
                    if count and found is not None and grown > 0:
                        into[found[1]] += round(grown)
