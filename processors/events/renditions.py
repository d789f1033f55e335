"""DocumentVerified -> thumbnails, sealed under the document's key, and technical facts about the file.

Only a verified document reaches a parser. That one has no thumbnail is a fact about the document and recorded as such
(``thumbnail_note``, timeline); its state does not depend on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Protocol
from uuid import UUID

import structlog

from domain.documents import Document, Rendition, TimelineEntry
from domain.errors import DocumentBusy, DPJError, Permanent
from domain.events import DocumentVerified, Event
from domain.file_facts import known_facts
from domain.lifecycle import ERASURE_STATES, READABLE, Status
from domain.objects import StoredObject
from domain.renderings import RENDERED_TYPES, THUMBNAIL_BOXES, NoThumbnail, Rendered, Thumbnail
from domain.shared.crash_points import reach
from processors.documents.transitions import NOTHING_TO_COMMIT, update_fields
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.metadata import ExtendedMetadata
from processors.ports.work import Commit, HasDocuments, HasRenditions, HasTimeline
from processors.resilience.closing_streams import closing_stream

ACTOR: Final = "system:renditions"
READY: Final = "THUMBNAILS_READY"
NONE: Final = "NO_THUMBNAIL"

_ROLES: Final = tuple(f"thumbnail-{box}" for box in THUMBNAIL_BOXES)
_VERIFIED: Final = READABLE - {Status.STORED}

_log = structlog.get_logger()


class RenditionContent(Protocol):
    def read(self, document: Document) -> AsyncIterator[bytes]:
        """The document's clear bytes, from the store."""
        ...

    async def store_rendition(self, document: Document, role: str, clear: bytes) -> StoredObject: ...

    async def delete(self, object_key: str) -> None: ...

    async def delete_renditions(self, document: Document, *, but: Collection[str] = ()) -> None:
        """All that were ever stored, recorded or not, except those object keys."""
        ...


class Renderer(Protocol):
    async def render(self, content: AsyncIterable[bytes], mime_type: str) -> Rendered:
        """Raises RendererUnavailable, and what ``content`` raises; a file that can't be rendered is an answer, not an error."""
        ...


class RenditionWork(HasDocuments, HasTimeline, HasRenditions, Protocol):
    """What thumbnails need of a transaction."""


class RenditionProcessor:
    """Consumer ``renditions``. Documents of more than ``max_bytes`` are not rendered: a child holds them in memory."""

    consumer: Final = "renditions"
    handles: Final[tuple[type[Event], ...]] = (DocumentVerified,)

    def __init__(
        self,
        database: Transactions[RenditionWork],
        content: RenditionContent,
        renderer: Renderer,
        extended: ExtendedMetadata,
        clock: Clock,
        *,
        max_bytes: int = 128 << 20,
    ) -> None:
        self._database = database
        self._content = content
        self._renderer = renderer
        self._extended = extended
        self._clock = clock
        self._max_bytes = max_bytes

    async def process(self, event: Event) -> Commit:
        """Raises RendererUnavailable, AuditStoreUnavailable, DatabaseUnavailable, and what reading content raises."""
        event = _verified(event)
        async with self._database.transaction() as work:
            document = await work.documents.get(event.document_id)
            recorded = {rendition.role for rendition in await work.renditions.of(document.id)}
        if document.status in ERASURE_STATES:
            await self._remove(document)
            return NOTHING_TO_COMMIT
        if document.status not in _VERIFIED or set(_ROLES) <= recorded:
            return NOTHING_TO_COMMIT
        try:
            rendered = await self._rendered(document)
            # Facts first: while their store is away, nothing is put into the other one again and again.
            if facts := known_facts(rendered.metadata):
                facts = {"mime_type": document.mime_type, **facts}
                await self._extended.put(document.id, document.tenant, facts)
            reach("renditions.described")
            if rendered.thumbnails:
                # What an earlier try has left: it lost its claim, so it can't record anything any more. Rendering may have taken
                # longer than our own claim held: what another has recorded since is not a try's.
                async with self._database.transaction() as work:
                    kept = [rendition.object_key for rendition in await work.renditions.of(document.id)]
                await self._content.delete_renditions(document, but=kept)
            renditions = await self._all_stored(document, rendered.thumbnails)
        except Permanent:
            # An erasure that began meanwhile takes the object away under us; then nothing is wrong.
            if await self._is_going(document.id):
                await self._remove(document)
                return NOTHING_TO_COMMIT
            raise
        if rendered.reason is not None:
            return partial(self._without, event, rendered.reason)
        return partial(self._finish, event, renditions)

    async def describe(self, document_id: UUID) -> bool:
        """Write the technical facts of a document again, whose store has lost them; False if there are none to be had, or no document.

        Raises as ``process``.
        """
        async with self._database.transaction() as work:
            document = await work.documents.get(document_id)
        if document.status not in _VERIFIED:
            return False
        facts = known_facts((await self._rendered(document)).metadata)
        if not facts:
            return False
        await self._extended.put(document.id, document.tenant, {"mime_type": document.mime_type, **facts})
        if await self._is_going(document.id):
            await self._extended.delete(document.id, document.tenant)
            return False
        return True

    async def give_up(self, event: Event, code: str) -> Commit:
        """The document stays what it is; its thumbnail note says ``code``."""
        return partial(self._given_up, _verified(event), code)

    async def _rendered(self, document: Document) -> Rendered:
        if document.mime_type not in RENDERED_TYPES:
            return Rendered(reason=NoThumbnail.UNSUPPORTED_TYPE)
        if (document.size or 0) > self._max_bytes:
            return Rendered(reason=NoThumbnail.LIMIT_SIZE)
        rendered = await self._render(document)
        if rendered.reason is NoThumbnail.CHILD_DIED:
            # Something else may have ended the child (the kernel, for want of memory); a second death is the document's.
            rendered = await self._render(document)
        return rendered

    async def _render(self, document: Document) -> Rendered:
        async with closing_stream(self._content.read(document)) as clear:
            return await self._renderer.render(clear, document.mime_type or "")

    async def _all_stored(self, document: Document, thumbnails: Sequence[Thumbnail]) -> list[Rendition]:
        """All, or none that we could still remove: the next try stores its own."""
        renditions: list[Rendition] = []
        try:
            for thumbnail in thumbnails:
                renditions.append(await self._stored(document, thumbnail))  # noqa: PERF401 - what is stored so far counts
        except DPJError:
            with suppress(DPJError):
                for rendition in renditions:
                    await self._content.delete(rendition.object_key)
            raise
        return renditions

    async def _stored(self, document: Document, thumbnail: Thumbnail) -> Rendition:
        stored = await self._content.store_rendition(document, thumbnail.role, thumbnail.data)
        reach("renditions.stored")
        return Rendition(
            document_id=document.id,
            role=thumbnail.role,
            object_key=stored.key,
            mime_type=thumbnail.mime_type,
            width=thumbnail.width,
            height=thumbnail.height,
            size=len(thumbnail.data),
            sha256=hashlib.sha256(thumbnail.data).hexdigest(),
            object_etag=stored.etag,
            object_size=stored.size,
        )

    async def _is_going(self, document_id: UUID) -> bool:
        async with self._database.transaction() as work:
            return (await work.documents.get(document_id)).status in ERASURE_STATES

    async def _remove(self, document: Document) -> None:
        """Take back what an attempt before the erasure may have left."""
        await self._content.delete_renditions(document)
        await self._extended.delete(document.id, document.tenant)
        _log.info("renditions_removed", document_id=str(document.id), tenant=document.tenant)

    async def _finish(self, event: DocumentVerified, renditions: list[Rendition], work: RenditionWork) -> None:
        document = await _held(event, work)
        for rendition in renditions:
            await work.renditions.put(rendition)
        at = self._clock.now()
        if document.thumbnail_note is not None:
            await update_fields(work, document, at, thumbnail_note=None)
        sizes = {rendition.role: f"{rendition.width}x{rendition.height}" for rendition in renditions}
        await work.timeline.add(
            TimelineEntry(
                document_id=document.id,
                dossier_id=document.dossier_id,
                type=READY,
                actor=ACTOR,
                at=at,
                details=sizes,
            )
        )

    async def _given_up(self, event: DocumentVerified, code: str, work: RenditionWork) -> None:
        document = await work.documents.lock(event.document_id)
        if document.status not in ERASURE_STATES:
            await self._note(document, code, work)

    async def _without(self, event: DocumentVerified, reason: NoThumbnail, work: RenditionWork) -> None:
        await self._note(await _held(event, work), reason.value, work)

    async def _note(self, document: Document, reason: str, work: RenditionWork) -> None:
        if document.thumbnail_note == reason:
            return
        at = self._clock.now()
        await update_fields(work, document, at, thumbnail_note=reason)
        await work.timeline.add(
            TimelineEntry(
                document_id=document.id,
                dossier_id=document.dossier_id,
                type=NONE,
                actor=ACTOR,
                at=at,
                details={"reason": reason},
            )
        )


async def _held(event: DocumentVerified, work: RenditionWork) -> Document:
    document = await work.documents.lock(event.document_id)
    if document.status in ERASURE_STATES:
        # Erasure began after our last look: nothing is written, and the next try removes what was stored.
        raise DocumentBusy("The document is being erased.")
    return document


def _verified(event: Event) -> DocumentVerified:
    if not isinstance(event, DocumentVerified):
        raise TypeError(f"renditions does not handle {type(event).__name__}")
    return event
