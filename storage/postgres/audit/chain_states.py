"""How far each audit chain is, and how far it is signed. Reads only."""

from __future__ import annotations

from collections.abc import Sequence

from domain.checkpoints import ChainState
from storage.postgres.connections import Connections


class PostgresChainStates:
    """See ``operations.audit.acts.ChainStates``. Raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def page(self, tenants: frozenset[str] | None, after: str, limit: int) -> Sequence[ChainState]:
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT h.tenant, h.seq, coalesce(t.size, 0) AS signed, c.taken_at, c.key_id
                FROM audit_heads h
                LEFT JOIN audit_trees t ON t.tenant = h.tenant
                LEFT JOIN audit_checkpoints c ON c.tenant = t.tenant AND c.size = t.size AND c.signature IS NOT NULL
                WHERE h.tenant > $1 AND ($3::text[] IS NULL OR h.tenant = ANY($3))
                ORDER BY h.tenant LIMIT $2
                """,
                after,
                limit,
                None if tenants is None else sorted(tenants),
            )
        return [
            ChainState(
                tenant=row["tenant"],
                entries=row["seq"],
                signed=row["signed"] if row["taken_at"] is not None else 0,
                signed_at=row["taken_at"],
                key_id=row["key_id"],
            )
            for row in rows
        ]
