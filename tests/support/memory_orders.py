"""Orders in memory; see ``processors.ports.orders.Orders``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.orders import Order, OrderedAct
from tests.support.builders import FixedClock


class MemoryOrders:
    def __init__(self, rows: dict[tuple[OrderedAct, str], Order], clock: FixedClock) -> None:
        self._rows = rows
        self._clock = clock

    async def get(self, act: OrderedAct, subject: str) -> Order | None:
        order = self._rows.get((act, subject))
        return order if order is not None and order.expires_at > self._clock.at else None

    async def put(self, order: Order) -> None:
        self._rows[order.act, order.subject] = order

    async def confirm(self, order: Order, actor: str, at: datetime) -> None:
        assert actor != order.ordered_by
        self._rows[order.act, order.subject] = replace(order, confirmed_by=actor, confirmed_at=at)

    async def remove(self, order: Order) -> None:
        del self._rows[order.act, order.subject]


class MemoryOrderQueries:
    """See ``processors.ports.orders.OrderQueries``."""

    def __init__(self, database: Any) -> None:
        self._database = database

    async def open(
        self, tenants: Sequence[str] | None, after: tuple[datetime, UUID] | None, limit: int
    ) -> Sequence[Order]:
        rows: dict[tuple[OrderedAct, str], Order] = self._database.rows.orders
        found = [
            one
            for one in rows.values()
            if one.expires_at > self._database.clock.at
            and (tenants is None or one.tenant in tenants)
            and (after is None or (one.ordered_at, one.id) > after)
        ]
        return sorted(found, key=lambda one: (one.ordered_at, one.id))[:limit]
