"""Keys of subjects: in memory and on PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from domain.documents import Document
from domain.refusals import UploadSuperseded
from domain.subjects import Subject, SubjectKey, subject_of
from processors.ports.subjects import SubjectKeyReader
from storage.postgres.keys.subject_keys import PostgresSubjectKeyReader
from tests.contract.test_upload_records import ANSWER, SCOPE, _begin, _stored
from tests.support.builders import NOW, a_document
from tests.support.database_backends import DatabaseBackend, Rolled
from tests.support.memory_subject_keys import MemorySubjectKeyReader

LATER = NOW + timedelta(days=1)

#: Where a test is of a rule of the database alone.
ON_POSTGRES = pytest.mark.parametrize("bare_site", ["postgres"], indirect=True)


def reader_of(site: DatabaseBackend) -> SubjectKeyReader:
    return MemorySubjectKeyReader(site.memory) if site.memory else PostgresSubjectKeyReader(site.postgres)


async def ensured(site: DatabaseBackend, subject: Subject, wrapped: str) -> str | None:
    async with site.database.transaction() as work:
        return await work.subjects.ensure(subject, wrapped)


async def destroyed(site: DatabaseBackend, subject: Subject, at: Any = NOW) -> Any:
    async with site.database.transaction() as work:
        return await work.subjects.destroy(subject, at)


async def test_the_first_key_stays(site: DatabaseBackend) -> None:
    one, other = Subject("acme", uuid4()), Subject("acme", uuid4())
    assert await ensured(site, one, "first") == "first"
    assert await ensured(site, one, "second") == "first"
    assert await reader_of(site).of([one, other]) == {one: SubjectKey("first")}


async def test_a_destroyed_key_is_gone_for_good_and_the_first_time_counts(site: DatabaseBackend) -> None:
    subject = Subject("acme", uuid4())
    await ensured(site, subject, "first")
    assert await destroyed(site, subject) == NOW
    assert await destroyed(site, subject, LATER) == NOW
    assert await ensured(site, subject, "second") is None
    assert await reader_of(site).of([subject]) == {subject: SubjectKey(None, NOW)}


async def test_who_never_had_a_key_gets_none_after_it_was_destroyed(site: DatabaseBackend) -> None:
    subject = Subject("acme", uuid4())
    assert await destroyed(site, subject) == NOW
    assert await ensured(site, subject, "late") is None


async def test_another_tenants_subject_of_the_same_id_is_none(site: DatabaseBackend) -> None:
    subject = Subject("acme", uuid4())
    await ensured(site, subject, "first")
    assert await reader_of(site).of([Subject("other", subject.id)]) == {}


async def test_what_rolls_back_leaves_no_key_and_destroys_none(site: DatabaseBackend) -> None:
    new, old = Subject("acme", uuid4()), Subject("acme", uuid4())
    await ensured(site, old, "old")

    async def rolled_back() -> None:
        async with site.database.transaction() as work:
            await work.subjects.ensure(new, "new")
            await work.subjects.destroy(old, NOW)
            raise Rolled

    with pytest.raises(Rolled):
        await rolled_back()
    assert await reader_of(site).of([new, old]) == {old: SubjectKey("old")}


async def test_first_lines_of_one_moment_share_one_key(site: DatabaseBackend) -> None:
    subject = Subject("acme", uuid4())
    found = await asyncio.gather(*(ensured(site, subject, f"key-{number}") for number in range(8)))
    assert len(set(found)) == 1


async def test_a_first_line_beside_an_erasure_has_the_old_key_or_none(site: DatabaseBackend) -> None:
    for _ in range(20):
        subject = Subject("acme", uuid4())
        wrapped, _ = await asyncio.gather(ensured(site, subject, "new"), destroyed(site, subject))
        assert wrapped in {"new", None}
        assert (await reader_of(site).of([subject]))[subject] == SubjectKey(None, NOW)


async def test_a_document_comes_with_its_key(site: DatabaseBackend) -> None:
    document, other = a_document(site.dossier), a_document(site.dossier)
    await site.add(document, other)
    await ensured(site, subject_of(document), "first")
    async with site.database.transaction() as work:
        for look in (work.documents.get, work.documents.lock):
            assert (await look(document.id)).subject_key == "first"
            assert (await look(other.id)).subject_key is None
    await destroyed(site, subject_of(document))
    assert await site.get(document.id) == document


async def _completed(site: DatabaseBackend, scope: tuple[str, str, str] | None, key: str | None) -> Document:
    """An upload, completed with a key."""
    document = await _begin(site, scope)
    assert (await site.get(document.id)).subject_key is None
    change = _stored(document)
    change = replace(change, new=replace(change.new, subject_key=key))
    await site.database.uploads.complete(change, scope, ANSWER)
    return document


@pytest.mark.parametrize("scope", [SCOPE, None])
@pytest.mark.parametrize("key", ["k1.aa.bb", None])
async def test_an_upload_that_is_completed_brings_its_key(
    site: DatabaseBackend, scope: tuple[str, str, str] | None, key: str | None
) -> None:
    document = await _completed(site, scope, key)
    assert await site.get(document.id) == replace(_stored(document).new, subject_key=key)


async def test_an_upload_that_is_not_completed_brings_none(site: DatabaseBackend) -> None:
    document = await _begin(site)
    async with site.database.transaction() as work:
        await work.idempotency.release(SCOPE, document.object_key)
    change = _stored(document)
    with pytest.raises(UploadSuperseded):
        await site.database.uploads.complete(
            replace(change, new=replace(change.new, subject_key="lost")), SCOPE, ANSWER
        )
    assert await reader_of(site).of([subject_of(document)]) == {}


@ON_POSTGRES
@pytest.mark.parametrize(
    "change",
    [
        "cle_enveloppee = 'k', detruite_a = NULL",
        "detruite_a = now()",
        "cle_enveloppee = 'k'",
    ],
)
async def test_postgresql_itself_brings_no_key_back(site: DatabaseBackend, change: str) -> None:
    subject = Subject("acme", uuid4())
    await destroyed(site, subject)
    async with site.postgres.connection() as connection:
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(f"UPDATE cles_sujets SET {change} WHERE sujet = $1", subject.id)  # noqa: S608


@ON_POSTGRES
async def test_postgresql_itself_keeps_the_row_of_a_destroyed_key(site: DatabaseBackend) -> None:
    subject = Subject("acme", uuid4())
    await destroyed(site, subject)
    async with site.postgres.connection() as connection:
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute("DELETE FROM cles_sujets WHERE sujet = $1", subject.id)
