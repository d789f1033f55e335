"""Extended metadata that are gone: of a document that has thumbnails they were written first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol
from uuid import UUID

from domain.reconciliation import DiscrepancyKind, ReconcileFinding
from processors.reconcile.run import ReconcileRun

PAGE: Final = 1_000


class RenderedDocuments(Protocol):
    async def page(self, after: UUID, limit: int) -> Sequence[tuple[UUID, str]]:
        """(id, tenant) of documents with thumbnails that are not erased, by id, from just after ``after``. Raises DatabaseUnavailable."""
        ...


class KnownMetadata(Protocol):
    async def known(self, ids: Sequence[UUID]) -> Collection[UUID]:
        """Those of ``ids`` that have any. Raises AuditStoreUnavailable, or DatabaseUnavailable where they are in the database."""
        ...


class MetadataCheck:
    """A part of reconciling: one question of each store for a page of documents."""

    def __init__(self, documents: RenderedDocuments, extended: KnownMetadata) -> None:
        self._documents = documents
        self._extended = extended

    async def __call__(self, run: ReconcileRun) -> None:
        after = UUID(int=0)
        while page := await self._documents.page(after, PAGE):
            await run.held.check()
            known = await self._extended.known([document_id for document_id, _ in page])
            for document_id, tenant in page:
                # Erased meanwhile, or its thumbnails are being made: the row says so when it is looked at once more.
                if document_id not in known and (row := await run.inventory.get(document_id)) and row.thumbnails:
                    finding = ReconcileFinding(
                        fault=DiscrepancyKind.METADATA_MISSING,
                        document_id=document_id,
                        tenant=tenant,
                        place=str(document_id),
                    )
                    await run.settle(finding)
            after = page[-1][0]
