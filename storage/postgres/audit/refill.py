"""What the database still knows of entries that the audit log has lost. Reads only; page by page, in the order of a key."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final
from uuid import UUID

from domain.merkle import HASH_BYTES, TILE_HASHES, split
from storage.postgres.audit.chain import PostgresUnflushedEntries
from storage.postgres.connections import Connections

PAGE: Final = 5_000
_NIL: Final = UUID(int=0)


class PostgresRefillSources:
    """See ``operations.restore.refill.RefillSources``. Every method raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def handed_over(self) -> Mapping[str, int]:
        """By tenant, the number of the last entry that the log has by the database's word."""
        return await PostgresUnflushedEntries(self._postgres).handed_over()

    async def places(self) -> AsyncGenerator[tuple[str, int, UUID], None]:
        """(tenant, number, event) of what was chained lately, in no order that matters."""
        query = "SELECT event_id AS id, tenant, seq FROM audit_chained WHERE event_id > $1 ORDER BY event_id LIMIT $2"
        async for row in self._pages(query):
            yield row["tenant"], row["seq"], row["id"]

    async def bodies(self) -> AsyncGenerator[tuple[str, int, bytes], None]:
        """(tenant, number, canonical bytes) of the entries that archived documents."""
        query = """
            SELECT document_id AS id, tenant, seq, entry FROM audit_archivings
            WHERE document_id > $1 ORDER BY document_id LIMIT $2"""
        async for row in self._pages(query):
            yield row["tenant"], row["seq"], bytes(row["entry"])

    async def leaves(self, tenant: str, first: int, last: int) -> Mapping[int, bytes]:
        """Leaf hashes of entries ``first`` to ``last`` by number, as far as tiles and leaves have them."""
        lowest, highest = (first - 1) // TILE_HASHES, (last - 1) // TILE_HASHES
        async with self._postgres.connection() as connection:
            tiles = await connection.fetch(
                """
                SELECT number, hashes FROM audit_tiles
                WHERE tenant = $1 AND level = 0 AND number BETWEEN $2 AND $3
                """,
                tenant,
                lowest,
                highest,
            )
            rows = await connection.fetch(
                """
                SELECT first_seq, hashes FROM audit_leaves
                WHERE tenant = $1 AND first_seq <= $3 AND first_seq + length(hashes) / $4 > $2
                """,
                tenant,
                first,
                last,
                HASH_BYTES,
            )
        found: dict[int, bytes] = {}
        starts = [(tile["number"] * TILE_HASHES + 1, tile["hashes"]) for tile in tiles]
        for start, hashes in [*starts, *((row["first_seq"], row["hashes"]) for row in rows)]:
            found |= {seq: leaf for seq, leaf in enumerate(split(bytes(hashes)), start) if first <= seq <= last}
        return found

    async def hashes(self, tenant: str) -> Mapping[int, str]:
        """Hashes of entries by number: of those that end what a checkpoint, or a row of leaves, is over."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT size AS seq, last_hash FROM audit_trees WHERE tenant = $1 AND size > 0
                UNION ALL
                SELECT first_seq + length(hashes) / $2 - 1, last_hash FROM audit_leaves WHERE tenant = $1
                """,
                tenant,
                HASH_BYTES,
            )
        return {row["seq"]: row["last_hash"] for row in rows}

    async def _pages(self, query: str) -> AsyncGenerator[Mapping[str, Any], None]:
        after = _NIL
        while True:
            async with self._postgres.connection() as connection:
                rows = await connection.fetch(query, after, PAGE)
            for row in rows:
                yield row
            if len(rows) < PAGE:
                return
            after = rows[-1]["id"]
