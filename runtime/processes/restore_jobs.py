"""Noticing that the database was restored to before, and keeping regular work from deleting anything then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from domain.restores import OpenRestore, RestoredStore
from runtime.processes.lifetime import repeat
from runtime.wiring.site import Site
from storage.postgres.inventory import PostgresInventory

LOOK_SECONDS: Final = 10.0


class RestoreMetrics:
    """Restores that are being looked at; label: store."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._open = Gauge("dpj_restores_open", "1 while a restore of the store is open", ["store"], registry=registry)
        self.update(())

    def update(self, found: Sequence[OpenRestore]) -> None:
        for store in RestoredStore:
            self._open.labels(store.value).set(any(one.store is store for one in found))


async def watch_restores(site: Site, stopping: asyncio.Event) -> None:
    """Put a restore on record as soon as the database is found behind what lies outside of it."""
    metrics = RestoreMetrics(site.metrics)

    async def once() -> None:
        metrics.update(await site.restore_guard.look())

    await repeat(stopping, "restore", LOOK_SECONDS, once)


def guarded_sweep(site: Site) -> Callable[[], Awaitable[None]]:
    """The sweep of expired uploads. A row that a restore brought back may be that of an upload which was answered since."""
    sweep, rows = site.sweep(), PostgresInventory(site.postgres)

    async def once() -> None:
        if await rows.expired(1):
            await site.restore_guard.check()
        await sweep.run_once()

    return once


def guarded_housekeeping(site: Site) -> Callable[[], Awaitable[None]]:
    """Rows that have served their time: places of audit events among them, which a restore of the log needs."""
    housekeeping = site.housekeeping()

    async def once() -> None:
        await site.restore_guard.check()
        await housekeeping.run_once()

    return once
