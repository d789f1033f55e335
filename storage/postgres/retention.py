"""Documents whose retention has ended; see ``domain.retention`` for when it does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from domain.retention import DueDocumentCount
from storage.postgres.connections import Connections

#: States in which a document stays without ever having been archived. What is under way comes to one of them, or is archived.
_NEVER_ARCHIVED: Final = "('VERIFIED', 'QUARANTINED', 'VALIDATED', 'REJECTED', 'ARCHIVE_FAILED')"
_HELD: Final = "EXISTS (SELECT FROM gels_juridiques g WHERE g.document_id = d.id AND g.leve_a IS NULL)"
# In two halves, so that each has its index: the end that was recorded, or the states of those that have none. No type is
# kept for less than a year.
_RECORDED: Final = f"""
    SELECT d.id, d.tenant, d.type_document, d.date_expiration AS fin, {_HELD} AS gele
    FROM documents d
    WHERE d.date_expiration IS NOT NULL AND d.date_expiration <= now()
        AND d.statut NOT IN ('PENDING', 'ABANDONED', 'ERASING', 'ERASED')
"""  # noqa: S608 - fixed texts only
_RECKONED: Final = f"""
    SELECT d.id, d.tenant, d.type_document, f.fin, {_HELD} AS gele
    FROM documents d JOIN types_documents t ON t.code_type = d.type_document,
        LATERAL (SELECT coalesce(d.date_depot, d.created_at)
            + make_interval(years => coalesce(d.duree_conservation_annees, t.duree_conservation_annees)) AS fin) f
    WHERE d.statut IN {_NEVER_ARCHIVED} AND d.date_expiration IS NULL
        AND d.created_at <= now() - interval '1 year' AND f.fin <= now()
"""  # noqa: S608


class PostgresDueDocuments:
    """See ``processors.ports.erasure.DueDocuments``."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def survey(self) -> Sequence[DueDocumentCount]:
        async with self._postgres.connection() as connection, connection.transaction(readonly=True):
            rows = await connection.fetch(
                f"""
                SELECT tenant, type_document, count(*) AS nombre, count(*) FILTER (WHERE gele) AS geles, min(fin) AS fin
                FROM ({_RECORDED} UNION ALL {_RECKONED}) due GROUP BY tenant, type_document ORDER BY tenant, type_document
                """  # noqa: S608
            )
        return [
            DueDocumentCount(
                tenant=row["tenant"],
                type_code=row["type_document"],
                count=row["nombre"],
                held=row["geles"],
                oldest=row["fin"],
            )
            for row in rows
        ]

    async def next(self, after: tuple[datetime, UUID] | None, limit: int) -> Sequence[tuple[datetime, UUID]]:
        condition, values = "", list[Any]()
        if after is not None:
            condition, values = "AND (fin, id) > ($1, $2)", list(after)
        # Each half stops at its own limit: a page costs a page, however much is due.
        halves = [
            f"(SELECT fin, id FROM ({half}) due WHERE NOT gele {condition} ORDER BY fin, id LIMIT {int(limit)})"  # noqa: S608
            for half in (_RECORDED, _RECKONED)
        ]
        async with self._postgres.connection() as connection, connection.transaction(readonly=True):
            rows = await connection.fetch(f"{' UNION ALL '.join(halves)} ORDER BY fin, id LIMIT {int(limit)}", *values)
        return [(row["fin"], row["id"]) for row in rows]
