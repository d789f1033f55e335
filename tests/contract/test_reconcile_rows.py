"""What reconciling, archiving and versions need of the rows: the same from memory and from PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from domain.documents import Document, Rendition
from domain.errors import DocumentBusy
from domain.lifecycle import Status
from domain.reconciliation import ExpectedObject, InventoryRow
from domain.refusals import DocumentNotFound
from processors.reconcile.run import Inventory
from storage.postgres.inventory import PostgresInventory
from tests.support.builders import NOW, a_document
from tests.support.database_backends import GONE, LONG, DatabaseBackend
from tests.support.memory_inventory import MemoryInventory


def inventory_of(site: DatabaseBackend) -> Inventory:
    return MemoryInventory(site.memory) if site.memory else PostgresInventory(site.postgres)


async def begin(site: DatabaseBackend, lease: float, **changes: object) -> Document:
    document = a_document(site.dossier, Status.PENDING, **changes)
    async with site.database.transaction() as work:
        await work.uploads.begin(document, lease)
    return document


async def test_rows_come_in_the_order_of_their_ids_page_by_page(site: DatabaseBackend) -> None:
    inventory = inventory_of(site)
    ids = sorted([UUID(int=(7 << 124) + number) for number in range(5)] + [UUID(int=(8 << 124) - 1)])
    await site.add(*(a_document(site.dossier, id=one) for one in (*ids, UUID(int=8 << 124), UUID(int=(7 << 124) - 1))))
    found: list[UUID] = []
    while page := await inventory.page(7, found[-1] if found else None, 4):
        found += [row.document_id for row in page]
    assert found == ids
    assert [row.document_id.int >> 124 for row in await inventory.page(8, None, 4)] == [8]
    assert await inventory.page(15, None, 4) == []


async def test_a_row_tells_its_objects(site: DatabaseBackend) -> None:
    document = a_document(site.dossier, Status.VERIFIED)
    await site.add(document)
    thumbnail = Rendition(
        document_id=document.id,
        role="thumbnail-256",
        object_key=f"{document.object_key}.thumbnail-256.aa",
        mime_type="image/webp",
        width=1,
        height=1,
        size=1,
        sha256="ab" * 32,
        object_etag="etag-t",
        object_size=102,
    )
    async with site.database.transaction() as work:
        await work.renditions.put(thumbnail)
    expected = InventoryRow(
        document_id=document.id,
        tenant=document.tenant,
        status=Status.VERIFIED,
        object_key=document.object_key,
        content=ExpectedObject(document.object_key, 12_500, "etag-1"),
        changed_at=document.updated_at,
        thumbnails=(ExpectedObject(thumbnail.object_key, 102, "etag-t"),),
    )
    assert await inventory_of(site).get(document.id) == expected
    assert list(await inventory_of(site).page(document.id.int >> 124, None, 10)) == [expected]
    assert await inventory_of(site).get(uuid4()) is None


async def test_leases_and_claims_are_told(site: DatabaseBackend) -> None:
    inventory = inventory_of(site)
    held, gone = await begin(site, LONG), await begin(site, GONE)
    for document, is_held in ((held, True), (gone, False)):
        row = await inventory.get(document.id)
        assert row is not None
        assert (row.status, row.lease_held, row.content, row.is_rendering) == (Status.PENDING, is_held, None, False)
    assert [row.document_id for row in await inventory.expired(10)] == [gone.id]
    assert await inventory.expired(0) == []
    event_id, owner = uuid4(), uuid4()
    await site.inbox.claim("integrity", uuid4(), str(held.id), uuid4(), LONG)
    await site.inbox.claim("renditions", event_id, str(held.id), owner, GONE)
    row = await inventory.get(held.id)
    assert row is not None
    assert row.is_rendering, "a claim whose lease ran out may still be made good"
    async with site.database.transaction() as work:
        await work.inbox.finish("renditions", event_id, owner, "DONE")
    row = await inventory.get(held.id)
    assert row is not None
    assert not row.is_rendering


async def test_archived_documents_come_by_the_time_they_were_archived(site: DatabaseBackend) -> None:
    documents = [
        a_document(site.dossier, Status.ARCHIVED, archived_at=NOW + timedelta(hours=hours), ged_id=f"g-{hours}")
        for hours in (3, 1, 2, 2)
    ]
    await site.add(*documents, a_document(site.dossier, Status.VALIDATED))
    expected = sorted(documents, key=lambda one: (one.archived_at or NOW, one.id))
    inventory, found = inventory_of(site), list[Document]()
    after = (NOW, UUID(int=0))
    while page := await inventory.archived(after, 3):
        found += page
        after = (page[-1].archived_at or NOW, page[-1].id)
    assert found == expected
    assert await inventory.archived((NOW + timedelta(hours=2), expected[1].id), 1) == [expected[2]]


async def test_versions_are_numbered_after_all_that_are_kept(site: DatabaseBackend) -> None:
    parent = a_document(site.dossier, version_number=4)
    await site.add(parent)
    for number, status in ((5, Status.STORED), (6, Status.PENDING), (9, Status.ABANDONED)):
        if status is Status.PENDING:
            await begin(site, LONG, parent_id=parent.id, version_number=number)
        else:
            await site.add(a_document(site.dossier, status, parent_id=parent.id, version_number=number))
    async with site.database.transaction() as work:
        assert await work.documents.next_version(parent.id) == 7
        with pytest.raises(DocumentNotFound):
            await work.documents.next_version(uuid4())


async def test_versions_that_are_numbered_at_once_differ(site: DatabaseBackend) -> None:
    parent = a_document(site.dossier)
    await site.add(parent)

    async def add() -> None:
        async with site.database.transaction() as work:
            number = await work.documents.next_version(parent.id)
            await asyncio.sleep(0.01)
            await work.documents.add(a_document(site.dossier, parent_id=parent.id, version_number=number))
            numbers.append(number)

    numbers: list[int] = []
    await asyncio.gather(*(add() for _ in range(5)))
    assert sorted(numbers) == [2, 3, 4, 5, 6]


async def test_one_creation_in_the_ged_at_a_time(site: DatabaseBackend) -> None:
    document_id, first, second = uuid4(), uuid4(), uuid4()
    async with site.database.transaction() as work:
        assert await work.ged_attempts.open(document_id) is None
        await work.ged_attempts.begin(document_id, first, LONG)
    for attempt in (first, second):
        with pytest.raises(DocumentBusy):
            async with site.database.transaction() as work:
                await work.ged_attempts.begin(document_id, attempt, LONG)
    async with site.database.transaction() as work:
        held = await work.ged_attempts.open(document_id)
        assert held is not None
        assert (held.attempt, held.settled) == (first, False)
        await work.ged_attempts.renew(document_id, first, GONE)
    async with site.database.transaction() as work:
        held = await work.ged_attempts.open(document_id)
        assert held is not None
        assert held.settled
        await work.ged_attempts.begin(document_id, second, LONG)
    with pytest.raises(DocumentBusy):
        async with site.database.transaction() as work:
            await work.ged_attempts.renew(document_id, first, LONG)
    with pytest.raises(DocumentBusy):
        async with site.database.transaction() as work:
            await work.ged_attempts.end(document_id, first)
    async with site.database.transaction() as work:
        await work.ged_attempts.end(document_id, second)
        assert await work.ged_attempts.open(document_id) is None


async def test_a_lock_can_be_asked(site: DatabaseBackend) -> None:
    async with site.lock("one") as held:
        await held.check()


async def test_rows_that_changed_are_told_as_they_are_now(site: DatabaseBackend) -> None:
    document = a_document(site.dossier)
    await site.add(document)
    async with site.database.transaction() as work:
        await work.documents.update(document, replace(document, status=Status.ERASING, wrapped_key=None))
    row = await inventory_of(site).get(document.id)
    assert row is not None
    assert (row.expected, row.may_have(document.object_key)) == ({}, False)
