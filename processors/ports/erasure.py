"""What erasing and keeping documents need: rows inside a transaction (part of ``processors.ports.work.Work``), and outside ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from domain.erasure import Erasure, ErasureBacklog, SignedReceipt
from domain.retention import DueDocumentCount, LegalHold


class Erasures(Protocol):
    """Erasures asked for: one row per document."""

    async def add(self, erasure: Erasure) -> None:
        """From now on the erasure is due."""
        ...

    async def get(self, document_id: UUID) -> Erasure | None: ...

    async def delete_content_rows(self, document_id: UUID) -> None:
        """Remove what stands beside the document's row and tells of its content: thumbnails, links, answers kept for its upload."""
        ...

    async def has_active_consumer(self, document_id: UUID) -> bool:
        """Whether a consumer that makes something of documents (archiving, renditions) is at this one now."""
        ...

    async def complete(self, document_id: UUID, receipt: SignedReceipt) -> None:
        """The erasure is done, and this is its receipt."""
        ...


class LegalHolds(Protocol):
    """Holds by document and reference."""

    async def of(self, document_id: UUID) -> Sequence[LegalHold]:
        """All there ever were, oldest first."""
        ...

    async def put(self, document_id: UUID, hold: LegalHold) -> None:
        """Insert, or replace that of the same reference."""
        ...


class ErasureQueue(Protocol):
    """Erasures that are due. Raises DatabaseUnavailable."""

    async def claim(self, lease_seconds: float) -> UUID | None:
        """The document of the one that waits longest; nobody else gets it before ``lease_seconds`` are over."""
        ...

    async def postpone(self, document_id: UUID, code: str, seconds: float) -> None:
        """Not before ``seconds`` from now; ``code`` says why."""
        ...

    async def waiting(self) -> ErasureBacklog: ...


class ErasableObjects(Protocol):
    """Raises ObjectStoreUnavailable."""

    async def purge(self, key: str) -> None:
        """Delete the object of that key and all whose keys are ``key``, a dot and more, in every version; none is left then."""
        ...


class PeriodicJobs(Protocol):
    """When work that is done now and then was done last, whichever process did it. Raises DatabaseUnavailable."""

    async def age(self, name: str) -> float | None:
        """For how many seconds it has been done, by the server's clock; None if it never was."""
        ...

    async def mark_done(self, name: str) -> None: ...


class DueDocuments(Protocol):
    """Documents whose retention has ended by the server's clock. Raises DatabaseUnavailable."""

    async def survey(self) -> Sequence[DueDocumentCount]:
        """By tenant and type."""
        ...

    async def next(self, after: tuple[datetime, UUID] | None, limit: int) -> Sequence[tuple[datetime, UUID]]:
        """End of retention and id of those that no legal hold keeps, in that order, from just after the given one."""
        ...
