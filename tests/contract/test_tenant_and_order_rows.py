"""Created tenants, orders that wait for a second person, and what a type says of duties: in memory and on PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from domain.orders import Order, OrderedAct
from processors.ports.orders import OrderQueries
from processors.ports.tenants import TenantQueries
from storage.postgres.housekeeping import PostgresHousekeeping
from storage.postgres.orders import PostgresOrderQueries
from storage.postgres.tenants import PostgresTenantQueries
from tests.support.database_backends import DatabaseBackend, Rolled
from tests.support.memory_orders import MemoryOrderQueries

ON_POSTGRES = pytest.mark.parametrize("bare_site", ["postgres"], indirect=True)
ERASURE, RETIREMENT = OrderedAct.ERASURE, OrderedAct.KEY_RETIREMENT
HOUR = timedelta(hours=1)


def queries_of(site: DatabaseBackend) -> TenantQueries:
    return site.memory or PostgresTenantQueries(site.postgres)


def now_of(site: DatabaseBackend) -> datetime:
    return site.memory.clock.at if site.memory else datetime.now(UTC)


def an_order(site: DatabaseBackend, act: OrderedAct = ERASURE, **changes: Any) -> Order:
    now = now_of(site)
    base = {
        "id": uuid4(),
        "act": act,
        "subject": str(uuid4()),
        "tenant": "acme",
        "parameters": {"reason": "T-1", "legal_basis": None, "below_version": 2},
        "ordered_by": "a" * 32,
        "ordered_at": now,
        "expires_at": now + HOUR,
    }
    return Order(**{**base, **changes})


async def put(site: DatabaseBackend, *orders: Order) -> None:
    async with site.database.transaction() as work:
        for order in orders:
            await work.orders.put(order)


async def standing(site: DatabaseBackend, order: Order) -> Order | None:
    async with site.database.transaction() as work:
        return await work.orders.get(order.act, order.subject)


async def test_a_tenant_is_created_once(site: DatabaseBackend) -> None:
    assert not await queries_of(site).is_created("acme")

    async def undone() -> None:
        async with site.database.transaction() as work:
            assert await work.tenants.add("acme", "anne")
            raise Rolled

    with pytest.raises(Rolled):
        await undone()
    assert not await queries_of(site).is_created("acme")
    for first in (True, False):
        async with site.database.transaction() as work:
            assert await work.tenants.add("acme", "anne") is first
    assert await queries_of(site).is_created("acme")
    assert not await queries_of(site).is_created("Acme")


@ON_POSTGRES
@pytest.mark.parametrize("name", ["system", "System"])
async def test_the_database_holds_the_site_s_own_name(site: DatabaseBackend, name: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        async with site.database.transaction() as work:
            await work.tenants.add(name, "anne")


async def test_an_order_stands_until_it_expires(site: DatabaseBackend) -> None:
    order, over = an_order(site), an_order(site, expires_at=now_of(site) - HOUR, ordered_at=now_of(site) - 2 * HOUR)
    await put(site, order, over)
    assert await standing(site, order) == order
    assert await standing(site, over) is None
    assert await standing(site, replace(order, act=RETIREMENT)) is None
    anew = an_order(site, subject=over.subject)
    await put(site, anew)
    assert await standing(site, over) == anew


async def test_another_order_takes_its_place_and_none_of_its_confirmation(site: DatabaseBackend) -> None:
    order = an_order(site, RETIREMENT)
    await put(site, order)
    now = now_of(site)
    async with site.database.transaction() as work:
        await work.orders.confirm(order, "b" * 32, now)
    assert await standing(site, order) == replace(order, confirmed_by="b" * 32, confirmed_at=now)
    other = an_order(site, RETIREMENT, subject=order.subject, ordered_by="c" * 32)
    await put(site, other)
    assert await standing(site, order) == other
    async with site.database.transaction() as work:
        await work.orders.remove(other)
    assert await standing(site, order) is None


@ON_POSTGRES
async def test_the_database_lets_nobody_confirm_himself(site: DatabaseBackend) -> None:
    order = an_order(site)
    await put(site, order)
    with pytest.raises(asyncpg.CheckViolationError):
        async with site.database.transaction() as work:
            await work.orders.confirm(order, order.ordered_by, now_of(site))


@ON_POSTGRES
async def test_of_two_who_confirm_one_waits(site: DatabaseBackend) -> None:
    order = an_order(site)
    await put(site, order)
    holding, may_go = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with site.database.transaction() as work:
            assert await work.orders.get(order.act, order.subject) is not None
            holding.set()
            await may_go.wait()
            await work.orders.remove(order)

    async def second() -> Order | None:
        await holding.wait()
        return await standing(site, order)

    one, other = asyncio.create_task(first()), asyncio.create_task(second())
    await holding.wait()
    await asyncio.sleep(0.3)  # time for the server to answer, if it did not make it wait
    assert not other.done()
    may_go.set()
    assert (await one, await other) == (None, None)


@ON_POSTGRES
async def test_orders_that_expired_are_pruned(site: DatabaseBackend) -> None:
    now = now_of(site)
    old = an_order(site, ordered_at=now - 100 * HOUR, expires_at=now - 25 * HOUR)
    await put(site, old, an_order(site), an_order(site, expires_at=now - HOUR))
    keeping = PostgresHousekeeping(site.postgres, keep_days=60, idempotency_hours=72, abandoned_hours=24)
    assert (await keeping.run_once())["ordres"] == 1


@ON_POSTGRES
async def test_a_type_says_of_duties_what_its_row_says(site: DatabaseBackend) -> None:
    async with site.postgres.connection() as connection:
        await connection.execute(
            "UPDATE types_documents SET separation_des_taches = false, effacement_a_deux = true WHERE code_type = 'RIB'"
        )
    async with site.database.transaction() as work:
        identity, account = await work.types.get("CNI"), await work.types.get("RIB")
    assert (identity.duties_separated, identity.erased_by_two) == (None, None)
    assert (account.duties_separated, account.erased_by_two) == (False, True)


# --- open orders -------------------------------------------------------------------------------------------------------


def order_queries_of(site: DatabaseBackend) -> OrderQueries:
    return MemoryOrderQueries(site.memory) if site.memory else PostgresOrderQueries(site.postgres)


async def test_open_orders_are_paged_by_their_time(site: DatabaseBackend) -> None:
    now = now_of(site)
    # Two to a moment: the order within one is that of the ids.
    orders = [an_order(site, tenant=f"t{number % 2}", ordered_at=now + HOUR * (number // 2)) for number in range(5)]
    retirement = an_order(site, RETIREMENT, subject="acme", ordered_at=now + 9 * HOUR, expires_at=now + 10 * HOUR)
    await put(site, *orders, retirement, an_order(site, expires_at=now - HOUR))
    there = [*sorted(orders, key=lambda one: (one.ordered_at, one.id)), retirement]
    queries, found = order_queries_of(site), list[Order]()
    after: tuple[datetime, UUID] | None = None
    while page := await queries.open(None, after, 2):
        found += page
        after = (page[-1].ordered_at, page[-1].id)
    assert found == there
    assert await queries.open(["t1"], None, 9) == [one for one in there if one.tenant == "t1"]
    assert await queries.open([], None, 9) == []
