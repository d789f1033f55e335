"""What takes two persons: one orders, another confirms, before the order expires; whatever dies in between."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from crypto.local_keyring import LocalKeyring
from crypto.local_tenant_keys import LocalTenantKeys
from domain.documents import Document, Role
from domain.erasure import LegalBasis
from domain.errors import DatabaseUnavailable, KeyringUnavailable
from domain.lifecycle import Status
from domain.orders import Order, OrderedAct
from domain.refusals import (
    DocumentNotFound,
    KeyVersionInUse,
    LegalHoldStands,
    OrderConfirmed,
    OrderNotFound,
    OrderNotYours,
    PersonalKeyInUse,
    RetentionRunning,
    SecondPersonNeeded,
)
from domain.retention import LegalHold
from processors.documents.personal_texts import PersonalTexts
from processors.documents.second_person import SecondPerson
from processors.operators.keys import KeyAdministration
from processors.operators.personal_text_keys import PersonalKeyAdministration
from processors.retention.erasure_request import ErasureRequests
from tests.support.api import a_client, an_app, assert_problem, bearer
from tests.support.builders import FixedClock
from tests.support.fakes_archiving import PlainSeals
from tests.support.fakes_intake import IntakeBench
from tests.support.fakes_keys import MemoryWrappedKeys
from tests.support.fakes_personal_texts import ReadableColumnKeys
from tests.support.memory import MemoryDatabase
from tests.support.memory_personal_texts import MemoryColumnKeyStore, MemoryPersonalColumns

BASIS = LegalBasis.COURT_ORDER


def two(bench: IntakeBench, *, required: bool = True, by_type: bool | None = None) -> ErasureRequests:
    bench.database.put(replace(bench.database.rows.types["CNI"], erased_by_two=by_type))
    person = SecondPerson(required=required, hours=1)
    bench.erasure_requests = ErasureRequests(bench.database, bench.personal, bench.clock, person)
    return bench.erasure_requests


def operator(bench: IntakeBench, name: str, **changes: Any) -> Any:
    return bench.caller(Role.OPERATOR, subject=name, **changes)


def said(bench: IntakeBench, word: str) -> list[str]:
    return [line.action for line in bench.audited() if word in line.action]


async def ordered(bench: IntakeBench, requests: ErasureRequests, document: Document) -> Order:
    asked = await requests.request(operator(bench, "anne"), document.id, "T-1", BASIS)
    assert asked.order is not None
    return asked.order


async def test_one_orders_and_another_erases(bench: IntakeBench) -> None:
    document, requests = await bench.stored(Status.VERIFIED), two(bench)
    order = await ordered(bench, requests, document)
    assert bench.database.rows.documents[document.id].wrapped_key is not None
    assert (await requests.order(operator(bench, "bob"), document.id)) == order
    done = await requests.confirm(operator(bench, "bob"), document.id, order.id)
    assert (done.document.status, done.complete, done.order) == (Status.ERASING, False, None)
    erasure, _ = bench.database.rows.erasures[document.id]
    assert (erasure.actor, erasure.reason, erasure.basis) == (order.ordered_by, "T-1", BASIS)
    acts = [line for line in bench.audited() if line.action.startswith(("document.eras",))]
    assert [line.action for line in acts] == [
        "document.erasure.ordered",
        "document.erasure.order.read",
        "document.erasure.confirmed",
        "document.erasing",
    ]
    assert acts[0].actor == order.ordered_by != acts[2].actor == acts[3].actor
    assert str(order.id) in acts[0].details
    assert order.ordered_by in acts[3].details
    assert bench.database.rows.orders == {}
    again = await requests.confirm(operator(bench, "carl"), document.id, order.id)
    assert again.document.status is Status.ERASING
    assert said(bench, "repeated") == ["document.erase.repeated"]


async def test_nobody_confirms_himself(bench: IntakeBench) -> None:
    document, requests = await bench.stored(Status.VERIFIED), two(bench)
    order = await ordered(bench, requests, document)
    before = bench.database.rows.copied()
    with pytest.raises(SecondPersonNeeded):
        await requests.confirm(operator(bench, "anne"), document.id, order.id)
    assert bench.database.rows == before
    # Asking a second time is no second person either.
    again = await requests.request(operator(bench, "anne"), document.id, "T-1", BASIS)
    assert again.order == order
    assert bench.database.rows == before


async def test_who_ordered_an_erasure_withdraws_it(bench: IntakeBench) -> None:
    document, requests = await bench.stored(Status.VERIFIED), two(bench)
    order = await ordered(bench, requests, document)
    before = bench.database.rows.copied()
    with pytest.raises(OrderNotYours):
        await requests.withdraw(operator(bench, "bob"), document.id, order.id)
    with pytest.raises(OrderNotFound):
        await requests.withdraw(operator(bench, "anne"), document.id, uuid4())
    stranger = replace(operator(bench, "anne", tenant="other"), bound_to=frozenset({"other"}))
    with pytest.raises(DocumentNotFound):
        await requests.withdraw(stranger, document.id, order.id)
    assert bench.database.rows == before
    assert (await requests.withdraw(operator(bench, "anne"), document.id, order.id)).status is Status.VERIFIED
    assert bench.database.rows.orders == {}
    line = bench.audited()[-1]
    assert (line.action, line.actor) == ("document.erasure.withdrawn", order.ordered_by)
    assert str(order.id) in line.details
    for again in (
        requests.confirm(operator(bench, "bob"), document.id, order.id),
        requests.withdraw(operator(bench, "anne"), document.id, order.id),
    ):
        with pytest.raises(OrderNotFound):
            await again
    # Ordered again it is another order.
    assert (await ordered(bench, requests, document)).id != order.id


async def test_an_order_that_expired_is_none(bench: IntakeBench) -> None:
    document, requests = await bench.stored(Status.VERIFIED), two(bench)
    order = await ordered(bench, requests, document)
    bench.clock.at += timedelta(hours=1)
    with pytest.raises(OrderNotFound):
        await requests.confirm(operator(bench, "bob"), document.id, order.id)
    with pytest.raises(OrderNotFound):
        await requests.order(operator(bench, "bob"), document.id)
    assert (await ordered(bench, requests, document)).id != order.id


async def test_what_was_read_is_what_is_confirmed(bench: IntakeBench) -> None:
    document, requests = await bench.stored(Status.VERIFIED), two(bench)
    order = await ordered(bench, requests, document)
    other = await requests.request(operator(bench, "carl"), document.id, "T-2", BASIS)
    assert other.order is not None
    assert str(order.id) in bench.audited()[-1].details
    for wrong in (order.id, uuid4()):
        with pytest.raises(OrderNotFound):
            await requests.confirm(operator(bench, "bob"), document.id, wrong)
    await requests.confirm(operator(bench, "anne"), document.id, other.order.id)
    assert bench.database.rows.erasures[document.id][0].reason == "T-2"


async def test_what_keeps_a_document_is_looked_at_twice(bench: IntakeBench) -> None:
    document, requests = await bench.stored(Status.VERIFIED), two(bench)
    with pytest.raises(RetentionRunning):
        await requests.request(operator(bench, "anne"), document.id, "T-1", None)
    assert bench.database.rows.orders == {}
    order = await ordered(bench, requests, document)
    async with bench.database.transaction() as work:
        hold = LegalHold(reference="H", reason="R", set_by="x", set_at=bench.clock.at)
        await work.holds.put(document.id, hold)
    with pytest.raises(LegalHoldStands):
        await requests.confirm(operator(bench, "bob"), document.id, order.id)
    assert said(bench, "confirmed") == []


async def test_whom_a_document_does_not_exist_for(bench: IntakeBench) -> None:
    document, requests = await bench.stored(Status.VERIFIED), two(bench)
    order = await ordered(bench, requests, document)
    stranger = replace(operator(bench, "bob", tenant="other"), bound_to=frozenset({"other"}))
    with pytest.raises(DocumentNotFound):
        await requests.confirm(stranger, document.id, order.id)
    with pytest.raises(DocumentNotFound):
        await requests.order(stranger, document.id)


@pytest.mark.parametrize("fault", ["rollback", "lost"])
async def test_cut_off_at_the_commit_it_is_repeated(bench: IntakeBench, fault: str) -> None:
    document, requests = await bench.stored(Status.VERIFIED), two(bench)
    order = await ordered(bench, requests, document)
    bench.database.faults = [fault]
    with pytest.raises(DatabaseUnavailable):
        await requests.confirm(operator(bench, "bob"), document.id, order.id)
    done = await requests.confirm(operator(bench, "bob"), document.id, order.id)
    assert done.document.status is Status.ERASING
    assert said(bench, "document.erasing") == ["document.erasing"]


@pytest.mark.parametrize(
    ("required", "by_type", "takes_two"),
    [(True, None, True), (True, False, False), (False, None, False), (False, True, True)],
)
async def test_a_type_says_otherwise(bench: IntakeBench, required: bool, by_type: bool | None, takes_two: bool) -> None:
    document = await bench.stored(Status.VERIFIED)
    requests = two(bench, required=required, by_type=by_type)
    asked = await requests.request(operator(bench, "anne"), document.id, "T-1", BASIS)
    assert (asked.order is not None) == takes_two
    assert (asked.document.status is Status.ERASING) != takes_two


async def test_over_http(bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    two(bench)
    me = f"/api/v1/documents/{document.id}"
    anne, bob = (bearer("operator", subject=name) for name in ("anne", "bob"))
    async with a_client(an_app(bench)) as client:
        body = {"reason": "T-1", "legal_basis": "COURT_ORDER"}
        asked: httpx.Response = await client.post(f"{me}/erase", json=body, headers=anne)
        assert (asked.status_code, asked.json()["status"]) == (202, "VERIFIED")
        order = asked.json()["order"]
        assert (await client.get(f"{me}/erasure-order", headers=bob)).json() == order
        assert (order["reason"], order["legal_basis"]) == ("T-1", "COURT_ORDER")
        confirming = {"json": {"order_id": order["id"]}}
        assert_problem(
            await client.post(f"{me}/erase/confirm", **confirming, headers=anne), 403, "second_person_needed"
        )
        wrong = {"json": {"order_id": str(uuid4())}}
        assert_problem(await client.post(f"{me}/erase/confirm", **wrong, headers=bob), 404, "order_not_found")
        assert_problem(await client.post(f"{me}/erase/withdraw", **confirming, headers=bob), 403, "order_not_yours")
        back = await client.post(f"{me}/erase/withdraw", **confirming, headers=anne)
        assert (back.status_code, back.json()["status"], back.json()["order"]) == (200, "VERIFIED", None)
        assert_problem(await client.post(f"{me}/erase/confirm", **confirming, headers=bob), 404, "order_not_found")
        confirming["json"]["order_id"] = (await client.post(f"{me}/erase", json=body, headers=anne)).json()["order"][
            "id"
        ]
        done = await client.post(f"{me}/erase/confirm", **confirming, headers=bob)
        assert (done.status_code, done.json()["status"], done.json()["order"]) == (202, "ERASING", None)


# --- keys --------------------------------------------------------------------------------------------------------------


class Keys:
    """A tenant's key with a version that can go, and two operators."""

    def __init__(self, path: Path) -> None:
        self.keyring = LocalKeyring.create(path)
        self.keys = LocalTenantKeys(path)
        self.rows = MemoryWrappedKeys()
        self.clock = FixedClock()
        self.database = MemoryDatabase(self.clock)
        self.anne, self.bob = (self._operator(name) for name in ("anne", "bob"))

    def _operator(self, name: str) -> KeyAdministration:
        person = SecondPerson(required=True, hours=1)
        return KeyAdministration(self.keys, self.rows, self.rows, self.database, self.clock, name, person)

    def said(self) -> list[str]:
        return [line.action for line in self.database.audited()]

    async def floor(self) -> int:
        return (await self.keys.states("acme"))[0].min_decryption


@pytest.fixture
async def keys(tmp_path: Path) -> Keys:
    made = Keys(tmp_path / "keyring.json")
    await made.anne.create("acme")
    await made.anne.rotate("acme")
    return made


async def test_a_key_is_retired_by_two(keys: Keys) -> None:
    with pytest.raises(SecondPersonNeeded):
        await keys.anne.retire("acme", None, apply=True)
    assert (await keys.anne.retire("acme", None, apply=False)).latest == 2
    order = await keys.anne.order_retirement("acme", None)
    assert (order.act, order.parameters) == (OrderedAct.KEY_RETIREMENT, {"below_version": 2})
    with pytest.raises(SecondPersonNeeded):
        await keys.anne.retire("acme", None, apply=True, order_id=order.id)
    assert await keys.floor() == 1
    # What was ordered is done, whatever became the newest since.
    await keys.bob.rotate("acme")
    assert (await keys.bob.retire("acme", None, apply=True, order_id=order.id)).min_decryption == 2
    assert keys.said()[-3:] == ["key.retirement.confirmed", "key.retiring", "key.retired"]
    assert keys.database.rows.orders == {}
    with pytest.raises(OrderNotFound):
        await keys.bob.retire("acme", None, apply=True, order_id=order.id)


async def test_who_ordered_a_keys_retirement_withdraws_it(keys: Keys) -> None:
    order = await keys.anne.order_retirement("acme", None)
    with pytest.raises(OrderNotYours):
        await keys.bob.withdraw_retirement("acme", order.id)
    assert await keys.anne.withdraw_retirement("acme", order.id) == order
    assert keys.said()[-1] == "key.retirement.withdrawn"
    with pytest.raises(OrderNotFound):
        await keys.bob.retire("acme", None, apply=True, order_id=order.id)
    assert await keys.floor() == 1


async def test_cut_off_after_it_was_confirmed_anybody_goes_on(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    order = await keys.anne.order_retirement("acme", 2)

    async def away(*_: object) -> None:
        raise KeyringUnavailable

    monkeypatch.setattr(keys.keys, "raise_floor", away)
    with pytest.raises(KeyringUnavailable):
        await keys.bob.retire("acme", None, apply=True, order_id=order.id)
    monkeypatch.undo()
    with pytest.raises(OrderConfirmed):
        await keys.anne.withdraw_retirement("acme", order.id)
    assert (await keys.anne.retire("acme", None, apply=True, order_id=order.id)).min_decryption == 2
    assert keys.said().count("key.retirement.confirmed") == 1


async def test_what_can_t_be_retired_is_not_ordered(keys: Keys) -> None:
    for version in (0, 3):
        with pytest.raises(KeyVersionInUse):
            await keys.anne.order_retirement("acme", version)
    assert "key.retirement.ordered" not in keys.said()
    order = await keys.anne.order_retirement("acme", 2)
    keys.clock.at += timedelta(hours=1)
    with pytest.raises(OrderNotFound):
        await keys.bob.retire("acme", 2, apply=True, order_id=order.id)
    assert await keys.floor() == 1


class PersonalKeys:
    def __init__(self) -> None:
        self.database = MemoryDatabase()
        self.columns = ReadableColumnKeys("k1")
        self.anne, self.bob = (self._operator(name) for name in ("anne", "bob"))

    def _operator(self, name: str) -> PersonalKeyAdministration:
        texts = PersonalTexts(self.columns, PlainSeals())
        kept, store = MemoryPersonalColumns(self.database), MemoryColumnKeyStore(self.columns)
        return PersonalKeyAdministration(
            store, kept, texts, self.database, self.database.clock, name, SecondPerson(required=True)
        )


async def test_a_personal_key_is_retired_by_two() -> None:
    keys = PersonalKeys()
    old = (await keys.anne.status()).sealing[0]
    with pytest.raises(PersonalKeyInUse):
        await keys.anne.order_retirement(old)
    await keys.anne.rotate()
    assert keys.anne.needs_second_person
    assert await keys.anne.retire(old, apply=False) == "sealing"
    with pytest.raises(SecondPersonNeeded):
        await keys.anne.retire(old, apply=True)
    order = await keys.anne.order_retirement(old)
    with pytest.raises(OrderNotYours):
        await keys.bob.withdraw_retirement(old, order.id)
    await keys.anne.withdraw_retirement(old, order.id)
    assert [line.action for line in keys.database.audited()][-1] == "personal_key.retirement.withdrawn"
    order = await keys.anne.order_retirement(old)
    with pytest.raises(SecondPersonNeeded):
        await keys.anne.retire(old, apply=True, order_id=order.id)
    with pytest.raises(OrderNotFound):
        await keys.bob.retire(old, apply=True, order_id=UUID(int=9))
    assert await keys.bob.retire(old, apply=True, order_id=order.id) == "sealing"
    assert old not in (await keys.bob.status()).sealing
    acts = [line.action for line in keys.database.audited()][-4:]
    assert acts == [
        "personal_key.retirement.ordered",
        "personal_key.retirement.confirmed",
        "personal_key.retiring",
        "personal_key.retired",
    ]
    assert {line.tenant for line in keys.database.audited()} == {"system"}
    assert keys.database.rows.orders == {}
