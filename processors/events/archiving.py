"""Archiving in the GED.

DocumentUploaded -> records whether documents of this type are archived, and for how long they are kept in either case
(rule of the document type): a rule that is changed later makes no document's retention shorter.
DocumentValidated -> a copy in the GED, read back and compared -> ARCHIVED + DocumentArchived, or ARCHIVE_FAILED. A
document whose type is not archived stays VALIDATED: that is its end, and its timeline says ARCHIVE_NOT_PLANNED.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Final, Protocol
from uuid import UUID

import structlog

from domain.documents import Document, TimelineEntry
from domain.errors import DocumentBusy, Permanent
from domain.events import DocumentArchived, DocumentUploaded, DocumentValidated, Event
from domain.lifecycle import ERASURE_STATES, Status
from domain.retention import years_after
from domain.shared.crash_points import reach
from processors.documents.transitions import NOTHING_TO_COMMIT, Origin, transition, update_fields
from processors.events.archive_copies import ArchiveCopies, ArchivedCopy
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.work import Commit, HasDocumentTypes, HasGedAttempts, StateWork

ACTOR: Final = "system:archiving"
PLANNED: Final = "ARCHIVE_PLANNED"
NOT_PLANNED: Final = "ARCHIVE_NOT_PLANNED"


_log = structlog.get_logger()


class ArchivingWork(StateWork, HasDocumentTypes, HasGedAttempts, Protocol):
    """What archiving needs of a transaction."""


class ArchivingProcessor:
    """Consumer ``archiving``."""

    consumer: Final = "archiving"
    handles: Final[tuple[type[Event], ...]] = (DocumentUploaded, DocumentValidated)

    def __init__(self, database: Transactions[ArchivingWork], copies: ArchiveCopies, clock: Clock) -> None:
        self._database = database
        self._copies = copies
        self._clock = clock

    async def process(self, event: Event) -> Commit:
        """Raises GedUnavailable, ArchiveRefused, ArchiveMismatch, DatabaseUnavailable, and what reading content raises."""
        if isinstance(event, DocumentValidated):
            return await self._archive(event)
        if isinstance(event, DocumentUploaded):
            return partial(self._plan, event)
        raise TypeError(f"{self.consumer} does not handle {type(event).__name__}")

    async def give_up(self, event: Event, code: str) -> Commit:
        """A document that can't be archived becomes ARCHIVE_FAILED; without its plan it can still be archived later."""
        if isinstance(event, DocumentValidated):
            return partial(self._fail, event, code)
        return NOTHING_TO_COMMIT

    async def _archive(self, event: DocumentValidated) -> Commit:
        async with self._database.transaction() as work:
            document = await work.documents.get(event.document_id)
            archived, years = await _rule(work, document)
        if document.status in ERASURE_STATES:
            await self._remove(document)
            return NOTHING_TO_COMMIT
        if document.status is not Status.VALIDATED:
            return NOTHING_TO_COMMIT
        if not archived:
            return partial(self._plan, event)
        try:
            copy = await self._copies.put(document, years)
        except Permanent:
            # An erasure that began meanwhile takes the content away under us; then nothing is wrong.
            now = await self._load(event.document_id)
            if now.status not in ERASURE_STATES:
                raise
            await self._remove(now)
            return NOTHING_TO_COMMIT
        reach("archiving.copied")
        now = await self._load(event.document_id)
        if now.status in ERASURE_STATES:
            await self._remove(now)
            return NOTHING_TO_COMMIT
        return partial(self._finish, event, copy, years)

    async def _load(self, document_id: UUID) -> Document:
        async with self._database.transaction() as work:
            return await work.documents.get(document_id)

    async def _remove(self, document: Document) -> None:
        if await self._copies.remove(document):
            _log.info("archived_copy_removed", document_id=str(document.id), tenant=document.tenant)

    async def _plan(self, event: DocumentUploaded | DocumentValidated, work: ArchivingWork) -> None:
        document = await work.documents.lock(event.document_id)
        if document.archive_planned is not None or document.status in ERASURE_STATES:
            return
        archived, years = await _rule(work, document)
        at = self._clock.now()
        await update_fields(work, document, at, archive_planned=archived, retention_years=years)
        await work.timeline.add(
            TimelineEntry(
                document_id=document.id,
                dossier_id=document.dossier_id,
                type=PLANNED if archived else NOT_PLANNED,
                actor=ACTOR,
                at=at,
                details={"retention_years": years},
            )
        )

    async def _finish(self, event: DocumentValidated, copy: ArchivedCopy, years: int, work: ArchivingWork) -> None:
        document = await work.documents.lock(event.document_id)
        if document.status in ERASURE_STATES:
            # Erasure began after our last look: nothing is written, and the next try removes the copy.
            raise DocumentBusy("The document is being erased.")
        if document.status is not Status.VALIDATED:
            return
        if copy.attempt is not None:
            # Held to the end: had another process taken our place, its copy would be the one to record.
            await work.ged_attempts.end(document.id, copy.attempt)
        # The type's rule may have been made shorter since we read it; the document then has its years in its own row.
        years = max(years, document.retention_years or 0)
        origin = Origin(actor=ACTOR, at=self._clock.now(), correlation_id=event.correlation_id, cause=event.event_id)
        await transition(
            work,
            document,
            Status.ARCHIVED,
            origin,
            events=[
                lambda common: DocumentArchived(
                    **common,
                    ged_id=copy.ged_id,
                    ged_path=copy.ged_path,
                    sha256=document.sha256 or "",
                    retention_years=years,
                )
            ],
            # Content and size with it: the audit log, and so a receipt's proof, says what was archived, not only that.
            details={
                "ged_id": copy.ged_id,
                "ged_path": copy.ged_path,
                "retention_years": years,
                "sha256": document.sha256,
                "size": document.size,
            },
            ged_id=copy.ged_id,
            ged_path=copy.ged_path,
            archived_at=origin.at,
            expires_at=_kept_until(document, years_after(origin.at, years)),
            archive_planned=True,
            retention_years=years,
            failure_code=None,
        )

    async def _fail(self, event: DocumentValidated, code: str, work: StateWork) -> None:
        document = await work.documents.lock(event.document_id)
        if document.status is not Status.VALIDATED:
            return
        origin = Origin(actor=ACTOR, at=self._clock.now(), correlation_id=event.correlation_id, cause=event.event_id)
        await transition(work, document, Status.ARCHIVE_FAILED, origin, details={"code": code}, failure_code=code)


async def _rule(work: HasDocumentTypes, document: Document) -> tuple[bool, int]:
    """Whether the document goes to the GED, and how many years it is kept. What is recorded of it holds, whatever the type's rule is by now."""
    archived, years = document.archive_planned, document.retention_years
    if archived is None or years is None:
        rule = await work.types.get(document.type_code)
        archived = rule.archived if archived is None else archived
        years = years or rule.retention_years
    return archived, years


def _kept_until(document: Document, end: datetime) -> datetime:
    """``end``, unless the retention was extended beyond it before: it is never made shorter."""
    return end if document.expires_at is None else max(end, document.expires_at)
