"""The purge as a job of a relay: it comes about though the process is chosen late, and though an interval is long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from domain.lifecycle import Status
from processors.retention.purge import Purge
from runtime.processes import erasure_jobs as erasing
from tests.support.builders import NOW, FixedClock, a_document, a_type
from tests.support.memory import MemoryDatabase
from tests.support.memory_erasure import MemoryDueDocuments, MemoryPeriodicJobs

DAY = 86_400.0


class Bench:
    """A site with one document that is due."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.metrics = FixedClock(), CollectorRegistry()
        self.database = MemoryDatabase(self.clock)
        due = a_document(status=Status.ARCHIVED, expires_at=NOW - timedelta(days=1))
        self.database.put(due, a_type())
        self.work = MemoryPeriodicJobs(self.clock)
        self.chosen = False
        self.checks = 0
        purge = Purge(self.database, MemoryDueDocuments(self.database), self.clock)
        monkeypatch.setattr(erasing, "create_purge", lambda _: purge)
        monkeypatch.setattr(erasing, "PostgresPeriodicJobs", lambda _: self.work)
        monkeypatch.setattr(erasing, "PURGE_CHECK_SECONDS", 0.01)

    async def until(self, reached: Callable[[], bool], interval: float) -> None:
        """Run the job, as a process whose place changes, until ``reached``."""

        async def check() -> None:
            self.checks += 1

        settings = SimpleNamespace(purge_interval=interval, purge_rate=1000.0)
        site: Any = SimpleNamespace(
            settings=settings, metrics=self.metrics, postgres=None, codec=SimpleNamespace(check=check)
        )
        stopping = asyncio.Event()
        job = asyncio.create_task(erasing.run_purges(site, stopping, lambda: self.chosen))
        async with asyncio.timeout(5):
            while not reached():
                await asyncio.sleep(0.005)
        stopping.set()
        await job

    @property
    def due(self) -> float | None:
        return self.metrics.get_sample_value("dpj_documents_due")

    @property
    def erased(self) -> int:
        return len(self.database.rows.erasures)


async def test_who_is_chosen_after_its_start_purges_soon_and_not_an_interval_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch)
    await bench.work.mark_done("purge")
    bench.clock.move(DAY)
    looked = 0

    def reached() -> bool:
        nonlocal looked
        looked += 1
        if looked == 5:
            assert (bench.erased, bench.due) == (0, 0)
            bench.chosen = True
        return bench.erased == 1 and bench.due == 0

    await bench.until(reached, DAY)
    assert bench.checks == 1


async def test_what_is_due_is_told_where_purging_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.chosen = True
    await bench.until(lambda: bench.due == 1, 0)
    assert (bench.erased, bench.checks) == (0, 0)
