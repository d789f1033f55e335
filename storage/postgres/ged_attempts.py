"""Creations in the GED under way or of unknown outcome: one row per document at most."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg

from domain.archive import OpenAttempt
from domain.errors import DocumentBusy
from domain.lifecycle import ERASURE_STATES, Status


class PostgresGedAttempts:
    """See ``processors.ports.ged.GedAttempts``. The server's clock alone decides what has settled."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def open(self, document_id: UUID) -> OpenAttempt | None:
        row = await self._connection.fetchrow(
            "SELECT attempt, settles_at <= clock_timestamp() AS settled FROM ged_attempts WHERE document_id = $1",
            document_id,
        )
        return None if row is None else OpenAttempt(row["attempt"], settled=row["settled"])

    async def begin(self, document_id: UUID, attempt: UUID, seconds: float) -> None:
        # The row's lock is what an erasure begins with: it sees this attempt, or this attempt sees it.
        status = await self._connection.fetchval("SELECT statut FROM documents WHERE id = $1 FOR SHARE", document_id)
        if status is not None and Status(status) in ERASURE_STATES:
            raise DocumentBusy("The document is being erased.")
        begun = await self._connection.fetchval(
            """
            INSERT INTO ged_attempts AS held (document_id, attempt, settles_at)
            VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
            ON CONFLICT (document_id) DO UPDATE SET attempt = excluded.attempt, settles_at = excluded.settles_at
            WHERE held.settles_at <= clock_timestamp()
            RETURNING 1
            """,
            document_id,
            attempt,
            seconds,
        )
        if begun is None:
            raise DocumentBusy("Another process creates this document's copy.")

    async def renew(self, document_id: UUID, attempt: UUID, seconds: float) -> None:
        renewed = await self._connection.fetchval(
            """
            UPDATE ged_attempts SET settles_at = clock_timestamp() + make_interval(secs => $3)
            WHERE document_id = $1 AND attempt = $2 RETURNING 1
            """,
            document_id,
            attempt,
            seconds,
        )
        if renewed is None:
            raise DocumentBusy("Another process creates this document's copy.")

    async def end(self, document_id: UUID, attempt: UUID) -> None:
        ended = await self._connection.fetchval(
            "DELETE FROM ged_attempts WHERE document_id = $1 AND attempt = $2 RETURNING 1", document_id, attempt
        )
        if ended is None:
            raise DocumentBusy("Another process creates this document's copy.")
