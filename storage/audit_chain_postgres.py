"""Audit chains on their way to MongoDB: each tenant's head, and the entries that still wait here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from domain.audit_chain import ChainEntry, ChainHead, entry_of, genesis
from domain.events import AuditRecorded
from storage.postgres_connections import Connections


class PostgresAuditChains:
    """See ``processors.ports.AuditChains``. The tenant's head row stays locked until the transaction ends."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def append(self, event: AuditRecorded) -> None:
        head = await self._lock_head(event.tenant)
        # Under the head's lock nobody else can be adding the same event.
        added = await self._connection.fetchval(
            """
            INSERT INTO audit_chained (event_id, tenant, seq) VALUES ($1, $2, $3)
            ON CONFLICT (event_id) DO NOTHING RETURNING true
            """,
            event.event_id,
            event.tenant,
            head.seq + 1,
        )
        if not added:
            return
        entry = entry_of(event, head)
        await self._connection.execute(
            """
            WITH moved AS (
                UPDATE audit_heads SET seq = $2, hash = $5, updated_at = now() WHERE tenant = $1
            )
            INSERT INTO audit_pending (tenant, seq, event_id, entry, hash) VALUES ($1, $2, $3, $4, $5)
            """,
            entry.tenant,
            entry.seq,
            entry.event_id,
            entry.body,
            entry.hash,
        )

    async def _lock_head(self, tenant: str) -> ChainHead:
        select = "SELECT tenant, seq, hash FROM audit_heads WHERE tenant = $1 FOR UPDATE"
        rows = await self._connection.fetch(select, tenant)
        if not rows:
            await self._connection.execute(
                "INSERT INTO audit_heads (tenant, seq, hash, updated_at) VALUES ($1, 0, $2, now()) ON CONFLICT DO NOTHING",
                tenant,
                genesis(tenant).hash,
            )
            rows = await self._connection.fetch(select, tenant)
        return _head_of(rows[0])


class PostgresAuditPending:
    """See ``processors.audit.PendingEntries``. Every method raises DatabaseUnavailable."""

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
        return [
            ChainEntry(
                tenant=row["tenant"], seq=row["seq"], event_id=row["event_id"], body=row["entry"], hash=row["hash"]
            )
            for row in rows
        ]

    async def remove(self, tenant: str, up_to: int) -> None:
        """Forget the entries up to and including number ``up_to``."""
        async with self._postgres.connection() as connection:
            await connection.execute("DELETE FROM audit_pending WHERE tenant = $1 AND seq <= $2", tenant, up_to)

    async def heads(self) -> Sequence[ChainHead]:
        """The head of every chain, by tenant."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch("SELECT tenant, seq, hash FROM audit_heads ORDER BY tenant")
        return [_head_of(row) for row in rows]


def _head_of(row: Mapping[str, Any]) -> ChainHead:
    return ChainHead(row["tenant"], row["seq"], row["hash"])
