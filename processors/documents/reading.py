"""Reading documents: metadata, lists, content, thumbnails, timeline. Every read leaves a line in the audit log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from domain.documents import Document, DocumentType, Rendition, TimelineEntry
from domain.lifecycle import ATTEMPTS, CHECKED, ERASURE_STATES, READABLE, Status
from domain.personal_texts import PersonalField
from domain.processing import Processing, StoppedStep, processing_of
from domain.refusals import ContentNotAvailable, DocumentGone, DocumentNotFound, ThumbnailNotFound, ThumbnailSizeInvalid
from domain.renderings import THUMBNAIL_BOXES
from processors.documents.callers import DOCUMENTS, Caller, Origins
from processors.documents.pagination import DEFAULT_LIMIT, Page, Position, check_limit, decode_cursor, page_of
from processors.documents.transitions import audit_line
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.personal_data import PersonalData
from processors.ports.work import AuditWork, HasDocuments, HasRenditions, HasTimeline


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentFilter:
    """What a list is narrowed to. ``statuses`` is never empty; None elsewhere means any. ``indexes``: for each field one of these
    (``processors.documents.personal_texts``). ``before``: only documents that were created before then. ``ids``: only these, which
    something else named (``found_by``, a code)."""

    statuses: frozenset[Status] = DOCUMENTS
    dossier_id: UUID | None = None
    type_code: str | None = None
    failure_code: str | None = None
    before: datetime | None = None
    ids: tuple[UUID, ...] | None = None
    found_by: str = ""
    indexes: Mapping[PersonalField, tuple[bytes, ...]] = field(default_factory=dict)


class DocumentQueries(Protocol):
    """Reads for lists, outside any transaction of ours. Raises DatabaseUnavailable."""

    async def page(
        self, tenants: frozenset[str] | None, filters: DocumentFilter, after: Position | None, limit: int
    ) -> Sequence[Document]:
        """Up to ``limit`` documents, newest first by (created_at, id), from just after ``after``; tenants None are all."""
        ...

    async def types(self) -> Sequence[DocumentType]:
        """All document types, inactive ones included, by code."""
        ...


class StoppedSteps(Protocol):
    """What of documents goes on only if an operator acts, as far as PostgreSQL knows. Raises DatabaseUnavailable."""

    async def of(self, document_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[StoppedStep]]:
        """The stopped steps of those documents that have any."""
        ...


class ContentReader(Protocol):
    """Clear bytes from the store; see ``processors.documents.content``."""

    def read(self, document: Document) -> AsyncIterator[bytes]: ...

    def read_range(self, document: Document, start: int, end: int) -> AsyncIterator[bytes]: ...

    def read_rendition(self, document: Document, rendition: Rendition) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class StoredThumbnail:
    """A stored thumbnail and its document; ``DocumentReader.read_thumbnail`` gives its bytes."""

    document: Document
    rendition: Rendition


class ReadingWork(AuditWork, HasDocuments, HasTimeline, HasRenditions, Protocol):
    """What reading a document needs of a transaction."""


class DocumentReader:
    """What callers may read. A document that the caller may not see does not exist for it.

    With ``scanned_only`` nobody reads content that the antivirus has not let pass yet: it may be quarantined the next second.
    """

    def __init__(
        self,
        database: Transactions[ReadingWork],
        queries: DocumentQueries,
        stopped: StoppedSteps,
        content: ContentReader,
        personal: PersonalData,
        clock: Clock,
        *,
        scanned_only: bool = False,
    ) -> None:
        self._database = database
        self._queries = queries
        self._stopped = stopped
        self._content = content
        self._origins = Origins(personal, clock)
        self._scanned_only = scanned_only

    async def document(self, caller: Caller, document_id: UUID) -> Document:
        """Raises DocumentNotFound."""
        async with self._database.transaction() as work:
            document = await self._visible(work, caller, document_id)
            await self._audit(work, caller, document, "document.read")
        return document

    async def page(
        self,
        caller: Caller,
        *,
        dossier_id: UUID | None = None,
        status: Status | None = None,
        type_code: str | None = None,
        failure_code: str | None = None,
        before: datetime | None = None,
        tenant: str | None = None,
        ids: tuple[UUID, ...] | None = None,
        found_by: str = "",
        cursor: str | None = None,
        limit: int = DEFAULT_LIMIT,
    ) -> Page[Document]:
        """Newest first. ``tenant`` narrows what the caller sees, ``ids`` to documents that ``found_by`` named. Raises CursorInvalid or ParameterInvalid. Attempts show only to who sees
        all and asks for them."""
        check_limit(limit)
        after = decode_cursor(cursor)
        statuses = DOCUMENTS if status is None else frozenset({status})
        filters = DocumentFilter(
            statuses=statuses,
            dossier_id=dossier_id,
            type_code=type_code,
            failure_code=failure_code,
            before=before,
            ids=ids,
            found_by=found_by,
        )
        tenants = caller.visible_tenants(attempts=status in ATTEMPTS)
        if tenant is not None:
            tenants = frozenset({tenant}) if tenants is None else tenants & {tenant}
        if tenants is not None and not tenants:
            return Page((), None)
        rows = await self._queries.page(tenants, filters, after, limit + 1)
        page = page_of(rows, limit, lambda row: (row.created_at, row.id))
        await self._audit_list(caller, filters, tenants, len(page.items))
        return page

    async def processing(self, documents: Sequence[Document]) -> Sequence[Processing]:
        """Of each of these documents, which the caller was given: whether it goes on by itself. One query for all of them."""
        if not documents:
            return ()
        stopped = await self._stopped.of([document.id for document in documents])
        return [processing_of(document, stopped.get(document.id, ())) for document in documents]

    async def timeline(self, caller: Caller, document_id: UUID) -> Sequence[TimelineEntry]:
        """What happened to a document, oldest first. Raises DocumentNotFound."""
        async with self._database.transaction() as work:
            document = await self._visible(work, caller, document_id)
            entries = await work.timeline.of(document_id)
            await self._audit(work, caller, document, "document.events.read")
        return entries

    async def types(self, caller: Caller) -> Sequence[DocumentType]:
        """What may be deposited, by code."""
        found = await self._queries.types()
        line = audit_line(self._origins.of(caller), caller.tenant, "document_type", caller.tenant, "document_type.list")
        async with self._database.transaction() as work:
            await work.outbox.add(line)
        return found

    async def readable(self, caller: Caller, document_id: UUID) -> Document:
        """A document of the caller's own tenant whose content may be read now.

        Raises DocumentNotFound, DocumentGone, or ContentNotAvailable where its state forbids reading.
        """
        async with self._database.transaction() as work:
            return await self._readable(work, caller, document_id)

    async def read(
        self, caller: Caller, document_id: UUID, span: tuple[int, int] | None = None
    ) -> AsyncIterator[bytes]:
        """The clear bytes, or those of ``span`` (start, end exclusive); the read is in the audit log before the first one.

        Raises as ``readable``; the iterator raises RangeNotSatisfiable, ObjectMissing, EnvelopeInvalid and the like.
        """
        details = {} if span is None else {"start": span[0], "end": span[1]}
        async with self._database.transaction() as work:
            document = await self._readable(work, caller, document_id)
            await self._audit(work, caller, document, "document.content.read", details)
        if span is None:
            return self._content.read(document)
        return self._content.read_range(document, *span)

    async def record_outcome(self, caller: Caller, document_id: UUID, outcome: str, *, role: str | None = None) -> None:
        """Put on record a read of the content, or of the thumbnail ``role``, that is answered without it: ``outcome`` says what the
        answer tells of it. Raises as ``readable``."""
        details = {"outcome": outcome} if role is None else {"outcome": outcome, "role": role}
        async with self._database.transaction() as work:
            document = await self._readable(work, caller, document_id)
            await self._audit(work, caller, document, "document.content.read", details)

    async def thumbnail(self, caller: Caller, document_id: UUID, box: int) -> StoredThumbnail:
        """Raises as ``readable``, ThumbnailSizeInvalid, or ThumbnailNotFound saying whether one is still to come."""
        if box not in THUMBNAIL_BOXES:
            sizes = ", ".join(map(str, THUMBNAIL_BOXES))
            raise ThumbnailSizeInvalid(f"Thumbnails have the sizes {sizes}.")
        async with self._database.transaction() as work:
            document = await self._readable(work, caller, document_id)
            renditions = await work.renditions.of(document_id)
        for rendition in renditions:
            if rendition.role == f"thumbnail-{box}":
                return StoredThumbnail(document, rendition)
        if document.thumbnail_note is None:
            raise ThumbnailNotFound("The thumbnail is still to come.")
        raise ThumbnailNotFound(f"The document has no thumbnail: {document.thumbnail_note}.")

    async def read_thumbnail(self, caller: Caller, thumbnail: StoredThumbnail) -> AsyncIterator[bytes]:
        """The thumbnail's clear bytes; raises as ``read``."""
        async with self._database.transaction() as work:
            document = await self._readable(work, caller, thumbnail.document.id)
            details = {"role": thumbnail.rendition.role}
            await self._audit(work, caller, document, "document.content.read", details)
        return self._content.read_rendition(document, thumbnail.rendition)

    @staticmethod
    async def _visible(work: ReadingWork, caller: Caller, document_id: UUID) -> Document:
        document = await work.documents.get(document_id)
        if not caller.sees(document):
            raise DocumentNotFound
        return document

    async def _readable(self, work: ReadingWork, caller: Caller, document_id: UUID) -> Document:
        document = await work.documents.get(document_id)
        if document.tenant != caller.tenant or not caller.sees(document):
            raise DocumentNotFound
        if document.status in ERASURE_STATES:
            raise DocumentGone(f"The document is {document.status.value}.")
        if document.status not in READABLE:
            raise ContentNotAvailable(f"The content of a document that is {document.status.value} may not be read.")
        if self._scanned_only and document.status not in CHECKED:
            raise ContentNotAvailable(
                "The document is still to be scanned; its content may be read once it is VERIFIED."
            )
        return document

    async def _audit(
        self,
        work: ReadingWork,
        caller: Caller,
        document: Document,
        action: str,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        origin = await self._origins.about(work, document, caller)
        line = audit_line(origin, document.tenant, "document", str(document.id), action, details=details)
        await work.outbox.add(line)

    async def _audit_list(
        self, caller: Caller, filters: DocumentFilter, tenants: frozenset[str] | None, count: int
    ) -> None:
        details = {
            "count": count,
            "tenant": "*" if tenants is None else " ".join(sorted(tenants)),
            "dossier_id": filters.dossier_id,
            "type": filters.type_code,
        }
        if filters.failure_code is not None:
            details["failure_code"] = filters.failure_code
        if filters.before is not None:
            details["before"] = filters.before.isoformat()
        if filters.found_by:
            details["found_by"] = filters.found_by
        entity = str(filters.dossier_id or caller.tenant)
        line = audit_line(self._origins.of(caller), caller.tenant, "document", entity, "document.list", details=details)
        async with self._database.transaction() as work:
            await work.outbox.add(line)
