"""Asking the registry for the ids of our schemas as a regular job of each relay: the one that leads may be another one in a second."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Gauge

from domain.shared.waiting import unless_stopped
from runtime.processes.lifetime import repeat
from runtime.wiring.site import Site

log = structlog.get_logger()

#: A relay that writes yesterday's ids does so for this long at most.
ASK_SECONDS: Final = 30.0


class SchemaMetrics:
    """Schemas of this release that the registry does not know."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._missing = Gauge("dpj_schemas_missing", "Schemas that the registry does not know", registry=registry)

    def asked(self, missing: int) -> None:
        self._missing.set(missing)


async def watch_schema_ids(site: Site, stopping: asyncio.Event) -> None:
    """Until told to stop. A registry that is away changes nothing: ids stay as they were."""
    metrics, ids = SchemaMetrics(site.metrics), site.schema_ids
    told: tuple[str, ...] = ()

    async def once() -> None:
        nonlocal told
        if await ids.refresh():
            log.warning("schema_ids_changed")
        if ids.missing != told:
            told = ids.missing
            (log.error if told else log.info)("schemas_missing", schemas=list(told))
        metrics.asked(len(told))

    await unless_stopped(stopping, repeat(stopping, "schema_ids", ASK_SECONDS, once))
