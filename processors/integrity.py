"""DocumentUploaded -> is what the store gives back what was received? VERIFIED, or QUARANTINED with a reason code.

A decision that a person took while the document was still STORED is carried out here, in the same transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Final, Protocol
from uuid import UUID

from domain.crash_points import reach
from domain.documents import Document
from domain.errors import EnvelopeInvalid, IntegrityMismatch, ObjectMissing, WrongKey
from domain.events import DocumentQuarantined, DocumentUploaded, DocumentVerified, Event
from domain.lifecycle import Status
from processors.decisions import carry_out
from processors.ports import Clock, Commit, Database, Work
from processors.recording import Origin, advance, nothing

ACTOR: Final = "system:integrity"


class Content(Protocol):
    def read(self, document: Document) -> AsyncIterator[bytes]:
        """The document's clear bytes, from the store."""
        ...


class IntegrityProcessor:
    """Reads the stored document back, decrypts it and compares size and SHA-256 with what intake recorded."""

    consumer: Final = "integrity"
    handles: Final[tuple[type[Event], ...]] = (DocumentUploaded,)

    def __init__(self, database: Database, content: Content, clock: Clock) -> None:
        self._database = database
        self._content = content
        self._clock = clock

    async def process(self, event: Event) -> Commit:
        """Raises ObjectStoreUnavailable, KeyringUnavailable or DatabaseUnavailable; damage is a verdict, not an error."""
        document_id = _document_id(event)
        async with self._database.transaction() as work:
            document = await work.documents.get(document_id)
        if document.status is not Status.STORED:
            return nothing
        try:
            await self._verify(document)
        except (EnvelopeInvalid, WrongKey, ObjectMissing, IntegrityMismatch) as damage:
            return partial(self._quarantine, event, damage.code)
        reach("integrity.read")
        return partial(self._accept, event)

    async def give_up(self, event: Event, code: str) -> Commit:
        return partial(self._quarantine, event, code)

    async def _verify(self, document: Document) -> None:
        digest = hashlib.sha256()
        size = 0
        async for piece in self._content.read(document):
            digest.update(piece)
            size += len(piece)
        if size != document.size or digest.hexdigest() != document.sha256:
            raise IntegrityMismatch

    async def _accept(self, event: Event, work: Work) -> None:
        document = await work.documents.lock(_document_id(event))
        if document.status is not Status.STORED:
            return
        origin = Origin(actor=ACTOR, at=self._clock.now(), correlation_id=event.correlation_id)
        decision = document.pending_decision
        verified = await advance(
            work,
            document,
            Status.VERIFIED,
            origin,
            events=[
                lambda common: DocumentVerified(
                    **common,
                    object_key=document.object_key,
                    size=document.size or 0,
                    mime_type=document.mime_type or "",
                    sha256=document.sha256 or "",
                    type_code=document.type_code,
                )
            ],
            pending_decision=None,
        )
        if decision is not None:
            # The decision is the person's: their pseudonym goes on record, with the time at which it takes effect.
            decided = Origin(actor=decision.actor, at=origin.at, correlation_id=event.correlation_id)
            await carry_out(work, verified, decision, decided)

    async def _quarantine(self, event: Event, code: str, work: Work) -> None:
        document = await work.documents.lock(_document_id(event))
        if document.status is not Status.STORED:
            return
        await advance(
            work,
            document,
            Status.QUARANTINED,
            Origin(actor=ACTOR, at=self._clock.now(), correlation_id=event.correlation_id),
            events=[lambda common: DocumentQuarantined(**common, reason_code=code)],
            details={"code": code},
            failure_code=code,
            pending_decision=None,
        )


def _document_id(event: Event) -> UUID:
    if not isinstance(event, DocumentUploaded):
        raise TypeError(type(event).__name__)
    return event.document_id
