"""Extended metadata that are gone: of a document that has thumbnails they were written first."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
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


async def without_metadata(
    documents: RenderedDocuments, extended: KnownMetadata, on_page: Callable[[], Awaitable[None]] | None = None
) -> AsyncGenerator[tuple[UUID, str], None]:
    """(id, tenant) of documents that have thumbnails and no extended metadata: one question of each store for a page of them.

    ``on_page`` is awaited before each page is looked at. Raises what both stores raise.
    """
    after = UUID(int=0)
    while page := await documents.page(after, PAGE):
        if on_page is not None:
            await on_page()
        known = await extended.known([document_id for document_id, _ in page])
        for document_id, tenant in page:
            if document_id not in known:
                yield document_id, tenant
        after = page[-1][0]


class MetadataCheck:
    """A part of reconciling."""

    def __init__(self, documents: RenderedDocuments, extended: KnownMetadata) -> None:
        self._documents = documents
        self._extended = extended

    async def __call__(self, run: ReconcileRun) -> None:
        async with aclosing(without_metadata(self._documents, self._extended, run.held.check)) as found:
            async for document_id, tenant in found:
                # Erased meanwhile, or its thumbnails are being made: the row says so when it is looked at once more.
                row = await run.inventory.get(document_id)
                if row is None or not row.thumbnails:
                    continue
                finding = ReconcileFinding(
                    fault=DiscrepancyKind.METADATA_MISSING,
                    document_id=document_id,
                    tenant=tenant,
                    place=str(document_id),
                )
                await run.settle(finding)
