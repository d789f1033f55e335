"""DocumentUploaded -> is what the store gives back what was received, and does the antivirus let it pass? VERIFIED, or
QUARANTINED with a reason code. One pass over the content answers both questions.

A decision that a person took while the document was still STORED is carried out here, in the same transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from typing import Final, Protocol
from uuid import UUID

import structlog

from domain.antivirus import ScanResult, ScanVerdict
from domain.documents import Document
from domain.errors import (
    ContentUnscannable,
    EnvelopeInvalid,
    IntegrityMismatch,
    MalwareFound,
    ObjectMissing,
    WrongKey,
)
from domain.events import DocumentQuarantined, DocumentUploaded, DocumentVerified, Event
from domain.lifecycle import Status
from domain.shared.crash_points import reach
from processors.documents.decisions import apply_decision
from processors.documents.transitions import NOTHING_TO_COMMIT, Origin, transition
from processors.events.antivirus import DocumentScanner, NoAntivirus
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.work import Commit, StateWork
from processors.resilience.closing_streams import closing_stream

ACTOR: Final = "system:integrity"

_log = structlog.get_logger()


#: Reason codes of quarantine, by what the antivirus found.
QUARANTINE_CODES: Final = {
    ScanResult.INFECTED: MalwareFound.code,
    ScanResult.UNSCANNABLE: ContentUnscannable.code,
}


class VerifiableContent(Protocol):
    def read(self, document: Document) -> AsyncIterator[bytes]:
        """The document's clear bytes, from the store."""
        ...


class IntegrityProcessor:
    """Reads the stored document back, decrypts it, compares size and SHA-256 with what intake recorded, and shows it to the
    antivirus meanwhile."""

    consumer: Final = "integrity"
    handles: Final[tuple[type[Event], ...]] = (DocumentUploaded,)

    def __init__(
        self,
        database: Transactions[StateWork],
        content: VerifiableContent,
        clock: Clock,
        scanner: DocumentScanner | None = None,
    ) -> None:
        self._database = database
        self._content = content
        self._clock = clock
        self._scanner = scanner or NoAntivirus()

    async def process(self, event: Event) -> Commit:
        """Raises AntivirusUnavailable, ObjectStoreUnavailable, KeyringUnavailable or DatabaseUnavailable; damage and malware are
        verdicts, not errors."""
        document_id = _document_id(event)
        async with self._database.transaction() as work:
            document = await work.documents.get(document_id)
        if document.status is not Status.STORED:
            return NOTHING_TO_COMMIT
        try:
            verdict = await self._verify(document)
        except (EnvelopeInvalid, WrongKey, ObjectMissing, IntegrityMismatch) as damage:
            return partial(self._quarantine, event, damage.code)
        reach("integrity.read")
        quarantine_code = QUARANTINE_CODES.get(verdict.finding)
        if quarantine_code is not None:
            # Who sent it may read the timeline: what was found is for the operators alone.
            ids = {"document_id": str(document.id), "tenant": document.tenant}
            _log.error("document_condemned", code=quarantine_code, signature=verdict.signature, **ids)
            return partial(self._quarantine, event, quarantine_code)
        return partial(self._accept, event, verdict)

    async def give_up(self, event: Event, code: str) -> Commit:
        return partial(self._quarantine, event, code)

    async def _verify(self, document: Document) -> ScanVerdict:
        digest = hashlib.sha256()
        size = 0

        async def hashed(clear: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
            nonlocal size
            async for piece in clear:
                digest.update(piece)
                size += len(piece)
                yield piece

        async with closing_stream(self._content.read(document)) as clear, closing_stream(hashed(clear)) as passing:
            verdict = await self._scanner.scan(passing, document)
        if size != document.size or digest.hexdigest() != document.sha256:
            raise IntegrityMismatch
        return verdict

    async def _accept(self, event: Event, verdict: ScanVerdict, work: StateWork) -> None:
        document = await work.documents.lock(_document_id(event))
        if document.status is not Status.STORED:
            return
        origin = Origin(actor=ACTOR, at=self._clock.now(), correlation_id=event.correlation_id, cause=event.event_id)
        decision = document.pending_decision
        verified = await transition(
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
            details={"antivirus": verdict.finding.value},
            pending_decision=None,
        )
        if decision is not None:
            # The decision is the person's: their pseudonym goes on record, with the time at which it takes effect.
            decided = Origin(
                actor=decision.actor, at=origin.at, correlation_id=event.correlation_id, cause=event.event_id
            )
            await apply_decision(work, verified, decision, decided)

    async def _quarantine(self, event: Event, code: str, work: StateWork) -> None:
        document = await work.documents.lock(_document_id(event))
        if document.status is not Status.STORED:
            return
        await transition(
            work,
            document,
            Status.QUARANTINED,
            Origin(actor=ACTOR, at=self._clock.now(), correlation_id=event.correlation_id, cause=event.event_id),
            events=[lambda common: DocumentQuarantined(**common, reason_code=code)],
            details={"code": code},
            failure_code=code,
            pending_decision=None,
        )


def _document_id(event: Event) -> UUID:
    if not isinstance(event, DocumentUploaded):
        raise TypeError(type(event).__name__)
    return event.document_id
