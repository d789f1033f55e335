"""Executing erasures: what the request left outside PostgreSQL is deleted, and a signed receipt says so.

The steps of one erasure, in this order, each of which may be cut off and is repeated from the first one on:

1. wait until no consumer that makes something of documents is at this one: who comes later sees that it is going; destroy the key
   of the audit lines about it, if the request did not (an earlier release's);
2. delete its objects, thumbnails included, in every version;
3. delete its copy in the GED; a creation that may still take effect there is waited for;
4. delete its extended metadata;
5. sign the receipt;
6. one transaction: ERASED, DocumentErased, the receipt.

A step that can't be done now holds up its own document and no other: it is tried again after a pause.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

import structlog

from domain.documents import Document
from domain.erasure import Erasure, RetentionPeriods, SignedReceipt, receipt_input
from domain.errors import DatabaseUnavailable, DocumentBusy, DPJError, Transient, UnexpectedFailure
from domain.events import DocumentErased
from domain.lifecycle import Status
from domain.refusals import StateChanged
from domain.shared.crash_points import reach
from domain.shared.jws import compact
from domain.subjects import subject_of
from processors.documents.transitions import Origin, transition
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.erasure import ErasableObjects, ErasureQueue
from processors.ports.signing import Signer
from processors.ports.work import HasErasures, HasSubjectKeyRows, StateWork

ACTOR: Final = "system:erasure"
#: Pauses before the next try: another is at the document; something is away; nothing but a person can help.
BUSY_SECONDS: Final = 2.0
AWAY_SECONDS: Final = 10.0
REFUSED_SECONDS: Final = 300.0

_log = structlog.get_logger()


class RemovableCopies(Protocol):
    async def remove(self, document: Document) -> bool:
        """Delete the document's copies in the GED; say whether there was one. Raises GedUnavailable or ArchiveRefused."""
        ...


class DeletableMetadata(Protocol):
    async def delete(self, document_id: UUID, tenant: str) -> None:
        """Remove; absent facts are fine. Raises AuditStoreUnavailable, or DatabaseUnavailable where they are in the database."""
        ...


class ErasureExecutionWork(StateWork, HasErasures, HasSubjectKeyRows, Protocol):
    """What carrying out an erasure needs of a transaction."""


class ErasureExecutor:
    """Run it periodically, in one process or in several. An erasure that takes longer than ``lease_seconds``, or whose
    process died, is taken up by another, which does no harm."""

    def __init__(
        self,
        database: Transactions[ErasureExecutionWork],
        queue: ErasureQueue,
        objects: ErasableObjects,
        copies: RemovableCopies,
        extended: DeletableMetadata,
        signer: Signer,
        clock: Clock,
        periods: RetentionPeriods,
        *,
        lease_seconds: float = 30.0,
    ) -> None:
        self._database = database
        self._queue = queue
        self._objects = objects
        self._copies = copies
        self._extended = extended
        self._signer = signer
        self._clock = clock
        self._periods = periods
        self._lease_seconds = lease_seconds

    async def run_once(self, limit: int = 100) -> int:
        """Carry out up to ``limit`` erasures that are due; gives how many were completed. Raises DatabaseUnavailable."""
        completed = 0
        for _ in range(limit):
            document_id = await self._queue.claim(self._lease_seconds)
            if document_id is None:
                break
            completed += await self._try(document_id)
        return completed

    async def _try(self, document_id: UUID) -> bool:
        try:
            return await self._erase(document_id)
        except DatabaseUnavailable:
            raise
        except DPJError as error:
            await self._postpone(document_id, error.code, _pause_after(error))
        except Exception as error:  # noqa: BLE001 - a defect met at one document must not keep the others from being erased
            _log.error("erasure_failed", document_id=str(document_id), error=type(error).__name__)
            await self._postpone(document_id, UnexpectedFailure.code, REFUSED_SECONDS)
        return False

    async def _postpone(self, document_id: UUID, code: str, seconds: float) -> None:
        _log.log(
            _LEVELS[seconds >= REFUSED_SECONDS],
            "erasure_waiting",
            document_id=str(document_id),
            code=code,
            seconds=seconds,
        )
        await self._queue.postpone(document_id, code, seconds)

    async def _erase(self, document_id: UUID) -> bool:
        document, erasure, lines_erased_at = await self._load(document_id)
        if document.status is not Status.ERASING:
            return False  # another worker was faster
        reach("erasure.claimed")
        await self._objects.purge(document.object_key)  # 2
        reach("erasure.objects")
        await self._copies.remove(document)  # 3
        reach("erasure.copies")
        await self._extended.delete(document.id, document.tenant)  # 4
        reach("erasure.metadata")
        at = self._clock.now()
        key = await self._signer.current()
        text = receipt_input(document, erasure, self._periods, at, key.id, lines_erased_at)
        receipt = SignedReceipt(compact(text, await self._signer.sign(text, key.id)), key.id)  # 5
        reach("erasure.signed")
        origin = Origin(actor=ACTOR, at=at, correlation_id=erasure.correlation_id)
        basis = erasure.basis.value
        try:
            async with self._database.transaction() as work:  # 6
                await transition(
                    work,
                    document,
                    Status.ERASED,
                    origin,
                    events=[lambda common: DocumentErased(**common, legal_basis_code=basis)],
                    details={"reason": erasure.reason, "legal_basis": basis, "key_id": receipt.key_id},
                )
                await work.erasures.complete(document.id, receipt)
        except StateChanged:
            return False  # another worker was faster
        _log.info("document_erased", document_id=str(document.id), tenant=document.tenant)
        return True

    async def _load(self, document_id: UUID) -> tuple[Document, Erasure, datetime]:
        """With when the key of the document's audit lines was destroyed. Raises DocumentBusy while someone may still make something
        of the document."""
        async with self._database.transaction() as work:
            document = await work.documents.get(document_id)
            erasure = await work.erasures.get(document_id)
            if erasure is None:
                raise UnexpectedFailure("An erasure that nobody asked for.")
            if document.status is Status.ERASING and await work.erasures.has_active_consumer(document_id):  # 1
                raise DocumentBusy("A consumer is at work on the document.")
            lines_erased_at = await work.subjects.destroy(subject_of(document), self._clock.now())
        return document, erasure, lines_erased_at


_LEVELS: Final = {False: 30, True: 40}


def _pause_after(error: DPJError) -> float:
    if isinstance(error, DocumentBusy):
        return BUSY_SECONDS
    return AWAY_SECONDS if isinstance(error, Transient) else REFUSED_SECONDS
