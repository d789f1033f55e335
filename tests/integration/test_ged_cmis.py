"""Copies in a real CMIS 1.1 repository."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import tracemalloc
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from domain.archive import GedDocument
from domain.documents import Document
from domain.errors import ArchiveMismatch, ArchiveRefused, GedUnavailable
from ged.cmis import CmisRepository
from processors.events.archive_copies import ArchiveCopies, location
from schemas.codec import EventCodec
from storage.postgres.database import Postgres, PostgresDatabase
from tests.support.fakes_archiving import CONTENT, MemoryContent, stored
from tests.support.memory import MemoryDatabase
from tests.support.tcp_proxy import Proxy

MIB = bytes(range(256)) * 4096


@pytest.fixture
async def ged(stack: Mapping[str, str]) -> AsyncIterator[CmisRepository]:
    repository = _repository(stack)
    yield repository
    await repository.aclose()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks that wait as long as a real transfer takes."""
    monkeypatch.setattr("tests.support.memory.LOCK_SECONDS", 30)


def _repository(
    stack: Mapping[str, str], *, url: str = "", repository_id: str = "", deadline: float = 30
) -> CmisRepository:
    return CmisRepository(
        url or stack["DPJ_GED_URL"],
        repository_id or stack["DPJ_GED_REPOSITORY"],
        stack["DPJ_GED_USER"],
        stack["DPJ_GED_PASSWORD"],
        deadline=deadline,
    )


def _document() -> Document:
    return replace(stored(), tenant=f"test-{uuid4().hex[:8]}")


async def _names(stack: Mapping[str, str], document: Document) -> list[tuple[str, str]]:
    """Names and descriptions of what is in the document's folder, as any CMIS client sees them."""
    folder, _ = location(document)
    auth = (stack["DPJ_GED_USER"], stack["DPJ_GED_PASSWORD"])
    async with httpx.AsyncClient(auth=auth, trust_env=False) as client:
        url = f"{stack['DPJ_GED_URL']}/{stack['DPJ_GED_REPOSITORY']}/root/" + "/".join(folder)
        answer = await client.get(url, params={"cmisselector": "children", "succinct": "true"})
    children = [child["object"]["succinctProperties"] for child in answer.raise_for_status().json()["objects"]]
    return [(child["cmis:name"], child["cmis:description"]) for child in children]


async def _read(ged: CmisRepository, object_id: str) -> bytes:
    return b"".join([piece async for piece in ged.read(object_id)])


async def test_a_copy_is_created_adopted_and_removed(stack: Mapping[str, str], ged: CmisRepository) -> None:
    document = _document()
    copies = ArchiveCopies(MemoryDatabase(), MemoryContent(), ged)
    copy = await copies.put(document, 10)
    assert await ArchiveCopies(MemoryDatabase(), MemoryContent(), ged).put(document, 10) == copy
    ((name, description),) = await _names(stack, document)
    assert name == f"{document.id}.pdf"
    assert copy.ged_path == f"/dpj/{document.tenant}/2026/{document.dossier_id}/{name}"
    assert {str(document.id), f"sha256={document.sha256}", "retention=10y"} <= set(description.split())
    assert await _read(ged, copy.ged_id) == CONTENT
    assert await copies.remove(document)
    assert not await copies.remove(document)
    assert await _names(stack, document) == []
    await ged.delete(copy.ged_id)


async def test_a_copy_looks_for_no_module_that_is_nowhere(ged: CmisRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python remembers no failed import: each walks the whole path again, and there were several for each request."""
    failed: list[str] = []

    class Recorder:
        """The last finder: asked when no other has found anything."""

        @staticmethod
        def find_spec(name: str, *_others: object) -> None:
            failed.append(name)

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Recorder])
    for _ in range(2):
        failed.clear()
        copies, document = ArchiveCopies(MemoryDatabase(), MemoryContent(), ged), _document()
        copy = await copies.put(document, 10)
        assert await _read(ged, copy.ged_id) == CONTENT
        assert await copies.remove(document)
    assert failed == []


@pytest.mark.usefixtures("patient")
async def test_many_at_once_make_one_copy(stack: Mapping[str, str], ged: CmisRepository) -> None:
    database, document = MemoryDatabase(), _document()
    other = _repository(stack)
    try:
        made = await asyncio.gather(
            *(ArchiveCopies(database, MemoryContent(), at).put(document, 10) for at in (ged, other) * 4)
        )
    finally:
        await other.aclose()
    assert len(set(made)) == 1
    assert len(await _names(stack, document)) == 1


async def test_many_processes_at_once_make_one_copy(
    stack: Mapping[str, str], database_dsn: str, codec: EventCodec, ged: CmisRepository
) -> None:
    document, sites = _document(), [Postgres(database_dsn) for _ in range(3)]
    try:
        workers = [ArchiveCopies(PostgresDatabase(site, codec.encode), MemoryContent(), ged) for site in sites]
        made = await asyncio.gather(*(worker.put(document, 10) for worker in workers * 2))
    finally:
        for site in sites:
            await site.aclose()
    assert len(set(made)) == 1
    assert len(await _names(stack, document)) == 1


@pytest.mark.parametrize("left", [b"", CONTENT[:500], CONTENT[::-1]])
async def test_a_half_written_copy_is_replaced(stack: Mapping[str, str], ged: CmisRepository, left: bytes) -> None:
    document = _document()
    whole = await ArchiveCopies(MemoryDatabase(), MemoryContent(), ged).put(document, 10)
    copies = ArchiveCopies(MemoryDatabase(), MemoryContent(), ged)
    await ged.delete(whole.ged_id)
    folder, name = location(document)
    wanted = GedDocument(name=name, mime_type="application/pdf", description="half", size=len(left))
    assert await ged.create(folder, wanted, _once(left)) is not None
    copy = await copies.put(document, 10)
    assert await _read(ged, copy.ged_id) == CONTENT
    assert len(await _names(stack, document)) == 1


class LargeContent:
    def __init__(self, mebibytes: int) -> None:
        self.mebibytes = mebibytes

    async def read(self, document: Document) -> AsyncIterator[bytes]:
        for _ in range(self.mebibytes):
            yield MIB


async def test_30_mib_pass_in_bounded_memory(ged: CmisRepository) -> None:
    document = replace(_document(), size=30 << 20, sha256=hashlib.sha256(MIB * 30).hexdigest())
    copies = ArchiveCopies(MemoryDatabase(), LargeContent(30), ged)
    tracemalloc.start()
    try:
        await copies.put(document, 10)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 << 20
    assert await copies.remove(document)


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x"])
async def test_content_of_another_size_is_never_created(
    stack: Mapping[str, str], ged: CmisRepository, content: bytes
) -> None:
    document = _document()
    with pytest.raises(ArchiveMismatch):
        await ArchiveCopies(MemoryDatabase(), MemoryContent(content), ged).put(document, 10)
    await asyncio.sleep(0.3)
    assert await _names(stack, document) == []


async def test_a_copy_with_other_bytes_is_found_out_and_deleted(stack: Mapping[str, str], ged: CmisRepository) -> None:
    document = _document()
    with pytest.raises(ArchiveMismatch):
        await ArchiveCopies(MemoryDatabase(), MemoryContent(CONTENT[::-1]), ged).put(document, 10)
    assert await _names(stack, document) == []


@pytest.mark.parametrize("tenant", ["a/b c", "..", "é&ü?#%", 'quo"te\r\nX: y', "~2E"])
async def test_odd_tenants(ged: CmisRepository, tenant: str) -> None:
    document = replace(_document(), tenant=f"{tenant}{uuid4().hex[:6]}")
    copies = ArchiveCopies(MemoryDatabase(), MemoryContent(), ged)
    copy = await copies.put(document, 10)
    assert await _read(ged, copy.ged_id) == CONTENT
    assert await copies.remove(document)


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_names_that_are_no_names_are_refused(ged: CmisRepository, name: str) -> None:
    with pytest.raises(ArchiveRefused):
        await ged.find(["dpj", name])


async def test_no_folder_no_document(ged: CmisRepository) -> None:
    wanted = GedDocument(name="x.pdf", mime_type="application/pdf", description="", size=1)
    assert await ged.create([uuid4().hex], wanted, _once(b"x")) is None


async def test_away_slow_or_wrongly_set_up_is_unavailable(stack: Mapping[str, str]) -> None:
    at = urlsplit(stack["DPJ_GED_URL"])
    async with Proxy(at.netloc) as line:
        ged = _repository(stack, url=f"http://{line.endpoint}{at.path}", deadline=0.5)
        await ged.check()
        line.silent = True
        with pytest.raises(GedUnavailable):
            await ArchiveCopies(MemoryDatabase(), MemoryContent(), ged).put(_document(), 10)
        await line.close()
        with pytest.raises(GedUnavailable):
            await ged.check()
        await ged.aclose()
    for wrong in (_repository(stack, repository_id="none"), _repository(stack, url=f"http://{at.netloc}/no/where")):
        with pytest.raises(GedUnavailable):
            await wrong.check()
        await wrong.aclose()


async def test_an_answer_cut_short_is_unavailable_and_made_good(stack: Mapping[str, str], ged: CmisRepository) -> None:
    document = replace(_document(), size=4 << 20, sha256=hashlib.sha256(MIB * 4).hexdigest())
    at = urlsplit(stack["DPJ_GED_URL"])
    async with Proxy(at.netloc) as line:
        cut = _repository(stack, url=f"http://{line.endpoint}{at.path}", deadline=5)
        await cut.check()
        line.cut_answers_after = 1 << 20
        with pytest.raises(GedUnavailable):
            await ArchiveCopies(MemoryDatabase(), LargeContent(4), cut).put(document, 10)
        await cut.aclose()
    copies = ArchiveCopies(MemoryDatabase(), LargeContent(4), ged)
    await copies.put(document, 10)
    assert len(await _names(stack, document)) == 1
    assert await copies.remove(document)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
