"""Legal holds (gels_juridiques)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg

from domain.retention import LegalHold


class PostgresLegalHolds:
    """See ``processors.ports.erasure.LegalHolds``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def of(self, document_id: UUID) -> Sequence[LegalHold]:
        rows = await self._connection.fetch(
            "SELECT * FROM gels_juridiques WHERE document_id = $1 ORDER BY pose_a, reference", document_id
        )
        return [
            LegalHold(
                reference=row["reference"],
                reason=row["motif_code"],
                set_by=row["pose_par"],
                set_at=row["pose_a"],
                lifted_by=row["leve_par"],
                lifted_at=row["leve_a"],
                lifted_reason=row["leve_motif"],
            )
            for row in rows
        ]

    async def put(self, document_id: UUID, hold: LegalHold) -> None:
        await self._connection.execute(
            """
            INSERT INTO gels_juridiques (document_id, reference, motif_code, pose_par, pose_a, leve_par, leve_a, leve_motif)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (document_id, reference) DO UPDATE SET
                motif_code = excluded.motif_code, pose_par = excluded.pose_par, pose_a = excluded.pose_a,
                leve_par = excluded.leve_par, leve_a = excluded.leve_a, leve_motif = excluded.leve_motif
            """,
            document_id,
            hold.reference,
            hold.reason,
            hold.set_by,
            hold.set_at,
            hold.lifted_by,
            hold.lifted_at,
            hold.lifted_reason,
        )
