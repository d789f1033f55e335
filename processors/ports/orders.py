"""Orders that wait for a second person; part of ``processors.ports.work.Work``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from domain.orders import Order, OrderedAct


class OrderQueries(Protocol):
    """Orders that stand, outside any transaction of ours. Raises DatabaseUnavailable."""

    async def open(
        self, tenants: Sequence[str] | None, after: tuple[datetime, UUID] | None, limit: int
    ) -> Sequence[Order]:
        """Up to ``limit`` orders that have not expired, oldest first by (ordered_at, id), from just after ``after``; those of ``tenants``
        alone, None: all, those about no tenant too."""
        ...


class Orders(Protocol):
    """One for each act and subject. Whether it has expired is for the server's clock to say."""

    async def get(self, act: OrderedAct, subject: str) -> Order | None:
        """The order that has not expired, held until the transaction ends."""
        ...

    async def put(self, order: Order) -> None:
        """Insert, or replace that of the same act and subject."""
        ...

    async def confirm(self, order: Order, actor: str, at: datetime) -> None: ...

    async def remove(self, order: Order) -> None:
        """What was ordered is done, or withdrawn."""
        ...
