"""``dpj restore check``: its parts, run one after another."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

from domain.errors import SchemaMissing
from domain.restores import Difference
from operations.external_sort import ExternalSort
from operations.kafka.topics import missing_topics, planned_topics
from operations.restore.check import (
    FOUND_BY,
    OnItem,
    RestoreReport,
    add_reconciled,
    add_refill,
    compare_documents,
    look,
    read_all,
)
from processors.operators.restore_steps import RestoreFindings
from processors.reconcile.run import RepairMode
from runtime.config.transport import kafka_security
from runtime.wiring.restore import audit_refill, restore_comparison, restore_sources
from runtime.wiring.site import Site


class RestoreLook:
    """``sorting`` holds what is read; ``on_item`` gets every document that differs, ``on_entry`` how many entries were read."""

    def __init__(self, site: Site, sorting: ExternalSort, *, on_item: OnItem, on_entry: Callable[[int], None]) -> None:
        self._site = site
        self._sorting = sorting
        self._on_item = on_item
        self._on_entry = on_entry
        self._report = RestoreReport()

    async def run(self) -> RestoreReport:
        """Raises DatabaseUnavailable: without the database nothing is known. Whatever else is away is named in the report."""
        parts = {
            "restores": self._restores,
            "schemas": self._schemas,
            "topics": self._topics,
            "audit log": self._documents,
            "log entries": self._log,
            "stores": self._stores,
        }
        for name, part in parts.items():
            await look(self._report, name, part)
        return self._report

    async def _restores(self) -> None:
        self._report.open = await self._site.restore_guard.look()

    async def _schemas(self) -> None:
        try:
            await self._site.codec.check()
        except SchemaMissing as error:
            self._report.add(Difference.SCHEMA_MISSING, {"schema": error.detail})

    async def _topics(self) -> None:
        for name in await asyncio.to_thread(self._missing_topics):
            self._report.add(Difference.TOPIC_MISSING, {"topic": name})

    def _missing_topics(self) -> list[str]:
        settings = self._site.settings
        plans = planned_topics(
            partitions=settings.topic_partitions,
            replication=settings.topic_replication,
            retention_days=settings.topic_retention_days,
        )
        return missing_topics(settings.kafka_bootstrap, plans, security=kafka_security(settings))

    async def _documents(self) -> None:
        sources = restore_sources(self._site)
        await read_all(sources, self._sorting, self._report, self._on_entry)
        await compare_documents(sources, self._sorting, self._report, self._on_item)

    async def _log(self) -> None:
        refill = audit_refill(self._site)
        if refill is not None and self._report.short:
            add_refill(self._report, await refill.run(apply=False))

    async def _stores(self) -> None:
        add_reconciled(self._report, await restore_comparison(self._site).run(RepairMode.NONE))


async def restore_findings(site: Site) -> RestoreFindings:
    """A whole look, as a batch keeps it. Raises DatabaseUnavailable."""
    with ExternalSort(Path(tempfile.gettempdir())) as sorting:
        report = await RestoreLook(site, sorting, on_item=lambda _kind, _item: None, on_entry=lambda _count: None).run()
    of_parts = frozenset().union(*FOUND_BY.values())
    unseen: dict[Difference, str] = {}
    for part, code in report.failed.items():
        kinds = FOUND_BY.get(part, frozenset(Difference) - of_parts)
        unseen |= {kind: code for kind in kinds if not report.count[kind]}
    return RestoreFindings(dict(report.count), unseen)
