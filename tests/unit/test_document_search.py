"""Documents by exact file name and depositor's address: one's own tenant, no word of what was looked for."""

import json
from dataclasses import replace
from uuid import UUID, uuid4

import httpx
import pytest
import structlog

from domain.documents import Role
from domain.lifecycle import Status
from domain.refusals import MetadataInvalid, TenantInvalid
from processors.documents.transitions import Origin
from tests.support.api import assert_problem, bearer
from tests.support.builders import NOW
from tests.support.fakes_intake import IntakeBench
from tests.support.fakes_personal_texts import ReadableColumnKeys

PATH = "/api/v1/document-search"


async def deposited(bench: IntakeBench, name: str, email: str, tenant: str = "acme") -> UUID:
    dossier = bench.dossier if tenant == "acme" else bench.add_dossier(tenant, f"D-{uuid4()}")
    caller = bench.caller(tenant=tenant)
    receipt = await bench.receive(caller=caller, dossier_id=dossier.id, file_name=name, depositor_email=email)
    return UUID(receipt.body["id"])


async def ids(bench: IntakeBench, **wanted: str) -> list[UUID]:
    return [row.id for row in (await bench.search.page(bench.caller(), **wanted)).items]


async def test_exactly_what_is_named_is_found(bench: IntakeBench) -> None:
    one = await deposited(bench, "Relevé.pdf", "Marie@example.org")
    two = await deposited(bench, "relevé.PDF", "paul@example.org")
    await deposited(bench, "relevé-2.pdf", "marie2@example.org")
    await deposited(bench, "Relevé.pdf", "marie@example.org", tenant="other")
    assert await ids(bench, file_name="RELEVÉ.pdf") == [two, one]
    assert await ids(bench, depositor_email="marie@EXAMPLE.org") == [one]
    assert await ids(bench, file_name="relevé.pdf", depositor_email="paul@example.org") == [two]
    assert await ids(bench, file_name="relevé.pdf", depositor_email="nobody@example.org") == []
    assert await ids(bench, file_name="relevé") == []


async def test_pages_follow_each_other(bench: IntakeBench) -> None:
    made = [await deposited(bench, "a.pdf", "m@example.org") for _ in range(5)]
    first = await bench.search.page(bench.caller(), file_name="a.pdf", limit=3)
    second = await bench.search.page(bench.caller(), file_name="a.pdf", limit=3, cursor=first.next_cursor)
    assert [row.id for row in (*first.items, *second.items)] == made[::-1]
    assert second.next_cursor is None


async def test_attempts_and_what_was_erased_are_not_found(bench: IntakeBench) -> None:
    one = await deposited(bench, "a.pdf", "m@example.org")
    row = bench.database.rows.documents[one]
    bench.database.put(replace(row, status=Status.ABANDONED))
    assert await ids(bench, file_name="a.pdf") == []
    bench.database.put(replace(row, status=Status.ERASED, file_name_index=None, email_index=None, original_name=""))
    assert await ids(bench, file_name="a.pdf") == []


async def test_an_index_that_was_put_into_another_row_shows_nothing(bench: IntakeBench) -> None:
    one = await deposited(bench, "a.pdf", "m@example.org")
    other = await deposited(bench, "secret.pdf", "n@example.org")
    rows = bench.database.rows.documents
    bench.database.put(replace(rows[other], file_name_index=rows[one].file_name_index))
    assert await ids(bench, file_name="a.pdf") == [one]


async def test_documents_under_an_earlier_look_up_key_are_found(bench: IntakeBench) -> None:
    columns = ReadableColumnKeys()
    bench.texts._keys = columns
    one = await deposited(bench, "a.pdf", "m@example.org")
    columns.lookups = ["l2", "l1"]
    two = await deposited(bench, "a.pdf", "m@example.org")
    assert await ids(bench, file_name="a.pdf") == [two, one]


async def test_the_audit_log_says_that_and_by_what_but_not_for_whom(bench: IntakeBench) -> None:
    await deposited(bench, "a.pdf", "marie@example.org")
    await ids(bench, depositor_email="marie@example.org", file_name="a.pdf")
    line = bench.audited()[-1]
    assert (line.action, line.entity_type, line.tenant) == ("document.search", "document", "acme")
    assert json.loads(line.details) == {"by": ["depositor_email", "file_name"], "count": 1}
    assert "marie" not in repr(bench.database.rows.outbox)


async def test_an_operator_finds_all_of_a_tenant(bench: IntakeBench) -> None:
    made = [await deposited(bench, "a.pdf", "m@example.org") for _ in range(3)]
    await deposited(bench, "a.pdf", "m@example.org", tenant="other")
    origin = Origin(actor="op", at=NOW, correlation_id=uuid4())
    found = await bench.search.all_of("acme", origin, depositor_email="M@example.org")
    assert [row.id for row in found] == made[::-1]
    assert bench.audited()[-1].actor == "op"
    with pytest.raises(MetadataInvalid):
        await bench.search.all_of("acme", origin)
    with pytest.raises(TenantInvalid):
        await bench.search.all_of("a b", origin, file_name="x")


async def test_over_http(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    one = await deposited(bench, "relevé.pdf", "marie@example.org")
    for body in (
        {"file_name": "RELEVÉ.pdf"},
        {"file_name": "C:\\scans\\relevé.pdf", "depositor_email": "marie@example.org"},
    ):
        with structlog.testing.capture_logs() as logs:
            response = await client.post(PATH, json=body, headers=bearer("validator"))
        assert response.status_code == 200, response.text
        (item,) = response.json()["items"]
        assert (item["id"], item["file_name"]) == (str(one), "relevé.pdf")
        assert "relev" not in repr(logs).lower()
        assert "marie" not in repr(logs)
    hidden = await client.post(PATH, json={"file_name": "relevé.pdf"}, headers=bearer(tenant="other"))
    assert hidden.json() == {"items": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "metadata_invalid"),
        ({"file_name": None}, 422, "metadata_invalid"),
        ({"file_name": ""}, 422, "metadata_invalid"),
        ({"file_name": "a\u0000b"}, 422, "metadata_invalid"),
        ({"file_name": "a" * 256}, 422, "metadata_invalid"),
        ({"depositor_email": "marie"}, 422, "metadata_invalid"),
        ({"file_name": "a", "name": "b"}, 422, "metadata_invalid"),
        ({"file_name": "a", "limit": 0}, 422, "metadata_invalid"),
        ({"file_name": "a", "limit": 201}, 422, "metadata_invalid"),
        ({"file_name": "a", "cursor": "x"}, 400, "cursor_invalid"),
    ],
)
async def test_what_makes_no_sense_is_refused(client: httpx.AsyncClient, body: dict, status: int, code: str) -> None:
    assert_problem(await client.post(PATH, json=body, headers=bearer()), status, code)


@pytest.mark.parametrize("name", ["file_name", "depositor_email"])
async def test_no_personal_text_may_stand_in_a_query(client: httpx.AsyncClient, name: str) -> None:
    with structlog.testing.capture_logs() as logs:
        refused = await client.get("/api/v1/documents", params={name: "marie@example.org"}, headers=bearer())
    assert_problem(refused, 400, "parameter_invalid")
    assert "marie" not in repr(logs)
    assert "marie" not in refused.text


async def test_who_works_for_all_tenants_searches_at_a_terminal(client: httpx.AsyncClient) -> None:
    for role in (Role.OPERATOR, Role.AUDITOR):
        refused = await client.post(PATH, json={"file_name": "a"}, headers=bearer(role.value))
        assert_problem(refused, 403, "forbidden")


@pytest.mark.parametrize("name", ["\u200b", "\u200b\u2060\ufeff", "..", "a/", " "])
async def test_a_name_of_which_nothing_is_left_finds_nothing(
    client: httpx.AsyncClient, bench: IntakeBench, name: str
) -> None:
    """Documents without a name are named for it; who looks for nothing is not shown them."""
    await deposited(bench, "document", "m@example.org")
    both = {"file_name": name, "depositor_email": "m@example.org"}
    for wanted in ({"file_name": name}, both):
        found = await client.post(PATH, headers=bearer(), json=wanted)
        assert (found.status_code, found.json()["items"]) == (200, []), found.text
    found = await client.post(PATH, headers=bearer(), json={"file_name": f"document{chr(0x200B)}"})
    assert len(found.json()["items"]) == 1
