"""Links that give one document's content to who has no token. Every use is in the audit log, under the link's id and its maker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

from domain.documents import Document
from domain.events import AuditRecorded
from domain.lifecycle import CHECKED, GOING, READABLE
from domain.links import DocumentLink
from domain.refusals import (
    ContentNotAvailable,
    DocumentGone,
    DocumentNotFound,
    LinkNotFound,
    LinksUnavailable,
    MetadataInvalid,
)
from processors.access import Caller, Origins, Visitor
from processors.link_ports import LinkTokens
from processors.ports import Clock, Database, PersonalData, Work
from processors.reading import Content
from processors.recording import Origin, audit_line

#: Good links of one document at once.
MAX_LINKS: Final = 100


class DocumentLinks:
    """``longest``: seconds that a link may be good for at most. ``tokens`` None: this site has no key for links. ``scanned_only``: as
    ``processors.reading.Reading`` has it; there is no link before."""

    def __init__(
        self,
        database: Database,
        content: Content,
        tokens: LinkTokens | None,
        personal: PersonalData,
        clock: Clock,
        *,
        longest: int,
        scanned_only: bool = False,
    ) -> None:
        self._database = database
        self._content = content
        self._tokens = tokens
        self._origins = Origins(personal, clock)
        self._clock = clock
        self._longest = longest
        self._open_states = CHECKED if scanned_only else READABLE

    async def create(self, caller: Caller, document_id: UUID, purpose: str, seconds: int) -> tuple[DocumentLink, str]:
        """A link and its token.

        Raises DocumentNotFound, DocumentGone, ContentNotAvailable, MetadataInvalid (good for too long), or LinksUnavailable (no key, or too many
        links of this document already).
        """
        if self._tokens is None:
            raise LinksUnavailable("This site has no key for links.")
        if not 1 <= seconds <= self._longest:
            raise MetadataInvalid(f"A link is good for at most {self._longest} seconds.")
        origin = self._origins.bare(caller)
        link = DocumentLink(
            id=uuid4(),
            document_id=document_id,
            purpose=purpose,
            created_by=origin.actor,
            created_at=origin.at,
            expires_at=origin.at + timedelta(seconds=seconds),
        )
        async with self._database.transaction() as work:
            document = await work.documents.get(document_id)
            if document.tenant != caller.tenant or not caller.sees(document):
                raise DocumentNotFound
            if document.status in GOING:
                raise DocumentGone(f"The document is {document.status.value}.")
            if document.status not in self._open_states:
                raise ContentNotAvailable(f"A document that is {document.status.value} gets no link.")
            if await work.links.count_good(document_id, origin.at) >= MAX_LINKS:
                raise LinksUnavailable(f"The document has {MAX_LINKS} links already; revoke some.")
            await work.links.add(link)
            origin = await self._origins.sealed(work, document, caller, origin)
            details = {"link_id": str(link.id), "purpose": purpose, "expires_at": link.expires_at.isoformat()}
            await work.outbox.add(_line(origin, document, "document.link.created", details))
        return link, self._tokens.sign(link)

    async def revoke(self, caller: Caller, document_id: UUID, link_id: UUID) -> None:
        """Safe to repeat. Raises DocumentNotFound or LinkNotFound."""
        origin = self._origins.bare(caller)
        async with self._database.transaction() as work:
            document = await work.documents.get(document_id)
            if not caller.sees(document):
                raise DocumentNotFound
            link = await work.links.get(link_id)
            if link is None or link.document_id != document_id:
                raise LinkNotFound
            if link.revoked_at is None:
                await work.links.revoke(link_id, origin.at)
                origin = await self._origins.sealed(work, document, caller, origin)
                details = {"link_id": str(link_id), "purpose": link.purpose}
                await work.outbox.add(_line(origin, document, "document.link.revoked", details))

    async def readable(self, token: str) -> Document:
        """The document that the token opens now. Raises LinkNotFound: not signed here, expired, revoked, or its state forbids it."""
        async with self._database.transaction() as work:
            _, document = await self._opened(work, token)
        return document

    async def read(self, visitor: Visitor, token: str, span: tuple[int, int] | None = None) -> AsyncIterator[bytes]:
        """The clear bytes, or those of ``span`` (start, end exclusive); the use is in the audit log before the first one.

        Raises as ``readable``; the iterator as ``processors.reading.Reading.read``.
        """
        async with self._database.transaction() as work:
            link, document = await self._opened(work, token)
            details = {"link_id": str(link.id), "made_by": link.created_by, "purpose": link.purpose}
            if span is not None:
                details |= {"start": str(span[0]), "end": str(span[1])}
            origin = await self._origins.about_visit(work, document, visitor, f"link:{link.id}")
            await work.outbox.add(_line(origin, document, "document.link.used", details))
        if span is None:
            return self._content.read(document)
        return self._content.read_range(document, *span)

    async def _opened(self, work: Work, token: str) -> tuple[DocumentLink, Document]:
        if self._tokens is None:
            raise LinkNotFound
        link_id, document_id = self._tokens.verify(token)
        link = await work.links.get(link_id)
        if link is None or link.document_id != document_id or not link.is_good(self._clock.now()):
            raise LinkNotFound
        try:
            document = await work.documents.get(document_id)
        except DocumentNotFound:
            raise LinkNotFound from None
        if document.status not in self._open_states:
            raise LinkNotFound
        return link, document


def _line(origin: Origin, document: Document, action: str, details: dict[str, str]) -> AuditRecorded:
    return audit_line(origin, document.tenant, "document", str(document.id), action, details=details)
