"""Orders (ordres) that wait for a second person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from domain.orders import Order, OrderedAct
from storage.postgres.connections import Connections


class PostgresOrderQueries:
    """See ``processors.ports.orders.OrderQueries``."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def open(
        self, tenants: Sequence[str] | None, after: tuple[datetime, UUID] | None, limit: int
    ) -> Sequence[Order]:
        at, order_id = after or (None, UUID(int=0))
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT * FROM ordres
                WHERE (ordonne_a, id) > (coalesce($1::timestamptz, '-infinity'), $2::uuid) AND expire_a > clock_timestamp()
                    AND ($3::text[] IS NULL OR tenant = ANY($3))
                ORDER BY ordonne_a, id LIMIT $4
                """,
                at,
                order_id,
                None if tenants is None else list(tenants),
                limit,
            )
        return [_order(row) for row in rows]


class PostgresOrders:
    """See ``processors.ports.orders.Orders``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def get(self, act: OrderedAct, subject: str) -> Order | None:
        row = await self._connection.fetchrow(
            "SELECT * FROM ordres WHERE acte = $1 AND objet = $2 AND expire_a > clock_timestamp() FOR NO KEY UPDATE",
            act.value,
            subject,
        )
        return None if row is None else _order(row)

    async def put(self, order: Order) -> None:
        await self._connection.execute(
            """
            INSERT INTO ordres (acte, objet, id, tenant, parametres, ordonne_par, ordonne_a, expire_a)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (acte, objet) DO UPDATE SET
                id = excluded.id, tenant = excluded.tenant, parametres = excluded.parametres,
                ordonne_par = excluded.ordonne_par, ordonne_a = excluded.ordonne_a, expire_a = excluded.expire_a,
                confirme_par = NULL, confirme_a = NULL
            """,
            order.act.value,
            order.subject,
            order.id,
            order.tenant,
            dict(order.parameters),
            order.ordered_by,
            order.ordered_at,
            order.expires_at,
        )

    async def confirm(self, order: Order, actor: str, at: datetime) -> None:
        await self._connection.execute(
            "UPDATE ordres SET confirme_par = $2, confirme_a = $3 WHERE id = $1", order.id, actor, at
        )

    async def remove(self, order: Order) -> None:
        await self._connection.execute("DELETE FROM ordres WHERE id = $1", order.id)


def _order(row: Any) -> Order:
    return Order(
        id=row["id"],
        act=OrderedAct(row["acte"]),
        subject=row["objet"],
        tenant=row["tenant"],
        parameters=row["parametres"],
        ordered_by=row["ordonne_par"],
        ordered_at=row["ordonne_a"],
        expires_at=row["expire_a"],
        confirmed_by=row["confirme_par"],
        confirmed_at=row["confirme_a"],
    )
