"""Operators and auditors who are bound to tenants: nothing of others exists for them, at the API and at the command line."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import httpx
import pytest

from domain.documents import Role
from domain.lifecycle import Status
from domain.refusals import OperatorBound, TenantNotYours
from identity.tokens import Identity
from ingest_api.route_authorization import rule_of
from processors.documents.callers import ALL_TENANTS
from runtime.cli.operator_bounds import bound_tenants, check_bound, operator_name
from runtime.cli.output import settings_of as settings_in_force
from tests.support.api import NamedTokens, a_client, an_app, assert_problem, bearer
from tests.support.fakes_intake import IntakeBench
from tests.support.settings import settings_of
from tests.unit.test_route_authorization import ASKED, GUARDED, OTHERS, a_place, asked, names_of

#: Routes that no tenant's thing is named on, and what a bound operator gets there.
NAMELESS = {
    "list_documents": 200,
    "list_document_types": 200,
    "revoke_token": 403,
    **dict.fromkeys(
        ("list_dead_letter_groups", "list_dead_letters", "list_batches", "list_pauses", "list_orders", "plan_act"), 200
    ),
    **dict.fromkeys(("get_batch", "list_batch_items", "continue_batch", "stop_batch", "confirm_batch"), 404),
    "confirm_plan": 409,
    "pause_consumer": 403,
    "resume_consumer": 403,
}
#: What only who is bound to no tenant may do.
OF_ALL = {"revoke_token", "pause_consumer", "resume_consumer"}


class BoundTokens(NamedTokens):
    """As NamedTokens, all bound to ``tenants``."""

    def __init__(self, *tenants: str) -> None:
        self._tenants = frozenset(tenants)

    async def authenticate(self, token: str) -> Identity:
        return replace(await super().authenticate(token), bound_to=self._tenants)


def overseers(name: str) -> list[Role]:
    return sorted(rule_of(name).own & ALL_TENANTS, key=lambda role: role.value)


CASES = [(name, role) for name in GUARDED for role in overseers(name)]


@pytest.mark.parametrize(("name", "role"), CASES)
async def test_what_is_not_bound_to_does_not_exist(bench: IntakeBench, name: str, role: Role) -> None:
    """Not even the token's own tenant: the list is all there is."""
    async with a_client(an_app(bench, authenticator=BoundTokens("bank"))) as client:
        for tenant in ("acme", OTHERS):
            place = await a_place(bench, tenant)
            before = dict(bench.database.rows.documents)
            answer = await asked(client, ASKED[name], place, bearer(role.value))
            if name in NAMELESS:
                assert answer.status_code == NAMELESS[name], answer.text
            else:
                assert_problem(answer, *(ASKED[name].hidden or (0, "")))
            assert str(place.document.id) not in names_of(answer)
            assert bench.database.rows.documents == before
            bench.database.rows.dossiers.pop(place.dossier.id)


@pytest.mark.parametrize(("name", "role"), [case for case in CASES if case[0] not in OF_ALL])
async def test_what_is_bound_to_is_there(bench: IntakeBench, name: str, role: Role) -> None:
    place = await a_place(bench, OTHERS)
    async with a_client(an_app(bench, authenticator=BoundTokens("bank", OTHERS))) as client:
        answer = await asked(client, ASKED[name], place, bearer(role.value))
    assert answer.status_code == ASKED[name].good, answer.text


async def test_what_concerns_all_tenants_is_refused(bench: IntakeBench) -> None:
    async with a_client(an_app(bench, authenticator=BoundTokens("acme"))) as client:
        answer = await client.post("/api/v1/revocations", json={"token_id": "t"}, headers=bearer("operator"))
    assert_problem(answer, 403, "operator_bound")
    assert bench.audited() == []


async def listed(client: httpx.AsyncClient, roles: str, **filters: str) -> set[str]:
    answer = await client.get("/api/v1/documents", params=filters, headers=bearer(roles))
    assert answer.status_code == 200, answer.text
    return {one["id"] for one in answer.json()["items"]}


async def test_lists_hold_what_is_bound_to_and_attempts_of_nobody_else(bench: IntakeBench) -> None:
    places = {tenant: await a_place(bench, tenant) for tenant in ("acme", OTHERS, "bank")}
    ids = {tenant: str(place.document.id) for tenant, place in places.items()}
    async with a_client(an_app(bench, authenticator=BoundTokens(OTHERS, "bank"))) as client:
        assert await listed(client, "operator") == {ids[OTHERS], ids["bank"]}
        # As a portal, its own tenant as well, but no attempts there.
        assert await listed(client, "operator,portal") == set(ids.values())
        bench.database.put(*(replace(place.document, status=Status.ABANDONED) for place in places.values()))
        assert await listed(client, "operator,portal", status="ABANDONED") == {ids[OTHERS], ids["bank"]}
        assert await listed(client, "portal", status="ABANDONED") == set()
    async with a_client(an_app(bench, authenticator=BoundTokens())) as client:
        assert await listed(client, "operator") == set()
    assert [line.action for line in bench.audited()].count("document.list") == 3


async def test_another_role_acts_on_its_own_tenant_as_that_role_alone(bench: IntakeBench) -> None:
    """Who is a portal at home and an operator elsewhere erases nothing at home."""
    place = await a_place(bench, "acme")
    async with a_client(an_app(bench, authenticator=BoundTokens(OTHERS))) as client:
        seen = await asked(client, ASKED["get_document"], place, bearer("portal,operator"))
        erased = await asked(client, ASKED["erase_document"], place, bearer("portal,operator"))
    assert seen.status_code == 200
    assert_problem(erased, 404, "document_not_found")


# --- the command line --------------------------------------------------------------------------------------------------


def bounds(**bound: list[str]) -> dict[str, Any]:
    return {"operator_tenants": {name.replace("others", "*"): tenants for name, tenants in bound.items()}}


@pytest.fixture
def anne(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.cli.operator_bounds.operator_name", lambda: "anne")


@pytest.mark.usefixtures("anne")
@pytest.mark.parametrize(
    ("bound", "found"),
    [
        ({}, None),
        ({"anne": ["a", "b"]}, {"a", "b"}),
        ({"bob": ["a"]}, None),
        ({"bob": ["a"], "others": []}, set()),
        ({"anne": ["a"], "others": []}, {"a"}),
    ],
)
def test_whom_the_setting_binds(bound: dict[str, list[str]], found: set[str] | None) -> None:
    assert bound_tenants(settings_of(**bounds(**bound))) == found
    assert bound_tenants(settings_of()) is None


def test_a_bound_operator_names_his_own_tenants_alone() -> None:
    check_bound(None, None)
    check_bound(None, "a")
    check_bound(frozenset({"a"}), "a")
    with pytest.raises(TenantNotYours):
        check_bound(frozenset({"a"}), "b")
    with pytest.raises(OperatorBound):
        check_bound(frozenset({"a"}), None)


@pytest.mark.parametrize("names", [["system"], ["a b"], ["a"] * 101])
def test_bounds_that_are_none(names: list[str]) -> None:
    with pytest.raises(ValueError, match="DPJ_OPERATOR_TENANTS"):
        settings_of(operator_tenants={"anne": names})


@pytest.mark.usefixtures("anne")
def test_a_command_that_minds_no_bounds_is_not_for_who_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    made = settings_of(operator_tenants={"anne": ["a"]})
    monkeypatch.setattr("runtime.config.settings.load_settings", lambda _: made)
    with pytest.raises(OperatorBound):
        settings_in_force(None)
    assert settings_in_force(None, minds_bounds=True) is made


def test_who_is_at_the_terminal_is_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert operator_name() == "root"
    monkeypatch.setenv("SUDO_USER", "anne")
    assert operator_name() == "anne"
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    assert operator_name() == "uid-4000000"
