"""Links in memory; see ``processors.ports.links.Links``."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from domain.links import DocumentLink


class MemoryLinks:
    def __init__(self, rows: dict[UUID, DocumentLink]) -> None:
        self._rows = rows

    async def add(self, link: DocumentLink) -> None:
        self._rows[link.id] = link

    async def get(self, link_id: UUID) -> DocumentLink | None:
        return self._rows.get(link_id)

    async def revoke(self, link_id: UUID, at: datetime) -> None:
        link = self._rows.get(link_id)
        if link is not None and link.revoked_at is None:
            self._rows[link_id] = replace(link, revoked_at=at)

    async def revoke_made_with(self, mark: str, at: datetime) -> int:
        found = [link for link in self._rows.values() if mark in link.marks and link.is_good(at)]
        for link in found:
            self._rows[link.id] = replace(link, revoked_at=at)
        return len(found)

    async def count_good(self, document_id: UUID, now: datetime) -> int:
        return sum(link.document_id == document_id and link.is_good(now) for link in self._rows.values())
