"""What PostgreSQL says after a restore: what is on record, rows, places, leaves and hashes of the audit chain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from domain.events import AuditRecorded
from domain.lifecycle import Status
from domain.merkle import leaf_hash
from domain.restores import RestoredStore
from domain.retention import LegalHold
from operations.restore.refill import AuditRefill
from processors.audit.chaining import AuditFlusher
from processors.audit.checkpoints import AuditCheckpointer
from schemas.codec import EventCodec
from storage.postgres.audit import refill
from storage.postgres.audit.refill import PostgresRefillSources
from storage.postgres.database import Postgres, PostgresDatabase
from storage.postgres.restores import (
    PostgresRenderedDocuments,
    PostgresRestoredRows,
    PostgresRestores,
    PostgresTakenCheckpoints,
)
from tests.integration.test_audit_resumption import Site
from tests.support.audit_lines import MemoryAuditStore, a_line
from tests.support.builders import a_document, a_dossier, a_rendition
from tests.support.memory_audit_trees import MemoryCheckpointStore


async def test_a_restore_is_on_record_once_for_each_store_until_it_is_ended(postgres: Postgres) -> None:
    restores = PostgresRestores(postgres)
    state = await restores.state()
    assert state.open == ()
    assert state.server_started < datetime.now(UTC)
    assert (await restores.state()).incarnation == state.incarnation
    async with postgres.connection() as connection:
        await connection.execute("TRUNCATE audit_heads")  # as whoever loads a dump into a running server does
    assert (await restores.state()).incarnation != state.incarnation
    opened = await asyncio.gather(*(restores.open(RestoredStore.GED, f"u-{n}", "INC-1") for n in range(4)))
    assert sorted(opened) == [False, False, False, True]
    assert await restores.open(RestoredStore.POSTGRESQL, "u", "INC-1")
    await restores.mark_erasures_done()
    first, second = (await restores.state()).open
    assert (first.store, second.store) == (RestoredStore.GED, RestoredStore.POSTGRESQL)
    assert first.erasures_done
    assert not second.keeps_from_serving
    assert not await restores.open(RestoredStore.POSTGRESQL, "u", "INC-2")
    found = {one.store: one for one in (await restores.state()).open}
    assert found[RestoredStore.POSTGRESQL].keeps_from_serving
    assert found[RestoredStore.POSTGRESQL].reason == "INC-1"
    assert await restores.close("u") == 2
    assert await restores.close("u") == 0
    assert (await restores.state()).open == ()
    assert await restores.open(RestoredStore.GED, "u", "INC-3")


async def test_rows_with_their_holds(postgres: Postgres, database: PostgresDatabase) -> None:
    dossier = a_dossier()
    one, two = a_document(dossier, Status.ARCHIVED), a_document(dossier, Status.ERASED)
    at = datetime(2026, 3, 1, tzinfo=UTC)
    async with database.transaction() as work:
        await work.dossiers.add(dossier)
        for document in (one, two):
            await work.documents.add(document)
        for reference, days in (("A", 0), ("B", 1)):
            hold = LegalHold(reference=reference, reason="R", set_by="u", set_at=at + timedelta(days=days))
            await work.holds.put(one.id, hold)
    found = await PostgresRestoredRows(postgres).rows([one.id, two.id, uuid4()])
    assert found.keys() == {one.id, two.id}
    assert found[one.id].holds == {"A": at, "B": at + timedelta(days=1)}
    assert (found[two.id].status, found[two.id].holds, found[two.id].tenant) == (Status.ERASED, {}, dossier.tenant)
    assert found[one.id].sequence == one.sequence


async def test_documents_with_thumbnails_page_by_page(postgres: Postgres, database: PostgresDatabase) -> None:
    dossier = a_dossier()
    documents = [a_document(dossier, Status.VERIFIED) for _ in range(5)]
    gone = a_document(dossier, Status.ERASING)
    async with database.transaction() as work:
        await work.dossiers.add(dossier)
        for document in (*documents, gone):
            await work.documents.add(document)
        for document in (*documents[:4], gone):
            await work.renditions.put(a_rendition(document, 256))
            await work.renditions.put(a_rendition(document, 1024, object_key=f"{document.object_key}.b"))
    rendered = PostgresRenderedDocuments(postgres)
    first = await rendered.page(UUID(int=0), 3)
    second = await rendered.page(first[-1][0], 3)
    assert [document_id for document_id, _ in (*first, *second)] == sorted(document.id for document in documents[:4])
    assert {tenant for _, tenant in first} == {dossier.tenant}


@pytest.mark.parametrize("page", [2, 5_000])
async def test_a_log_that_was_emptied_is_filled_again_from_what_the_chain_left(
    postgres: Postgres, codec: EventCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """Entries under a checkpoint have their leaves in tiles, younger ones beside them; those that wait are not asked for."""
    monkeypatch.setattr(refill, "PAGE", page)
    log = MemoryAuditStore()
    site = Site(postgres, codec, log, MemoryCheckpointStore())
    lines = [a_line() for _ in range(300)]
    archived = a_line(action="document.archived", details='{"ged_id":"g","ged_path":"p","sha256":"00"}')
    await site.write(*lines[:150], archived)
    flusher = AuditFlusher(site.pending, log, site.database)
    await flusher.flush()
    checkpointer = AuditCheckpointer(
        site.trees, site.signer, lambda *_: True, site.store, log, site.pending, site.database, site.clock,
        entries=1, seconds=1,
    )  # fmt: skip
    await checkpointer.run_once()
    assert await PostgresTakenCheckpoints(postgres).newest() == {"acme": 151}
    await site.write(*lines[150:])
    await flusher.flush()
    waiting = a_line()
    await site.write(waiting)
    sources = PostgresRefillSources(postgres)
    assert await sources.handed_over() == {"acme": 301}
    assert await sources.handed_over() == {"acme": 301}
    chain = [log.kept["acme", seq].entry for seq in range(1, 302)]
    leaves = await sources.leaves("acme", 140, 301)
    assert leaves == {entry.seq: leaf_hash(entry.body) for entry in chain[139:]}
    hashes = await sources.hashes("acme")
    assert hashes[151] == chain[150].hash
    assert hashes[302] != ""
    assert all(chain[seq - 1].hash == one for seq, one in hashes.items() if seq <= 301)
    log.kept.clear()

    async def kafka() -> AsyncGenerator[AuditRecorded, None]:
        for line in [*lines, archived, waiting]:
            yield line

    found = await AuditRefill(log, sources, kafka, site.database, tmp_path).run(apply=True)
    assert [(one.missing, one.found, one.lost) for one in found] == [(301, 301, [])]
    assert [log.kept["acme", seq].entry for seq in range(1, 302)] == chain
    assert ("acme", 302) not in log.kept
    # Without Kafka: the entry that archived a document is here as a whole.
    log.kept.clear()

    async def nothing() -> AsyncGenerator[AuditRecorded, None]:
        for line in list[AuditRecorded]():
            yield line

    (only,) = await AuditRefill(log, sources, nothing, site.database, tmp_path).run(apply=True)
    assert [seq for _, seq in log.kept] == [151]
    assert only.lost == [(1, 150), (152, 301)]
