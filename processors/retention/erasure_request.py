"""Requesting a document's erasure.

One transaction makes the document ERASING and destroys its wrapped key, the key of the audit lines about it, and whatever personal
PostgreSQL holds of it: from the answer on nothing of it can be read. What lies outside PostgreSQL is deleted by ``processors.retention.erasure_execution``, which finds the row that
is left here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

import structlog

from domain.documents import Document
from domain.erasure import PERSONAL_FIELDS, Erasure, LegalBasis, SignedReceipt, key_name
from domain.lifecycle import ERASURE_STATES, Status, ensure_allowed
from domain.refusals import DocumentNotFound, ErasureReceiptNotFound, LegalHoldStands, RetentionRunning
from domain.retention import retention_end
from domain.shared.crash_points import reach
from domain.subjects import subject_of
from processors.documents.callers import Caller, Origins
from processors.documents.transitions import Origin, audit_line, transition
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.personal_data import PersonalData
from processors.ports.restores import MayDelete, unguarded
from processors.ports.work import (
    HasDocumentTypes,
    HasErasures,
    HasLegalHolds,
    HasRenditions,
    HasSubjectKeyRows,
    StateWork,
)

_log = structlog.get_logger()

#: The reason that a purge states: no request stands behind it.
PURGED: Final = "RETENTION_ENDED"


@dataclass(frozen=True, slots=True)
class ErasureRequested:
    """``document`` as it is now. ``complete``: nothing is left to do."""

    document: Document
    complete: bool


class ErasureRequestWork(
    StateWork, HasErasures, HasLegalHolds, HasRenditions, HasSubjectKeyRows, HasDocumentTypes, Protocol
):
    """What asking for an erasure needs: it looks at all that keeps a document, and ends all that tells of it, at once."""


class ErasureRequests:
    """Erasures that operators ask for, of documents of every tenant that they may see."""

    def __init__(
        self,
        database: Transactions[ErasureRequestWork],
        personal: PersonalData,
        clock: Clock,
        may_delete: MayDelete = unguarded,
    ) -> None:
        """``may_delete`` is awaited before anything is erased, and raises if nothing may be now."""
        self._database = database
        self._origins = Origins(personal, clock)
        self._may_delete = may_delete

    async def request(
        self, caller: Caller, document_id: UUID, reason: str, basis: LegalBasis | None
    ) -> ErasureRequested:
        """Asked for again, it changes nothing.

        Raises DocumentNotFound, TransitionRefused (an upload that is no document), LegalHoldStands, RetentionRunning, or
        RestoreUnderWay: holds of after the backup may be missing.
        """
        origin = self._origins.of(caller)  # who asks for an erasure is not erased by it
        await self._may_delete()
        async with self._database.transaction() as work:
            document = await work.documents.lock(document_id)
            if not caller.sees(document):
                raise DocumentNotFound
            if document.status in ERASURE_STATES:
                line = audit_line(
                    origin, document.tenant, "document", str(document.id), "document.erase.repeated",
                    details={"reason": reason},
                )  # fmt: skip
                await work.outbox.add(line)
                return ErasureRequested(document, document.status is Status.ERASED)
            document = await begin_erasure(work, document, origin, reason, basis)
        reach("erase.committed")
        return ErasureRequested(document, complete=False)

    async def receipt(self, caller: Caller, document_id: UUID) -> SignedReceipt:
        """Raises DocumentNotFound or ErasureReceiptNotFound."""
        async with self._database.transaction() as work:
            document = await work.documents.get(document_id)
            if not caller.sees(document):
                raise DocumentNotFound
            erasure = await work.erasures.get(document_id)
            if erasure is None or erasure.receipt is None:
                raise ErasureReceiptNotFound(f"The document is {document.status.value}.")
            line = audit_line(
                self._origins.of(caller), document.tenant, "document", str(document.id), "document.erasure.read"
            )
            await work.outbox.add(line)
        return erasure.receipt


async def begin_erasure(
    work: ErasureRequestWork, document: Document, origin: Origin, reason: str, basis: LegalBasis | None
) -> Document:
    """Make a locked ``document`` ERASING. Raises TransitionRefused, LegalHoldStands or RetentionRunning."""
    ensure_allowed(document.status, Status.ERASING)
    standing = [hold for hold in await work.holds.of(document.id) if hold.lifted_at is None]
    if standing:
        raise LegalHoldStands(f"{len(standing)} legal holds keep the document.")
    end = retention_end(document, await work.types.get(document.type_code))
    return await destroy_keys(work, document, origin, reason, _legal_basis(basis, end, origin.at), end)


async def destroy_keys(
    work: ErasureRequestWork, document: Document, origin: Origin, reason: str, basis: LegalBasis, end: datetime
) -> Document:
    """Make a locked ``document`` ERASING, its keys and personal texts gone, without asking what keeps it. ``end``: of its retention.

    Raises TransitionRefused.
    """
    erasure = Erasure(
        document_id=document.id,
        tenant=document.tenant,
        actor=origin.actor,
        reason=reason,
        basis=basis,
        retention_until=end,
        requested_at=origin.at,
        correlation_id=origin.correlation_id,
        key=key_name(document.wrapped_key),
        thumbnails=tuple(rendition.object_key for rendition in await work.renditions.of(document.id)),
    )
    details = {"reason": reason, "legal_basis": erasure.basis.value}
    going = await transition(
        work, document, Status.ERASING, origin, details=details, wrapped_key=None, **PERSONAL_FIELDS
    )
    await work.erasures.add(erasure)
    await work.erasures.delete_content_rows(document.id)
    await work.subjects.destroy(subject_of(document), origin.at)
    _log.info("erasure_asked_for", document_id=str(document.id), tenant=document.tenant, reason=reason)
    return going


def _legal_basis(basis: LegalBasis | None, end: datetime, now: datetime) -> LegalBasis:
    """The basis to go on record: that the retention has ended is one, and the only one that needs no saying."""
    if basis is not None and basis is not LegalBasis.RETENTION_ENDED:
        return basis
    if end > now:
        raise RetentionRunning(f"The document is to be kept until {end.isoformat(timespec='seconds')}.")
    return LegalBasis.RETENTION_ENDED
