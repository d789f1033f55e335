"""Wrapped keys in DOCUMENTS as an operator's acts on key-encryption keys see them: counted, walked, replaced, held to a floor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from domain.errors import KeyVersionRetired
from domain.key_encryption_keys import KeyState, KeyUse, StoredWrappedKey
from domain.keys import WrappedKey
from domain.refusals import KeyVersionInUse
from storage.postgres.connections import Connections

#: What the triggers of migration 0008 say.
RETIRED_STATE: Final = "DPJ01"
#: How long a retirement may hold up other writers while it waits for those under way.
LOCK_MILLISECONDS: Final = 2000


@contextmanager
def translated_retirement() -> Iterator[None]:
    """A wrapped key that the server refuses, because its version was retired, becomes KeyVersionRetired."""
    try:
        yield
    except asyncpg.PostgresError as error:
        if error.sqlstate != RETIRED_STATE:
            raise
        raise KeyVersionRetired("The key's version was retired meanwhile; nothing was kept.") from None


class PostgresWrappedKeys:
    """See ``processors.operators.keys.WrappedKeys``."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def uses(self, scheme: str | None = None, names: Sequence[str] = ()) -> Sequence[KeyUse]:
        of_keys = "true" if scheme is None else "cle_schema = $1 AND cle_nom = ANY($2)"
        query = f"""
            SELECT cle_schema, cle_nom, cle_version, tenant, count(*) AS lignes FROM documents
            WHERE cle_version IS NOT NULL AND {of_keys}
            GROUP BY cle_schema, cle_nom, cle_version, tenant
            ORDER BY cle_schema, cle_nom, cle_version, tenant
            """  # noqa: S608 - one of two fixed texts
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(query, *(() if scheme is None else (scheme, list(names))))
        return [
            KeyUse(row["cle_schema"], row["cle_nom"], row["cle_version"], row["tenant"], row["lignes"]) for row in rows
        ]

    async def page(self, use: KeyUse, after: UUID | None, limit: int) -> Sequence[StoredWrappedKey]:
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT id, cle_enveloppee FROM documents
                WHERE cle_schema = $1 AND cle_nom = $2 AND cle_version = $3 AND tenant = $4 AND id > $5
                ORDER BY id LIMIT $6
                """,
                use.scheme,
                use.name,
                use.version,
                use.tenant,
                after or UUID(int=0),
                limit,
            )
        return [
            StoredWrappedKey(
                row["id"], use.tenant, WrappedKey(use.scheme, use.name, use.version, row["cle_enveloppee"])
            )
            for row in rows
        ]

    async def replace(self, pairs: Sequence[tuple[StoredWrappedKey, WrappedKey]]) -> int:
        # A row that somebody holds now is passed over: waiting for it, with others held, could be waited for in turn.
        statement = """
            WITH free AS (
                SELECT d.id, n.old, n.scheme, n.name, n.version, n.new
                FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::text[])
                     AS n (id, old, scheme, name, version, new)
                JOIN documents AS d ON d.id = n.id AND d.cle_enveloppee = n.old
                FOR NO KEY UPDATE OF d SKIP LOCKED
            ), moved AS (
                UPDATE documents AS d
                SET cle_schema = free.scheme, cle_nom = free.name, cle_version = free.version, cle_enveloppee = free.new
                FROM free WHERE d.id = free.id AND d.cle_enveloppee = free.old
                RETURNING 1
            )
            SELECT count(*) FROM moved
            """
        with translated_retirement():
            async with self._postgres.connection() as connection:
                moved = await connection.fetchval(
                    statement,
                    [kept.document_id for kept, _ in pairs],
                    [kept.wrapped.ciphertext for kept, _ in pairs],
                    [new.scheme for _, new in pairs],
                    [new.key_name for _, new in pairs],
                    [new.key_version for _, new in pairs],
                    [new.ciphertext for _, new in pairs],
                )
        return int(moved)

    async def retire(self, key: KeyState, version: int, begun_before: datetime | None) -> None:
        async with self._postgres.connection() as connection:
            try:
                async with connection.transaction():
                    await _retire(connection, key, version, begun_before)
            except asyncpg.LockNotAvailableError:
                raise KeyVersionInUse("Something slow is writing documents just now; try again.") from None


async def _retire(
    connection: asyncpg.Connection[Any], key: KeyState, version: int, begun_before: datetime | None
) -> None:
    await connection.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
    # Nobody is writing once this is granted, and whoever waits for it will see the floor: no row can slip in between.
    await connection.execute("LOCK TABLE documents, keyring_canaries IN SHARE ROW EXCLUSIVE MODE")
    found = await connection.fetchrow(
        """
        SELECT
            (SELECT min(cle_version) FROM documents
             WHERE cle_schema = $1 AND cle_nom = $2 AND cle_version < $3) AS documents,
            (SELECT min(key_version) FROM keyring_canaries
             WHERE scheme = $1 AND key_name = $2 AND key_version < $3) AS canaries,
            EXISTS (SELECT FROM documents
             WHERE statut = 'PENDING' AND bail_expire_a > clock_timestamp() AND tenant = $4
             AND created_at < $5::timestamptz) AS uploads
        """,
        key.scheme,
        key.name,
        version,
        key.tenant,
        begun_before,
    )
    if found is not None and found["documents"] is not None:
        raise KeyVersionInUse(f"Documents are still wrapped under version {found['documents']}.")
    if found is not None and found["canaries"] is not None:
        raise KeyVersionInUse(f"A canary is still wrapped under version {found['canaries']}.")
    if found is not None and found["uploads"]:
        raise KeyVersionInUse(
            "Uploads are under way that began before this version was there; try again when they end."
        )
    await connection.execute(
        """
        INSERT INTO keyring_floors (scheme, key_name, min_version) VALUES ($1, $2, $3)
        ON CONFLICT (scheme, key_name) DO UPDATE
        SET min_version = greatest(keyring_floors.min_version, excluded.min_version), retired_at = now()
        """,
        key.scheme,
        key.name,
        version,
    )
