"""Every route, for every role, on what is one's own tenant's and what is another's, and without a token: as the table says.

What is asked is written here by hand, route by route; who may ask it comes from the table alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import httpx
import pytest

from domain.documents import Document, Dossier, Role
from domain.lifecycle import Status
from ingest_api import route_authorization
from ingest_api.route_authorization import ACCESS, PublicRoute, RouteRule, rule_of
from tests.support.api import FORM_END, FORM_TYPE, assert_problem, bearer, form_head, metadata_of
from tests.support.builders import a_rendition
from tests.support.fakes_intake import PDF, IntakeBench

API = "/api/v1"
OTHERS = "other"
DOCUMENT, DOSSIER = "document_not_found", "dossier_not_found"


@dataclass
class Place:
    """What one tenant has."""

    bench: IntakeBench
    tenant: str
    document: Document
    dossier: Dossier
    link_path: str
    link_url: str


@dataclass(frozen=True)
class Ask:
    """How a route is asked about a place. ``hidden``: status and code for whom the place does not exist; None: it names none."""

    method: str
    path: Callable[[Place], str]
    good: int
    hidden: tuple[int, str] | None = None
    body: Callable[[Place], dict[str, Any]] | None = None


def _of_document(ending: str = "") -> Callable[[Place], str]:
    return lambda place: f"{API}/documents/{place.document.id}{ending}"


def _upload(place: Place) -> dict[str, Any]:
    metadata = metadata_of(place.bench, dossier_id=str(place.dossier.id))
    return {"headers": FORM_TYPE, "content": form_head(metadata) + PDF + FORM_END}


def _json(value: Any) -> Callable[[Place], dict[str, Any]]:
    return lambda _: {"headers": {"Content-Type": "application/json"}, "content": json.dumps(value)}


ERASE = {"reason": "T-1", "legal_basis": "COURT_ORDER"}
EXTEND = {"until": "2090-01-01T00:00:00+00:00", "reason": "T-1"}
HOLD = {"reference": "H-1", "reason": "T-1"}
NEW_DOSSIER = {"number": "D-9", "client_id": "C-9", "journey_type": "LOAN"}

PAUSE = {"consumer": "audit", "minutes": 1, "reason": "T-1"}
OPERATIONS = f"{API}/operations"
BATCH = f"{OPERATIONS}/batches/{UUID(int=7)}"

ASKED: dict[str, Ask] = {
    "upload_document": Ask("POST", lambda _: f"{API}/documents", 201, (422, "dossier_unknown"), _upload),
    "list_documents": Ask("GET", lambda place: f"{API}/documents?dossier={place.dossier.id}", 200),
    "search_documents": Ask("POST", lambda _: f"{API}/document-search", 200, None, _json({"file_name": "scan.pdf"})),
    "get_document": Ask("GET", _of_document(), 200, (404, DOCUMENT)),
    "get_document_content": Ask("GET", _of_document("/content"), 200, (404, DOCUMENT)),
    "get_document_thumbnail": Ask("GET", _of_document("/thumbnail"), 200, (404, DOCUMENT)),
    # The place's document is not archived: for whom it exists, it has no receipt.
    "get_document_receipt": Ask("GET", _of_document("/receipt"), 409, (404, DOCUMENT)),
    "list_document_events": Ask("GET", _of_document("/events"), 200, (404, DOCUMENT)),
    "validate_document": Ask("POST", _of_document("/validate"), 200, (404, DOCUMENT), _json({})),
    "reject_document": Ask("POST", _of_document("/reject"), 200, (404, DOCUMENT), _json({"reason": "blurred"})),
    "erase_document": Ask("POST", _of_document("/erase"), 202, (404, DOCUMENT), _json(ERASE)),
    # Nobody ordered its erasure.
    "confirm_erasure": Ask(
        "POST", _of_document("/erase/confirm"), 404, (404, DOCUMENT), _json({"order_id": str(UUID(int=7))})
    ),
    "withdraw_erasure": Ask(
        "POST", _of_document("/erase/withdraw"), 404, (404, DOCUMENT), _json({"order_id": str(UUID(int=7))})
    ),
    "get_erasure_order": Ask("GET", _of_document("/erasure-order"), 404, (404, DOCUMENT)),
    # It was not erased: for whom it exists, there is no receipt of that.
    "get_erasure_receipt": Ask("GET", _of_document("/erasure-receipt"), 404, (404, DOCUMENT)),
    "get_retention": Ask("GET", _of_document("/retention"), 200, (404, DOCUMENT)),
    "extend_retention": Ask("POST", _of_document("/retention"), 200, (404, DOCUMENT), _json(EXTEND)),
    "set_legal_hold": Ask("POST", _of_document("/legal-holds"), 200, (404, DOCUMENT), _json(HOLD)),
    "lift_legal_hold": Ask("POST", _of_document("/legal-holds/H-1/lift"), 404, (404, DOCUMENT), _json({"reason": "X"})),
    "create_dossier": Ask("POST", lambda _: f"{API}/dossiers", 201, None, _json(NEW_DOSSIER)),
    "list_dossiers": Ask("GET", lambda _: f"{API}/dossiers", 200),
    "get_dossier": Ask("GET", lambda place: f"{API}/dossiers/{place.dossier.id}", 200, (404, DOSSIER)),
    "list_document_types": Ask("GET", lambda _: f"{API}/document-types", 200),
    "create_document_link": Ask("POST", _of_document("/links"), 201, (404, DOCUMENT), _json({"purpose": "audit"})),
    "revoke_document_link": Ask("DELETE", lambda place: place.link_path, 204, (404, DOCUMENT)),
    "open_link": Ask("GET", lambda place: place.link_url, 200),
    "revoke_token": Ask("POST", lambda _: f"{API}/revocations", 200, None, _json({"token_id": "t"})),
    "list_dead_letter_groups": Ask("GET", lambda _: f"{OPERATIONS}/dead-letters", 200),
    "list_dead_letters": Ask(
        "GET", lambda _: f"{OPERATIONS}/dead-letters/group?consumer=audit&code=c&error_class=E", 200
    ),
    "plan_act": Ask("POST", lambda _: f"{OPERATIONS}/plans", 200, None, _json({"act": "discard"})),
    # The plan is another one, and there is no such batch, and no such pause.
    "confirm_plan": Ask(
        "POST",
        lambda _: f"{OPERATIONS}/batches",
        409,
        None,
        _json({"act": "discard", "plan_hash": "0" * 64, "reason": "T-1"}),
    ),
    "list_batches": Ask("GET", lambda _: f"{OPERATIONS}/batches", 200),
    "get_batch": Ask("GET", lambda _: BATCH, 404),
    "list_batch_items": Ask("GET", lambda _: f"{BATCH}/items", 404),
    "continue_batch": Ask("POST", lambda _: f"{BATCH}/continue", 404),
    "stop_batch": Ask("POST", lambda _: f"{BATCH}/stop", 404),
    "confirm_batch": Ask("POST", lambda _: f"{BATCH}/confirm", 404),
    "list_orders": Ask("GET", lambda _: f"{OPERATIONS}/orders", 200),
    "list_pauses": Ask("GET", lambda _: f"{OPERATIONS}/pauses", 200),
    "pause_consumer": Ask("POST", lambda _: f"{OPERATIONS}/pauses", 201, None, _json(PAUSE)),
    "resume_consumer": Ask("POST", lambda _: f"{OPERATIONS}/pauses/audit/resume", 409, None, _json({"reason": "T-1"})),
    "openapi": Ask("GET", lambda _: f"{API}/openapi.json", 200),
    "livez": Ask("GET", lambda _: "/livez", 200),
    "readyz": Ask("GET", lambda _: "/readyz", 200),
}
#: Routes by which other tenants' documents are changed, by whom the table lets.
CHANGING = {"erase_document", "extend_retention"}
GUARDED = [name for name, rule in ACCESS.items() if isinstance(rule, RouteRule)]
OPEN = [name for name, rule in ACCESS.items() if isinstance(rule, PublicRoute)]


async def a_place(bench: IntakeBench, tenant: str) -> Place:
    """A dossier of ``tenant`` with a verified document that has a thumbnail."""
    dossier = bench.add_dossier(tenant, "D-7")
    receipt = await bench.receive(caller=bench.caller(tenant=tenant), dossier_id=dossier.id)
    document_id = UUID(receipt.body["id"])
    async with bench.database.transaction() as work:
        document = await work.documents.get(document_id)
    stored = await bench.content.store_rendition(document, "thumbnail-256", b"picture")
    rendition = a_rendition(
        document, object_key=stored.key, size=len(b"picture"), object_etag=stored.etag, object_size=stored.size
    )
    async with bench.database.transaction() as work:
        await work.renditions.put(rendition)
    bench.database.put(replace(document, status=Status.VERIFIED))
    link, token = await bench.links.create(bench.caller(tenant=tenant), document_id, "audit", 60)
    path = f"{API}/documents/{document_id}/links/{link.id}"
    return Place(bench, tenant, document, dossier, path, f"{API}/links/{token}")


async def asked(client: httpx.AsyncClient, ask: Ask, place: Place, headers: dict[str, str]) -> httpx.Response:
    body = ask.body(place) if ask.body else {}
    return await client.request(
        ask.method, ask.path(place), headers={**headers, **body.get("headers", {})}, content=body.get("content")
    )


def names_of(response: httpx.Response) -> set[str]:
    """Tenants and ids that an answer speaks of."""
    return {word for word in response.text.replace('"', " ").replace("/", " ").split() if word}


def test_every_row_is_asked_about() -> None:
    assert set(ASKED) == set(ACCESS)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", GUARDED)
async def test_own_tenant(client: httpx.AsyncClient, bench: IntakeBench, name: str, role: Role) -> None:
    place = await a_place(bench, "acme")
    response = await asked(client, ASKED[name], place, bearer(role.value))
    if role in rule_of(name).own:
        assert response.status_code == ASKED[name].good, response.text
    else:
        assert_problem(response, 403, "forbidden")


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", GUARDED)
async def test_other_tenant(client: httpx.AsyncClient, bench: IntakeBench, name: str, role: Role) -> None:
    place = await a_place(bench, OTHERS)
    rule, ask = rule_of(name), ASKED[name]
    before = dict(bench.database.rows.documents)
    response = await asked(client, ask, place, bearer(role.value))
    if role not in rule.own:
        assert_problem(response, 403, "forbidden")
    elif ask.hidden is None or role in rule.other:
        assert response.status_code == ask.good, response.text
    else:
        assert_problem(response, *ask.hidden)
    seen = str(place.document.id) in names_of(response) or str(place.dossier.id) in names_of(response)
    assert not seen or role in rule.other
    if name not in CHANGING or role not in rule.other:
        assert bench.database.rows.documents == before


@pytest.mark.parametrize("name", GUARDED)
async def test_who_sees_all_elsewhere_sees_its_own_tenant_here(
    client: httpx.AsyncClient, bench: IntakeBench, name: str
) -> None:
    """One caller with every role: content of others stays hidden, whatever else it may see."""
    place = await a_place(bench, OTHERS)
    ask = ASKED[name]
    response = await asked(client, ask, place, bearer(",".join(role.value for role in Role)))
    if ask.hidden is not None and not rule_of(name).other:
        assert_problem(response, *ask.hidden)
    else:
        assert response.status_code == ask.good


@pytest.mark.parametrize("name", GUARDED)
async def test_no_token_and_no_role(client: httpx.AsyncClient, bench: IntakeBench, name: str) -> None:
    place = await a_place(bench, "acme")
    for header in ({}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer "}, {"Authorization": "Bearer x"}):
        refused = await asked(client, ASKED[name], place, header)
        assert_problem(refused, 401, "unauthenticated")
        assert refused.headers["www-authenticate"] == "Bearer"
    assert_problem(await asked(client, ASKED[name], place, bearer("")), 403, "forbidden")


@pytest.mark.parametrize("name", OPEN)
async def test_open_routes_ask_for_nothing(client: httpx.AsyncClient, bench: IntakeBench, name: str) -> None:
    place = await a_place(bench, "acme")
    for header in ({}, {"Authorization": "Bearer x"}):
        assert (await asked(client, ASKED[name], place, header)).status_code == ASKED[name].good


async def test_nothing_is_done_for_who_may_not(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    place = await a_place(bench, "acme")
    before = bench.database.rows
    for name in GUARDED:
        for role in set(Role) - rule_of(name).own:
            assert_problem(await asked(client, ASKED[name], place, bearer(role.value)), 403, "forbidden")
    assert bench.database.rows is before


async def test_a_row_can_narrow_what_the_use_cases_show(
    client: httpx.AsyncClient, bench: IntakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = await a_place(bench, OTHERS)
    narrow = {**ACCESS, "get_document": RouteRule(frozenset(Role)), "list_documents": RouteRule(frozenset(Role))}
    monkeypatch.setattr(route_authorization, "ACCESS", narrow)
    assert_problem(await asked(client, ASKED["get_document"], place, bearer("operator")), 404, DOCUMENT)
    assert (await asked(client, ASKED["list_documents"], place, bearer("auditor"))).json()["items"] == []


def test_the_table_is_checked_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    route_authorization.check_access_table(ACCESS)
    with pytest.raises(ValueError, match="new_route"):
        route_authorization.check_access_table([*ACCESS, "new_route"])
    with pytest.raises(ValueError, match="livez"):
        route_authorization.check_access_table(set(ACCESS) - {"livez"})
    assert route_authorization.roles_of("no_such_route") == route_authorization.roles_of("livez") == frozenset()
    portal = frozenset({Role.PORTAL})
    for wide in (RouteRule(portal, portal), RouteRule(portal, frozenset({Role.AUDITOR}))):
        monkeypatch.setattr(route_authorization, "ACCESS", {**ACCESS, "get_document": wide})
        with pytest.raises(ValueError, match="get_document"):
            route_authorization.check_access_table(ACCESS)
