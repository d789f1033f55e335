"""Sealed personal texts in DOCUMENTS as an operator's acts on their keys see them: counted, walked, replaced, keys retired; and kept
answers of uploads from before they were kept without names."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from domain.documents import Document
from domain.personal_texts import AnswerCursor, ColumnUse, StoredTexts
from domain.refusals import PersonalKeyInUse
from storage.postgres.connections import Connections
from storage.postgres.documents import document_columns, document_of
from storage.postgres.keys.wrapped_keys import LOCK_MILLISECONDS, translated_retirement

#: What resealing writes, with the types that PostgreSQL is told.
_TYPES: Final = {
    "nom_original": "text",
    "courriel_scelle": "text",
    "deposant_nom_scelle": "text",
    "etiquettes_scellees": "text",
    "cle_personnelle": "text",
    "cle_index": "text",
    "nom_original_index": "bytea",
    "courriel_index": "bytea",
    "commentaire_validation": "text",
    "motif_rejet": "text",
    "decision_en_attente": "jsonb",
}
#: Rows that have texts at all; the index on keys has these.
_HAS_TEXTS: Final = "nom_original <> ''"
_RETIRED: Final = {"cle_personnelle": "scellement", "cle_index": "index"}
#: Members of a kept answer that are not kept any more.
_ANSWERED: Final = ("file_name", "tags", "metadata")


class PostgresPersonalColumns:
    """See ``processors.operators.personal_text_keys.SealedColumnRows``."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def uses(self) -> Sequence[ColumnUse]:
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                f"""
                SELECT cle_personnelle, cle_index, count(*) AS lignes FROM documents WHERE {_HAS_TEXTS}
                GROUP BY cle_personnelle, cle_index ORDER BY cle_personnelle NULLS FIRST, cle_index NULLS FIRST
                """  # noqa: S608 - a fixed text
            )
        return [ColumnUse(row["cle_personnelle"], row["cle_index"], row["lignes"]) for row in rows]

    async def page(self, use: ColumnUse, after: UUID | None, limit: int) -> Sequence[StoredTexts]:
        values: list[Any] = [after or UUID(int=0), limit]
        conditions = [_HAS_TEXTS, "id > $1"]
        for column, value in (("cle_personnelle", use.key), ("cle_index", use.lookup)):
            if value is None:
                conditions.append(f"{column} IS NULL")
            else:
                values.append(value)
                conditions.append(f"{column} = ${len(values)}")
        query = (
            f"SELECT *, xmin::text AS ecrite FROM documents WHERE {' AND '.join(conditions)} "  # noqa: S608 - fixed texts
            "ORDER BY cle_personnelle, cle_index, id LIMIT $2"
        )
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(query, *values)
        return [StoredTexts(document_of(row), row["ecrite"]) for row in rows]

    async def replace(self, pairs: Sequence[tuple[StoredTexts, Document]]) -> int:
        columns = [document_columns(new) for _, new in pairs]
        lists = [[one[name] for one in columns] for name in _TYPES]
        given = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(_TYPES.values(), 3))
        names = ", ".join(_TYPES)
        assignments = ", ".join(f"{name} = free.{name}" for name in _TYPES)
        # A row that somebody holds now is passed over; one that was written since it was read is not what was sealed anew.
        statement = f"""
            WITH free AS (
                SELECT n.* FROM unnest($1::uuid[], $2::text[], {given}) AS n (id, ecrite, {names})
                JOIN documents AS d ON d.id = n.id AND d.xmin::text = n.ecrite
                FOR NO KEY UPDATE OF d SKIP LOCKED
            ), sealed AS (
                UPDATE documents AS d SET {assignments}, tags = '{{}}', metadata = '{{}}'
                FROM free WHERE d.id = free.id AND d.xmin::text = free.ecrite AND {_HAS_TEXTS.replace("nom", "d.nom")}
                RETURNING 1
            )
            SELECT count(*) FROM sealed
            """  # noqa: S608 - names of our own columns
        ids, versions = [kept.document.id for kept, _ in pairs], [kept.version for kept, _ in pairs]
        with translated_retirement():
            async with self._postgres.connection() as connection:
                return int(await connection.fetchval(statement, ids, versions, *lists))

    async def retire(self, *, key: str | None = None, lookup: str | None = None) -> None:
        async with self._postgres.connection() as connection:
            try:
                async with connection.transaction():
                    for column, name in (("cle_personnelle", key), ("cle_index", lookup)):
                        if name is not None:
                            await _retire(connection, column, name)
            except asyncpg.LockNotAvailableError:
                raise PersonalKeyInUse("Something slow is writing documents just now; try again.") from None

    async def forget_answers(self, after: AnswerCursor | None, limit: int) -> tuple[int, AnswerCursor | None]:
        begin = after or (datetime(1, 1, 1, tzinfo=UTC), "", "", "")
        async with self._postgres.connection() as connection, connection.transaction():
            rows = await connection.fetch(
                """
                SELECT created_at, tenant, caller, key, response FROM idempotency_keys
                WHERE created_at >= $1 AND (created_at, tenant, caller, key) > ($1, $2, $3, $4)
                ORDER BY created_at, tenant, caller, key LIMIT $5
                """,
                *begin,
                limit,
            )
            named = [row for row in rows if row["response"] and row["response"]["body"].get("file_name") is not None]
            for row in named:
                body = {**row["response"]["body"], **dict.fromkeys(_ANSWERED)}
                await connection.execute(
                    """
                    UPDATE idempotency_keys SET response = $4
                    WHERE tenant = $1 AND caller = $2 AND key = $3 AND response IS NOT NULL
                    """,
                    row["tenant"],
                    row["caller"],
                    row["key"],
                    {**row["response"], "body": body},
                )
        if len(rows) < limit:
            return len(named), None
        last = rows[-1]
        return len(named), (last["created_at"], last["tenant"], last["caller"], last["key"])


async def _retire(connection: asyncpg.Connection[Any], column: str, name: str) -> None:
    await connection.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
    # Nobody is writing once this is granted, and whoever waits for it is held to it by the trigger: no row can slip in between.
    await connection.execute("LOCK TABLE documents IN SHARE ROW EXCLUSIVE MODE")
    count = await connection.fetchval(
        f"SELECT count(*) FROM documents WHERE {column} = $1 AND {_HAS_TEXTS}",  # noqa: S608 - one of two columns
        name,
    )
    if count:
        raise PersonalKeyInUse(f"{count} documents are still under this key.")
    await connection.execute(
        "INSERT INTO cles_personnelles_retirees (usage, cle) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        _RETIRED[column],
        name,
    )
