"""Erasing and purging as regular jobs of one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from domain.erasure import ErasureBacklog, RetentionPeriods
from domain.retention import DueDocumentCount
from domain.shared.waiting import unless_stopped
from processors.events.archive_copies import CopyRemover
from processors.retention.erasure_execution import ErasureExecutor
from processors.retention.purge import PeriodicPurge, Purge
from runtime.processes.lifetime import repeat
from runtime.wiring.site import Site
from storage.postgres.erasures import PostgresErasureQueue
from storage.postgres.periodic_jobs import PostgresPeriodicJobs
from storage.postgres.retention import PostgresDueDocuments

ERASE_SECONDS: Final = 2.0
#: How often what is due is counted, and looked whether a purge is: the longest that one comes late.
PURGE_CHECK_SECONDS: Final = 300.0


class ErasureMetrics:
    """Erasures that are not complete."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._waiting = Gauge("dpj_erasures_waiting", "Erasures that are not complete", registry=registry)
        self._oldest = Gauge(
            "dpj_erasure_oldest_seconds", "Age of the oldest erasure that is not complete", registry=registry
        )

    def update(self, waiting: ErasureBacklog) -> None:
        self._waiting.set(waiting.count)
        self._oldest.set(waiting.oldest_seconds)


class PurgeMetrics:
    """What is due, as the process that is chosen to purge sees it; nothing in all others."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._due = Gauge("dpj_documents_due", "Documents to erase: retention over, no legal hold", registry=registry)
        self._held = Gauge(
            "dpj_documents_due_held", "Documents whose retention is over and that a legal hold keeps", registry=registry
        )

    def update(self, groups: Sequence[DueDocumentCount]) -> None:
        held = sum(group.held for group in groups)
        self._due.set(sum(group.count for group in groups) - held)
        self._held.set(held)


def create_erasure_executor(site: Site) -> ErasureExecutor:
    """Await ``codec.check`` before it runs: what it does is audited."""
    settings = site.settings
    return ErasureExecutor(
        site.database,
        PostgresErasureQueue(site.postgres),
        site.object_store,
        CopyRemover(site.database, site.ged_repository),
        site.extended_metadata,
        site.signing.signer,
        site.clock,
        RetentionPeriods(
            topic_days=settings.topic_retention_days,
            backup_days=settings.backup_keep_days,
            row_days=settings.inbox_keep_days,
            key_hours=settings.idempotency_keep_hours,
            audit_store=settings.audit_store,
        ),
        lease_seconds=settings.event_lease,
    )


def create_purge(site: Site, operator: str | None = None) -> Purge:
    """In the name of the operator of that login name, else of the pipeline itself."""
    due, guard = PostgresDueDocuments(site.postgres), site.restore_guard.check
    if operator is None:
        return Purge(site.database, due, site.clock, may_delete=guard)
    actor = site.operator(operator)
    return Purge(site.database, due, site.clock, actor=actor, may_delete=guard)


async def run_erasures(site: Site, eraser: ErasureExecutor, stopping: asyncio.Event) -> None:
    """Carry out what is due, every ``ERASE_SECONDS``. Several processes may do so at once.

    A stop cuts it off where it is: what it began is whole at every moment.
    """
    queue = PostgresErasureQueue(site.postgres)
    metrics = ErasureMetrics(site.metrics)

    async def once() -> None:
        waiting = await queue.waiting()
        metrics.update(waiting)
        if waiting.count:
            await site.codec.check()
            await eraser.run_once()
            metrics.update(await queue.waiting())

    await unless_stopped(stopping, repeat(stopping, "erase", ERASE_SECONDS, once))


async def run_purges(site: Site, stopping: asyncio.Event, is_chosen: Callable[[], bool]) -> None:
    """Wherever ``is_chosen`` says so: count what is due, and erase it every ``purge_interval``; only count it if that is 0."""
    settings = site.settings
    metrics = PurgeMetrics(site.metrics)
    purge = PeriodicPurge(
        create_purge(site),
        PostgresPeriodicJobs(site.postgres),
        interval=settings.purge_interval,
        per_second=settings.purge_rate,
        may_run=site.codec.check,
        on_survey=metrics.update,
    )

    async def once() -> None:
        if is_chosen():
            await purge.run_if_due()
        else:
            metrics.update([])

    seconds = min(settings.purge_interval or PURGE_CHECK_SECONDS, PURGE_CHECK_SECONDS)
    await unless_stopped(stopping, repeat(stopping, "purge", seconds, once))
