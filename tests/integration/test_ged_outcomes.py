"""One copy in a real GED, though answers are lost, requests arrive late, and a lock's session is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from domain.documents import Document
from domain.errors import DatabaseUnavailable, GedOutcomeUnknown, GedUnavailable
from ged.cmis import CmisRepository
from processors.events.archive_copies import ArchiveCopies, ArchivedCopy, copies_in_place
from storage.postgres.database import PostgresDatabase
from tests.support.delaying_proxy import DelayingProxy
from tests.support.fakes_archiving import CONTENT, MemoryContent, stored
from tests.support.memory import MemoryDatabase

CREATION = b"createDocument"


def a_repository(stack: Mapping[str, str], endpoint: str = "", *, deadline: float = 30) -> CmisRepository:
    at = urlsplit(stack["DPJ_GED_URL"])
    return CmisRepository(
        f"http://{endpoint or at.netloc}{at.path}",
        stack["DPJ_GED_REPOSITORY"],
        stack["DPJ_GED_USER"],
        stack["DPJ_GED_PASSWORD"],
        deadline=deadline,
    )


@pytest.fixture
async def ged(stack: Mapping[str, str]) -> AsyncIterator[CmisRepository]:
    repository = a_repository(stack)
    yield repository
    await repository.aclose()


def a_document() -> Document:
    return replace(stored(), tenant=f"test-{uuid4().hex[:8]}")


async def _with_folder(ged: CmisRepository) -> Document:
    """A document in whose folder there is another one already."""
    document = a_document()
    other = replace(document, id=uuid4())
    await ArchiveCopies(MemoryDatabase(), MemoryContent(), ged).put(other, 10)
    return document


@asynccontextmanager
async def _late(
    stack: Mapping[str, str], late: float, *, deadline: float
) -> AsyncIterator[tuple[DelayingProxy, CmisRepository]]:
    async with DelayingProxy(urlsplit(stack["DPJ_GED_URL"]).netloc, CREATION, late) as line:
        repository = a_repository(stack, line.endpoint, deadline=deadline)
        try:
            yield line, repository
        finally:
            await repository.aclose()


async def _until_whole(copies: ArchiveCopies, document: Document, seconds: float = 20) -> ArchivedCopy:
    """As delivery does: again and again."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await copies.put(document, 10)
            except GedUnavailable:
                await asyncio.sleep(0.1)


async def _assert_one(ged: CmisRepository, document: Document, copy: ArchivedCopy) -> None:
    (found,) = await copies_in_place(ged, document)
    assert found.id == copy.ged_id
    assert b"".join([piece async for piece in ged.read(found.id)]) == CONTENT


async def test_an_answer_that_is_lost(
    stack: Mapping[str, str], ged: CmisRepository, database: PostgresDatabase
) -> None:
    document = await _with_folder(ged)
    async with _late(stack, 0, deadline=10) as (line, cut):
        copies = ArchiveCopies(database, MemoryContent(), cut, settle_seconds=60)
        with pytest.raises(GedOutcomeUnknown):
            await copies.put(document, 10)
        await line.arrived.wait()
        assert b" 201 " in line.answer.split(b"\r\n")[0]
        copy = await copies.put(document, 10)  # at once: what was made is found
    await _assert_one(ged, document, copy)


@pytest.mark.parametrize("by_another", [False, True])
async def test_a_creation_that_takes_effect_after_its_sender_gave_up(
    stack: Mapping[str, str], ged: CmisRepository, database: PostgresDatabase, by_another: bool
) -> None:
    document = await _with_folder(ged)
    async with _late(stack, 2.0, deadline=0.7) as (line, slow):
        copies = ArchiveCopies(database, MemoryContent(), slow, settle_seconds=5)
        with pytest.raises(GedOutcomeUnknown):
            await copies.put(document, 10)
        assert await copies_in_place(ged, document) == []
        again = ArchiveCopies(database, MemoryContent(), ged, settle_seconds=5) if by_another else copies
        copy = await _until_whole(again, document)
        assert line.arrived.is_set()
    await _assert_one(ged, document, copy)


async def test_a_creation_that_never_arrives_is_made_anew_in_the_end(
    stack: Mapping[str, str], ged: CmisRepository, database: PostgresDatabase
) -> None:
    document = await _with_folder(ged)
    async with _late(stack, 60, deadline=0.5) as (_, lost):
        copies = ArchiveCopies(database, MemoryContent(), lost, settle_seconds=1)
        with pytest.raises(GedOutcomeUnknown):
            await copies.put(document, 10)
        copy = await _until_whole(copies, document)
    await _assert_one(ged, document, copy)


async def test_a_sender_that_is_killed(
    stack: Mapping[str, str], ged: CmisRepository, database: PostgresDatabase
) -> None:
    document = await _with_folder(ged)
    async with _late(stack, 2.0, deadline=30) as (line, slow):
        killed = ArchiveCopies(database, MemoryContent(), slow, settle_seconds=3, attempt_seconds=1)
        sending = asyncio.create_task(killed.put(document, 10))
        await asyncio.sleep(0.5)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        copies = ArchiveCopies(database, MemoryContent(), ged, settle_seconds=3, attempt_seconds=1)
        copy = await _until_whole(copies, document)
        assert line.arrived.is_set()
    await _assert_one(ged, document, copy)


async def _kill_locks(dsn: str) -> int:
    """Ends the sessions that hold cluster-wide locks in this database; how many there were."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            """
            SELECT pg_terminate_backend(pid, 5000) FROM pg_locks
            WHERE locktype = 'advisory' AND granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            """
        )
    finally:
        await connection.close()
    return len(rows)


class KillsTheLock(MemoryContent):
    """Ends the lock's session in the midst of the sending."""

    dsn = ""

    async def read(self, document: Document) -> AsyncIterator[bytes]:
        async for piece in super().read(document):
            assert await _kill_locks(self.dsn) <= 1
            yield piece


async def test_a_lock_that_is_lost_while_sending(
    ged: CmisRepository, database: PostgresDatabase, database_dsn: str
) -> None:
    document = await _with_folder(ged)
    content = KillsTheLock()
    content.dsn = database_dsn
    sending = ArchiveCopies(database, content, ged)
    others = [ArchiveCopies(database, MemoryContent(), ged) for _ in range(2)]
    made = await asyncio.gather(*(_until_whole(copies, document) for copies in (sending, *others)))
    assert len(set(made)) == 1
    await _assert_one(ged, document, made[0])


async def test_a_lock_that_is_lost_before_sending(
    ged: CmisRepository, database: PostgresDatabase, database_dsn: str
) -> None:
    document = await _with_folder(ged)
    async with database.lock("x") as held:
        await held.check()
        assert await _kill_locks(database_dsn) == 1
        with pytest.raises(DatabaseUnavailable):
            await held.check()
    copy = await ArchiveCopies(database, MemoryContent(), ged).put(document, 10)
    await _assert_one(ged, document, copy)


async def test_all_children_of_a_large_folder_are_seen_once(
    stack: Mapping[str, str], ged: CmisRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ged.cmis._PAGE", 7)
    monkeypatch.setattr("ged.cmis._OVERLAP", 2)
    documents = [replace(a_document(), tenant="many")]
    documents += [replace(documents[0], id=uuid4()) for _ in range(17)]
    copies = ArchiveCopies(MemoryDatabase(), MemoryContent(), ged)
    for document in documents:
        await copies.put(document, 10)
    folder = ("dpj", "many", "2026", str(documents[0].dossier_id))
    names = [name async for name, _ in ged.children(folder)]
    assert sorted(names) == sorted(f"{document.id}.pdf" for document in documents)
    assert [child async for child in ged.children(("dpj", uuid4().hex))] == []
