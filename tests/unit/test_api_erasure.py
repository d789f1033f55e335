"""Erasing and keeping over HTTP: statuses, codes, bodies."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import httpx
import pytest

from domain.documents import Document
from domain.erasure import SignedReceipt
from domain.lifecycle import Status
from tests.support.api import assert_problem, bearer
from tests.support.fakes_intake import IntakeBench

API = "/api/v1"
OPERATOR = bearer("operator", tenant="bank")


def path(document: Document, below: str) -> str:
    return f"{API}/documents/{document.id}/{below}"


async def test_an_erasure_is_accepted_and_then_done(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    body = {"reason": "T-1", "legal_basis": "GDPR_17_1_B"}
    accepted = await client.post(path(document, "erase"), json=body, headers=OPERATOR)
    assert accepted.status_code == 202
    assert accepted.json() == {
        "document_id": str(document.id),
        "status": "ERASING",
        "order": None,
        "links": {
            "document": f"{API}/documents/{document.id}",
            "receipt": f"{API}/documents/{document.id}/erasure-receipt",
        },
    }
    assert bench.database.rows.documents[document.id].wrapped_key is None
    receipt = await client.get(path(document, "erasure-receipt"), headers=OPERATOR)
    assert_problem(receipt, 404, "erasure_receipt_not_found")
    again = await client.post(path(document, "erase"), json=body, headers=OPERATOR)
    assert (again.status_code, again.json()["status"]) == (202, "ERASING")


async def test_a_receipt_comes_as_it_was_signed(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    await client.post(path(document, "erase"), json={"reason": "T", "legal_basis": "COURT_ORDER"}, headers=OPERATOR)
    async with bench.database.transaction() as work:
        await work.erasures.complete(document.id, SignedReceipt("e30.e30.c2ln", "k-1"))
    answer = await client.get(path(document, "erasure-receipt"), headers=bearer("auditor"))
    assert (answer.status_code, answer.text) == (200, "e30.e30.c2ln")
    assert answer.headers["content-type"] == "application/jose"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "body",
    [{}, {"reason": ""}, {"reason": "Madame Durand, par courrier"}, {"reason": "T", "legal_basis": "BECAUSE"}],
)
async def test_bodies_that_are_refused(client: httpx.AsyncClient, bench: IntakeBench, body: dict[str, str]) -> None:
    document = await bench.stored(Status.VERIFIED)
    refused = await client.post(path(document, "erase"), json=body, headers=OPERATOR)
    assert_problem(refused, 422, "metadata_invalid")
    assert bench.database.rows.documents[document.id].status is Status.VERIFIED


async def test_holds_and_retentions_keep_it(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    erase = {"reason": "T-1", "legal_basis": "COURT_ORDER"}
    hold = {"reference": "CASE-1", "reason": "LITIGATION"}
    held = await client.post(path(document, "legal-holds"), json=hold, headers=OPERATOR)
    assert (held.status_code, held.json()["held"]) == (200, True)
    assert [one["reference"] for one in held.json()["holds"]] == ["CASE-1"]
    assert_problem(await client.post(path(document, "erase"), json=erase, headers=OPERATOR), 409, "legal_hold")
    lift = await client.post(path(document, "legal-holds/CASE-2/lift"), json={"reason": "X"}, headers=OPERATOR)
    assert_problem(lift, 404, "legal_hold_not_found")
    lift = await client.post(path(document, "legal-holds/CASE-1/lift"), json={"reason": "X"}, headers=OPERATOR)
    assert (lift.status_code, lift.json()["held"]) == (200, False)
    bare = await client.post(path(document, "erase"), json={"reason": "T-1"}, headers=OPERATOR)
    assert_problem(bare, 409, "retention_running")

    kept = (await client.get(path(document, "retention"), headers=bearer("auditor"))).json()
    later = (bench.clock.now() + timedelta(days=9000)).isoformat()
    extended = await client.post(path(document, "retention"), json={"until": later, "reason": "A-1"}, headers=OPERATOR)
    assert extended.json()["until"] > kept["until"]
    shorter = await client.post(
        path(document, "retention"), json={"until": kept["until"], "reason": "A-1"}, headers=OPERATOR
    )
    assert_problem(shorter, 409, "retention_not_extended")
    for far in ("9999-12-31T23:59:59-14:00", "9000-01-01T00:00:01Z"):
        body = {"until": far, "reason": "A-1"}
        answer = await client.post(path(document, "retention"), json=body, headers=OPERATOR)
        assert_problem(answer, 422, "metadata_invalid")
    naive = {"until": "2050-01-01T00:00:00", "reason": "A-1"}
    assert_problem(
        await client.post(path(document, "retention"), json=naive, headers=OPERATOR), 422, "metadata_invalid"
    )

    assert (await client.post(path(document, "erase"), json=erase, headers=OPERATOR)).status_code == 202
    for below, body in (("retention", {"until": later, "reason": "A"}), ("legal-holds", hold)):
        assert_problem(await client.post(path(document, below), json=body, headers=OPERATOR), 410, "document_erased")


async def test_what_is_not_there_is_not_found(client: httpx.AsyncClient) -> None:
    url = f"{API}/documents/{uuid4()}"
    for method, below, body in (
        ("POST", "erase", {"reason": "T"}),
        ("GET", "erasure-receipt", None),
        ("GET", "retention", None),
        ("POST", "legal-holds", {"reference": "C", "reason": "R"}),
        ("POST", "legal-holds/C/lift", {"reason": "R"}),
    ):
        answer = await client.request(method, f"{url}/{below}", json=body, headers=OPERATOR)
        assert_problem(answer, 404, "document_not_found")


async def test_an_upload_that_is_no_document_is_not_erased(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = await bench.stored(Status.ABANDONED)
    body = {"reason": "T-1", "legal_basis": "GDPR_17_1_B"}
    assert_problem(await client.post(path(document, "erase"), json=body, headers=OPERATOR), 409, "transition_refused")
    hold = {"reference": "C", "reason": "R"}
    assert_problem(
        await client.post(path(document, "legal-holds"), json=hold, headers=OPERATOR), 409, "transition_refused"
    )
