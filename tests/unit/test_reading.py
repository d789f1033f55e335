"""Reading: who sees what, in which states, and the line in the audit log for it."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from domain.documents import Rendition, Role
from domain.lifecycle import ERASURE_STATES, READABLE, Status
from domain.refusals import (
    ContentNotAvailable,
    DocumentGone,
    DocumentNotFound,
    RangeNotSatisfiable,
    ThumbnailNotFound,
    ThumbnailSizeInvalid,
)
from processors.documents.callers import ATTEMPTS
from tests.support.builders import a_rendition
from tests.support.fakes_content import collect
from tests.support.fakes_intake import PDF, IntakeBench, a_rule

OUTSIDERS = [(Role.PORTAL,), (Role.VALIDATOR,), ()]
OVERSEERS = [(Role.OPERATOR,), (Role.AUDITOR,)]


@pytest.mark.parametrize("roles", OVERSEERS)
async def test_overseers_read_metadata_of_all_tenants_and_content_of_none(
    bench: IntakeBench, roles: tuple[Role]
) -> None:
    document = await bench.stored()
    caller = bench.caller(*roles, tenant="bank")
    assert await bench.reading.document(caller, document.id) == document
    assert [entry.type for entry in await bench.reading.timeline(caller, document.id)] == ["STORED"]
    assert [row.id for row in (await bench.reading.page(caller)).items] == [document.id]
    for read in (bench.reading.readable, bench.reading.read):
        with pytest.raises(DocumentNotFound):
            await read(caller, document.id)
    with pytest.raises(DocumentNotFound):
        await bench.reading.thumbnail(caller, document.id, 256)


async def test_another_tenants_document_does_not_exist(bench: IntakeBench) -> None:
    document = await bench.stored()
    caller = bench.caller(Role.PORTAL, Role.VALIDATOR, tenant="other")
    for read in (bench.reading.document, bench.reading.timeline, bench.reading.readable, bench.reading.read):
        with pytest.raises(DocumentNotFound):
            await read(caller, document.id)
        with pytest.raises(DocumentNotFound):
            await read(caller, uuid4())
    assert not (await bench.reading.page(caller)).items


async def test_attempts_show_only_to_overseers_who_ask(bench: IntakeBench) -> None:
    attempt = await bench.stored(Status.PENDING)
    portal, operator = bench.caller(), bench.caller(Role.OPERATOR)
    with pytest.raises(DocumentNotFound):
        await bench.reading.document(portal, attempt.id)
    assert not (await bench.reading.page(portal, status=Status.PENDING)).items
    assert not (await bench.reading.page(operator)).items
    assert [row.id for row in (await bench.reading.page(operator, status=Status.PENDING)).items] == [attempt.id]
    assert await bench.reading.document(operator, attempt.id) == attempt


async def test_lists_are_filtered_and_paged_newest_first(bench: IntakeBench) -> None:
    documents = [await bench.stored() for _ in range(5)]
    caller = bench.caller()
    first = await bench.reading.page(caller, limit=2)
    second = await bench.reading.page(caller, limit=2, cursor=first.next_cursor)
    newest = await bench.stored()
    third = await bench.reading.page(caller, limit=2, cursor=second.next_cursor)
    listed = [row.id for page in (first, second, third) for row in page.items]
    assert listed == [row.id for row in reversed(documents)]
    assert third.next_cursor is None
    verified = replace(newest, status=Status.VERIFIED, type_code="OTHER")
    bench.database.rows.documents[newest.id] = verified
    for filters in ({"status": Status.VERIFIED}, {"type_code": "OTHER"}):
        assert list((await bench.reading.page(caller, **filters)).items) == [verified]
    assert len((await bench.reading.page(caller, dossier_id=bench.dossier.id)).items) == 6
    assert not (await bench.reading.page(caller, dossier_id=uuid4())).items


@pytest.mark.parametrize("status", sorted(set(Status) - ATTEMPTS, key=lambda one: one.value))
async def test_content_is_read_where_the_state_allows_it(bench: IntakeBench, status: Status) -> None:
    document = await bench.stored(status)
    caller = bench.caller(Role.VALIDATOR)
    if status in READABLE:
        assert await collect(await bench.reading.read(caller, document.id)) == PDF
        assert await collect(await bench.reading.read(caller, document.id, (5, 9))) == PDF[5:9]
        return
    refusal = DocumentGone if status in ERASURE_STATES else ContentNotAvailable
    for read in (bench.reading.readable, bench.reading.read):
        with pytest.raises(refusal, match=status.value):
            await read(caller, document.id)
    assert not [line for line in bench.audited() if line.action == "document.content.read"]


async def test_content_of_an_attempt_is_not_available_even_to_who_sees_it(bench: IntakeBench) -> None:
    attempt = await bench.stored(Status.ABANDONED)
    with pytest.raises(ContentNotAvailable):
        await bench.reading.read(bench.caller(Role.PORTAL, Role.OPERATOR), attempt.id)


async def test_a_range_outside_is_refused(bench: IntakeBench) -> None:
    document = await bench.stored()
    with pytest.raises(RangeNotSatisfiable):
        await collect(await bench.reading.read(bench.caller(), document.id, (0, len(PDF) + 1)))


async def test_every_read_is_in_the_audit_log(bench: IntakeBench) -> None:
    document = await bench.stored()
    bench.database.rows.outbox.clear()
    caller = bench.caller(Role.VALIDATOR)
    await bench.reading.document(caller, document.id)
    await bench.reading.timeline(caller, document.id)
    await bench.reading.page(caller)
    await bench.reading.read(caller, document.id, (1, 3))
    lines = bench.audited()
    assert [line.action for line in lines] == [
        "document.read",
        "document.events.read",
        "document.list",
        "document.content.read",
    ]
    assert {line.tenant for line in lines} == {"acme"}
    assert lines[-1].details == '{"end":3,"start":1}'
    assert (lines[-1].entity_id, lines[-1].sequence) == (str(document.id), 0)


async def test_a_read_that_cannot_be_audited_is_not_made(bench: IntakeBench) -> None:
    document = await bench.stored()
    bench.database.faults = ["rollback"]
    bench.objects.calls.clear()
    with pytest.raises(Exception, match="database"):
        await bench.reading.read(bench.caller(), document.id)
    assert not bench.objects.calls


async def a_stored_rendition(bench: IntakeBench, document_id: UUID, box: int, clear: bytes) -> Rendition:
    document = bench.database.rows.documents[document_id]
    stored = await bench.content.store_rendition(document, f"thumbnail-{box}", clear)
    rendition = a_rendition(
        document, box, object_key=stored.key, size=len(clear), object_etag=stored.etag, object_size=stored.size
    )
    bench.database.rows.renditions[rendition.document_id, rendition.role] = rendition
    return rendition


async def test_thumbnails_are_read_and_audited(bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    await a_stored_rendition(bench, document.id, 256, b"small")
    await a_stored_rendition(bench, document.id, 1024, b"large")
    caller = bench.caller()
    for box, clear in ((256, b"small"), (1024, b"large")):
        thumbnail = await bench.reading.thumbnail(caller, document.id, box)
        assert await collect(await bench.reading.read_thumbnail(caller, thumbnail)) == clear
        assert bench.audited()[-1].action == "document.content.read"
        assert bench.audited()[-1].details == f'{{"role":"thumbnail-{box}"}}'


async def test_a_missing_thumbnail_says_whether_to_wait(bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    caller = bench.caller()
    with pytest.raises(ThumbnailNotFound, match="still to come"):
        await bench.reading.thumbnail(caller, document.id, 256)
    bench.database.rows.documents[document.id] = replace(document, thumbnail_note="UNDECODABLE")
    with pytest.raises(ThumbnailNotFound, match="no thumbnail: UNDECODABLE"):
        await bench.reading.thumbnail(caller, document.id, 256)
    with pytest.raises(ThumbnailSizeInvalid, match="256, 1024"):
        await bench.reading.thumbnail(caller, document.id, 512)
    quarantined = await bench.stored(Status.QUARANTINED)
    with pytest.raises(ContentNotAvailable):
        await bench.reading.thumbnail(caller, quarantined.id, 256)


async def test_types_are_listed_by_code(bench: IntakeBench) -> None:
    bench.database.rows.types["AAA"] = a_rule("AAA")
    assert [rule.code for rule in await bench.reading.types(bench.caller())] == ["AAA", "CNI", "OLD", "SMALL"]
    assert bench.audited()[-1].action == "document_type.list"


async def test_with_an_antivirus_nothing_is_served_before_it_was_scanned() -> None:
    bench = IntakeBench()
    document = await bench.stored()
    careful = bench.a_reader(scanned_only=True)
    caller = bench.caller()
    for refused in (careful.readable(caller, document.id), careful.read(caller, document.id)):
        with pytest.raises(ContentNotAvailable, match="still to be scanned"):
            await refused
    assert (await careful.document(caller, document.id)).status is Status.STORED
    bench.database.rows.documents[document.id] = replace(document, status=Status.VERIFIED)
    assert (await careful.readable(caller, document.id)).id == document.id
