"""Audit lines on their way to the audit log: lines that wait for their place, each tenant's head, and entries that have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from domain.audit_chain import ChainEntry, ChainHead, entry_of, genesis, head_after
from domain.events import AuditRecorded
from domain.shared.crash_points import reach
from storage.postgres.audit.tree import archivings_of, leaves_of
from storage.postgres.connections import Connections

_HEAD: Final = "SELECT tenant, seq, hash FROM audit_heads WHERE tenant = $1 FOR UPDATE"
_FIELDS: Final = tuple(field.name for field in fields(AuditRecorded))


class PostgresAuditChains:
    """See ``processors.ports.events.AuditChains``. Lines are held back until ``flush``, and then go out as one statement.

    No line waits for another's transaction, unless both are of the same event.
    """

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection
        self._lines: list[AuditRecorded] = []

    async def append(self, event: AuditRecorded) -> None:
        self._lines.append(event)

    async def flush(self) -> None:
        """Write the lines, in the order they were added."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        await self._connection.execute(
            """
            INSERT INTO audit_waiting (tenant, event_id, line)
            SELECT tenant, event_id, line
            FROM unnest($1::text[], $2::uuid[], $3::bytea[]) WITH ORDINALITY AS lines (tenant, event_id, line, place)
            WHERE NOT EXISTS (SELECT FROM audit_chained WHERE audit_chained.event_id = lines.event_id)
            ORDER BY place
            ON CONFLICT (event_id) DO NOTHING
            """,
            [line.tenant for line in lines],
            [line.event_id for line in lines],
            [line_to_bytes(line) for line in lines],
        )


async def tenants_in(connection: asyncpg.Connection[Any], table: str) -> Sequence[str]:
    """Tenants with rows in ``table``, which has an index that begins with them: one look-up each, however many rows there are."""
    rows = await connection.fetch(
        f"""
        WITH RECURSIVE known (tenant) AS (
            SELECT min(tenant) FROM {table}
            UNION ALL
            SELECT (SELECT min(tenant) FROM {table} WHERE {table}.tenant > known.tenant)
            FROM known WHERE known.tenant IS NOT NULL
        )
        SELECT tenant FROM known WHERE tenant IS NOT NULL
        """  # noqa: S608 - the callers name tables of ours
    )
    return [row["tenant"] for row in rows]


class PostgresUnchainedLines:
    """See ``processors.audit.chaining.UnchainedLines``. Every method raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def tenants(self) -> Sequence[str]:
        """Those with lines that wait; one index look-up each, however many lines there are."""
        async with self._postgres.connection() as connection:
            return await tenants_in(connection, "audit_waiting")

    async def chain(self, tenant: str, limit: int) -> int:
        """One transaction under the tenant's head row; nothing is done, and 0 given, while another chainer holds that."""
        async with self._postgres.connection() as connection, connection.transaction():
            head = await hold_head(connection, tenant)
            if head is None:
                return 0
            # A statement of its own after the lock: it sees what the chainer before us has committed.
            rows = await connection.fetch(
                """
                SELECT id, line, EXISTS (SELECT FROM audit_chained WHERE audit_chained.event_id = waiting.event_id) AS placed
                FROM audit_waiting AS waiting WHERE tenant = $1 ORDER BY id LIMIT $2
                """,
                tenant,
                limit,
            )
            entries = []
            for row in rows:
                if not row["placed"]:
                    entries.append(entry_of(_line_of_bytes(row["line"]), head))
                    head = head_after(entries[-1])
            if rows:
                await _write(connection, tenant, entries, head, [row["id"] for row in rows])
        reach("audit.chained")
        return len(rows)


async def hold_head(connection: Any, tenant: str, *, wait: bool = False) -> ChainHead | None:
    """The head, locked until the transaction ends; while another holds it, None, or what ``wait`` for that gives."""
    select = _HEAD if wait else f"{_HEAD} SKIP LOCKED"
    row = await connection.fetchrow(select, tenant)
    if row is None:
        await connection.execute(
            "INSERT INTO audit_heads (tenant, seq, hash, updated_at) VALUES ($1, 0, $2, now()) ON CONFLICT DO NOTHING",
            tenant,
            genesis(tenant).hash,
        )
        row = await connection.fetchrow(select, tenant)
    return row and _head_of(row)


async def _write(
    connection: Any, tenant: str, entries: Sequence[ChainEntry], head: ChainHead, taken: Sequence[int]
) -> None:
    """Entries, their places, their leaves in the Merkle tree, the new head, and the lines' end, as one statement."""
    archivings = archivings_of(entries)
    await connection.execute(
        """
        WITH entries AS (
            SELECT * FROM unnest($2::bigint[], $3::uuid[], $4::bytea[], $5::text[]) AS entries (seq, event_id, entry, hash)
        ), placed AS (
            INSERT INTO audit_chained (event_id, tenant, seq) SELECT event_id, $1, seq FROM entries
        ), added AS (
            INSERT INTO audit_pending (tenant, seq, event_id, entry, hash)
            SELECT $1, seq, event_id, entry, hash FROM entries
        ), leaves AS (
            INSERT INTO audit_leaves (tenant, first_seq, hashes, last_hash)
            SELECT $1, $9::bigint, $10::bytea, $8::text WHERE length($10::bytea) > 0
        ), archivings AS (
            INSERT INTO audit_archivings (document_id, tenant, seq, entry)
            SELECT document_id, $1, seq, entry
            FROM unnest($11::uuid[], $12::bigint[], $13::bytea[]) AS archived (document_id, seq, entry)
            ON CONFLICT DO NOTHING
        ), taken AS (
            DELETE FROM audit_waiting WHERE tenant = $1 AND id = ANY($6::bigint[])
        )
        UPDATE audit_heads SET seq = $7, hash = $8, updated_at = now() WHERE tenant = $1
        """,
        tenant,
        [entry.seq for entry in entries],
        [entry.event_id for entry in entries],
        [entry.body for entry in entries],
        [entry.hash for entry in entries],
        taken,
        head.seq,
        head.hash,
        head.seq - len(entries) + 1,
        leaves_of(entries),
        [one.document_id for one in archivings],
        [one.seq for one in archivings],
        [one.entry for one in archivings],
    )


def line_to_bytes(line: AuditRecorded) -> bytes:
    """A line as it waits for its place."""
    return orjson.dumps({name: getattr(line, name) for name in _FIELDS})


def _line_of_bytes(kept: bytes) -> AuditRecorded:
    said: dict[str, Any] = orjson.loads(kept)
    return AuditRecorded(
        **{
            **said,
            "event_id": UUID(said["event_id"]),
            "correlation_id": UUID(said["correlation_id"]),
            "occurred_at": datetime.fromisoformat(said["occurred_at"]),
        }
    )


class PostgresUnflushedEntries:
    """See ``processors.audit.chaining.UnflushedEntries``. Every method raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def tenants(self) -> Sequence[str]:
        """Those with entries that wait."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT tenant FROM audit_heads AS heads
                WHERE EXISTS (SELECT FROM audit_pending WHERE audit_pending.tenant = heads.tenant) ORDER BY tenant
                """
            )
        return [row["tenant"] for row in rows]

    async def first(self, tenant: str, limit: int, after: int = 0) -> Sequence[ChainEntry]:
        """The oldest of those numbered above ``after``, in order."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT tenant, seq, event_id, entry, hash FROM audit_pending
                WHERE tenant = $1 AND seq > $3 ORDER BY seq LIMIT $2
                """,
                tenant,
                limit,
                after,
            )
        return [pending_entry(row) for row in rows]

    async def remove(self, tenant: str, up_to: int) -> None:
        """Forget the entries up to and including number ``up_to``."""
        async with self._postgres.connection() as connection:
            await connection.execute("DELETE FROM audit_pending WHERE tenant = $1 AND seq <= $2", tenant, up_to)

    async def heads(self) -> Sequence[ChainHead]:
        """The head of every chain, by tenant."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch("SELECT tenant, seq, hash FROM audit_heads ORDER BY tenant")
        return [_head_of(row) for row in rows]

    async def handed_over(self) -> Mapping[str, int]:
        """By tenant, the number of the last entry that the log has by the database's word."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT tenant, coalesce((SELECT min(p.seq) - 1 FROM audit_pending p WHERE p.tenant = h.tenant), h.seq) AS seq
                FROM audit_heads h ORDER BY tenant
                """
            )
        return {row["tenant"]: row["seq"] for row in rows}

    async def unplaced(self) -> dict[str, int]:
        """How many lines wait for their place, by tenant."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch("SELECT tenant, count(*) AS lines FROM audit_waiting GROUP BY tenant")
        return {row["tenant"]: row["lines"] for row in rows}


def pending_entry(row: Mapping[str, Any]) -> ChainEntry:
    """Of a row of ``audit_pending``."""
    return ChainEntry(
        tenant=row["tenant"], seq=row["seq"], event_id=row["event_id"], body=row["entry"], hash=row["hash"]
    )


def _head_of(row: Mapping[str, Any]) -> ChainHead:
    return ChainHead(row["tenant"], row["seq"], row["hash"])
