"""Keys of subjects (cles_sujets), wrapped. A row whose key was destroyed stays, and no key comes back to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from domain.subjects import Subject, SubjectKey
from storage.postgres.connections import Connections


class PostgresSubjectKeys:
    """See ``processors.ports.subjects.SubjectKeyRows``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def ensure(self, subject: Subject, wrapped: str) -> str | None:
        """Who comes second waits for who came first: another line about the same subject, or its erasure."""
        added: str | None = await self._connection.fetchval(
            """
            INSERT INTO cles_sujets (sujet, tenant, cle_enveloppee) VALUES ($1, $2, $3)
            ON CONFLICT DO NOTHING RETURNING cle_enveloppee
            """,
            subject.id,
            subject.tenant,
            wrapped,
        )
        if added is not None:
            return added
        # A statement of its own: it sees what was committed while we waited.
        there: str | None = await self._connection.fetchval(
            "SELECT cle_enveloppee FROM cles_sujets WHERE sujet = $1 AND tenant = $2", subject.id, subject.tenant
        )
        return there

    async def destroy(self, subject: Subject, at: datetime) -> datetime:
        destroyed: datetime = await self._connection.fetchval(
            """
            INSERT INTO cles_sujets (sujet, tenant, detruite_a) VALUES ($1, $2, $3)
            ON CONFLICT (sujet) DO UPDATE
                SET cle_enveloppee = NULL, detruite_a = coalesce(cles_sujets.detruite_a, excluded.detruite_a)
            RETURNING detruite_a
            """,
            subject.id,
            subject.tenant,
            at,
        )
        return destroyed


class PostgresSubjectKeyReader:
    """See ``processors.ports.subjects.SubjectKeyReader``."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def of(self, subjects: Sequence[Subject]) -> Mapping[Subject, SubjectKey]:
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                "SELECT tenant, sujet, cle_enveloppee, detruite_a FROM cles_sujets WHERE sujet = ANY($1::uuid[])",
                [subject.id for subject in subjects],
            )
        found = {
            Subject(row["tenant"], row["sujet"]): SubjectKey(row["cle_enveloppee"], row["detruite_a"]) for row in rows
        }
        return {subject: found[subject] for subject in subjects if subject in found}
