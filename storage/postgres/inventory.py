"""Rows in the order in which their objects are listed, for reconciling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from domain.documents import Document
from domain.lifecycle import Status
from domain.reconciliation import ExpectedObject, InventoryRow
from storage.postgres.connections import Connections
from storage.postgres.documents import document_of

_COLUMNS: Final = """
    SELECT d.id, d.tenant, d.statut, d.updated_at, d.chemin_stockage, d.taille_objet, d.etag_objet,
        d.statut = 'PENDING' AND d.bail_expire_a > clock_timestamp() AS bail_tenu,
        EXISTS (SELECT 1 FROM inbox i
            WHERE i.consumer = 'renditions' AND i.document_key = d.id::text AND i.state = 'CLAIMED') AS vignettes_en_cours,
        (SELECT jsonb_agg(jsonb_build_array(v.chemin_stockage, v.taille_objet, v.etag_objet))
            FROM vignettes v WHERE v.document_id = d.id) AS vignettes
    FROM documents d
"""


class PostgresInventory:
    """See ``processors.reconcile.run.Inventory``. The server's clock alone decides whether a lease has run out."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def page(self, digit: int, after: UUID | None, limit: int) -> Sequence[InventoryRow]:
        first, last = UUID(int=digit << 124), UUID(int=(digit + 1 << 124) - 1)
        query = f"{_COLUMNS} WHERE d.id BETWEEN $1 AND $2 AND ($3::uuid IS NULL OR d.id > $3) ORDER BY d.id LIMIT $4"
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(query, after or first, last, after, limit)
        return [_kept(row) for row in rows]

    async def get(self, document_id: UUID) -> InventoryRow | None:
        async with self._postgres.connection() as connection:
            row = await connection.fetchrow(f"{_COLUMNS} WHERE d.id = $1", document_id)
        return None if row is None else _kept(row)

    async def expired(self, limit: int) -> Sequence[InventoryRow]:
        query = f"{_COLUMNS} WHERE d.statut = 'PENDING' AND d.bail_expire_a <= clock_timestamp() LIMIT $1"
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(query, limit)
        return [_kept(row) for row in rows]

    async def archived(self, after: tuple[datetime, UUID], limit: int) -> Sequence[Document]:
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT * FROM documents WHERE statut = 'ARCHIVED' AND (date_archivage, id) > ($1, $2)
                ORDER BY date_archivage, id LIMIT $3
                """,
                *after,
                limit,
            )
        return [document_of(row) for row in rows]

    async def erased(self, after: tuple[datetime, UUID], limit: int) -> Sequence[tuple[datetime, Document]]:
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT d.*, e.acheve_a FROM effacements e JOIN documents d ON d.id = e.document_id
                WHERE e.acheve_a IS NOT NULL AND (e.acheve_a, e.document_id) > ($1, $2)
                ORDER BY e.acheve_a, e.document_id LIMIT $3
                """,
                *after,
                limit,
            )
        return [(row["acheve_a"], document_of(row)) for row in rows]


def _kept(row: Mapping[str, Any]) -> InventoryRow:
    key, size, etag = row["chemin_stockage"], row["taille_objet"], row["etag_objet"]
    return InventoryRow(
        document_id=row["id"],
        tenant=row["tenant"],
        status=Status(row["statut"]),
        object_key=key,
        content=None if size is None or etag is None else ExpectedObject(key, size, etag),
        changed_at=row["updated_at"],
        thumbnails=tuple(ExpectedObject(*thumbnail) for thumbnail in row["vignettes"] or ()),
        lease_held=row["bail_tenu"],
        is_rendering=row["vignettes_en_cours"],
    )
