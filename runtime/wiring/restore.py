"""What looking at a restore, and putting it right, is made of. Await ``codec.check`` before anything is repaired: repairs are audited."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Mapping
from itertools import islice
from pathlib import Path
from typing import Final

from crypto.signatures import verifies
from domain.errors import EventUndecodable
from domain.events import SCHEMA_HEADER, AuditRecorded
from operations.audit.checkpoints import SignedHistory, read_signed
from operations.external_sort import ExternalSort
from operations.kafka.dead_letters import read_records
from operations.restore.check import RestoreReport, RestoreSources, read_all
from operations.restore.refill import AuditRefill
from operations.restore.repair import DueErasures, RepairParts, RestoreRepair
from processors.events.archive_copies import CopyRemover
from processors.reconcile.erased import ErasedDocumentsCheck
from processors.reconcile.ged import GedCopiesCheck
from processors.reconcile.lost_events import LostEventsCheck
from processors.reconcile.metadata import MetadataCheck
from processors.reconcile.object_store import check_stored_objects
from processors.reconcile.run import Comparison, Reconciliation
from processors.restore.rows import RowsFromGed
from processors.restore.undone import UndoneActs
from runtime.config.transport import kafka_security
from runtime.wiring.site import Site
from storage.postgres.audit.refill import PostgresRefillSources
from storage.postgres.inventory import PostgresInventory
from storage.postgres.restores import PostgresRenderedDocuments, PostgresRestoredRows

#: Records of Kafka that are handed over from its thread at once.
RECORDS: Final = 500
#: In hours: as long ago as there can be documents.
EVER: Final = 24.0 * 366 * 100


def restore_sources(site: Site) -> RestoreSources:
    """What the log tells and the database has."""
    return RestoreSources(
        log=site.audit_log,
        rows=PostgresRestoredRows(site.postgres),
        handed_over=PostgresRefillSources(site.postgres).handed_over,
        signed=lambda: _signed(site),
        lines=lambda: audit_lines(site),
        folder=Path(tempfile.gettempdir()),
    )


async def _signed(site: Site) -> Mapping[str, SignedHistory]:
    keys = {key.id: key for key in await site.signing.signer.public_keys()}
    checkpoints = site.signing.checkpoints
    return {name: await read_signed(checkpoints, keys, verifies, name) for name in await checkpoints.tenants()}


async def audit_lines(site: Site) -> AsyncGenerator[AuditRecorded, None]:
    """The audit lines that Kafka still has. Records that are none are passed over. Raises BrokerUnavailable."""
    settings = site.settings
    records = read_records(settings.kafka_bootstrap, AuditRecorded.TOPIC, security=kafka_security(settings))
    try:
        while page := await asyncio.to_thread(lambda: list(islice(records, RECORDS))):
            for record in page:
                if record.value is None:
                    continue
                try:
                    event = await site.codec.decode(
                        AuditRecorded.TOPIC, record.value, record.headers.get(SCHEMA_HEADER)
                    )
                except EventUndecodable:
                    continue
                if isinstance(event, AuditRecorded):
                    yield event
    finally:
        await asyncio.to_thread(records.close)


def restore_comparison(site: Site) -> Reconciliation:
    """Rows against object store, GED, metadata and Kafka, however old. Repairs nothing."""
    settings = site.settings
    parts: dict[str, Comparison] = {
        "objects": check_stored_objects,
        "GED": GedCopiesCheck(site.ged_repository, hours=EVER),
        "metadata": MetadataCheck(PostgresRenderedDocuments(site.postgres), site.extended_metadata),
        "events": LostEventsCheck(site.owed_events(), after_seconds=settings.events_lost_after).check,
        "erased": _erased(site),
    }
    return _reconciliation(site, parts)


def _erased(site: Site) -> ErasedDocumentsCheck:
    remover = CopyRemover(site.database, site.ged_repository)
    return ErasedDocumentsCheck(
        site.ged_repository, remover, site.extended_metadata, hours=EVER, objects=site.object_store
    )


def _reconciliation(site: Site, parts: Mapping[str, Comparison]) -> Reconciliation:
    # Not guarded: what is erased again is what its own row says is erased.
    return Reconciliation(
        site.database,
        PostgresInventory(site.postgres),
        site.object_store,
        site.clock,
        parts,
        grace_seconds=site.settings.reconcile_grace,
    )


def audit_refill(site: Site) -> AuditRefill | None:
    """None where the log is in the database: it is restored with it."""
    if site.settings.audit_store != "mongodb":
        return None
    sources, folder = PostgresRefillSources(site.postgres), Path(tempfile.gettempdir())
    return AuditRefill(site.audit_log, sources, lambda: audit_lines(site), site.database, folder)


def repair_parts(site: Site, actor: str, eraser: DueErasures) -> RepairParts:
    """The steps' parts, in the name of the operator of that pseudonym. ``eraser`` carries out erasures that are due."""
    return RepairParts(
        sources=restore_sources(site),
        restores=site.restores,
        undone=UndoneActs(site.database, site.clock, actor),
        eraser=eraser,
        erased=_reconciliation(site, {"erased": _erased(site)}),
        resumption=site.audit_resumption(actor),
        refill=audit_refill(site),
        rows=RowsFromGed(
            site.database, site.ged_repository, site.content, site.texts, site.personal, site.clock, actor
        ),
        rendered=PostgresRenderedDocuments(site.postgres),
        metadata=site.extended_metadata,
        descriptions=site.renditions(),
        owed=site.owed_events(),
        database=site.database,
        clock=site.clock,
        actor=actor,
        events_after=site.settings.events_lost_after,
    )


async def repaired_step(site: Site, step: str, actor: str, reason: str, eraser: DueErasures) -> tuple[int, int]:
    """Do one step of a repair; how many were put right, and how many are left. Raises DatabaseUnavailable, AuditStoreUnavailable."""
    if step == "rows" and any(one.keeps_from_serving for one in (await site.restores.state()).open):
        return 0, 1  # erasures are to be done first
    parts, report = repair_parts(site, actor, eraser), RestoreReport()
    with ExternalSort(Path(tempfile.gettempdir())) as sorting:
        await read_all(parts.sources, sorting, report)
        (result,) = await RestoreRepair(parts, sorting, report, reason).run((step,), apply=True)
    return result.done, result.left_count
