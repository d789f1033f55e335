"""Erasures, legal holds, what is due: in memory and in PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from domain.erasure import SignedReceipt
from domain.errors import DocumentBusy
from domain.lifecycle import Status
from domain.refusals import StateChanged
from domain.retention import LegalHold
from processors.ports.erasure import DueDocuments, ErasureQueue, PeriodicJobs
from storage.postgres.erasures import PostgresErasureQueue
from storage.postgres.periodic_jobs import PostgresPeriodicJobs
from storage.postgres.retention import PostgresDueDocuments
from tests.support.builders import NOW, a_claim, a_document, an_erasure
from tests.support.database_backends import LONG, DatabaseBackend
from tests.support.memory_erasure import MemoryDueDocuments, MemoryErasureQueue, MemoryPeriodicJobs

RECEIPT = SignedReceipt("e30.e30.c2ln", "key-1")

#: Where a test is of a rule of the database alone.
ON_POSTGRES = pytest.mark.parametrize("bare_site", ["postgres"], indirect=True)


def queue_of(site: DatabaseBackend) -> ErasureQueue:
    return MemoryErasureQueue(site.memory) if site.memory else PostgresErasureQueue(site.postgres)


def due_of(site: DatabaseBackend) -> DueDocuments:
    return MemoryDueDocuments(site.memory) if site.memory else PostgresDueDocuments(site.postgres)


def regular_work_of(site: DatabaseBackend) -> PeriodicJobs:
    return MemoryPeriodicJobs(site.memory.clock) if site.memory else PostgresPeriodicJobs(site.postgres)


async def test_an_erasure_is_due_until_it_is_complete(site: DatabaseBackend) -> None:
    document = a_document(site.dossier, Status.ERASING)
    await site.add(document)
    thumbnails = ("a.thumbnail-256.x", "a.thumbnail-1024.y")
    erasure, queue = an_erasure(document, thumbnails=thumbnails), queue_of(site)
    assert await queue.claim(LONG) is None
    async with site.database.transaction() as work:
        assert await work.erasures.get(document.id) is None
        await work.erasures.add(erasure)
    assert (await queue.waiting()).count == 1
    assert await queue.claim(LONG) == document.id
    assert await queue.claim(LONG) is None
    await queue.postpone(document.id, "ged_unavailable", -1)
    assert await queue.claim(LONG) == document.id
    async with site.database.transaction() as work:
        assert await work.erasures.get(document.id) == erasure
        await work.erasures.complete(document.id, RECEIPT)
    with pytest.raises(StateChanged):
        async with site.database.transaction() as work:
            await work.erasures.complete(document.id, RECEIPT)
    async with site.database.transaction() as work:
        assert await work.erasures.get(document.id) == replace(erasure, receipt=RECEIPT)
    await queue.postpone(document.id, "late", -1)
    assert await queue.claim(LONG) is None
    assert (await queue.waiting()).count == 0


async def test_holds_stand_side_by_side(site: DatabaseBackend) -> None:
    document, other = a_document(site.dossier), a_document(site.dossier)
    await site.add(document, other)
    first = LegalHold(reference="CASE-1", reason="LITIGATION", set_by="u-1", set_at=NOW)
    second = replace(first, reference="CASE-2", set_at=NOW + timedelta(seconds=1))
    lifted = replace(first, lifted_by="u-2", lifted_at=NOW, lifted_reason="CLOSED")
    async with site.database.transaction() as work:
        await work.holds.put(document.id, second)
        await work.holds.put(document.id, first)
        assert await work.holds.of(document.id) == [first, second]
        await work.holds.put(document.id, lifted)
    async with site.database.transaction() as work:
        assert await work.holds.of(document.id) == [lifted, second]
        assert await work.holds.of(other.id) == []


async def test_a_kept_answer_is_forgotten_and_its_key_stays_taken(site: DatabaseBackend) -> None:
    document = a_document(site.dossier, Status.STORED)
    await site.add(document)
    scope = (document.tenant, "u-portal", "k-1")
    claim = a_claim(document)
    async with site.database.transaction() as work:
        await work.idempotency.claim(scope, claim, LONG)
        await work.idempotency.complete(scope, document.object_key, "a" * 64, {"status": 201, "body": {"x": "Durand"}})
    async with site.database.transaction() as work:
        await work.erasures.delete_content_rows(document.id)
    async with site.database.transaction() as work:
        held = await work.idempotency.claim(scope, replace(claim, document_id=uuid4()), LONG)
    assert held is not None
    assert (held.done, held.response, held.content_sha256, held.metadata_fingerprint) == (True, None, None, "")


@pytest.mark.parametrize(
    ("consumer", "lease", "seen"),
    [("archiving", LONG, True), ("renditions", LONG, True), ("notification", LONG, False), ("archiving", -1.0, False)],
)
async def test_who_is_at_work_is_seen(site: DatabaseBackend, consumer: str, lease: float, *, seen: bool) -> None:
    document = a_document(site.dossier)
    await site.add(document)
    await site.inbox.claim(consumer, uuid4(), str(document.id), uuid4(), lease)
    async with site.database.transaction() as work:
        assert await work.erasures.has_active_consumer(document.id) is seen
        assert await work.erasures.has_active_consumer(uuid4()) is False


@pytest.mark.parametrize("status", [Status.ERASING, Status.ERASED])
async def test_no_creation_in_the_ged_begins_for_what_is_erased(site: DatabaseBackend, status: Status) -> None:
    document = a_document(site.dossier, status)
    await site.add(document)
    with pytest.raises(DocumentBusy):
        async with site.database.transaction() as work:
            await work.ged_attempts.begin(document.id, uuid4(), LONG)


async def test_what_is_due_and_not_held_comes_longest_due_first(site: DatabaseBackend) -> None:
    long_ago = NOW - timedelta(days=4000)
    ends = NOW - timedelta(days=2)
    archived = a_document(site.dossier, Status.ARCHIVED, expires_at=ends, archived_at=NOW)
    later = a_document(
        site.dossier, Status.ARCHIVED, expires_at=ends + timedelta(days=1), archived_at=NOW, type_code="RIB"
    )
    kept = a_document(site.dossier, Status.ARCHIVED, expires_at=datetime(2099, 1, 1, tzinfo=UTC), created_at=long_ago)
    held = a_document(site.dossier, Status.ARCHIVED, expires_at=ends, archived_at=NOW)
    rejected = a_document(site.dossier, Status.REJECTED, created_at=long_ago, deposited_at=long_ago)
    young = a_document(site.dossier, Status.REJECTED, created_at=long_ago, deposited_at=long_ago, retention_years=50)
    gone = a_document(site.dossier, Status.ERASED, expires_at=ends)
    await site.add(archived, later, kept, held, rejected, young, gone)
    async with site.database.transaction() as work:
        await work.holds.put(held.id, LegalHold(reference="C", reason="R", set_by="u", set_at=NOW))
        lifted = LegalHold(
            reference="C", reason="R", set_by="u", set_at=NOW, lifted_by="u", lifted_at=NOW, lifted_reason="R"
        )
        await work.holds.put(archived.id, lifted)
    due = due_of(site)
    groups = {(one.type_code, one.count, one.held) for one in await due.survey()}
    assert groups == {("CNI", 3, 1), ("RIB", 1, 0)}
    found: list[UUID] = []
    after: tuple[datetime, UUID] | None = None
    while page := await due.next(after, 2):
        found += [document_id for _, document_id in page]
        after = page[-1]
    assert found == [rejected.id, archived.id, later.id]


@ON_POSTGRES
async def test_postgresql_itself_keeps_a_retention_from_being_shortened(site: DatabaseBackend) -> None:
    document = a_document(site.dossier, Status.ARCHIVED, expires_at=NOW)
    await site.add(document)
    longer = replace(document, expires_at=NOW + timedelta(days=1))
    async with site.database.transaction() as work:
        await work.documents.update(document, longer)
    for until in (NOW, None):
        with pytest.raises(asyncpg.CheckViolationError):
            async with site.database.transaction() as work:
                await work.documents.update(longer, replace(longer, expires_at=until))


@ON_POSTGRES
async def test_a_shorter_rule_of_a_type_is_for_what_comes_after_it(site: DatabaseBackend) -> None:
    """PHOTO is not archived: what lay there for some years must not become due because the rule changed."""
    deposited = {"created_at": NOW - timedelta(days=800), "deposited_at": NOW - timedelta(days=800)}
    before = a_document(site.dossier, Status.VALIDATED, type_code="PHOTO", **deposited)
    longer = a_document(site.dossier, Status.VALIDATED, type_code="PHOTO", retention_years=50, **deposited)
    other = a_document(site.dossier, Status.VALIDATED, type_code="CNI", **deposited)
    await site.add(before, longer, other)
    due, change = due_of(site), "UPDATE types_documents SET duree_conservation_annees = $1 WHERE code_type = 'PHOTO'"
    for years in (12, 1):
        async with site.postgres.connection() as connection:
            await connection.execute(change, years)
    assert await due.survey() == []
    async with site.database.transaction() as work:
        kept = [(await work.documents.get(one.id)).retention_years for one in (before, longer, other)]
    assert kept == [12, 50, None]
    after = a_document(site.dossier, Status.VALIDATED, type_code="PHOTO", **deposited)
    await site.add(after)
    assert [found for _, found in await due.next(None, 10)] == [after.id]


@ON_POSTGRES
@pytest.mark.parametrize("years", [9, None])
async def test_postgresql_itself_keeps_a_documents_years_from_becoming_fewer(
    site: DatabaseBackend, years: int | None
) -> None:
    document = a_document(site.dossier, Status.VALIDATED, retention_years=10)
    await site.add(document)
    longer = replace(document, retention_years=11)
    async with site.database.transaction() as work:
        await work.documents.update(document, longer)
    with pytest.raises(asyncpg.CheckViolationError):
        async with site.database.transaction() as work:
            await work.documents.update(longer, replace(longer, retention_years=years))


async def test_regular_work_knows_when_it_was_done_last(site: DatabaseBackend) -> None:
    work = regular_work_of(site)
    assert await work.age("purge") is None
    for _ in range(2):
        await work.mark_done("purge")
        age = await work.age("purge")
        assert age is not None
        assert 0 <= age < LONG
    assert await work.age("other") is None


@ON_POSTGRES
async def test_postgresql_itself_keeps_no_key_of_what_is_erased(site: DatabaseBackend) -> None:
    document = a_document(site.dossier, Status.VERIFIED)
    await site.add(document)
    with pytest.raises(asyncpg.CheckViolationError):
        async with site.database.transaction() as work:
            await work.documents.update(document, replace(document, status=Status.ERASING))
