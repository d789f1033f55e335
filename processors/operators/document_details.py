"""All that an operator may know of one document, read at once and audited as one read: never content, nor a name of a file or a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol
from uuid import UUID

from domain.documents import Document, TimelineEntry
from domain.errors import CheckpointConflict
from domain.lifecycle import ATTEMPTS, ERASURE_STATES, Status
from domain.records import NotificationRecord
from domain.refusals import DocumentNotFound, TypeUnknown
from domain.retention import LegalHold, retention_end
from processors.audit.receipts import InclusionProofs
from processors.documents.callers import Caller, Origins
from processors.documents.transitions import audit_line
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.personal_data import PersonalData
from processors.ports.work import (
    AuditWork,
    HasDocuments,
    HasDocumentTypes,
    HasLegalHolds,
    HasNotifications,
    HasTimeline,
)


class ProofState(Enum):
    """Whether the archiving is in the signed audit log. CONFLICT: the tables say what was not signed."""

    NONE = "none"
    PENDING = "pending"
    COVERED = "covered"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentProof:
    """``seq``: the number of the archiving's entry; ``size`` and ``signed_at``: of the checkpoint that covers it."""

    state: ProofState
    seq: int | None = None
    size: int | None = None
    signed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentDetails:
    """``retained_until`` is None for what is no document, or is erased. ``mails``: by their time, those still to be sent last."""

    document: Document
    timeline: Sequence[TimelineEntry]
    retained_until: datetime | None
    holds: Sequence[LegalHold]
    mails: Sequence[NotificationRecord]
    proof: DocumentProof


class DetailsWork(AuditWork, HasDocuments, HasTimeline, HasDocumentTypes, HasLegalHolds, HasNotifications, Protocol):
    """What the details are read from."""


class DocumentInspection:
    """A document that the caller may not see does not exist for it."""

    def __init__(
        self,
        database: Transactions[DetailsWork],
        inclusions: InclusionProofs,
        personal: PersonalData,
        clock: Clock,
    ) -> None:
        self._database = database
        self._inclusions = inclusions
        self._origins = Origins(personal, clock)

    async def details(self, caller: Caller, document_id: UUID) -> DocumentDetails:
        """The read is in the audit log. Raises DocumentNotFound or DatabaseUnavailable."""
        async with self._database.transaction() as work:
            document = await work.documents.get(document_id)
            if not caller.sees(document):
                raise DocumentNotFound
            timeline = await work.timeline.of(document_id)
            holds = await work.holds.of(document_id)
            mails = await work.notifications.of(document_id)
            until = await _retained_until(work, document)
            origin = await self._origins.about(work, document, caller)
            line = audit_line(origin, document.tenant, "document", str(document.id), "document.read")
            await work.outbox.add(line)
        return DocumentDetails(
            document=document,
            timeline=timeline,
            retained_until=until,
            holds=holds,
            mails=mails,
            proof=await self._proof(document),
        )

    async def _proof(self, document: Document) -> DocumentProof:
        if document.status is not Status.ARCHIVED:
            return DocumentProof(state=ProofState.NONE)
        archiving = await self._inclusions.archiving(document.id)
        if archiving is None:
            return DocumentProof(state=ProofState.PENDING)
        try:
            inclusion = await self._inclusions.inclusion(archiving)
        except CheckpointConflict:
            return DocumentProof(state=ProofState.CONFLICT, seq=archiving.seq)
        if inclusion is None:
            return DocumentProof(state=ProofState.PENDING, seq=archiving.seq)
        checkpoint = inclusion.signed.checkpoint
        return DocumentProof(
            state=ProofState.COVERED, seq=archiving.seq, size=checkpoint.size, signed_at=checkpoint.time
        )


async def _retained_until(work: HasDocumentTypes, document: Document) -> datetime | None:
    if document.status in ERASURE_STATES | ATTEMPTS:
        return None
    try:
        return retention_end(document, await work.types.get(document.type_code))
    except TypeUnknown:
        return None
