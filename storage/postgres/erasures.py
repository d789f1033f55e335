"""Erasures: asked for, under way, done. A row is also the work that is left to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import asyncpg

from domain.erasure import Erasure, ErasureBacklog, LegalBasis, SignedReceipt
from domain.refusals import StateChanged
from storage.postgres.connections import Connections

#: Consumers that make something of a document outside PostgreSQL that an erasure has to find.
_MAKERS: Final = ("archiving", "renditions")


class PostgresErasures:
    """See ``processors.ports.erasure.Erasures``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def add(self, erasure: Erasure) -> None:
        await self._connection.execute(
            """
            INSERT INTO effacements (document_id, tenant, demandeur, motif_code, base_legale, conservation_jusqua,
                                     demande_a, correlation_id, cle_schema, cle_nom, cle_version, vignettes)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
            """,
            erasure.document_id,
            erasure.tenant,
            erasure.actor,
            erasure.reason,
            erasure.basis.value,
            erasure.retention_until,
            erasure.requested_at,
            erasure.correlation_id,
            *erasure.key,
            list(erasure.thumbnails),
        )

    async def get(self, document_id: UUID) -> Erasure | None:
        row = await self._connection.fetchrow("SELECT * FROM effacements WHERE document_id = $1", document_id)
        return None if row is None else _erasure_of(row)

    async def delete_content_rows(self, document_id: UUID) -> None:
        await self._connection.execute("DELETE FROM vignettes WHERE document_id = $1", document_id)
        await self._connection.execute("DELETE FROM document_links WHERE document_id = $1", document_id)
        # The key stays taken: a late repetition of the upload must not bring the document back.
        await self._connection.execute(
            """
            UPDATE idempotency_keys SET response = NULL, metadata_fingerprint = '', content_sha256 = NULL
            WHERE document_id = $1
            """,
            document_id,
        )

    async def has_active_consumer(self, document_id: UUID) -> bool:
        return bool(
            await self._connection.fetchval(
                """
                SELECT EXISTS (SELECT FROM inbox WHERE consumer = ANY($1) AND document_key = $2 AND state = 'CLAIMED'
                    AND lease_until > clock_timestamp())
                """,
                list(_MAKERS),
                str(document_id),
            )
        )

    async def complete(self, document_id: UUID, receipt: SignedReceipt) -> None:
        completed = await self._connection.fetchval(
            """
            UPDATE effacements SET recu = $2, cle_signature = $3, acheve_a = now(), dernier_code = NULL
            WHERE document_id = $1 AND acheve_a IS NULL RETURNING 1
            """,
            document_id,
            receipt.text,
            receipt.key_id,
        )
        if completed is None:
            raise StateChanged


class PostgresErasureQueue:
    """See ``processors.ports.erasure.ErasureQueue``. The server's clock alone decides what is due."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def claim(self, lease_seconds: float) -> UUID | None:
        async with self._postgres.connection() as connection:
            claimed: UUID | None = await connection.fetchval(
                """
                UPDATE effacements
                SET prochain_essai = clock_timestamp() + make_interval(secs => $1), essais = essais + 1
                WHERE document_id = (
                    SELECT document_id FROM effacements
                    WHERE acheve_a IS NULL AND prochain_essai <= clock_timestamp()
                    ORDER BY prochain_essai LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
                RETURNING document_id
                """,
                lease_seconds,
            )
        return claimed

    async def postpone(self, document_id: UUID, code: str, seconds: float) -> None:
        async with self._postgres.connection() as connection:
            await connection.execute(
                """
                UPDATE effacements
                SET prochain_essai = clock_timestamp() + make_interval(secs => $2), dernier_code = $3
                WHERE document_id = $1 AND acheve_a IS NULL
                """,
                document_id,
                seconds,
                code,
            )

    async def waiting(self) -> ErasureBacklog:
        async with self._postgres.connection() as connection:
            row: Any = await connection.fetchrow(
                """
                SELECT count(*) AS number, coalesce(extract(epoch FROM now() - min(demande_a)), 0)::float8 AS oldest
                FROM effacements WHERE acheve_a IS NULL
                """
            )
        return ErasureBacklog(row["number"], max(0.0, row["oldest"]))


def _erasure_of(row: Mapping[str, Any]) -> Erasure:
    receipt = None
    if row["recu"] is not None:
        receipt = SignedReceipt(row["recu"], row["cle_signature"])
    return Erasure(
        document_id=row["document_id"],
        tenant=row["tenant"],
        actor=row["demandeur"],
        reason=row["motif_code"],
        basis=LegalBasis(row["base_legale"]),
        retention_until=row["conservation_jusqua"],
        requested_at=row["demande_a"],
        correlation_id=row["correlation_id"],
        key=(row["cle_schema"], row["cle_nom"], row["cle_version"]),
        thumbnails=tuple(row["vignettes"]),
        receipt=receipt,
    )
