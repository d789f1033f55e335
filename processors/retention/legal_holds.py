"""Legal holds and retention extensions: acts of an operator, with a reason on record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID

from domain.documents import Document, TimelineEntry
from domain.lifecycle import ATTEMPTS, ERASURE_STATES
from domain.refusals import (
    DocumentGone,
    DocumentNotFound,
    LegalHoldNotFound,
    MetadataInvalid,
    RetentionNotExtended,
    TransitionRefused,
)
from domain.retention import LegalHold, retention_end
from processors.documents.callers import Caller, Origins
from processors.documents.transitions import Origin, audit_line, update_fields
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.personal_data import PersonalData
from processors.ports.work import AuditWork, HasDocuments, HasDocumentTypes, HasLegalHolds, HasOutbox, HasTimeline

#: Every time zone's clock, and every store's, has it.
LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DocumentRetention:
    """Until when a document is kept, and the legal holds that it has or had, oldest first."""

    document: Document
    until: datetime
    holds: Sequence[LegalHold]


class RetentionWork(AuditWork, HasDocuments, HasTimeline, HasLegalHolds, HasDocumentTypes, Protocol):
    """What keeping a document longer needs of a transaction."""


class RetentionActions:
    """Acts of operators on documents of every tenant that they may see. An act that is repeated changes nothing."""

    def __init__(self, database: Transactions[RetentionWork], personal: PersonalData, clock: Clock) -> None:
        self._database = database
        self._origins = Origins(personal, clock)

    async def read(self, caller: Caller, document_id: UUID) -> DocumentRetention:
        """Raises DocumentNotFound."""
        async with self._database.transaction() as work:
            document = await work.documents.get(document_id)
            if not caller.sees(document):
                raise DocumentNotFound
            origin = await self._origins.about(work, document, caller)
            await _audit(work, document, origin, "document.retention.read", {})
            return await _retention(work, document)

    async def extend(self, caller: Caller, document_id: UUID, until: datetime, reason: str) -> DocumentRetention:
        """Keep the document until ``until``. Raises DocumentNotFound, DocumentGone, RetentionNotExtended or MetadataInvalid."""
        if until > LATEST:
            raise MetadataInvalid(f"A retention ends in {LATEST:%Y} at the latest.")
        async with self._database.transaction() as work:
            document = await _locked_document(work, caller, document_id)
            origin = await self._origins.about(work, document, caller)
            end = retention_end(document, await work.types.get(document.type_code))
            if until == document.expires_at:
                return await _retention(work, document)
            if until <= end:
                raise RetentionNotExtended(f"The retention ends on {end.isoformat(timespec='seconds')} already.")
            changed = await update_fields(work, document, origin.at, expires_at=until)
            details = {"until": until.isoformat(), "before": end.isoformat(), "reason": reason}
            await _put_on_record(work, changed, origin, "RETENTION_EXTENDED", "document.retention.extended", details)
            return await _retention(work, changed)

    async def set_hold(self, caller: Caller, document_id: UUID, reference: str, reason: str) -> DocumentRetention:
        """Set a legal hold. One of that reference that was lifted stands again. Raises DocumentNotFound or DocumentGone."""
        async with self._database.transaction() as work:
            document = await _locked_document(work, caller, document_id)
            origin = await self._origins.about(work, document, caller)
            found = await _find(work, document_id, reference)
            if found is None or found.lifted_at is not None:
                hold = LegalHold(reference=reference, reason=reason, set_by=origin.actor, set_at=origin.at)
                await work.holds.put(document_id, hold)
                details = {"reference": reference, "reason": reason}
                await _put_on_record(work, document, origin, "LEGAL_HOLD_SET", "document.legal_hold.set", details)
            return await _retention(work, document)

    async def lift_hold(self, caller: Caller, document_id: UUID, reference: str, reason: str) -> DocumentRetention:
        """Lift a legal hold; others stay. Raises DocumentNotFound, DocumentGone or LegalHoldNotFound."""
        async with self._database.transaction() as work:
            document = await _locked_document(work, caller, document_id)
            origin = await self._origins.about(work, document, caller)
            found = await _find(work, document_id, reference)
            if found is None:
                raise LegalHoldNotFound
            if found.lifted_at is None:
                lifted = replace(found, lifted_by=origin.actor, lifted_at=origin.at, lifted_reason=reason)
                await work.holds.put(document_id, lifted)
                details = {"reference": reference, "reason": reason}
                await _put_on_record(work, document, origin, "LEGAL_HOLD_LIFTED", "document.legal_hold.lifted", details)
            return await _retention(work, document)


async def _locked_document(work: HasDocuments, caller: Caller, document_id: UUID) -> Document:
    """The document, locked: no erasure begins while its holds are looked at."""
    document = await work.documents.lock(document_id)
    if not caller.sees(document):
        raise DocumentNotFound
    if document.status in ERASURE_STATES:
        raise DocumentGone(f"The document is {document.status.value}.")
    if document.status in ATTEMPTS:
        raise TransitionRefused(f"The upload is {document.status.value}: it is no document.")
    return document


async def _find(work: HasLegalHolds, document_id: UUID, reference: str) -> LegalHold | None:
    return next((hold for hold in await work.holds.of(document_id) if hold.reference == reference), None)


async def _retention(work: RetentionWork, document: Document) -> DocumentRetention:
    end = retention_end(document, await work.types.get(document.type_code))
    return DocumentRetention(document, end, await work.holds.of(document.id))


async def _put_on_record(
    work: RetentionWork, document: Document, origin: Origin, kind: str, action: str, details: Mapping[str, str]
) -> None:
    entry = TimelineEntry(
        document_id=document.id,
        dossier_id=document.dossier_id,
        type=kind,
        actor=origin.actor,
        at=origin.at,
        details=details,
    )
    await work.timeline.add(entry)
    await _audit(work, document, origin, action, details)


async def _audit(work: HasOutbox, document: Document, origin: Origin, action: str, details: Mapping[str, str]) -> None:
    await work.outbox.add(audit_line(origin, document.tenant, "document", str(document.id), action, details=details))
