"""Rows for reconciling, over the in-memory database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from domain.documents import Document
from domain.lifecycle import Status
from domain.reconciliation import ExpectedObject, InventoryRow
from tests.support.memory import MemoryDatabase


class MemoryInventory:
    """``on_get`` is called before every second look at a row, with its id: what tests have happen meanwhile."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self.on_get: Callable[[UUID], None] = lambda _id: None
        self.pages = 0

    async def page(self, digit: int, after: UUID | None, limit: int) -> Sequence[InventoryRow]:
        self.pages += 1
        ids = sorted(self._database.rows.documents)
        return [self._kept(one) for one in ids if one.int >> 124 == digit and (after is None or one > after)][:limit]

    async def get(self, document_id: UUID) -> InventoryRow | None:
        self.on_get(document_id)
        return self._kept(document_id) if document_id in self._database.rows.documents else None

    async def expired(self, limit: int) -> Sequence[InventoryRow]:
        kept = [self._kept(one) for one in self._database.rows.documents]
        return [row for row in kept if row.status is Status.PENDING and not row.lease_held][:limit]

    async def archived(self, after: tuple[datetime, UUID], limit: int) -> Sequence[Document]:
        found = [
            row
            for row in self._database.rows.documents.values()
            if row.status is Status.ARCHIVED and row.archived_at is not None and (row.archived_at, row.id) > after
        ]
        return sorted(found, key=lambda row: (row.archived_at or after[0], row.id))[:limit]

    async def erased(self, after: tuple[datetime, UUID], limit: int) -> Sequence[tuple[datetime, Document]]:
        found = [
            (row.updated_at, row)
            for row in self._database.rows.documents.values()
            if row.status is Status.ERASED and (row.updated_at, row.id) > after
        ]
        return sorted(found, key=lambda one: (one[0], one[1].id))[:limit]

    def _kept(self, document_id: UUID) -> InventoryRow:
        rows = self._database.rows
        row = rows.documents[document_id]
        content = None
        if row.object_size is not None and row.object_etag is not None:
            content = ExpectedObject(row.object_key, row.object_size, row.object_etag)
        return InventoryRow(
            document_id=row.id,
            tenant=row.tenant,
            status=row.status,
            object_key=row.object_key,
            content=content,
            changed_at=row.updated_at,
            thumbnails=tuple(
                ExpectedObject(one.object_key, one.object_size, one.object_etag)
                for one in rows.renditions.values()
                if one.document_id == row.id
            ),
            lease_held=row.status is Status.PENDING and rows.leases[row.id] > self._database.clock.at,
            is_rendering=any(
                consumer == "renditions" and claim.document_key == str(row.id) and claim.state == "CLAIMED"
                for (consumer, _), claim in rows.inbox.items()
            ),
        )
