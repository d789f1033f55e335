"""Open orders: who sees which, page by page, at the API and in the console; and what the console does about them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from domain.audit_chain import SYSTEM_TENANT
from domain.documents import Role
from domain.erasure import LegalBasis
from domain.lifecycle import Status
from domain.orders import Order, OrderedAct
from domain.refusals import CursorInvalid
from ingest_api.presenters import API
from tests.support.api import bearer
from tests.support.console import BASE, ConsoleBench, sign_in, token_in
from tests.support.fakes_intake import IntakeBench

ORIGIN = {"Origin": BASE}


def put(bench: IntakeBench, act: OrderedAct = OrderedAct.ERASURE, **changes: Any) -> Order:
    at = bench.clock.now()
    base = {
        "id": uuid4(),
        "act": act,
        "subject": str(uuid4()),
        "tenant": "acme",
        "parameters": {"reason": "T-1", "legal_basis": "GDPR_17_1_B"},
        "ordered_by": "p:somebody",
        "ordered_at": at,
        "expires_at": at + timedelta(days=3),
    }
    order = Order(**{**base, **changes})
    bench.database.rows.orders[order.act, order.subject] = order
    return order


async def test_orders_are_paged_oldest_first_and_expired_ones_are_none(bench: IntakeBench) -> None:
    orders = [put(bench) for _ in range(5)]
    put(bench, expires_at=bench.clock.at - timedelta(seconds=1))
    desk, caller = bench.operator_desk, bench.caller(Role.OPERATOR)
    first = await desk.orders(caller, None, 2)
    put(bench, ordered_at=orders[0].ordered_at - timedelta(hours=1))  # shifts nothing
    second = await desk.orders(caller, first.next_cursor, 2)
    third = await desk.orders(caller, second.next_cursor, 2)
    assert [one.order for page in (first, second, third) for one in page.items] == orders
    assert third.next_cursor is None
    with pytest.raises(CursorInvalid):
        await desk.orders(caller, "x", 2)


async def test_a_bound_operator_sees_the_orders_of_his_tenants_alone(bench: IntakeBench) -> None:
    mine = put(bench)
    put(bench, tenant="other")
    put(bench, OrderedAct.PERSONAL_KEY_RETIREMENT, subject="k1", tenant=SYSTEM_TENANT, parameters={})
    bound = replace(bench.caller(Role.OPERATOR), bound_to=frozenset({"acme"}))
    assert [one.order for one in (await bench.operator_desk.orders(bound)).items] == [mine]
    assert len((await bench.operator_desk.orders(bench.caller(Role.OPERATOR))).items) == 3


async def test_the_api_lists_them_with_what_confirms_and_withdraws(
    client: httpx.AsyncClient, bench: IntakeBench
) -> None:
    erasure = put(bench)
    put(bench, OrderedAct.KEY_RETIREMENT, subject="acme", parameters={"below_version": 3})
    put(bench, OrderedAct.PERSONAL_KEY_RETIREMENT, subject="k1", tenant=SYSTEM_TENANT, parameters={})
    answer = await client.get(f"{API}/operations/orders", headers=bearer("operator"))
    assert answer.status_code == 200
    items = answer.json()["items"]
    assert [one["act"] for one in items] == ["document.erasure", "key.retirement", "personal_key.retirement"]
    document = f"{API}/documents/{erasure.subject}"
    assert items[0]["links"] == {
        "document": document,
        "confirm": f"{document}/erase/confirm",
        "withdraw": f"{document}/erase/withdraw",
    }
    assert (items[0]["reason"], items[0]["legal_basis"], items[0]["own"]) == ("T-1", "GDPR_17_1_B", False)
    assert (items[1]["below_version"], items[1]["links"], items[2]["tenant"]) == (3, {}, None)
    for role, status in (("auditor", 200), ("portal", 403), ("validator", 403)):
        assert (await client.get(f"{API}/operations/orders", headers=bearer(role))).status_code == status


# --- the console -------------------------------------------------------------------------------------------------------


@pytest.fixture
def site() -> ConsoleBench:
    return ConsoleBench(by_two=True)


@pytest.fixture
async def operator(site: ConsoleBench) -> AsyncIterator[httpx.AsyncClient]:
    async with site.client() as client:
        await sign_in(client)
        yield client


async def ordered(site: ConsoleBench, subject: str) -> tuple[UUID, Order]:
    """A document that an operator of that subject has ordered to be erased."""
    document = await site.bench.stored(Status.REJECTED)
    caller = site.bench.caller(Role.OPERATOR, subject=subject)
    asked = await site.dependencies.erasing.request(caller, document.id, "T-9", LegalBasis.GDPR_17_1_B)
    assert asked.order is not None
    return document.id, asked.order


async def settle(client: httpx.AsyncClient, act: str, document: UUID, order: UUID) -> httpx.Response:
    csrf = token_in((await client.get("/me")).text)
    form = {"csrf": csrf, "document": str(document), "order": str(order)}
    return await client.post(f"/orders/erasures/{act}", data=form, headers=ORIGIN)


async def test_the_second_person_confirms_in_the_console(site: ConsoleBench, operator: httpx.AsyncClient) -> None:
    document, order = await ordered(site, "pierre-operator")
    page = (await operator.get("/orders")).text
    assert all(text in page for text in (str(document), "T-9", "GDPR_17_1_B", "/orders/erasures/confirm"))
    assert "/orders/erasures/withdraw" not in page
    assert "1 orders wait for a second person" in (await operator.get("/")).text
    assert (await settle(operator, "confirm", document, uuid4())).status_code == 404
    assert site.bench.database.rows.documents[document].status is Status.REJECTED
    assert (await settle(operator, "confirm", document, order.id)).status_code == 303
    assert site.bench.database.rows.documents[document].status is Status.ERASING
    assert "No order waits" in (await operator.get("/orders")).text
    assert "second person" not in (await operator.get("/")).text


async def test_who_ordered_may_withdraw_and_not_confirm(site: ConsoleBench, operator: httpx.AsyncClient) -> None:
    document, order = await ordered(site, "marie-operator")
    page = (await operator.get("/orders")).text
    assert "/orders/erasures/withdraw" in page
    assert "/orders/erasures/confirm" not in page
    assert (await settle(operator, "confirm", document, order.id)).status_code == 403
    assert (await settle(operator, "withdraw", document, order.id)).status_code == 303
    assert site.bench.database.rows.orders == {}
    assert site.bench.database.rows.documents[document].status is Status.REJECTED


async def test_confirming_asks_for_a_sign_in_of_the_last_minutes(
    site: ConsoleBench, operator: httpx.AsyncClient
) -> None:
    document, order = await ordered(site, "pierre-operator")
    site.authenticated_ago(operator, timedelta(hours=1))
    page = (await operator.get("/orders")).text
    assert "Sign in again to confirm" in page
    assert "/orders/erasures/confirm" not in page
    assert (await settle(operator, "confirm", document, order.id)).status_code == 403
    assert site.bench.database.rows.documents[document].status is Status.REJECTED


async def test_keys_are_told_with_their_command_and_auditors_only_see(site: ConsoleBench) -> None:
    order = put(site.bench, OrderedAct.KEY_RETIREMENT, subject="acme", parameters={"below_version": 3})
    document, erasure = await ordered(site, "pierre-operator")
    for role, shown in (("operator", True), ("auditor", False)):
        async with site.client(**{"Accept-Language": "fr"}) as client:
            await sign_in(client, role)
            page = (await client.get("/orders")).text
            assert "versions avant 3" in page
            assert (f"dpj keys retire --tenant acme --apply --order {order.id}" in page) is shown
            assert ("/orders/erasures/" in page) is shown
            if not shown:
                assert (await settle(client, "confirm", document, erasure.id)).status_code == 403


async def test_a_form_that_is_none_of_ours_settles_nothing(site: ConsoleBench, operator: httpx.AsyncClient) -> None:
    document, order = await ordered(site, "marie-operator")
    assert (await settle(operator, "burn", document, order.id)).status_code == 404
    form = {"document": str(document), "order": str(order.id)}
    assert (await operator.post("/orders/erasures/withdraw", data=form, headers=ORIGIN)).status_code == 403
    csrf = token_in((await operator.get("/me")).text)
    wrong = await operator.post("/orders/erasures/withdraw", data={"csrf": csrf, "document": "x"}, headers=ORIGIN)
    assert wrong.status_code == 400
    assert len(site.bench.database.rows.orders) == 1
