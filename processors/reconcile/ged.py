"""Comparing the GED with the rows: of what was archived lately there is one copy, the recorded one.

``processors.events.archive_copies`` makes one copy as long as the GED completes or forgets a creation in the time that it is given.
A later one is found here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

from domain.documents import Document
from domain.errors import ArchiveMismatch
from domain.lifecycle import Status
from domain.reconciliation import DiscrepancyKind, ReconcileFinding
from processors.events.archive_copies import Path, copies_in_place, copy_lock, is_intact, location
from processors.ports.ged import GedRepository
from processors.reconcile.run import ReconcileRun
from processors.resilience.closing_streams import closing_stream

PAGE: Final = 200


class GedCopiesCheck:
    """A part of reconciling. ``hours``: how long ago the documents were archived that it looks at."""

    def __init__(self, ged: GedRepository, *, hours: float) -> None:
        self._ged = ged
        self._hours = hours

    async def __call__(self, run: ReconcileRun) -> None:
        after = (run.started - timedelta(hours=self._hours), UUID(int=0))
        while True:
            page = await run.inventory.archived(after, PAGE)
            await run.held.check()
            for folder, documents in _by_folder(page).items():
                await self._compare(run, folder, documents)
            run.report.copies += len(page)
            run.progress("GED", run.report.copies, run.report.copies)
            if len(page) < PAGE:
                return
            after = (page[-1].archived_at or run.started, page[-1].id)

    async def _compare(self, run: ReconcileRun, folder: Path, documents: Sequence[Document]) -> None:
        wanted = {location(document)[1] for document in documents}
        found: dict[str, list[str]] = defaultdict(list)
        async with closing_stream(self._ged.children(folder)) as children:
            async for name, child in children:
                if name in wanted:
                    found[name].append(child.id)
        for document in documents:
            await self._judge(run, document, found[location(document)[1]])

    async def _judge(self, run: ReconcileRun, document: Document, ids: list[str]) -> None:
        recorded = document.ged_id or ""
        if recorded not in ids:
            row = await run.inventory.get(document.id)
            if row is not None and row.status is Status.ARCHIVED:
                await run.settle(_finding(DiscrepancyKind.GED_MISSING, document, recorded))
            return
        doubles = sorted(set(ids) - {recorded})
        if doubles:
            finding = _finding(DiscrepancyKind.GED_DOUBLE, document, " ".join(doubles))
            await run.settle(finding, partial(self._remove, run, document))

    async def _remove(self, run: ReconcileRun, document: Document) -> None:
        """Delete every copy but the recorded one. Raises ArchiveMismatch if that is not whole: then none is deleted."""
        async with run.database.lock(copy_lock(document)) as held:
            found = await copies_in_place(self._ged, document)
            kept = next((copy for copy in found if copy.id == document.ged_id), None)
            if kept is None or not await is_intact(self._ged, kept, document):
                raise ArchiveMismatch("The recorded copy is gone, or not whole.")
            await held.check()
            for copy in found:
                if copy.id != kept.id:
                    await self._ged.delete(copy.id)


def _by_folder(documents: Sequence[Document]) -> dict[Path, list[Document]]:
    folders: dict[Path, list[Document]] = defaultdict(list)
    for document in documents:
        folders[location(document)[0]].append(document)
    return folders


def _finding(fault: DiscrepancyKind, document: Document, ged_id: str) -> ReconcileFinding:
    return ReconcileFinding(
        fault=fault,
        document_id=document.id,
        tenant=document.tenant,
        place=ged_id,
        details={"recorded": document.ged_id or ""},
    )
