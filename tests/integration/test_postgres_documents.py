"""DOCUMENTS and what hangs on it: every field there and back, compare-and-set, leases of uploads, records beside it."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from domain.documents import Decision, Document, Dossier, Language, Rendition, Step, TimelineEntry
from domain.lifecycle import Status
from domain.records import NotificationRecord
from domain.refusals import DocumentNotFound, DossierExists, DossierNotFound, StateChanged, UploadSuperseded
from ingest_api.models import DossierInput, UploadMetadata
from storage.postgres.database import Postgres, PostgresDatabase
from tests.support.builders import NOW, a_document, a_dossier, add_documents

LATER = NOW + timedelta(days=1, microseconds=123_456)
EVERYTHING: dict[str, Any] = {
    "category": "IDENTITY",
    "tags": ("urgent", "recto-verso", 'with "quotes", and a \\'),
    "metadata": {"numero": "1234", "nested": {"list": [1, 2.5, None, True]}, "é": "ü 🦊", "big": 2**53 - 1, "x": 1e300},
    "version_number": 2,
    "validator_id": "u-validator",
    "validation_comment": "Lisible.\nComplet.",
    "rejection_reason": "Illisible",
    "pending_decision": Decision(Status.VALIDATED, "u-validator", LATER, "ok\tdone"),
    "ged_id": "workspace://SpacesStore/1",
    "ged_path": "/dpj/2026/03",
    "archive_planned": False,
    "retention_years": 30,
    "failure_code": "integrity_mismatch",
    "thumbnail_note": "not_renderable",
    "decided_at": LATER,
    "archived_at": LATER,
    "expires_at": LATER,
    "language": Language.ENGLISH,
    "mandatory": False,
    "size": 5 * 2**30,
    "trace_id": bytes(range(16)),
}
#: Optional only while there is no content: the table requires them of a stored document.
CONTENT = {"mime_type", "size", "sha256", "wrapped_key", "object_etag", "object_size", "deposited_at"}
#: Of rows that are sealed as a whole (``test_postgres_personal_columns``).
SEALED = {"depositor_name_sealed", "labels_sealed", "personal_key", "lookup_key", "file_name_index", "email_index"}


async def stored(database: PostgresDatabase, document: Document) -> Document:
    """The document as another transaction reads it."""
    async with database.transaction() as work:
        return await work.documents.get(document.id)


async def test_every_field_is_read_as_it_was_written(database: PostgresDatabase) -> None:
    dossier = a_dossier()
    parent = a_document(dossier)
    full = a_document(dossier, Status.ARCHIVED, parent_id=parent.id, **EVERYTHING)
    # The subject's key is kept in a table of its own: see tests/contract/test_subject_key_rows.py.
    assert {field.name for field in fields(Document) if getattr(full, field.name) is None} == {*SEALED, "subject_key"}
    async with database.transaction() as work:
        await work.dossiers.add(dossier)
        await work.documents.add(parent)
        await work.documents.add(full)
    assert await stored(database, full) == full
    assert await stored(database, parent) == parent


async def test_every_optional_field_may_be_absent(database: PostgresDatabase) -> None:
    dossier = a_dossier(steps=(), current_step=None)
    bare = a_document(dossier, Status.PENDING)
    absent = {field.name for field in fields(Document) if getattr(bare, field.name) is None}
    assert absent >= CONTENT | {"step_id", "parent_id", "pending_decision", "ged_id", "archive_planned", "expires_at"}
    async with database.transaction() as work:
        await work.dossiers.add(dossier)
        await work.uploads.begin(bare, 60)
    assert await stored(database, bare) == bare


# A retention is never taken back: see tests/contract/test_erasure_rows.py.
@pytest.mark.parametrize("name", sorted(EVERYTHING.keys() - {"expires_at", "retention_years"}))
async def test_each_field_can_be_changed_and_taken_back(database: PostgresDatabase, name: str) -> None:
    dossier = a_dossier()
    document = a_document(dossier, Status.VERIFIED)
    changed = replace(document, **{name: EVERYTHING[name]})
    async with database.transaction() as work:
        await work.dossiers.add(dossier)
        await work.documents.add(document)
        await work.documents.update(document, changed)
    assert await stored(database, document) == changed
    async with database.transaction() as work:
        await work.documents.update(changed, document)
    assert await stored(database, document) == document


async def test_an_update_needs_the_state_and_the_sequence_it_saw(database: PostgresDatabase) -> None:
    dossier = a_dossier()
    document = a_document(dossier, Status.STORED)
    await add_documents(database, dossier, document)
    verified = replace(document, status=Status.VERIFIED, sequence=3)
    for seen in (replace(document, sequence=2), replace(document, status=Status.QUARANTINED)):
        with pytest.raises(StateChanged):
            async with database.transaction() as work:
                await work.documents.update(seen, replace(verified, sequence=9))
    assert await stored(database, document) == document
    async with database.transaction() as work:
        await work.documents.update(document, verified)
    assert await stored(database, document) == verified


async def test_of_many_that_move_the_same_document_one_succeeds(database: PostgresDatabase) -> None:
    dossier = a_dossier()
    document = a_document(dossier, Status.STORED)
    await add_documents(database, dossier, document)

    async def move() -> bool:
        try:
            async with database.transaction() as work:
                await work.documents.update(document, replace(document, status=Status.VERIFIED, sequence=2))
        except StateChanged:
            return False
        return True

    assert sum(await asyncio.gather(*(move() for _ in range(8)))) == 1


async def test_a_locked_row_is_waited_for(database: PostgresDatabase) -> None:
    dossier = a_dossier()
    document = a_document(dossier)
    seen: list[int] = []
    await add_documents(database, dossier, document)

    async def second() -> None:
        async with database.transaction() as work:
            seen.append((await work.documents.lock(document.id)).sequence)

    async with database.transaction() as work:
        held = await work.documents.lock(document.id)
        waiting = asyncio.create_task(second())
        await asyncio.sleep(0.2)
        assert seen == []
        await work.documents.update(held, replace(held, sequence=7))
    await waiting
    assert seen == [7]


async def test_an_absent_document_is_not_found(database: PostgresDatabase) -> None:
    async with database.transaction() as work:
        with pytest.raises(DocumentNotFound):
            await work.documents.get(uuid4())
        with pytest.raises(DocumentNotFound):
            await work.documents.lock(uuid4())


# --- leases of uploads ------------------------------------------------------------------------------------------------


async def begun(database: PostgresDatabase, lease_seconds: float) -> Document:
    """An upload under way in a dossier of its own."""
    dossier = a_dossier()
    document = a_document(dossier, Status.PENDING)
    async with database.transaction() as work:
        await work.dossiers.add(dossier)
        await work.uploads.begin(document, lease_seconds)
    return document


async def test_an_upload_is_held_only_by_its_attempt_and_within_its_lease(database: PostgresDatabase) -> None:
    document = await begun(database, 0.4)
    async with database.transaction() as work:
        assert await work.uploads.hold(document.id, document.object_key) == document
        await work.uploads.renew(document.id, document.object_key, 0.4)
        for act in (
            work.uploads.hold(document.id, "documents/another"),
            work.uploads.renew(document.id, "documents/another", 60),
            work.uploads.hold(uuid4(), document.object_key),
        ):
            with pytest.raises(UploadSuperseded):
                await act
    await asyncio.sleep(0.5)
    async with database.transaction() as work:
        with pytest.raises(UploadSuperseded):
            await work.uploads.hold(document.id, document.object_key)
        with pytest.raises(UploadSuperseded):
            await work.uploads.renew(document.id, document.object_key, 60)


async def test_a_renewed_lease_outlives_the_first(database: PostgresDatabase) -> None:
    document = await begun(database, 0.3)
    async with database.transaction() as work:
        await work.uploads.renew(document.id, document.object_key, 60)
    await asyncio.sleep(0.4)
    async with database.transaction() as work:
        assert await work.uploads.abandon_expired(10) == []
        assert (await work.uploads.hold(document.id, document.object_key)).id == document.id


async def test_sweeps_at_once_abandon_each_upload_once(database: PostgresDatabase) -> None:
    due = {(await begun(database, 0.0)).id for _ in range(6)}
    alive = await begun(database, 60)

    async def sweep() -> list[Document]:
        async with database.transaction() as work:
            found = list(await work.uploads.abandon_expired(4))
            await asyncio.sleep(0.2)  # both transactions are open at the same time
            return found

    first, second = await asyncio.gather(sweep(), sweep())
    assert (len(first), len(second)) in {(4, 2), (2, 4)}
    assert {document.id for document in first + second} == due
    assert {document.status for document in first + second} == {Status.ABANDONED}
    assert (await stored(database, alive)).status is Status.PENDING
    abandoned = first[0]
    assert (await stored(database, abandoned)).status is Status.ABANDONED
    async with database.transaction() as work:
        assert await work.uploads.abandon_expired(10) == []
        with pytest.raises(UploadSuperseded):
            await work.uploads.hold(abandoned.id, abandoned.object_key)


async def test_a_completing_upload_is_not_swept(database: PostgresDatabase) -> None:
    document = await begun(database, 0.3)
    async with database.transaction() as work:
        held = await work.uploads.hold(document.id, document.object_key)
        await asyncio.sleep(0.4)
        async with database.transaction() as other:
            assert await other.uploads.abandon_expired(10) == []
        content = {name: getattr(a_document(), name) for name in CONTENT}
        await work.documents.update(held, replace(held, status=Status.STORED, sequence=2, **content))
    async with database.transaction() as work:
        assert await work.uploads.abandon_expired(10) == []


# --- dossiers ---------------------------------------------------------------------------------------------------------


async def test_a_dossier_keeps_its_steps_in_their_order(database: PostgresDatabase) -> None:
    steps = tuple(
        Step(
            id=uuid4(),
            code=f"S{position}",
            name=f"Étape {position}",
            position=position,
            status="TO_DO",
            mandatory_documents=("CNI", "RIB"),
            optional_documents=("DIVERS",),
        )
        for position in (1, 2, 3)
    )
    dossier = a_dossier(steps=tuple(reversed(steps)), priority=9, created_at=LATER)
    async with database.transaction() as work:
        await work.dossiers.add(dossier)
    async with database.transaction() as work:
        assert await work.dossiers.get("acme", dossier.id) == replace(dossier, steps=steps)
        with pytest.raises(DossierNotFound):
            await work.dossiers.get("globex", dossier.id)


async def test_a_number_is_the_tenants_own(database: PostgresDatabase) -> None:
    dossier = a_dossier("D-1")
    async with database.transaction() as work:
        await work.dossiers.add(dossier)
        await work.dossiers.add(a_dossier("D-1", tenant="globex"))
    with pytest.raises(DossierExists):
        async with database.transaction() as work:
            await work.dossiers.add(a_dossier("D-1"))
    async with database.transaction() as work:
        assert [found.tenant for found in await work.dossiers.page(None, None, 10)].count("acme") == 1


async def test_dossiers_are_paged_newest_first(database: PostgresDatabase) -> None:
    dossiers = [a_dossier(created_at=NOW + timedelta(seconds=number // 2)) for number in range(6)]
    async with database.transaction() as work:
        for dossier in (*dossiers, a_dossier(tenant="globex")):
            await work.dossiers.add(dossier)
    found: list[Dossier] = []
    after: tuple[datetime, Any] | None = None
    async with database.transaction() as work:
        while page := await work.dossiers.page("acme", after, 2):
            found.extend(page)
            after = (page[-1].created_at, page[-1].id)
        assert len(await work.dossiers.page(None, None, 100)) == 7
    assert found == sorted(dossiers, key=lambda dossier: (dossier.created_at, dossier.id), reverse=True)


# --- what users may send ----------------------------------------------------------------------------------------------


async def test_the_longest_texts_that_the_api_takes_fit(database: PostgresDatabase) -> None:
    code, label, wide = "C" * 64, "é" * 64, "🦊" * 255
    given = DossierInput.model_validate(
        {
            "number": code,
            "client_id": code,
            "journey_type": code,
            "priority": 9,
            "steps": [{"code": code, "name": wide, "mandatory_documents": [code] * 50}],
        }
    )
    step = given.steps[0]
    dossier = a_dossier(
        given.number,
        tenant="t" * 64,
        client_id=given.client_id,
        journey_type=given.journey_type,
        current_step=step.code,
        priority=given.priority,
        created_by="a" * 128,
        steps=(
            Step(
                id=uuid4(),
                code=step.code,
                name=step.name,
                position=1,
                status="TO_DO",
                mandatory_documents=tuple(step.mandatory_documents),
            ),
        ),
    )
    upload = UploadMetadata.model_validate(
        {
            "type": "CNI",
            "dossier_id": dossier.id,
            "depositor": {"email": f"{'a' * 64}@{'b' * 61}.{'b' * 61}.{'b' * 62}.fr"},
            "file_name": wide,
            "tags": [label] * 20,
            "metadata": {f"{number:02}{'é' * 62}": "🦊" * 1000 for number in range(31)} | {"float": -1.7e308},
        }
    )
    document = a_document(
        dossier,
        Status.VALIDATED,
        original_name=upload.file_name,
        depositor_id="a" * 128,
        depositor_email_sealed="s" * 4096,
        tags=tuple(upload.tags),
        metadata=upload.metadata,
        validation_comment="🦊" * 2000,
        rejection_reason="🦊" * 2000,
        pending_decision=Decision(Status.REJECTED, "a" * 128, LATER, "🦊" * 2000),
    )
    await add_documents(database, dossier, document)
    assert await stored(database, document) == document
    async with database.transaction() as work:
        assert await work.dossiers.get(dossier.tenant, dossier.id) == dossier


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "\ud800"])
def test_texts_that_postgresql_refuses_are_refused_by_the_api(text: str) -> None:
    base: dict[str, Any] = {"type": "CNI", "dossier_id": str(uuid4()), "depositor": {"email": "a@example.org"}}
    UploadMetadata.model_validate(base)
    for bad in (
        {"file_name": text},
        {"tags": [text]},
        {"metadata": {text: "x"}},
        {"metadata": {"x": text}},
        {"type": text},
    ):
        with pytest.raises(ValueError, match="validation error"):
            UploadMetadata.model_validate(base | bad)


# --- beside the document ----------------------------------------------------------------------------------------------


async def test_timeline_renditions_and_notifications(database: PostgresDatabase, postgres: Postgres) -> None:
    dossier = a_dossier()
    document = a_document(dossier)
    entries = [
        TimelineEntry(
            document_id=document.id,
            dossier_id=dossier.id,
            type=f"T{number}",
            actor="u-1",
            at=NOW - timedelta(seconds=number),  # a clock that goes back does not change the order
            details={"number": number, "text": "é"},
        )
        for number in range(20)
    ]
    small = Rendition(
        document_id=document.id,
        role="thumbnail-128",
        object_key=f"{document.object_key}.128",
        mime_type="image/webp",
        width=128,
        height=90,
        size=900,
        sha256="b" * 64,
        object_etag="e",
        object_size=1000,
    )
    large = replace(small, role="thumbnail-512", width=512, object_key=f"{document.object_key}.512")
    sent = NotificationRecord(
        id=uuid4(),
        document_id=document.id,
        dossier_id=dossier.id,
        event_id=uuid4(),
        channel="email",
        template="document_verified",
        language="fr",
        payload={"type": "CNI"},
        message_id="<1@dpj>",
        status="SENDING",
        attempt=1,
        sent_at=None,
    )
    async with database.transaction() as work:
        await work.dossiers.add(dossier)
        await work.documents.add(document)
        for entry in entries:
            await work.timeline.add(entry)
        await work.renditions.put(large)
        await work.renditions.put(small)
        await work.notifications.put(sent)
    done = replace(sent, status="SENT", attempt=2, sent_at=datetime.now(UTC))
    async with database.transaction() as work:
        await work.renditions.put(replace(small, size=901, object_etag="f"))
        await work.notifications.put(done)
        assert await work.timeline.of(document.id) == entries
        assert await work.renditions.of(document.id) == [replace(small, size=901, object_etag="f"), large]
        assert await work.notifications.get(sent.id) == done
        assert await work.notifications.get(uuid4()) is None
        assert await work.timeline.of(uuid4()) == []


async def test_a_stored_document_without_its_key_is_refused_by_the_table(database: PostgresDatabase) -> None:
    dossier = a_dossier()

    async def add() -> None:
        async with database.transaction() as work:
            await work.dossiers.add(dossier)
            await work.documents.add(replace(a_document(dossier), wrapped_key=None))

    with pytest.raises(asyncpg.CheckViolationError):
        await add()
    async with database.transaction() as work:
        with pytest.raises(DossierNotFound):
            await work.dossiers.get("acme", dossier.id)
