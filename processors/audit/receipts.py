"""Receipts of archived documents: what was archived, and the proof that the signed audit log says so (``domain.receipts``)."""

from __future__ import annotations

import math
from typing import Final, Protocol
from uuid import UUID

from domain.documents import Document
from domain.errors import CheckpointConflict
from domain.lifecycle import ERASURE_STATES, Status
from domain.receipts import ArchivingEntry, InclusionProof, receipt_input
from domain.refusals import DocumentGone, DocumentNotFound, ReceiptNotAvailable, ReceiptPending
from domain.shared.jws import compact
from processors.audit.signing import VerifySignature, is_ours
from processors.documents.callers import Caller, Origins
from processors.documents.transitions import audit_line
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.personal_data import PersonalData
from processors.ports.signing import Signer
from processors.ports.work import AuditWork, HasDocuments

#: The longest that a caller is told to wait before it asks again, in seconds: checkpoints may be due earlier than by time.
LONGEST_WAIT: Final = 60.0


class InclusionProofs(Protocol):
    """Where audit entries stand in the signed trees. Raises DatabaseUnavailable."""

    async def archiving(self, document_id: UUID) -> ArchivingEntry | None:
        """The entry that archived the document; None while it has no place in the chain."""
        ...

    async def inclusion(self, archiving: ArchivingEntry) -> InclusionProof | None:
        """In the first checkpoint that covers it; None while there is none. Raises CheckpointConflict if the path does not lead
        to the signed root."""
        ...


class ReceiptWork(AuditWork, HasDocuments, Protocol):
    """What giving a receipt needs of a transaction."""


class Receipts:
    """``seconds``: how long after a tenant's last checkpoint the next one comes at the latest."""

    def __init__(
        self,
        database: Transactions[ReceiptWork],
        inclusions: InclusionProofs,
        signer: Signer,
        verifies: VerifySignature,
        personal: PersonalData,
        clock: Clock,
        *,
        seconds: float,
    ) -> None:
        self._database = database
        self._inclusions = inclusions
        self._signer = signer
        self._verifies = verifies
        self._origins = Origins(personal, clock)
        self._wait = math.ceil(min(seconds, LONGEST_WAIT))

    async def receipt(self, caller: Caller, document_id: UUID) -> str:
        """The document's receipt, a compact JWS; the read is in the audit log before it is given.

        Raises DocumentNotFound; DocumentGone; ReceiptNotAvailable where the document is not archived; ReceiptPending while its
        archiving is not covered by a checkpoint; KeyringUnavailable, DatabaseUnavailable; CheckpointConflict if the tables were
        altered: what is signed is what was audited, under a checkpoint that we signed, or nothing.
        """
        async with self._database.transaction() as work:
            document = await work.documents.get(document_id)
        if not caller.sees(document):
            raise DocumentNotFound
        if document.status in ERASURE_STATES:
            raise DocumentGone(f"The document is {document.status.value}.")
        if document.status is not Status.ARCHIVED:
            raise ReceiptNotAvailable(f"A document that is {document.status.value} has no receipt.")
        inclusion = await self._inclusion(document)
        key = await self._signer.current()
        signed_input = receipt_input(document, inclusion, key.id)
        signature = await self._signer.sign(signed_input, key.id)
        await self._audit(caller, document)
        return compact(signed_input, signature)

    async def _inclusion(self, document: Document) -> InclusionProof:
        archiving = await self._inclusions.archiving(document.id)
        if archiving is not None and archiving.tenant != document.tenant:
            raise CheckpointConflict("The audit log files this document under another tenant.")
        inclusion = None if archiving is None else await self._inclusions.inclusion(archiving)
        if inclusion is None:
            raise ReceiptPending(
                "The document is archived; the audit checkpoint that proves it is still to come.",
                retry_after=self._wait,
            )
        if not await is_ours(self._signer, self._verifies, inclusion.signed):
            raise CheckpointConflict("The database's checkpoint has a signature that is none of ours.")
        return inclusion

    async def _audit(self, caller: Caller, document: Document) -> None:
        async with self._database.transaction() as work:
            origin = await self._origins.about(work, document, caller)
            await work.outbox.add(
                audit_line(origin, document.tenant, "document", str(document.id), "document.receipt.read")
            )
