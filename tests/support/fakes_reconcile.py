"""Rows, objects and copies that agree, until a test has them disagree."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from domain.documents import Document, Rendition
from domain.lifecycle import Status
from domain.objects import UnfinishedPut
from domain.reconciliation import ReconcileFinding
from processors.events.archive_copies import location
from processors.reconcile.ged import GedCopiesCheck
from processors.reconcile.object_store import check_stored_objects
from processors.reconcile.run import ReconcileProgress, ReconcileReport, Reconciliation, RepairMode
from processors.reconcile.uploads import check_expired_uploads, check_unfinished_puts
from tests.support.builders import NOW, FixedClock, a_document, a_rendition
from tests.support.fakes_archiving import CONTENT, SHA256, MemoryGed
from tests.support.fakes_content import MemoryObjectStore
from tests.support.memory import MemoryDatabase
from tests.support.memory_inventory import MemoryInventory

GRACE = 3600.0
OLD = NOW - timedelta(hours=2)
YOUNG = NOW - timedelta(minutes=59)


class ReconciledStore(MemoryObjectStore):
    """With puts under way: ``begun`` by id. ``by_key_only``: told by their exact key alone."""

    def __init__(self) -> None:
        super().__init__(now=lambda: OLD)
        self.begun: dict[str, UnfinishedPut] = {}
        self.by_key_only = False

    def begin(self, key: str | None, at: datetime = OLD) -> str:
        put = UnfinishedPut(uuid4().hex, key, at)
        self.begun[put.id] = put
        return put.id

    async def unfinished(self, key: str | None = None) -> AsyncIterator[UnfinishedPut]:
        self._call("unfinished", key or "")
        for put in list(self.begun.values()):
            if key == put.key or (key is None and not self.by_key_only):
                yield put

    async def abort(self, put: UnfinishedPut) -> None:
        self._call("abort", put.key or "")
        self.begun.pop(put.id, None)


def key_of(document_id: UUID) -> str:
    return f"documents/{document_id.hex[:2]}/{document_id}/{uuid4().hex}"


class ReconcileBench:
    def __init__(self, *, ged_hours: float = 24) -> None:
        self.clock = FixedClock()
        self.database = MemoryDatabase(self.clock)
        self.inventory = MemoryInventory(self.database)
        self.objects = ReconciledStore()
        self.ged = MemoryGed()
        self.progress: list[ReconcileProgress] = []
        parts = {
            "uploads": check_expired_uploads,
            "unfinished puts": check_unfinished_puts,
            "objects": check_stored_objects,
            "GED": GedCopiesCheck(self.ged, hours=ged_hours),
        }
        self.reconcile = Reconciliation(
            self.database, self.inventory, self.objects, self.clock, parts, grace_seconds=GRACE
        )

    async def run(self, repairs: RepairMode = RepairMode.NONE) -> ReconcileReport:
        return await self.reconcile.run(repairs, self.progress.append)

    def put(self, key: str, content: bytes = b"sealed", at: datetime = OLD) -> str:
        """An object; gives its etag."""
        self.objects.objects[key] = content
        self.objects.modified[key] = at
        return hashlib.sha256(content).hexdigest()

    def add(self, status: Status = Status.STORED, **changes: Any) -> Document:
        """A row, with its object if its state has one."""
        document_id = changes.pop("id", uuid4())
        document = a_document(None, status, id=document_id, object_key=key_of(document_id))
        if status not in {Status.PENDING, Status.ABANDONED, Status.ERASING, Status.ERASED}:
            etag = self.put(document.object_key)
            document = replace(document, object_etag=etag, object_size=len(b"sealed"))
        document = replace(document, **changes)
        self.database.put(document)
        if status is Status.PENDING:
            self.lease(document, 60)
        return document

    def lease(self, document: Document, seconds: float) -> None:
        self.database.rows.leases[document.id] = self.clock.at + timedelta(seconds=seconds)

    def archive(self, **changes: Any) -> Document:
        """A document that was archived an hour ago, and its copy."""
        document = self.add(Status.ARCHIVED, size=len(CONTENT), sha256=SHA256)
        document = replace(document, **{"archived_at": NOW - timedelta(hours=1), **changes})
        folder, name = location(document)
        document = replace(document, ged_id=self.ged.put((*folder, name), CONTENT))
        self.database.put(document)
        return document

    def thumbnail(self, document: Document, box: int = 256) -> Rendition:
        key = f"{document.object_key}.thumbnail-{box}.{uuid4().hex[:8]}"
        image = b"thumbnail"
        rendition = a_rendition(document, box, object_key=key, object_etag=self.put(key, image), object_size=len(image))
        self.database.rows.renditions[document.id, rendition.role] = rendition
        return rendition

    def details(self) -> list[tuple[str, str, str]]:
        """Tenant, entity and action of every audit line."""
        return [(line.tenant, line.entity_id, line.action) for line in self.database.audited()]


def only(report: ReconcileReport) -> ReconcileFinding:
    (finding,) = report.findings
    return finding
