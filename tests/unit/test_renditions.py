"""The renditions processor over memory: thumbnails and facts once, reasons on record, erasure respected."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.documents import Document
from domain.errors import (
    AuditStoreUnavailable,
    DocumentBusy,
    IntegrityMismatch,
    ObjectMissing,
    ObjectStoreUnavailable,
    RendererUnavailable,
    WrongKey,
)
from domain.events import DocumentErased, DocumentVerified
from domain.lifecycle import Status
from domain.renderings import RENDERED_TYPES, NoThumbnail, Rendered, Thumbnail
from processors.events.renditions import RenditionProcessor
from rendering.child import PDF as PDF_TYPE
from rendering.images import FORMATS
from tests.support.fakes_content import collect
from tests.support.fakes_intake import PDF, IntakeBench


def rendered(**metadata: Any) -> Rendered:
    """Two thumbnails and some facts."""
    return Rendered(
        thumbnails=tuple(
            Thumbnail(
                box=box, mime_type="image/webp", width=box, height=box // 2, data=b"RIFF" + bytes([box % 251]) * 9
            )
            for box in (256, 1024)
        ),
        metadata=metadata or {"pages": 3},
    )


class FakeRenderer:
    """Reads everything, then does what the next of ``steps`` says; ``seen`` holds the clear bytes it was given."""

    def __init__(self) -> None:
        self.steps: list[Rendered | Exception | Callable[[], Rendered]] = []
        self.seen: list[tuple[str, bytes]] = []

    async def render(self, content: AsyncIterable[bytes], mime_type: str) -> Rendered:
        self.seen.append((mime_type, await collect(content)))
        step = self.steps.pop(0) if self.steps else rendered()
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, Rendered) else step()


class FakeExtended:
    def __init__(self) -> None:
        self.rows: dict[UUID, tuple[str, dict[str, Any]]] = {}
        self.away = False

    async def put(self, document_id: UUID, tenant: str, metadata: Mapping[str, Any]) -> None:
        if self.away:
            raise AuditStoreUnavailable
        self.rows[document_id] = (tenant, dict(metadata))

    async def delete(self, document_id: UUID, tenant: str) -> None:
        assert self.rows.get(document_id, (tenant,))[0] == tenant
        self.rows.pop(document_id, None)


class Desk:
    """The processor over a bench that holds one verified document."""

    def __init__(self) -> None:
        self.bench = IntakeBench()
        self.renderer = FakeRenderer()
        self.extended = FakeExtended()
        self.processor = self.with_limit(1 << 20)

    def with_limit(self, max_bytes: int) -> RenditionProcessor:
        bench = self.bench
        return RenditionProcessor(
            bench.database, bench.content, self.renderer, self.extended, bench.clock, max_bytes=max_bytes
        )

    async def verified(self, **changes: Any) -> tuple[Document, DocumentVerified]:
        document = await self.bench.stored(Status.VERIFIED, **changes)
        self.bench.database.rows.timeline.clear()
        event = DocumentVerified(
            event_id=uuid4(),
            sequence=2,
            occurred_at=self.bench.clock.now(),
            correlation_id=uuid4(),
            tenant=document.tenant,
            actor="system:integrity",
            document_id=document.id,
            object_key=document.object_key,
            size=document.size or 0,
            mime_type=document.mime_type or "",
            sha256=document.sha256 or "",
            type_code=document.type_code,
        )
        return document, event

    async def deliver(self, event: DocumentVerified, processor: RenditionProcessor | None = None) -> None:
        """As delivery does: effects, then what they leave to write, in one transaction."""
        commit = await (processor or self.processor).process(event)
        async with self.bench.database.transaction() as work:
            await commit(work)

    async def give_up(self, event: DocumentVerified, code: str) -> None:
        commit = await self.processor.give_up(event, code)
        async with self.bench.database.transaction() as work:
            await commit(work)

    def now(self, document: Document) -> Document:
        return self.bench.database.rows.documents[document.id]

    def put(self, document: Document, status: Status) -> None:
        self.bench.database.rows.documents[document.id] = replace(self.now(document), status=status)

    @property
    def timeline(self) -> list[tuple[str, Mapping[str, Any]]]:
        return [(entry.type, entry.details) for entry in self.bench.database.rows.timeline]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_supported_types_are_those_that_the_children_decode():
    assert frozenset(FORMATS) | {PDF_TYPE} == RENDERED_TYPES


async def test_thumbnails_are_stored_sealed_under_roles_of_their_own(desk: Desk):
    document, event = await desk.verified()
    await desk.deliver(event)
    assert desk.renderer.seen == [("application/pdf", PDF)]
    rows = {row.role: row for row in desk.bench.database.rows.renditions.values()}
    assert set(rows) == {"thumbnail-256", "thumbnail-1024"}
    for role, row in rows.items():
        assert row.object_key.startswith(f"{document.object_key}.{role}.")
        sealed = desk.bench.objects.objects[row.object_key]
        assert len(sealed) == row.object_size
        assert b"RIFF" not in sealed
        clear = await collect(desk.bench.content.read_rendition(desk.now(document), row))
        assert clear.startswith(b"RIFF")
        assert len(clear) == row.size
    other = replace(rows["thumbnail-256"], role="thumbnail-1024")
    with pytest.raises(WrongKey):
        await collect(desk.bench.content.read_rendition(desk.now(document), other))
    assert (rows["thumbnail-256"].width, rows["thumbnail-256"].height) == (256, 128)
    assert desk.timeline == [("THUMBNAILS_READY", {"thumbnail-256": "256x128", "thumbnail-1024": "1024x512"})]
    assert desk.now(document).thumbnail_note is None
    assert desk.extended.rows == {document.id: ("acme", {"mime_type": "application/pdf", "pages": 3})}


async def test_twice_is_once(desk: Desk):
    document, event = await desk.verified()
    commit = await desk.processor.process(event)  # a crash before the commit
    del commit
    await desk.deliver(event)
    await desk.deliver(event)
    assert len(desk.renderer.seen) == 2
    assert len(desk.bench.database.rows.renditions) == 2
    assert len(desk.timeline) == 1
    recorded = {row.object_key for row in desk.bench.database.rows.renditions.values()}
    assert set(desk.bench.objects.objects) == {document.object_key} | recorded


async def test_who_lost_its_claim_harms_nothing_that_is_recorded(desk: Desk):
    document, event = await desk.verified()
    late = desk.processor._all_stored
    thumbnails = (await desk.renderer.render(desk.bench.content.read(document), "application/pdf")).thumbnails
    await desk.deliver(event)
    await late(document, thumbnails)  # still storing, long after another has finished
    for row in desk.bench.database.rows.renditions.values():
        clear = await collect(desk.bench.content.read_rendition(desk.now(document), row))
        assert len(clear) == row.size


async def test_what_could_not_be_stored_whole_leaves_nothing(desk: Desk):
    document, event = await desk.verified()
    stored = desk.bench.content.store_rendition

    async def second_fails(document: Any, role: str, clear: bytes) -> Any:
        if role == "thumbnail-1024":
            raise ObjectStoreUnavailable
        return await stored(document, role, clear)

    desk.bench.content.store_rendition = second_fails
    with pytest.raises(ObjectStoreUnavailable):
        await desk.processor.process(event)
    assert set(desk.bench.objects.objects) == {document.object_key}


async def test_while_the_facts_cannot_be_kept_nothing_is_stored(desk: Desk):
    document, event = await desk.verified()

    async def away(*_: Any) -> None:
        raise AuditStoreUnavailable

    desk.extended.put = away
    with pytest.raises(AuditStoreUnavailable):
        await desk.processor.process(event)
    assert set(desk.bench.objects.objects) == {document.object_key}


async def test_a_later_success_clears_the_note(desk: Desk):
    document, event = await desk.verified(thumbnail_note="unexpected_failure")
    await desk.deliver(event)
    assert desk.now(document).thumbnail_note is None
    assert desk.now(document).status is Status.VERIFIED
    assert desk.now(document).sequence == document.sequence


@pytest.mark.parametrize("reason", [NoThumbnail.UNDECODABLE, NoThumbnail.PASSWORD])
async def test_a_reason_is_on_record_and_not_a_failure(desk: Desk, reason: NoThumbnail):
    document, event = await desk.verified()
    desk.renderer.steps = [Rendered(reason=reason, metadata={"encrypted": True})] * 2
    await desk.deliver(event)
    await desk.deliver(event)
    assert desk.now(document).thumbnail_note == reason.value
    assert desk.now(document).status is Status.VERIFIED
    assert desk.timeline == [("NO_THUMBNAIL", {"reason": reason.value})]
    assert desk.extended.rows[document.id][1] == {"mime_type": "application/pdf", "encrypted": True}
    assert not desk.bench.database.rows.renditions


@pytest.mark.parametrize("mime_type", ["text/plain", None])
async def test_unsupported_types_are_not_even_read(desk: Desk, mime_type: str | None):
    document, event = await desk.verified(mime_type=mime_type)
    await desk.deliver(event)
    assert desk.now(document).thumbnail_note == "UNSUPPORTED_TYPE"
    assert desk.renderer.seen == []
    assert desk.extended.rows == {}


async def test_documents_beyond_the_limit_are_not_read(desk: Desk):
    document, event = await desk.verified()
    await desk.deliver(event, desk.with_limit(len(PDF) - 1))
    assert desk.now(document).thumbnail_note == "LIMIT_SIZE"
    assert desk.renderer.seen == []


async def test_a_document_of_just_the_limit_is_rendered(desk: Desk):
    _document, event = await desk.verified()
    await desk.deliver(event, desk.with_limit(len(PDF)))
    assert desk.timeline[0][0] == "THUMBNAILS_READY"


async def test_a_child_that_dies_is_tried_once_more(desk: Desk):
    document, event = await desk.verified()
    desk.renderer.steps = [Rendered(reason=NoThumbnail.CHILD_DIED)]
    await desk.deliver(event)
    assert desk.now(document).thumbnail_note is None
    assert [clear for _, clear in desk.renderer.seen] == [PDF, PDF]


async def test_a_document_that_kills_every_child_gets_no_third(desk: Desk):
    document, event = await desk.verified()
    desk.renderer.steps = [Rendered(reason=NoThumbnail.CHILD_DIED)] * 3
    await desk.deliver(event)
    assert desk.now(document).thumbnail_note == "CHILD_DIED"
    assert len(desk.renderer.seen) == 2


@pytest.mark.parametrize("status", [Status.VALIDATED, Status.REJECTED, Status.ARCHIVED, Status.ARCHIVE_FAILED])
async def test_a_decision_taken_meanwhile_changes_nothing(desk: Desk, status: Status):
    document, event = await desk.verified()
    desk.put(document, status)
    await desk.deliver(event)
    assert len(desk.bench.database.rows.renditions) == 2
    assert desk.now(document).status is status


@pytest.mark.parametrize("status", [Status.QUARANTINED, Status.STORED, Status.PENDING, Status.ABANDONED])
async def test_no_parser_opens_a_file_that_is_not_verified(desk: Desk, status: Status):
    document, event = await desk.verified()
    desk.put(document, status)
    await desk.deliver(event)
    assert desk.renderer.seen == []
    assert desk.timeline == []
    assert desk.now(document).thumbnail_note is None


@pytest.mark.parametrize("status", [Status.ERASING, Status.ERASED])
async def test_an_erased_document_keeps_nothing_of_an_earlier_try(desk: Desk, status: Status):
    document, event = await desk.verified()
    await desk.processor.process(event)
    desk.put(document, status)
    await desk.deliver(event)
    assert list(desk.bench.objects.objects) == [document.object_key]
    assert desk.extended.rows == {}
    assert not desk.bench.database.rows.renditions
    assert desk.timeline == []


@pytest.mark.parametrize("answer", [rendered(), Rendered(reason=NoThumbnail.UNDECODABLE)])
async def test_an_erasure_before_the_commit_writes_nothing_and_is_cleaned_up(desk: Desk, answer: Rendered):
    document, event = await desk.verified()
    desk.renderer.steps = [answer]
    commit = await desk.processor.process(event)
    desk.put(document, Status.ERASING)
    with pytest.raises(DocumentBusy):
        async with desk.bench.database.transaction() as work:
            await commit(work)
    assert not desk.bench.database.rows.renditions
    await desk.deliver(event)
    assert list(desk.bench.objects.objects) == [document.object_key]


async def test_an_erasure_that_takes_the_object_away_is_no_failure(desk: Desk):
    document, event = await desk.verified()

    def erase() -> Rendered:
        desk.put(document, Status.ERASING)
        raise ObjectMissing

    desk.renderer.steps = [erase]
    await desk.deliver(event)
    assert desk.timeline == []


async def test_damage_is_not_hidden(desk: Desk):
    document, event = await desk.verified()
    sealed = desk.bench.objects.objects[document.object_key]
    desk.bench.objects.objects[document.object_key] = sealed[:-1] + bytes([sealed[-1] ^ 1])
    with pytest.raises(IntegrityMismatch):
        await desk.processor.process(event)
    assert not desk.bench.database.rows.renditions


@pytest.mark.parametrize("failure", [RendererUnavailable(), ObjectStoreUnavailable()])
async def test_what_is_away_is_waited_for(desk: Desk, failure: Exception):
    _document, event = await desk.verified()
    desk.renderer.steps = [failure]
    with pytest.raises(type(failure)):
        await desk.processor.process(event)
    await desk.deliver(event)
    assert desk.timeline[0][0] == "THUMBNAILS_READY"


async def test_facts_that_can_not_be_written_hold_the_event(desk: Desk):
    _document, event = await desk.verified()
    desk.extended.away = True
    with pytest.raises(AuditStoreUnavailable):
        await desk.processor.process(event)
    assert desk.timeline == []


async def test_giving_up_says_so_on_the_document(desk: Desk):
    document, event = await desk.verified()
    await desk.give_up(event, "envelope_invalid")
    assert desk.now(document).thumbnail_note == "envelope_invalid"
    assert desk.now(document).status is Status.VERIFIED
    assert desk.timeline == [("NO_THUMBNAIL", {"reason": "envelope_invalid"})]


async def test_giving_up_on_an_erased_document_ends(desk: Desk):
    document, event = await desk.verified()
    desk.put(document, Status.ERASED)
    await desk.give_up(event, "object_missing")
    assert desk.timeline == []
    assert desk.now(document).thumbnail_note is None


async def test_other_events_are_a_defect(desk: Desk):
    _, event = await desk.verified()
    erased = DocumentErased(
        **{
            name: getattr(event, name)
            for name in ("event_id", "sequence", "occurred_at", "correlation_id", "tenant", "actor", "document_id")
        },
        legal_basis_code="NONE",
    )
    with pytest.raises(TypeError):
        await desk.processor.process(erased)
    with pytest.raises(TypeError):
        await desk.processor.give_up(erased, "code")


class NotAGenerator:
    """Content whose stream can't be closed."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def read(self, document: Document) -> Any:
        class Stream:
            def __init__(self) -> None:
                self.left = [PDF]

            def __aiter__(self) -> Stream:
                return self

            async def __anext__(self) -> bytes:
                if not self.left:
                    raise StopAsyncIteration
                return self.left.pop()

        return Stream()


async def test_content_may_be_any_stream(desk: Desk):
    _, event = await desk.verified()
    bench = desk.bench
    content = NotAGenerator(bench.content)
    processor = RenditionProcessor(bench.database, content, desk.renderer, desk.extended, bench.clock)
    await desk.deliver(event, processor)
    assert desk.renderer.seen == [("application/pdf", PDF)]


async def test_no_text_of_the_file_is_kept(desk: Desk):
    document, event = await desk.verified()
    facts = {"pages": 1, "producer": "Camille Durand", "creator_tool": "Word"}
    desk.renderer.steps = [Rendered(reason=NoThumbnail.UNDECODABLE, metadata=facts)]
    await desk.deliver(event)
    assert desk.extended.rows[document.id][1] == {
        "mime_type": "application/pdf",
        "pages": 1,
        "producer": "other",
        "creator_tool": "Microsoft Word",
    }


async def test_facts_that_their_store_lost_are_written_again() -> None:
    desk = Desk()
    document, event = await desk.verified()
    await desk.deliver(event)
    before, timeline = desk.extended.rows.pop(document.id), list(desk.bench.database.rows.timeline)
    objects = set(desk.bench.objects.objects)
    assert await desk.processor.describe(document.id)
    assert desk.extended.rows[document.id] == before
    assert (set(desk.bench.objects.objects), desk.bench.database.rows.timeline) == (objects, timeline)


async def test_nothing_is_written_of_what_has_no_facts_or_is_going() -> None:
    desk = Desk()
    document, _ = await desk.verified()
    desk.renderer.steps.append(Rendered(reason=NoThumbnail.UNDECODABLE))
    assert not await desk.processor.describe(document.id)

    def erased_meanwhile() -> Rendered:
        desk.put(document, Status.ERASING)
        return rendered()

    desk.renderer.steps.append(erased_meanwhile)
    assert not await desk.processor.describe(document.id)
    assert not await desk.processor.describe(document.id)
    assert desk.extended.rows == {}
