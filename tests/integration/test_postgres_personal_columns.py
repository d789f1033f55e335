"""Sealed texts on PostgreSQL: what the database holds by itself, resealing beside others, and what acts on keys cost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from domain.documents import Decision, Document
from domain.erasure import PERSONAL_FIELDS
from domain.errors import KeyVersionRetired
from domain.lifecycle import Status
from domain.personal_texts import ColumnUse, PersonalField, UploadedTexts
from domain.records import IdempotencyRecord
from domain.refusals import PersonalKeyInUse
from processors.documents.personal_texts import PersonalTexts
from processors.documents.reading import DocumentFilter
from processors.operators.keys import Throttle
from processors.operators.personal_text_keys import PersonalKeyAdministration, Resealing
from storage.postgres.database import Postgres, PostgresDatabase
from storage.postgres.keys.personal_columns import PostgresPersonalColumns
from storage.postgres.queries import PostgresQueries
from tests.integration.test_postgres_wrapped_keys import ROWS, _Explaining, fill_with_documents
from tests.support.builders import NOW, FixedClock, a_document, a_dossier
from tests.support.fakes_archiving import PlainSeals
from tests.support.fakes_personal_texts import ReadableColumnKeys, real_columns
from tests.support.memory_personal_texts import MemoryColumnKeyStore

NAME = PersonalField.FILE_NAME
EVERY = frozenset(Status)
#: Of every 1,000 documents one is not sealed yet, nine are under an older key, one of a hundred names comes ten times in ten tenants.
_DOCUMENTS = """
    INSERT INTO documents (id, tenant, dossier_id, nom_fichier, nom_original, type_document, chemin_stockage, statut,
                           deposant_id, langue, courriel_scelle, correlation_id, created_at, updated_at, bail_expire_a,
                           cle_personnelle, cle_index, nom_original_index, courriel_index)
    SELECT gen_random_uuid(), 'tenant-' || n % 10, $1, 'n',
           CASE WHEN key IS NULL THEN 'clear' ELSE 'p2.' || key || '.x' END, 'CNI', 'documents/' || n, 'PENDING', 'u', 'fr',
           CASE WHEN key IS NULL THEN 'p1.x.y' ELSE 'p2.' || key || '.x' END, gen_random_uuid(),
           now() + make_interval(secs => n), now(), now(),
           key, CASE WHEN key IS NULL THEN NULL ELSE 'l1' END,
           CASE WHEN key IS NULL THEN NULL ELSE decode(md5((n % 600)::text), 'hex') END,
           CASE WHEN key IS NULL THEN NULL ELSE decode(md5('m' || n), 'hex') END
    FROM (SELECT n, CASE WHEN n % 1000 = 0 THEN NULL WHEN n % 1000 < 10 THEN 'k1' ELSE 'k2' END AS key
          FROM generate_series(1, $2::bigint) AS n) AS made
"""


class World:
    """A dossier and documents on a database of their own; keys that show what they seal."""

    def __init__(self, postgres: Postgres, database: PostgresDatabase) -> None:
        self.postgres, self.database = postgres, database
        self.columns = ReadableColumnKeys("k1")
        self.texts = PersonalTexts(self.columns, PlainSeals())
        self.kept = PostgresPersonalColumns(postgres)
        self.queries = PostgresQueries(postgres)
        self.administration = PersonalKeyAdministration(
            MemoryColumnKeyStore(self.columns), self.kept, self.texts, database, FixedClock(), "op"
        )
        self.dossier = a_dossier()

    async def add(self, name: str = "Durand.pdf", *, sealed: bool = True, **changes: Any) -> Document:
        document = a_document(self.dossier, original_name=name, **changes)
        if sealed:
            given = UploadedTexts(
                file_name=name, email="durand@example.org", depositor_name="M. Durand", metadata={"nom": "Durand"}
            )
            document = replace(document, **self.texts.sealed(document.tenant, document.id, given))
        async with self.database.transaction() as work:
            await work.documents.add(document)
        return document

    async def get(self, document_id: UUID) -> Document:
        async with self.database.transaction() as work:
            return await work.documents.get(document_id)

    async def change(self, old: Document, **changes: Any) -> None:
        async with self.database.transaction() as work:
            await work.documents.update(old, replace(old, **changes))

    async def reseal(self) -> Resealing:
        return await self.administration.reseal(Throttle(100_000, lambda: 0.0, asyncio.sleep), lambda _: None)

    async def found(self, name: str) -> list[UUID]:
        filters = DocumentFilter(statuses=EVERY, indexes={NAME: self.texts.indexes("acme", NAME, name)})
        return [row.id for row in await self.queries.page(frozenset({"acme"}), filters, None, 50)]


@pytest.fixture
async def world(postgres: Postgres, database: PostgresDatabase) -> World:
    world = World(postgres, database)
    async with database.transaction() as work:
        await work.dossiers.add(world.dossier)
    return world


async def test_a_sealed_row_comes_back_as_it_was(world: World) -> None:
    document = await world.add()
    assert await world.get(document.id) == document
    assert world.texts.email(await world.get(document.id)) == "durand@example.org"
    assert await world.found("DURAND.pdf") == [document.id]
    assert await world.found("durand") == []


@pytest.mark.parametrize(
    "changes",
    [
        {"original_name": "clear.pdf"},
        {"original_name": "p2.k2.under-another-key"},
        {"depositor_email_sealed": "p1.aaaaaaaa.bbbb"},
        {"depositor_name_sealed": "M. Durand"},
        {"labels_sealed": "{}"},
        {"validation_comment": "clear"},
        {"rejection_reason": "p2.k2.x"},
        {"pending_decision": Decision(Status.REJECTED, "u", NOW, "clear")},
        {"tags": ("durand",)},
        {"metadata": {"nom": "Durand"}},
        {"file_name_index": None},
        {"email_index": None},
        {"lookup_key": None},
        {"personal_key": None},
        {"personal_key": "k2"},
    ],
    ids=lambda changes: "-".join(changes),
)
async def test_the_database_holds_that_a_row_is_sealed_as_a_whole_under_one_key(
    world: World, changes: dict[str, Any]
) -> None:
    document = await world.add()
    with pytest.raises(asyncpg.CheckViolationError):
        await world.change(document, **changes)
    assert await world.get(document.id) == document


async def test_notes_under_the_row_s_key_are_taken_and_erasing_leaves_nothing(world: World) -> None:
    document = await world.add()
    note = world.texts.note(document, "of Durand")
    await world.change(document, validation_comment=note, pending_decision=Decision(Status.REJECTED, "u", NOW, ""))
    held = await world.get(document.id)
    assert world.texts.opened_note(held, held.validation_comment) == "of Durand"
    await world.change(held, **PERSONAL_FIELDS)
    row = await _row(world, document.id)
    assert "urand" not in str(row)
    assert (row["cle_personnelle"], row["nom_original_index"], row["courriel_index"]) == (None, None, None)
    assert await world.kept.uses() == []


async def _row(world: World, document_id: UUID) -> Any:
    async with world.postgres.connection() as connection:
        return dict(await connection.fetchrow("SELECT * FROM documents WHERE id = $1", document_id))


async def test_everything_is_sealed_under_the_current_keys(world: World) -> None:
    old = await world.add()
    clear = await world.add(
        "Clear.pdf",
        sealed=False,
        depositor_email_sealed="sealed:durand@example.org",
        tags=("durand",),
        metadata={"nom": "Durand", "n": 1},
        validation_comment="of Durand",
        rejection_reason="no",
        pending_decision=Decision(Status.REJECTED, "u", NOW, "pending"),
    )
    assert await world.kept.uses() == [ColumnUse(None, None, 1), ColumnUse("k1", "l1", 1)]
    assert await world.found("clear.pdf") == []
    key = await world.administration.rotate()
    run = await world.reseal()
    assert (run.of, run.sealed, run.remaining, run.failed) == (2, 2, 0, {})
    assert await world.kept.uses() == [ColumnUse(key, "l1", 2)]
    assert await world.found("clear.pdf") == [clear.id]
    row = await world.get(clear.id)
    assert (row.tags, row.metadata, row.sequence, row.updated_at) == ((), {}, clear.sequence, clear.updated_at)
    assert world.texts.shown(row).texts == world.texts.shown(clear).texts
    assert world.texts.email(row) == "durand@example.org"
    assert world.texts.shown(await world.get(old.id)).texts == world.texts.shown(old).texts


async def test_a_row_that_somebody_holds_is_passed_over_and_one_that_changed_is_left(world: World) -> None:
    held, changed, free = [await world.add(f"{number}.pdf") for number in range(3)]
    await world.administration.rotate()
    (use,) = await world.kept.uses()
    page = await world.kept.page(use, None, 10)
    assert {kept.document.id for kept in page} == {held.id, changed.id, free.id}
    await world.change(changed, validation_comment=world.texts.note(changed, "meanwhile"))
    pairs = [(kept, world.texts.resealed(kept.document)) for kept in page]
    async with world.database.transaction() as work:
        await work.documents.lock(held.id)
        assert await world.kept.replace(pairs) == 1
    assert [(await world.get(one.id)).personal_key for one in (held, changed)] == ["k1", "k1"]
    assert (await world.get(free.id)).personal_key != "k1"
    assert (await world.reseal()).remaining == 0
    row = await world.get(changed.id)
    assert world.texts.opened_note(row, row.validation_comment) == "meanwhile"


async def test_resealing_beside_decisions_loses_none(world: World) -> None:
    documents = [await world.add(f"{number}.pdf") for number in range(40)]
    await world.administration.rotate()

    async def decide(document: Document) -> None:
        async with world.database.transaction() as work:
            row = await work.documents.lock(document.id)
            note = world.texts.note(row, f"note of {row.id}")
            await work.documents.update(row, replace(row, validation_comment=note))

    async def run() -> Resealing:
        await asyncio.sleep(0.01)
        return await world.reseal()

    *_, resealed = await asyncio.gather(*(decide(document) for document in documents), run())
    assert resealed.remaining == 0 or (await world.reseal()).remaining == 0
    for document in documents:
        row = await world.get(document.id)
        assert row.personal_key == world.columns.sealing[0]
        assert world.texts.opened_note(row, row.validation_comment) == f"note of {row.id}"


async def test_a_retired_key_is_taken_from_nobody(world: World) -> None:
    document = await world.add()
    with pytest.raises(PersonalKeyInUse):
        await world.kept.retire(key="k1")
    late = PersonalTexts(ReadableColumnKeys("k1"), PlainSeals())  # a process that has not read its key file again
    key = await world.administration.rotate()
    await world.reseal()
    await world.administration.retire("k1", apply=True)
    attempt = a_document(world.dossier, Status.PENDING)
    given = UploadedTexts(file_name="a", email="b@c.fr")
    attempt = replace(attempt, **late.sealed(attempt.tenant, attempt.id, given))
    claim = IdempotencyRecord(
        document_id=attempt.id, object_key=attempt.object_key, metadata_fingerprint="f", content_sha256=None, done=False,
        expired=False, response=None,
    )  # fmt: skip
    with pytest.raises(KeyVersionRetired):
        await world.database.uploads.begin(attempt, None, claim, 60)
    row = await world.get(document.id)
    assert row.personal_key == key
    with pytest.raises(asyncpg.PostgresError):
        await world.change(row, **late.sealed(row.tenant, row.id, given))
    retired = await world.administration.rotate(lookup=True)
    assert retired != "l1"
    await world.reseal()
    await world.administration.retire("l1", apply=True)
    with pytest.raises(KeyVersionRetired):
        await world.database.uploads.begin(attempt, None, claim, 60)


async def test_a_row_that_is_being_written_is_seen_by_a_retirement(world: World) -> None:
    columns = ReadableColumnKeys("k1")
    begun = asyncio.Event()

    async def slow() -> None:
        document = a_document(world.dossier)
        given = UploadedTexts(file_name="a", email="b@c.fr")
        texts = PersonalTexts(columns, PlainSeals())
        document = replace(document, **texts.sealed(document.tenant, document.id, given))
        async with world.database.transaction() as work:
            await work.documents.add(document)
            begun.set()
            await asyncio.sleep(0.3)

    writing = asyncio.create_task(slow())
    await begun.wait()
    with pytest.raises(PersonalKeyInUse):
        await world.kept.retire(key="k1")
    await writing


async def test_kept_answers_lose_their_texts_and_keep_their_order(world: World) -> None:
    body = {"id": "1", "file_name": "Durand.pdf", "size": 3, "tags": ["durand"], "metadata": {"nom": "Durand"}, "a": 1}
    async with world.postgres.connection() as connection:
        for number, response in enumerate(({"status": 201, "body": body}, None, {"status": 201, "body": body})):
            await connection.execute(
                """
                INSERT INTO idempotency_keys (tenant, caller, key, document_id, object_key, metadata_fingerprint, done,
                                              response, lease_until)
                VALUES ('acme', 'c', $1, $2, 'o', 'f', true, $3, now())
                """,
                f"k{number}",
                uuid4(),
                response,
            )
    forgotten, after = await world.kept.forget_answers(None, 2)
    assert forgotten == 1
    assert after is not None
    assert await world.kept.forget_answers(after, 2) == (1, None)
    assert (await world.kept.forget_answers(None, 10))[0] == 0
    async with world.postgres.connection() as connection:
        rows = await connection.fetch("SELECT response::text AS text, response FROM idempotency_keys ORDER BY key")
    assert rows[1]["text"] is None
    for row in (rows[0], rows[2]):
        assert "urand" not in row["text"]
        assert list(row["response"]["body"]) == list(body)
        assert row["response"]["body"]["id"] == "1"


async def test_the_roomiest_texts_fit(world: World) -> None:
    document = a_document(world.dossier)
    texts = PersonalTexts(real_columns(), PlainSeals())
    given = UploadedTexts(
        file_name="🦊" * 255,
        email=f"{'a' * 64}@{'b' * 185}.fr",
        depositor_name="🦊" * 255,
        tags=("🦊" * 64,) * 20,
        metadata={f"{number:02}{'é' * 62}": "🦊" * 1000 for number in range(32)},
    )
    sealed = replace(document, **texts.sealed(document.tenant, document.id, given))
    sealed = replace(sealed, rejection_reason=texts.note(sealed, "🦊" * 2000))
    async with world.database.transaction() as work:
        await work.documents.add(sealed)
    shown = texts.shown(await world.get(document.id)).texts
    assert (shown.file_name, shown.tags, shown.metadata) == (given.file_name, given.tags, given.metadata)
    assert shown.decision_note == "🦊" * 2000


class _Planning(_Explaining):
    """The same, with transactions of any kind."""

    def transaction(self, **how: Any) -> Any:
        return self._connection.transaction(**how)


async def fill(connection: asyncpg.Connection[Any]) -> None:
    await fill_with_documents(connection, _DOCUMENTS)


@pytest.fixture
def explaining(filled_connection: asyncpg.Connection[Any]) -> _Planning:
    return _Planning(filled_connection)


async def test_counting_reads_the_index_alone(explaining: _Planning) -> None:
    uses = await PostgresPersonalColumns(explaining).uses()
    assert uses == [
        ColumnUse(None, None, ROWS // 1000),
        ColumnUse("k1", "l1", 9 * ROWS // 1000),
        ColumnUse("k2", "l1", 990 * ROWS // 1000),
    ]
    assert set(explaining.read()) == {"documents_cles_personnelles"}
    assert "Index Only Scan" in {node["Node Type"] for node in explaining.nodes}


async def test_a_page_reads_its_rows_and_no_others(explaining: _Planning) -> None:
    kept = PostgresPersonalColumns(explaining)
    page = await kept.page(ColumnUse("k1", "l1", 0), None, 100)
    assert len(page) == 100
    assert explaining.read() == {"documents_cles_personnelles": 100}
    explaining.nodes.clear()
    clear = await kept.page(ColumnUse(None, None, 0), None, 50)
    assert len(clear) == 50
    assert explaining.read() == {"documents_cles_personnelles": 50}
    later = await kept.page(ColumnUse("k1", "l1", 0), page[-1].document.id, 100)
    assert min(one.document.id for one in later) > page[-1].document.id


async def test_a_look_up_reads_what_it_finds(explaining: _Planning) -> None:
    queries = PostgresQueries(explaining)
    index = await explaining._connection.fetchval("SELECT decode(md5('17'), 'hex')")
    for indexes in ((index,), (index, b"of an older key.")):
        for field, name, rows in ((NAME, "documents_nom", 100), (PersonalField.EMAIL, "documents_courriel", 0)):
            explaining.nodes.clear()
            filters = DocumentFilter(statuses=EVERY, indexes={field: indexes})
            assert len(await queries.page(frozenset({"tenant-7"}), filters, None, 51)) == min(rows, 51)
            assert set(explaining.read()) <= {name, "Bitmap Heap Scan"}
            assert max(explaining.read().values()) <= 2 * rows + 2
