"""Reconciling as a regular job of one process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from domain.errors import RestoreUnderWay
from domain.reconciliation import DiscrepancyKind
from domain.shared.waiting import pause, unless_stopped
from processors.reconcile.run import RepairMode
from runtime.observability.telemetry import ReconcileMetrics
from runtime.processes.lifetime import repeat
from runtime.wiring.site import Site

log = structlog.get_logger()


async def run_reconciliations(site: Site, stopping: asyncio.Event, is_chosen: Callable[[], bool]) -> None:
    """Every ``reconcile_interval``, the first of them over, wherever ``is_chosen`` says so; repairs only what a row decides.

    A run ends where it is when the process is told to stop: what it began is whole at every moment.
    """
    seconds = site.settings.reconcile_interval
    if not seconds:
        await stopping.wait()
        return
    metrics = ReconcileMetrics(site.metrics)
    reconcile = site.reconcile()
    last: float | None = None
    told: dict[str, object] = {}
    site.readiness_facts["reconcile"] = lambda: told

    async def once() -> None:
        nonlocal last
        if not is_chosen():
            told.clear()
            last = None  # another process may have been chosen, or none
            return
        await site.codec.check()
        began = time.monotonic()
        recent = None if last is None else began - last
        try:
            report = await reconcile.run(RepairMode.SAFE, recent_seconds=recent)
        except RestoreUnderWay as error:
            log.warning("reconcile_repairs_nothing", code=error.code)
            report = await reconcile.run(RepairMode.NONE, recent_seconds=recent)
        last = None if report.failed_parts else began
        metrics.finished(report)
        if not report.failed_parts:
            left = {fault.value: report.found[fault] - report.repaired[fault] for fault in DiscrepancyKind}
            told.update(finished_at=datetime.now(UTC).isoformat(timespec="seconds"), findings=left)

    await pause(stopping, seconds)
    await unless_stopped(stopping, repeat(stopping, "reconcile", seconds, once))
