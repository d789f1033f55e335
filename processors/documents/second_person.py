"""Two persons for what can't be undone: one operator orders it, another confirms it, before the order expires.

Until then, who ordered it may withdraw it. Whoever confirms names the order, so that what he read is what is done: an order with other parameters has another id. Both acts are in
the audit log, in the transaction that makes them count.

The caller holds what the order is about (a document's row, a key's lock), so that of two who order or confirm at once one comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

from domain.orders import Order, OrderedAct
from domain.refusals import OrderConfirmed, OrderNotFound, OrderNotYours, SecondPersonNeeded
from processors.documents.transitions import Origin, audit_line
from processors.ports.database import Transactions
from processors.ports.work import HasOrders, HasOutbox


class OrderWork(HasOrders, HasOutbox, Protocol):
    """What ordering and confirming need of a transaction."""


class SecondPerson:
    """``required``: whether the site asks for one. ``hours``: for how long an order can be confirmed."""

    def __init__(self, *, required: bool = False, hours: float = 72.0) -> None:
        self.required = required
        self._life = timedelta(hours=hours)

    async def order(
        self, work: OrderWork, act: OrderedAct, subject: str, tenant: str, parameters: Mapping[str, Any], origin: Origin
    ) -> Order:
        """Put the order on record. One that stands with the same parameters stays as it is; with others, it is replaced."""
        standing = await work.orders.get(act, subject)
        if standing is not None and standing.parameters == parameters:
            return standing
        made = Order(
            id=uuid4(),
            act=act,
            subject=subject,
            tenant=tenant,
            parameters=dict(parameters),
            ordered_by=origin.actor,
            ordered_at=origin.at,
            expires_at=origin.at + self._life,
        )
        await work.orders.put(made)
        replaced = {} if standing is None else {"replaces": str(standing.id)}
        await _put_on_record(work, made, origin, "ordered", {"expires_at": made.expires_at.isoformat(), **replaced})
        return made

    async def confirmed(self, work: OrderWork, act: OrderedAct, subject: str, order_id: UUID, origin: Origin) -> Order:
        """The order, confirmed by who ``origin`` names unless somebody had confirmed it before: then he goes on with what was cut off.

        Raises OrderNotFound, or SecondPersonNeeded for who ordered it himself.
        """
        order = await self.standing(work, act, subject)
        if order.id != order_id:
            raise OrderNotFound("Another order stands in its place.")
        if order.confirmed_by is not None:
            return order
        if order.ordered_by == origin.actor:
            raise SecondPersonNeeded("You have ordered this yourself.")
        await work.orders.confirm(order, origin.actor, origin.at)
        await _put_on_record(work, order, origin, "confirmed", {"ordered_by": order.ordered_by})
        return replace(order, confirmed_by=origin.actor, confirmed_at=origin.at)

    async def confirmed_if_needed(
        self, database: Transactions[OrderWork], act: OrderedAct, subject: str, order_id: UUID | None, origin: Origin
    ) -> Order | None:
        """The order of ``order_id``, as by ``confirmed``, in a transaction of its own; None where one person does.

        Raises OrderNotFound or SecondPersonNeeded.
        """
        if order_id is not None:
            async with database.transaction() as work:
                return await self.confirmed(work, act, subject, order_id, origin)
        if self.required:
            raise SecondPersonNeeded("Retiring a key takes two persons here.")
        return None

    async def withdraw(self, work: OrderWork, act: OrderedAct, subject: str, order_id: UUID, origin: Origin) -> Order:
        """Take back the order that ``origin`` gave; it can't be confirmed any more.

        Raises OrderNotFound, OrderNotYours, or OrderConfirmed.
        """
        order = await self.standing(work, act, subject)
        if order.id != order_id:
            raise OrderNotFound("Another order stands in its place.")
        if order.ordered_by != origin.actor:
            raise OrderNotYours("Another operator has ordered this.")
        if order.confirmed_by is not None:
            raise OrderConfirmed("Another operator has confirmed it.")
        await work.orders.remove(order)
        await _put_on_record(work, order, origin, "withdrawn", {})
        return order

    async def standing(self, work: HasOrders, act: OrderedAct, subject: str) -> Order:
        """The order that can be confirmed. Raises OrderNotFound."""
        order = await work.orders.get(act, subject)
        if order is None:
            raise OrderNotFound("There is no such order, or it has expired.")
        return order


async def _put_on_record(work: HasOutbox, order: Order, origin: Origin, what: str, more: Mapping[str, str]) -> None:
    kind = "document" if order.act is OrderedAct.ERASURE else "key"
    details = {"order": str(order.id), **order.parameters, **more}
    line = audit_line(origin, order.tenant, kind, order.subject, f"{order.act.value}.{what}", details=details)
    await work.outbox.add(line)
