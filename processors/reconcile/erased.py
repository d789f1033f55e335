"""What was erased lately, looked for once more where only a late worker or a late GED could have put something since."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Any, Final, Protocol
from uuid import UUID

from domain.documents import Document
from domain.objects import StoredObject
from domain.reconciliation import DiscrepancyKind, ReconcileFinding
from processors.events.archive_copies import CopyRemover, location
from processors.ports.ged import GedFolders
from processors.reconcile.run import ReconcileRun
from processors.resilience.closing_streams import closing_stream

PAGE: Final = 200


class InspectableMetadata(Protocol):
    """Technical facts by document. Raises AuditStoreUnavailable, or DatabaseUnavailable where they are in the database."""

    async def get(self, document_id: UUID) -> Any:
        """What was written, or None."""
        ...

    async def delete(self, document_id: UUID, tenant: str) -> None: ...


class ErasedObjects(Protocol):
    """Raises ObjectStoreUnavailable."""

    def list(self, prefix: str) -> AsyncIterator[StoredObject]: ...

    async def purge(self, key: str) -> None: ...


class ErasedDocumentsCheck:
    """A part of reconciling. ``hours``: how long ago the documents were erased that it looks at. ``objects``: looked at as well, where the
    walk over all objects is not made."""

    def __init__(
        self,
        ged: GedFolders,
        remover: CopyRemover,
        extended: InspectableMetadata,
        *,
        hours: float,
        objects: ErasedObjects | None = None,
    ) -> None:
        self._objects = objects
        self._ged = ged
        self._remover = remover
        self._extended = extended
        self._hours = hours

    async def __call__(self, run: ReconcileRun) -> None:
        after = (run.started - timedelta(hours=self._hours), UUID(int=0))
        while True:
            page = await run.inventory.erased(after, PAGE)
            await run.held.check()
            for _, document in page:
                await self._judge(run, document)
            if len(page) < PAGE:
                return
            after = (page[-1][0], page[-1][1].id)

    async def _judge(self, run: ReconcileRun, document: Document) -> None:
        folder, name = location(document)
        copy = await self._ged.find((*folder, name))
        left = await self._remover.find_recorded(document) if copy is None else copy.id
        if left is not None:
            finding = _finding(DiscrepancyKind.LEFT_COPY, document, left)
            await run.settle(finding, partial(self._remover.remove, document))
        if self._objects is not None:
            async with closing_stream(self._objects.list(document.object_key)) as listing:
                found = [stored.key async for stored in listing]
            if found:
                finding = _finding(DiscrepancyKind.ERASED_OBJECT, document, document.object_key)
                await run.settle(finding, partial(self._objects.purge, document.object_key))
        if await self._extended.get(document.id) is not None:
            finding = _finding(DiscrepancyKind.LEFT_METADATA, document, str(document.id))
            await run.settle(finding, partial(self._extended.delete, document.id, document.tenant))


def _finding(fault: DiscrepancyKind, document: Document, place: str) -> ReconcileFinding:
    return ReconcileFinding(fault=fault, document_id=document.id, tenant=document.tenant, place=place)
