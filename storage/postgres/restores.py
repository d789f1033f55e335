"""Restores on record (restaurations), and rows as a restored database has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from domain.lifecycle import Status
from domain.restores import OpenRestore, RestoredRow, RestoredStore, RestoreState
from storage.postgres.connections import Connections


class PostgresRestores:
    """See ``processors.ports.restores.Restores``."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def state(self) -> RestoreState:
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT pg_postmaster_start_time() AS server,
                       (SELECT oid FROM pg_database WHERE datname = current_database()) AS base,
                       'audit_heads'::regclass::oid AS chains, pg_relation_filenode('audit_heads') AS file, r.*
                FROM (SELECT 1) AS one LEFT JOIN restaurations r ON r.fermee_a IS NULL ORDER BY r.numero
                """
            )
        found = tuple(
            OpenRestore(
                store=RestoredStore(row["magasin"]),
                opened_at=row["ouverte_a"],
                opened_by=row["ouverte_par"],
                reason=row["motif_code"],
                erasures_done_at=row["effacements_refaits_a"],
            )
            for row in rows
            if row["numero"] is not None
        )
        first = rows[0]
        incarnation = "/".join(str(first[name]) for name in ("server", "base", "chains", "file"))
        return RestoreState(first["server"], incarnation, found)

    async def open(self, store: RestoredStore, by: str, reason: str) -> bool:
        async with self._postgres.connection() as connection:
            opened: bool = await connection.fetchval(
                """
                INSERT INTO restaurations (magasin, ouverte_par, motif_code) VALUES ($1, $2, $3)
                ON CONFLICT (magasin) WHERE fermee_a IS NULL DO UPDATE SET effacements_refaits_a = NULL
                RETURNING xmax = 0
                """,
                store.value,
                by,
                reason,
            )
        return opened

    async def mark_erasures_done(self) -> None:
        async with self._postgres.connection() as connection:
            await connection.execute(
                "UPDATE restaurations SET effacements_refaits_a = clock_timestamp() WHERE fermee_a IS NULL"
            )

    async def close(self, by: str) -> int:
        async with self._postgres.connection() as connection:
            closed = await connection.fetch(
                """
                UPDATE restaurations SET fermee_a = clock_timestamp(), fermee_par = $1
                WHERE fermee_a IS NULL RETURNING numero
                """,
                by,
            )
        return len(closed)


class PostgresTakenCheckpoints:
    """See ``processors.resilience.restore_guard.TakenCheckpoints``."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def newest(self) -> Mapping[str, int]:
        async with self._postgres.connection() as connection:
            rows = await connection.fetch("SELECT tenant, size FROM audit_trees")
        return {row["tenant"]: row["size"] for row in rows}


class PostgresRestoredRows:
    """Documents' rows, as far as a history is held against them. Raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def rows(self, ids: Sequence[UUID]) -> Mapping[UUID, RestoredRow]:
        """Those of ``ids`` that are there."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT id, tenant, statut, sequence, date_expiration FROM documents WHERE id = ANY($1::uuid[])
                """,
                list(ids),
            )
            holds = await connection.fetch(
                "SELECT document_id, reference, pose_a FROM gels_juridiques WHERE document_id = ANY($1::uuid[])",
                [row["id"] for row in rows],
            )
        held: dict[UUID, dict[str, datetime]] = {row["id"]: {} for row in rows}
        for hold in holds:
            held[hold["document_id"]][hold["reference"]] = hold["pose_a"]
        return {
            row["id"]: RestoredRow(
                document_id=row["id"],
                tenant=row["tenant"],
                status=Status(row["statut"]),
                sequence=row["sequence"],
                expires_at=row["date_expiration"],
                holds=held[row["id"]],
            )
            for row in rows
        }


class PostgresRenderedDocuments:
    """Documents that have thumbnails, and so had extended metadata before them. Raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def page(self, after: UUID, limit: int) -> Sequence[tuple[UUID, str]]:
        """(id, tenant) by id, from just after ``after``."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT d.id, d.tenant FROM documents d
                WHERE d.id > $1 AND d.statut NOT IN ('ERASING', 'ERASED')
                    AND EXISTS (SELECT FROM vignettes v WHERE v.document_id = d.id)
                ORDER BY d.id LIMIT $2
                """,
                after,
                limit,
            )
        return [(row["id"], row["tenant"]) for row in rows]
