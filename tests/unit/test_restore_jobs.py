"""Regular work asks before it deletes, notices a restore by itself, and what an operator reads of one fits a terminal."""

from __future__ import annotations

import asyncio
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from domain.errors import RestoreUnderWay
from domain.reconciliation import DiscrepancyKind
from domain.restores import Difference, OpenRestore, RestoredStore
from operations.restore.check import RestoreReport
from operations.restore.history import ReadLog
from processors.reconcile.run import ReconcileReport, RepairMode
from runtime.cli.restore import MEANINGS, document_of, lines_of
from runtime.processes import reconcile_jobs, restore_jobs
from runtime.processes.restore_jobs import RestoreMetrics, guarded_housekeeping, guarded_sweep, watch_restores
from tests.support.builders import NOW

OPEN = OpenRestore(store=RestoredStore.POSTGRESQL, opened_at=NOW, opened_by="system:restore", reason="DATABASE_BEHIND")


class Guard:
    def __init__(self, *, is_open: bool) -> None:
        self.found = (OPEN,) if is_open else ()
        self.looks = 0

    async def look(self) -> Any:
        self.looks += 1
        return self.found

    async def check(self) -> None:
        if await self.look():
            raise RestoreUnderWay


class Job:
    def __init__(self) -> None:
        self.runs = 0

    async def run_once(self) -> None:
        self.runs += 1


def a_site(guard: Guard, job: Job) -> Any:
    return SimpleNamespace(
        restore_guard=guard, sweep=lambda: job, housekeeping=lambda: job, postgres=None, metrics=CollectorRegistry()
    )


@pytest.mark.parametrize(("expired", "is_open", "runs"), [(1, True, 0), (1, False, 1), (0, True, 1)])
async def test_the_sweep_asks_before_it_abandons_a_row(
    monkeypatch: pytest.MonkeyPatch, expired: int, is_open: bool, runs: int
) -> None:
    """Where no row has expired, nothing is abandoned, and nobody is asked."""

    class Rows:
        def __init__(self, _: object) -> None: ...

        async def expired(self, limit: int) -> list[object]:
            return [object()] * min(expired, limit)

    monkeypatch.setattr(restore_jobs, "PostgresInventory", Rows)
    guard, job = Guard(is_open=is_open), Job()
    sweep = guarded_sweep(a_site(guard, job))
    if runs:
        await sweep()
    else:
        with pytest.raises(RestoreUnderWay):
            await sweep()
    assert (job.runs, guard.looks) == (runs, expired)


async def test_rows_are_not_pruned_while_a_restore_is_open() -> None:
    job = Job()
    with pytest.raises(RestoreUnderWay):
        await guarded_housekeeping(a_site(Guard(is_open=True), job))()
    assert job.runs == 0
    await guarded_housekeeping(a_site(Guard(is_open=False), job))()
    assert job.runs == 1


async def test_a_restore_is_looked_for_and_told() -> None:
    stopping, site = asyncio.Event(), a_site(Guard(is_open=True), Job())
    watching = asyncio.create_task(watch_restores(site, stopping))
    while not site.restore_guard.looks:
        await asyncio.sleep(0.1)
    stopping.set()
    await watching
    told = {
        store.value: site.metrics.get_sample_value("dpj_restores_open", {"store": store.value})
        for store in RestoredStore
    }
    assert told == {**dict.fromkeys(told, 0.0), "postgresql": 1.0}


def test_nothing_is_open_at_first() -> None:
    registry = CollectorRegistry()
    RestoreMetrics(registry)
    assert registry.get_sample_value("dpj_restores_open", {"store": "ged"}) == 0


async def test_regular_reconciling_only_tells_while_a_restore_is_open() -> None:
    modes: list[RepairMode] = []

    class Run:
        async def run(self, mode: RepairMode, *, recent_seconds: float | None) -> ReconcileReport:
            modes.append(mode)
            if mode is not RepairMode.NONE:
                raise RestoreUnderWay
            stopping.set()
            return ReconcileReport(mode)

    async def check() -> None: ...

    stopping = asyncio.Event()
    site: Any = SimpleNamespace(
        settings=SimpleNamespace(reconcile_interval=1.0),
        metrics=CollectorRegistry(),
        readiness_facts={},
        reconcile=Run,
        codec=SimpleNamespace(check=check),
    )
    with capture_logs() as logs:
        await reconcile_jobs.run_reconciliations(site, stopping, lambda: True)
    assert modes == [RepairMode.SAFE, RepairMode.NONE]
    told = site.readiness_facts["reconcile"]()
    assert datetime.fromisoformat(told["finished_at"]).tzinfo is not None
    assert told["findings"] == {kind.value: 0 for kind in DiscrepancyKind}
    assert [line["event"] for line in logs] == ["reconcile_repairs_nothing"]


# --- what is read of it ------------------------------------------------------------------------------------------------------


def a_report() -> RestoreReport:
    report = RestoreReport(open=(OPEN,), documents=12, logs=(ReadLog("acme", 99, None),))
    document = {
        "document_id": "0b0f2ac4-2f0c-4c3e-8d65-5a7c4c0c1f57",
        "tenant": "acme",
        "deposited_at": "2026-03-01T12:00:00.000001+00:00",
        "sha256": "ab" * 32,
    }
    for kind in Difference:
        for _ in range(7):
            report.add(kind, document if kind is Difference.DOCUMENT_LOST else {"tenant": "acme", "missing": 3})
    return report


def test_every_kind_has_its_meaning_and_what_comes_next() -> None:
    assert set(MEANINGS) == {kind.value for kind in Difference}


def test_the_report_fits_a_terminal_and_names_what_is_lost() -> None:
    report = a_report()
    report.failed["stores"] = "ged_unavailable"
    lines = "\n".join(lines_of(report)).splitlines()
    assert max(map(len, lines)) <= 80
    assert "Open: postgresql since 2026-03-01T12:00:00 (DATABASE_BEHIND)" in lines
    assert "      erasures are not done again yet" in lines
    assert f"    sha256 {'ab' * 32}" in lines
    assert "  and 2 more: --json has them" in lines
    assert "NOT LOOKED AT: stores (ged_unavailable)." in lines
    assert lines[-1].startswith("Next: dpj restore repair")


def test_a_report_without_differences() -> None:
    report = RestoreReport(open=(OPEN,))
    assert list(lines_of(report))[-1] == "Nothing is to be done. Then: dpj restore end"
    assert document_of(report)["clean"]


def test_the_report_for_programs_has_counts_meanings_and_items() -> None:
    found = document_of(a_report())
    lost = found["differences"]["document_lost"]
    assert (lost["count"], len(lost["items"]), lost["meaning"]) == (7, 7, "ACKNOWLEDGED AND LOST")
    assert found["open"][0]["store"] == "postgresql"
    assert not found["clean"]
