"""What the relational state promises to the use cases, over memory (which unit tests trust) and over PostgreSQL: rows and lists."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.documents import Decision, Document, Dossier, Language, Rendition, Step, TimelineEntry
from domain.keys import WrappedKey
from domain.lifecycle import Status
from domain.records import NotificationRecord
from domain.refusals import (
    DocumentNotFound,
    DossierExists,
    DossierNotFound,
    StateChanged,
    TypeUnknown,
    UploadSuperseded,
)
from processors.documents.reading import DocumentFilter
from tests.support.builders import NOW, a_document, a_dossier
from tests.support.database_backends import GONE, LONG, DatabaseBackend, Rolled

ALL = frozenset(Status)

# --- transactions ----------------------------------------------------------------------------------------------------


async def test_an_exception_undoes_all_of_a_transaction(site: DatabaseBackend) -> None:
    document = a_document(site.dossier)

    async def write() -> None:
        async with site.database.transaction() as work:
            await work.documents.add(document)
            await work.timeline.add(_entry(document, "STORED"))
            raise Rolled

    with pytest.raises(Rolled):
        await write()
    with pytest.raises(DocumentNotFound):
        await site.get(document.id)


async def test_a_transaction_sees_its_own_writes(site: DatabaseBackend) -> None:
    document = a_document(site.dossier)
    async with site.database.transaction() as work:
        await work.documents.add(document)
        assert await work.documents.lock(document.id) == document


async def test_transactions_on_one_document_follow_each_other(site: DatabaseBackend) -> None:
    document = a_document(site.dossier)
    await site.add(document)

    async def count() -> None:
        async with site.database.transaction() as work:
            held = await work.documents.lock(document.id)
            await asyncio.sleep(0.005)
            await work.documents.update(held, replace(held, sequence=held.sequence + 1))

    await asyncio.gather(*(count() for _ in range(6)))
    assert (await site.get(document.id)).sequence == document.sequence + 6


# --- documents -------------------------------------------------------------------------------------------------------


async def test_every_field_of_a_document_comes_back(site: DatabaseBackend) -> None:
    parent = a_document(site.dossier)
    later = NOW + timedelta(microseconds=1)
    document = a_document(
        site.dossier,
        Status.ARCHIVED,
        category="IDENTITE",
        original_name="pièce d'identité « recto ».pdf",
        language=Language.ENGLISH,
        tags=("a", "b c"),
        metadata={"pays": "FR", "nested": {"n": [1, 2.5, None, True]}},
        version_number=2,
        parent_id=parent.id,
        wrapped_key=WrappedKey("vault-transit", "dpj-documents", 3, "vault:v3:AAAA"),
        validator_id="u-9",
        validation_comment="conforme",
        rejection_reason="illisible",
        pending_decision=Decision(Status.VALIDATED, "u-9", later, "à l'œil"),
        ged_id="42",
        ged_path="/dpj/acme/2026/x.pdf",
        archive_planned=True,
        retention_years=10,
        failure_code="archive_refused",
        thumbnail_note="LIMIT_TIME",
        sequence=7,
        decided_at=later,
        archived_at=later,
        expires_at=later,
    )
    await site.add(parent, document)
    assert await site.get(document.id) == document


async def test_fields_can_be_emptied_again(site: DatabaseBackend) -> None:
    document = a_document(
        site.dossier, Status.VERIFIED, pending_decision=Decision(Status.REJECTED, "u", NOW, ""), failure_code="x"
    )
    await site.add(document)
    emptied = replace(document, pending_decision=None, failure_code=None, tags=())
    async with site.database.transaction() as work:
        await work.documents.update(document, emptied)
    assert await site.get(document.id) == emptied


async def test_an_unknown_document_is_not_found(site: DatabaseBackend) -> None:
    async with site.database.transaction() as work:
        with pytest.raises(DocumentNotFound):
            await work.documents.get(uuid4())
        with pytest.raises(DocumentNotFound):
            await work.documents.lock(uuid4())


@pytest.mark.parametrize("changes", [{"status": Status.QUARANTINED}, {"sequence": 0}])
async def test_an_update_from_another_state_or_sequence_is_refused(
    site: DatabaseBackend, changes: dict[str, Any]
) -> None:
    document = a_document(site.dossier)
    await site.add(document)
    stale = replace(document, **changes)
    with pytest.raises(StateChanged):
        async with site.database.transaction() as work:
            await work.documents.update(stale, replace(stale, status=Status.VERIFIED))
    assert await site.get(document.id) == document


async def test_of_two_decisions_one_is_written(site: DatabaseBackend) -> None:
    document = a_document(site.dossier, Status.VERIFIED)
    await site.add(document)

    async def decide(to: Status) -> None:
        async with site.database.transaction() as work:
            await work.documents.update(document, replace(document, status=to, sequence=document.sequence + 2))

    outcomes = await asyncio.gather(decide(Status.VALIDATED), decide(Status.REJECTED), return_exceptions=True)
    assert sorted(type(outcome) for outcome in outcomes if outcome is not None) == [StateChanged]


# --- uploads ---------------------------------------------------------------------------------------------------------


async def test_an_upload_is_held_by_its_attempt_only(site: DatabaseBackend) -> None:
    document = a_document(site.dossier, Status.PENDING)
    async with site.database.transaction() as work:
        await work.uploads.begin(document, LONG)
    async with site.database.transaction() as work:
        await work.uploads.renew(document.id, document.object_key, LONG)
        assert await work.uploads.hold(document.id, document.object_key) == document
        for call in (work.uploads.hold(document.id, "other"), work.uploads.renew(document.id, "other", LONG)):
            with pytest.raises(UploadSuperseded):
                await call
        with pytest.raises(UploadSuperseded):
            await work.uploads.hold(uuid4(), document.object_key)


async def test_a_lease_that_ran_out_can_not_be_held_or_renewed(site: DatabaseBackend) -> None:
    document = a_document(site.dossier, Status.PENDING)
    async with site.database.transaction() as work:
        await work.uploads.begin(document, GONE)
    async with site.database.transaction() as work:
        with pytest.raises(UploadSuperseded):
            await work.uploads.hold(document.id, document.object_key)
        with pytest.raises(UploadSuperseded):
            await work.uploads.renew(document.id, document.object_key, LONG)


async def test_expired_uploads_are_abandoned_once_and_only_they(site: DatabaseBackend) -> None:
    expired = [a_document(site.dossier, Status.PENDING) for _ in range(3)]
    alive, stored = a_document(site.dossier, Status.PENDING), a_document(site.dossier)
    async with site.database.transaction() as work:
        for document in expired:
            await work.uploads.begin(document, GONE)
        await work.uploads.begin(alive, LONG)
        await work.documents.add(stored)
    found: list[Document] = []
    for _ in range(3):
        async with site.database.transaction() as work:
            found += await work.uploads.abandon_expired(2)
    assert {row.id for row in found} == {row.id for row in expired}
    assert len(found) == 3
    assert all(row.status is Status.ABANDONED for row in found)
    assert (await site.get(expired[0].id)).status is Status.ABANDONED
    assert await site.get(alive.id) == alive
    assert await site.get(stored.id) == stored


async def test_an_abandoned_upload_can_not_be_completed(site: DatabaseBackend) -> None:
    document = a_document(site.dossier, Status.PENDING)
    async with site.database.transaction() as work:
        await work.uploads.begin(document, GONE)
        await work.uploads.abandon_expired(10)
    async with site.database.transaction() as work:
        with pytest.raises(UploadSuperseded):
            await work.uploads.hold(document.id, document.object_key)


# --- dossiers and types ----------------------------------------------------------------------------------------------


async def test_a_dossier_comes_back_with_its_steps_in_order(site: DatabaseBackend) -> None:
    steps = tuple(
        Step(
            id=uuid4(),
            code=f"S{place}",
            name=f"Étape {place}",
            position=place,
            status="TO_DO",
            optional_documents=("RIB",),
        )
        for place in (1, 2, 3)
    )
    dossier = a_dossier(current_step=None, priority=3, steps=steps)
    async with site.database.transaction() as work:
        await work.dossiers.add(dossier)
    async with site.database.transaction() as work:
        assert await work.dossiers.get("acme", dossier.id) == dossier
        with pytest.raises(DossierNotFound):
            await work.dossiers.get("other", dossier.id)
        with pytest.raises(DossierNotFound):
            await work.dossiers.get("acme", uuid4())


async def test_a_number_is_a_tenants_own(site: DatabaseBackend) -> None:
    async with site.database.transaction() as work:
        await work.dossiers.add(a_dossier(site.dossier.number, tenant="other"))
    with pytest.raises(DossierExists):
        async with site.database.transaction() as work:
            await work.dossiers.add(a_dossier(site.dossier.number))


async def test_dossiers_page_newest_first_without_gap_or_repeat(site: DatabaseBackend) -> None:
    made = [a_dossier(created_at=NOW + timedelta(seconds=at // 2), tenant="t") for at in range(7)]
    async with site.database.transaction() as work:
        for dossier in made:
            await work.dossiers.add(dossier)
    expected = sorted(made, key=lambda row: (row.created_at, row.id), reverse=True)
    seen: list[Dossier] = []
    after = None
    async with site.database.transaction() as work:
        while page := await work.dossiers.page("t", after, 3):
            seen += page
            after = (page[-1].created_at, page[-1].id)
        everyone = await work.dossiers.page(None, None, 50)
    assert seen == expected
    assert {row.tenant for row in everyone} == {"t", "acme"}


async def test_types_by_code(site: DatabaseBackend) -> None:
    async with site.database.transaction() as work:
        assert (await work.types.get("CNI")).code == "CNI"
        with pytest.raises(TypeUnknown):
            await work.types.get("NOPE")
    codes = [rule.code for rule in await site.queries.types()]
    assert {"CNI", "RIB"} <= set(codes)
    assert codes == sorted(codes)


# --- lists of documents ----------------------------------------------------------------------------------------------


async def test_lists_are_filtered_and_stable_while_rows_come_in(site: DatabaseBackend) -> None:
    other = a_dossier(tenant="other")
    async with site.database.transaction() as work:
        await work.dossiers.add(other)
    mine = [a_document(site.dossier, created_at=NOW + timedelta(seconds=at // 3)) for at in range(8)]
    verified = a_document(site.dossier, Status.VERIFIED, type_code="RIB", created_at=NOW - timedelta(days=1))
    theirs = a_document(other)
    await site.add(*mine, verified, theirs)

    async def listed(tenant: str | None, **filters: Any) -> set[UUID]:
        chosen = DocumentFilter(**{"statuses": ALL, **filters})
        return {
            row.id for row in await site.queries.page(None if tenant is None else frozenset({tenant}), chosen, None, 50)
        }

    everything = {row.id for row in (*mine, verified)}
    assert await listed("acme") == everything
    assert await listed(None) == everything | {theirs.id}
    assert await listed("acme", statuses=frozenset({Status.VERIFIED})) == {verified.id}
    assert await listed("acme", type_code="RIB") == {verified.id}
    assert await listed("acme", dossier_id=other.id) == set()
    assert await listed(None, dossier_id=other.id, type_code="CNI") == {theirs.id}

    seen: list[Document] = []
    after = None
    while page := await site.queries.page(frozenset({"acme"}), DocumentFilter(statuses=ALL), after, 2):
        seen += page
        after = (page[-1].created_at, page[-1].id)
        await site.add(a_document(site.dossier, created_at=NOW + timedelta(days=1)))  # newer: shifts nothing
    assert seen == sorted((*mine, verified), key=lambda row: (row.created_at, row.id), reverse=True)


# --- what is written beside a document -------------------------------------------------------------------------------


def _entry(document: Document, kind: str, at: datetime = NOW) -> TimelineEntry:
    return TimelineEntry(
        document_id=document.id, dossier_id=document.dossier_id, type=kind, actor="u", at=at, details={"n": 1}
    )


async def test_a_timeline_is_in_the_order_it_was_written(site: DatabaseBackend) -> None:
    document, other = a_document(site.dossier), a_document(site.dossier)
    await site.add(document, other)
    entries = [_entry(document, kind) for kind in ("STORED", "VERIFIED", "VALIDATED")]
    for entry in entries:
        async with site.database.transaction() as work:
            await work.timeline.add(entry)
            await work.timeline.add(_entry(other, "STORED"))
    async with site.database.transaction() as work:
        assert list(await work.timeline.of(document.id)) == entries
        assert list(await work.timeline.of(uuid4())) == []


async def test_a_rendition_replaces_that_of_its_role(site: DatabaseBackend) -> None:
    document = a_document(site.dossier)
    await site.add(document)
    large, small = (
        Rendition(
            document_id=document.id,
            role=f"thumbnail-{box}",
            object_key=f"{document.object_key}/thumbnail-{box}",
            mime_type="image/webp",
            width=box,
            height=box,
            size=10,
            sha256="b" * 64,
            object_etag="e",
            object_size=100,
        )
        for box in (1024, 256)
    )
    again = replace(small, object_etag="e2", size=11)
    async with site.database.transaction() as work:
        for rendition in (large, small, again):
            await work.renditions.put(rendition)
    async with site.database.transaction() as work:
        assert list(await work.renditions.of(document.id)) == [again, large]


async def test_a_notification_keeps_its_text_and_changes_its_outcome(site: DatabaseBackend) -> None:
    document = a_document(site.dossier)
    await site.add(document)
    record = NotificationRecord(
        id=uuid4(),
        document_id=document.id,
        dossier_id=document.dossier_id,
        event_id=uuid4(),
        channel="EMAIL",
        template="receipt",
        language="fr",
        payload={"type_label": "Carte"},
        message_id=f"<{uuid4()}@dpj.example>",
        status="SENDING",
        attempt=1,
        sent_at=None,
    )
    sent = replace(record, status="SENT", attempt=2, sent_at=NOW)
    async with site.database.transaction() as work:
        assert await work.notifications.get(record.id) is None
        await work.notifications.put(record)
        await work.notifications.put(replace(sent, payload={"other": "text"}))
    async with site.database.transaction() as work:
        assert await work.notifications.get(record.id) == sent
