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
from domain.orders import Order, OrderedAct
from domain.refusals import DocumentNotFound, ErasureReceiptNotFound, LegalHoldStands, RetentionRunning
from domain.retention import retention_end
from domain.shared.crash_points import reach
from domain.subjects import subject_of
from processors.documents.callers import Caller, Origins
from processors.documents.second_person import SecondPerson
from processors.documents.transitions import Origin, audit_line, transition
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.personal_data import PersonalData
from processors.ports.restores import MayDelete, unguarded
from processors.ports.work import (
    HasDocumentTypes,
    HasErasures,
    HasLegalHolds,
    HasOrders,
    HasRenditions,
    HasSubjectKeyRows,
    StateWork,
)

_log = structlog.get_logger()

#: The reason that a purge states: no request stands behind it.
PURGED: Final = "RETENTION_ENDED"


@dataclass(frozen=True, slots=True)
class ErasureRequested:
    """``document`` as it is now. ``complete``: nothing is left to do. ``order``: nothing is erased before another operator confirms it."""

    document: Document
    complete: bool
    order: Order | None = None


class ErasureRequestWork(
    StateWork, HasErasures, HasLegalHolds, HasRenditions, HasSubjectKeyRows, HasDocumentTypes, HasOrders, Protocol
):
    """What asking for an erasure needs: it looks at all that keeps a document, and ends all that tells of it, at once."""


class ErasureRequests:
    """Erasures that operators ask for, of documents of every tenant that they may see.

    ``second_person``: whether one is needed, where the document's type does not say otherwise. ``may_delete`` is awaited before anything
    is erased, and raises if nothing may be now.
    """

    def __init__(
        self,
        database: Transactions[ErasureRequestWork],
        personal: PersonalData,
        clock: Clock,
        second_person: SecondPerson | None = None,
        may_delete: MayDelete = unguarded,
    ) -> None:
        self._database = database
        self._second_person = second_person or SecondPerson()
        self._origins = Origins(personal, clock)
        self._may_delete = may_delete

    async def request(
        self, caller: Caller, document_id: UUID, reason: str, basis: LegalBasis | None
    ) -> ErasureRequested:
        """Asked for again, it changes nothing. Where it takes two persons, it is ordered, and another one has to ``confirm`` it.

        Raises DocumentNotFound, TransitionRefused (an upload that is no document), LegalHoldStands, RetentionRunning, or
        RestoreUnderWay: holds of after the backup may be missing.
        """
        origin = self._origins.of(caller)  # who asks for an erasure is not erased by it
        await self._may_delete()
        async with self._database.transaction() as work:
            document = _visible(caller, await work.documents.lock(document_id))
            if document.status in ERASURE_STATES:
                return await _repeated(work, document, origin, reason)
            if await self._takes_two(work, document):
                await _check_erasable(work, document, origin.at, basis)
                said = {"reason": reason, "legal_basis": basis and basis.value}
                order = await self._second_person.order(
                    work, OrderedAct.ERASURE, str(document.id), document.tenant, said, origin
                )
                return ErasureRequested(document, complete=False, order=order)
            document = await begin_erasure(work, document, origin, reason, basis)
        return _begun(document)

    async def confirm(self, caller: Caller, document_id: UUID, order_id: UUID) -> ErasureRequested:
        """Erase what another operator ordered to be erased. Confirmed again, it changes nothing.

        Raises DocumentNotFound, OrderNotFound, SecondPersonNeeded, LegalHoldStands, RetentionRunning, or RestoreUnderWay.
        """
        origin = self._origins.of(caller)
        await self._may_delete()
        async with self._database.transaction() as work:
            document = _visible(caller, await work.documents.lock(document_id))
            if document.status in ERASURE_STATES:
                erasure = await work.erasures.get(document.id)
                return await _repeated(work, document, origin, erasure.reason if erasure else "")
            order = await self._second_person.confirmed(work, OrderedAct.ERASURE, str(document.id), order_id, origin)
            basis = order.parameters["legal_basis"]
            document = await begin_erasure(
                work,
                document,
                origin,
                order.parameters["reason"],
                basis and LegalBasis(basis),
                ordered_by=order.ordered_by,
            )
            await work.orders.remove(order)
        return _begun(document)

    async def withdraw(self, caller: Caller, document_id: UUID, order_id: UUID) -> Document:
        """Take back the order that the caller gave; the document, which stays as it is.

        Raises DocumentNotFound, OrderNotFound or OrderNotYours.
        """
        origin = self._origins.of(caller)
        async with self._database.transaction() as work:
            document = _visible(caller, await work.documents.lock(document_id))
            await self._second_person.withdraw(work, OrderedAct.ERASURE, str(document.id), order_id, origin)
        return document

    async def order(self, caller: Caller, document_id: UUID) -> Order:
        """The order that waits for its second person. Raises DocumentNotFound or OrderNotFound."""
        async with self._database.transaction() as work:
            document = _visible(caller, await work.documents.get(document_id))
            order = await self._second_person.standing(work, OrderedAct.ERASURE, str(document.id))
            origin = self._origins.of(caller)
            action = "document.erasure.order.read"
            await work.outbox.add(audit_line(origin, document.tenant, "document", str(document.id), action))
        return order

    async def _takes_two(self, work: HasDocumentTypes, document: Document) -> bool:
        said = (await work.types.get(document.type_code)).erased_by_two
        return self._second_person.required if said is None else said

    async def receipt(self, caller: Caller, document_id: UUID) -> SignedReceipt:
        """Raises DocumentNotFound or ErasureReceiptNotFound."""
        async with self._database.transaction() as work:
            document = _visible(caller, await work.documents.get(document_id))
            erasure = await work.erasures.get(document_id)
            if erasure is None or erasure.receipt is None:
                raise ErasureReceiptNotFound(f"The document is {document.status.value}.")
            line = audit_line(
                self._origins.of(caller), document.tenant, "document", str(document.id), "document.erasure.read"
            )
            await work.outbox.add(line)
        return erasure.receipt


def _visible(caller: Caller, document: Document) -> Document:
    """Raises DocumentNotFound if the document is not there for ``caller``."""
    if not caller.sees(document):
        raise DocumentNotFound
    return document


def _begun(document: Document) -> ErasureRequested:
    reach("erase.committed")
    return ErasureRequested(document, complete=False)


async def _repeated(work: StateWork, document: Document, origin: Origin, reason: str) -> ErasureRequested:
    line = audit_line(
        origin, document.tenant, "document", str(document.id), "document.erase.repeated", details={"reason": reason}
    )
    await work.outbox.add(line)
    return ErasureRequested(document, document.status is Status.ERASED)


async def begin_erasure(
    work: ErasureRequestWork,
    document: Document,
    origin: Origin,
    reason: str,
    basis: LegalBasis | None,
    *,
    ordered_by: str | None = None,
) -> Document:
    """Make a locked ``document`` ERASING. ``ordered_by``: who asked for it, if ``origin`` is who confirmed it.

    Raises TransitionRefused, LegalHoldStands or RetentionRunning.
    """
    end, basis = await _check_erasable(work, document, origin.at, basis)
    return await destroy_keys(work, document, origin, reason, basis, end, ordered_by=ordered_by)


async def destroy_keys(
    work: ErasureRequestWork,
    document: Document,
    origin: Origin,
    reason: str,
    basis: LegalBasis,
    end: datetime,
    *,
    ordered_by: str | None = None,
) -> Document:
    """Make a locked ``document`` ERASING, its keys and personal texts gone, without asking what keeps it. ``end``: of its retention.
    ``ordered_by``: who asked for it, if ``origin`` is who confirmed it.

    Raises TransitionRefused.
    """
    erasure = Erasure(
        document_id=document.id,
        tenant=document.tenant,
        actor=ordered_by or origin.actor,
        reason=reason,
        basis=basis,
        retention_until=end,
        requested_at=origin.at,
        correlation_id=origin.correlation_id,
        key=key_name(document.wrapped_key),
        thumbnails=tuple(rendition.object_key for rendition in await work.renditions.of(document.id)),
    )
    details = {"reason": reason, "legal_basis": basis.value}
    if ordered_by is not None:
        details["ordered_by"] = ordered_by
    going = await transition(
        work, document, Status.ERASING, origin, details=details, wrapped_key=None, **PERSONAL_FIELDS
    )
    await work.erasures.add(erasure)
    await work.erasures.delete_content_rows(document.id)
    await work.subjects.destroy(subject_of(document), origin.at)
    _log.info("erasure_asked_for", document_id=str(document.id), tenant=document.tenant, reason=reason)
    return going


async def _check_erasable(
    work: ErasureRequestWork, document: Document, now: datetime, basis: LegalBasis | None
) -> tuple[datetime, LegalBasis]:
    """When its retention ends, and the basis to go on record. Raises TransitionRefused, LegalHoldStands or RetentionRunning."""
    ensure_allowed(document.status, Status.ERASING)
    standing = [hold for hold in await work.holds.of(document.id) if hold.lifted_at is None]
    if standing:
        raise LegalHoldStands(f"{len(standing)} legal holds keep the document.")
    end = retention_end(document, await work.types.get(document.type_code))
    return end, _legal_basis(basis, end, now)


def _legal_basis(basis: LegalBasis | None, end: datetime, now: datetime) -> LegalBasis:
    """The basis to go on record: that the retention has ended is one, and the only one that needs no saying."""
    if basis is not None and basis is not LegalBasis.RETENTION_ENDED:
        return basis
    if end > now:
        raise RetentionRunning(f"The document is to be kept until {end.isoformat(timespec='seconds')}.")
    return LegalBasis.RETENTION_ENDED
