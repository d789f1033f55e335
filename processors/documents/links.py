"""Links that give one document's content to who has no token.

Every use is in the audit log, under the link's id and its maker; so is every attempt with one that is not good any more. A link
counts no longer than the token that it was made with.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final, Protocol
from uuid import UUID, uuid4

from domain.documents import Document
from domain.events import AuditRecorded
from domain.lifecycle import CHECKED, ERASURE_STATES, READABLE
from domain.links import DocumentLink, SignedLink
from domain.refusals import (
    ContentNotAvailable,
    DocumentGone,
    DocumentNotFound,
    LinkNotFound,
    LinksUnavailable,
    MetadataInvalid,
)
from processors.documents.callers import Caller, LinkVisitor, Origins
from processors.documents.reading import ContentReader
from processors.documents.revocations import RevokedTokens
from processors.documents.transitions import Origin, audit_line
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.links import LinkTokens
from processors.ports.personal_data import PersonalData
from processors.ports.work import AuditWork, HasDocuments, HasLinks

#: Good links of one document at once.
MAX_LINKS: Final = 100


class LinkWork(AuditWork, HasDocuments, HasLinks, Protocol):
    """What the use cases of links need of a transaction."""


class DocumentLinks:
    """``longest``: seconds that a link may be good for at most. ``tokens`` None: this site has no key for links. ``scanned_only``: as
    ``processors.documents.reading.DocumentReader`` has it; there is no link before."""

    def __init__(
        self,
        database: Transactions[LinkWork],
        content: ContentReader,
        tokens: LinkTokens | None,
        personal: PersonalData,
        clock: Clock,
        revoked: RevokedTokens,
        *,
        longest: int,
        scanned_only: bool = False,
    ) -> None:
        self._database = database
        self._content = content
        self._tokens = tokens
        self._origins = Origins(personal, clock)
        self._clock = clock
        self._revoked = revoked
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
            marks=caller.marks,
        )
        async with self._database.transaction() as work:
            document = await work.documents.get(document_id)
            if document.tenant != caller.tenant or not caller.sees(document):
                raise DocumentNotFound
            if document.status in ERASURE_STATES:
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
        """The document that the token opens now.

        Raises LinkNotFound (not signed here, expired, revoked, or its state forbids it), or RevocationsUnavailable.
        """
        async with self._database.transaction() as work:
            _, document = await self._opened(work, token)
        return document

    async def read(self, visitor: LinkVisitor, token: str, span: tuple[int, int] | None = None) -> AsyncIterator[bytes]:
        """The clear bytes, or those of ``span`` (start, end exclusive); the use is in the audit log before the first one.

        Raises as ``readable``; the iterator as ``processors.documents.reading.DocumentReader.read``.
        """
        details = {} if span is None else {"start": str(span[0]), "end": str(span[1])}
        document = await self._use(visitor, token, details)
        if span is None:
            return self._content.read(document)
        return self._content.read_range(document, *span)

    async def record_outcome(self, visitor: LinkVisitor, token: str, outcome: str) -> None:
        """Put a use on record that is answered without content: ``outcome`` says what the answer tells of it. Raises as ``readable``."""
        await self._use(visitor, token, {"outcome": outcome})

    async def record_refusal(self, visitor: LinkVisitor, token: str) -> None:
        """Put on record that a link was refused; nothing for what is none of ours, or none any more."""
        async with self._database.transaction() as work:
            try:
                link, document, reason = await self._find(work, token)
            except LinkNotFound:
                return
            await self._record(
                work, visitor, link, document, "document.link.refused", {"reason": reason or "unreadable"}
            )

    async def _use(self, visitor: LinkVisitor, token: str, details: dict[str, str]) -> Document:
        async with self._database.transaction() as work:
            link, document = await self._opened(work, token)
            await self._record(work, visitor, link, document, "document.link.used", details)
        return document

    async def _record(
        self,
        work: LinkWork,
        visitor: LinkVisitor,
        link: DocumentLink,
        document: Document,
        action: str,
        details: dict[str, str],
    ) -> None:
        details = {"link_id": str(link.id), "made_by": link.created_by, "purpose": link.purpose, **details}
        origin = await self._origins.about_visit(work, document, visitor, f"link:{link.id}")
        await work.outbox.add(_line(origin, document, action, details))

    async def _opened(self, work: LinkWork, token: str) -> tuple[DocumentLink, Document]:
        link, document, reason = await self._find(work, token)
        if reason is not None:
            raise LinkNotFound
        return link, document

    async def _find(self, work: LinkWork, token: str) -> tuple[DocumentLink, Document, str | None]:
        """The link, its document, and why it does not open it, if it doesn't. Raises LinkNotFound where there is no such link."""
        if self._tokens is None:
            raise LinkNotFound
        signed = self._tokens.verify(token)
        link = await work.links.get(signed.link_id)
        if link is None or link.document_id != signed.document_id:
            raise LinkNotFound
        try:
            document = await work.documents.get(signed.document_id)
        except DocumentNotFound:
            raise LinkNotFound from None
        return link, document, await self._refusal(link, signed, document)

    async def _refusal(self, link: DocumentLink, signed: SignedLink, document: Document) -> str | None:
        if link.revoked_at is not None:
            return "revoked"
        if self._clock.now() >= min(link.expires_at, signed.expires_at):
            return "expired"
        # For links that a revoked token made in the moments before every process knew of its revocation.
        if link.marks and await self._revoked.any_of(link.marks):
            return "token_revoked"
        return None if document.status in self._open_states else "unreadable"


def _line(origin: Origin, document: Document, action: str, details: dict[str, str]) -> AuditRecorded:
    return audit_line(origin, document.tenant, "document", str(document.id), action, details=details)
