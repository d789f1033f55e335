"""Reconciling on real servers: both object stores, PostgreSQL, the GED."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from domain.archive import GedDocument, GedObject
from domain.documents import Document, Dossier
from domain.lifecycle import Status
from domain.reconciliation import DiscrepancyKind
from ged.cmis import CmisRepository
from processors.documents.abandoned_objects import AbandonedObjects
from processors.events.archive_copies import ArchiveCopies, copies_in_place, location
from processors.reconcile.ged import GedCopiesCheck
from processors.reconcile.object_store import check_stored_objects
from processors.reconcile.run import Reconciliation, RepairMode
from processors.reconcile.uploads import check_expired_uploads, check_unfinished_puts
from runtime.wiring.adapters import SystemClock
from storage.objects.filesystem import FilesystemObjectStore
from storage.objects.s3 import PART_SIZE, MinioObjectStore
from storage.postgres.database import Postgres, PostgresDatabase
from storage.postgres.inventory import PostgresInventory
from tests.integration.test_ged_outcomes import a_repository
from tests.support.builders import a_document, a_dossier, add_documents
from tests.support.fakes_archiving import CONTENT, SHA256, MemoryContent
from tests.support.fakes_content import pieces
from tests.support.memory import MemoryDatabase

GRACE = 0.3
Store = FilesystemObjectStore | MinioObjectStore


@pytest.fixture(params=["filesystem", "minio"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store = FilesystemObjectStore(tmp_path / "objects")
    if request.param == "minio":
        stack = request.getfixturevalue("stack")
        keys = stack["DPJ_MINIO_ACCESS_KEY"], stack["DPJ_MINIO_SECRET_KEY"]
        made = MinioObjectStore(stack["DPJ_MINIO_ENDPOINT"], *keys, f"rec-{uuid4().hex[:12]}", secure=False)
    await made.prepare()
    yield made
    async for stored in made.list(""):
        await made.delete(stored.key)
    await made.aclose()


@pytest.fixture
async def ged(stack: Mapping[str, str]) -> AsyncIterator[CmisRepository]:
    repository = a_repository(stack)
    yield repository
    await repository.aclose()


class Yard:
    """Rows in a database of its own, objects in a store of its own."""

    def __init__(self, postgres: Postgres, database: PostgresDatabase, store: Store, dossier: Dossier) -> None:
        self.postgres, self.database, self.store, self.dossier = postgres, database, store, dossier
        parts = {
            "uploads": check_expired_uploads,
            "unfinished puts": check_unfinished_puts,
            "objects": check_stored_objects,
        }
        inventory = PostgresInventory(postgres)
        self.reconcile = Reconciliation(database, inventory, store, SystemClock(), parts, grace_seconds=GRACE)

    async def add(self, status: Status = Status.STORED, *, put: bool = True) -> Document:
        document_id = uuid4()
        key = f"documents/{document_id.hex[:2]}/{document_id}/{uuid4().hex}"
        document = a_document(self.dossier, status, id=document_id, object_key=key)
        if put:
            stored = await self.store.put(key, pieces(b"sealed"))
            if document.object_size is not None:
                document = replace(document, object_etag=stored.etag, object_size=stored.size)
        async with self.database.transaction() as work:
            if status is Status.PENDING:
                await work.uploads.begin(document, -1)
            else:
                await work.documents.add(document)
        return document

    async def keys(self) -> set[str]:
        return {stored.key async for stored in self.store.list("")}


@pytest.fixture
async def yard(postgres: Postgres, database: PostgresDatabase, store: Store) -> Yard:
    dossier = a_dossier()
    async with database.transaction() as work:
        await work.dossiers.add(dossier)
    return Yard(postgres, database, store, dossier)


async def _leave_unfinished(store: Store, key: str) -> None:
    """As a killed process does: more than a part is there, and nobody ends it."""
    if isinstance(store, FilesystemObjectStore):

        async def endless() -> AsyncIterator[bytes]:
            yield b"x" * (PART_SIZE + 1)
            await asyncio.sleep(60)

        task = asyncio.create_task(store.put(key, endless()))
        while not (found := [put async for put in store.unfinished(key)]):
            await asyncio.sleep(0.02)
        root = store._root / ".incoming"
        left = (root / found[0].id).rename(root / "kept")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        left.rename(root / found[0].id)
    else:
        upload_id = store._client.begin(store._bucket, key)
        store._client.send(store._bucket, key, upload_id, 1, bytearray(PART_SIZE))


async def test_everything_that_a_crash_leaves_is_found_and_removed(yard: Yard) -> None:
    stored = [await yard.add(status) for status in (Status.STORED, Status.ARCHIVED, Status.QUARANTINED)]
    expired, abandoned, erased = [await yard.add(one) for one in (Status.PENDING, Status.ABANDONED, Status.ERASED)]
    parts_of_abandoned = await yard.add(Status.ABANDONED, put=False)
    orphan = uuid4()
    unknown = f"documents/{orphan.hex[:2]}/{orphan}/{uuid4().hex}"
    await yard.store.put(unknown, pieces(b"x"))
    await yard.store.put(f"{stored[0].object_key}.thumbnail-256.aa", pieces(b"x"))
    await yard.store.put("elsewhere/backup", pieces(b"x"))
    for document in (expired, parts_of_abandoned):
        await _leave_unfinished(yard.store, document.object_key)
    await asyncio.sleep(GRACE + 1.1)  # S3 tells seconds
    before = await yard.keys()
    told = await yard.reconcile.run(RepairMode.NONE)
    assert await yard.keys() == before
    found = {(finding.fault, finding.place) for finding in told.findings}
    assert found >= {
        (DiscrepancyKind.EXPIRED_UPLOAD, expired.object_key),
        (DiscrepancyKind.UNFINISHED_PUT, parts_of_abandoned.object_key),
        (DiscrepancyKind.LEFT_OBJECT, abandoned.object_key),
        (DiscrepancyKind.LEFT_OBJECT, erased.object_key),
        (DiscrepancyKind.LEFT_OBJECT, f"{stored[0].object_key}.thumbnail-256.aa"),
        (DiscrepancyKind.UNKNOWN_OBJECT, unknown),
    }
    report = await yard.reconcile.run(RepairMode.SAFE)
    assert [finding.place for finding in report.findings if not finding.repaired] == [unknown]
    assert (await yard.reconcile.run(RepairMode.ALL)).is_clean
    assert await yard.keys() == {one.object_key for one in stored} | {"elsewhere/backup"}
    assert [put async for put in yard.store.unfinished()] == []
    assert (await yard.reconcile.run(RepairMode.NONE)).found == {}
    async with yard.postgres.connection() as connection:
        lines = await connection.fetchval("SELECT count(*) FROM outbox WHERE topic = 'dpj.audit.recorded'")
    assert lines == report.repaired.total() + 1


async def test_documents_without_their_object_are_told(yard: Yard) -> None:
    missing, differing, whole = [await yard.add() for _ in range(3)]
    await yard.store.delete(missing.object_key)
    await yard.store.put(differing.object_key, pieces(b"SEALED"))
    report = await yard.reconcile.run(RepairMode.ALL)
    assert {finding.fault: finding.place for finding in report.findings} == {
        DiscrepancyKind.CONTENT_MISSING: missing.object_key,
        DiscrepancyKind.CONTENT_DIFFERS: differing.object_key,
    }
    assert await yard.keys() == {differing.object_key, whole.object_key}


async def test_the_sweep_removes_what_was_begun_too(yard: Yard) -> None:
    document = await yard.add(Status.ABANDONED)
    await _leave_unfinished(yard.store, document.object_key)
    await AbandonedObjects(yard.store).delete(document.object_key)
    assert [put async for put in yard.store.unfinished(document.object_key)] == []
    assert await yard.keys() == set()


async def test_many_rows_and_objects_agree(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processors.reconcile.object_store.PAGE", 5)
    documents = [await yard.add() for _ in range(60)]
    for document in documents[::7]:
        await yard.store.delete(document.object_key)
    report = await yard.reconcile.run(RepairMode.ALL)
    assert (report.rows, report.objects) == (60, 60 - len(documents[::7]))
    assert {finding.document_id for finding in report.findings} == {document.id for document in documents[::7]}


async def test_a_second_copy_in_the_ged_is_removed(
    postgres: Postgres, database: PostgresDatabase, ged: CmisRepository, tmp_path: Path
) -> None:
    dossier, two = a_dossier(tenant=f"test-{uuid4().hex[:8]}"), TakesTwo(ged)
    document, copies = await _doubles(two, dossier)
    recorded, *doubles = copies
    document = replace(document, status=Status.ARCHIVED, ged_id=recorded, archived_at=datetime.now(UTC))
    await add_documents(database, dossier, document)
    store = FilesystemObjectStore(tmp_path / "objects")
    await store.prepare()
    parts = {"GED": GedCopiesCheck(two, hours=1)}
    reconcile = Reconciliation(database, PostgresInventory(postgres), store, SystemClock(), parts, grace_seconds=GRACE)
    (finding,) = (await reconcile.run(RepairMode.NONE)).findings
    assert (finding.fault, finding.place.split()) == (DiscrepancyKind.GED_DOUBLE, doubles)
    report = await reconcile.run(RepairMode.SAFE)
    assert (report.is_clean, report.copies) == (True, 1)
    (left,) = await copies_in_place(two, document)
    assert left.id == recorded
    await ged.delete(recorded)
    (finding,) = (await reconcile.run(RepairMode.ALL)).findings
    assert finding.fault is DiscrepancyKind.GED_MISSING
    await store.aclose()


class TakesTwo:
    """The real GED, which gives what is named ``{name}.double`` as a second ``{name}``: it takes no two of one name itself."""

    def __init__(self, ged: CmisRepository) -> None:
        self._ged = ged
        self.find, self.create_folder, self.create = ged.find, ged.create_folder, ged.create
        self.read, self.delete = ged.read, ged.delete

    async def children(self, folder: Sequence[str]) -> AsyncIterator[tuple[str, GedObject]]:
        async for name, child in self._ged.children(folder):
            yield name.removesuffix(".double"), child


async def _doubles(ged: TakesTwo, dossier: Dossier) -> tuple[Document, list[str]]:
    """A document and the ids of two copies of it."""
    document = a_document(dossier, Status.VALIDATED, size=len(CONTENT), sha256=SHA256)
    copy = await ArchiveCopies(MemoryDatabase(), MemoryContent(), ged).put(document, 10)
    folder, name = location(document)
    wanted = GedDocument(name=f"{name}.double", mime_type="application/pdf", description="", size=len(CONTENT))
    double = await ged.create(folder, wanted, pieces(CONTENT))
    assert double is not None
    return document, [copy.ged_id, double.id]


def test_ids_are_compared_as_their_text_is() -> None:
    """The merge leans on it: PostgreSQL orders uuids by their bytes, stores order keys by their text."""
    ids = [uuid4() for _ in range(1000)] + [UUID(int=0), UUID(int=(1 << 128) - 1)]
    assert sorted(ids) == [UUID(text) for text in sorted(map(str, ids))]
