"""Links to documents; see ``processors.ports.links.Links``."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from domain.links import DocumentLink


class PostgresLinks:
    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def add(self, link: DocumentLink) -> None:
        await self._connection.execute(
            """
            INSERT INTO document_links (id, document_id, purpose, created_by, created_at, expires_at, marks)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            """,
            link.id,
            link.document_id,
            link.purpose,
            link.created_by,
            link.created_at,
            link.expires_at,
            link.marks,
        )

    async def get(self, link_id: UUID) -> DocumentLink | None:
        row = await self._connection.fetchrow("SELECT * FROM document_links WHERE id = $1", link_id)
        return None if row is None else DocumentLink(**{**row, "marks": tuple(row["marks"])})

    async def revoke(self, link_id: UUID, at: datetime) -> None:
        await self._connection.execute(
            "UPDATE document_links SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL", link_id, at
        )

    async def revoke_made_with(self, mark: str, at: datetime) -> int:
        # Locked in one order: a token and its session may be revoked at once by two who name different marks.
        rows = await self._connection.fetch(
            """
            UPDATE document_links SET revoked_at = $2 WHERE id IN (
                SELECT id FROM document_links WHERE marks @> ARRAY[$1] AND revoked_at IS NULL AND expires_at > $2
                ORDER BY id FOR UPDATE)
            RETURNING id
            """,
            mark,
            at,
        )
        return len(rows)

    async def count_good(self, document_id: UUID, now: datetime) -> int:
        count = await self._connection.fetchval(
            "SELECT count(*) FROM document_links WHERE document_id = $1 AND revoked_at IS NULL AND expires_at > $2",
            document_id,
            now,
        )
        return int(count)
