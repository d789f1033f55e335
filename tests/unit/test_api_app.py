"""The application around its routes: access, problems, tracing, limits on what is left unread, health, OpenAPI."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import BaseModel

from ingest_api import models, models_erasure, models_operations, route_authorization
from ingest_api.app import routes_only
from ingest_api.body import parse_json
from ingest_api.middleware import DRAIN_BYTES
from ingest_api.openapi import EXAMPLES, document_of
from ingest_api.presenters import API
from tests.support.api import (
    FORM_TYPE,
    a_client,
    an_app,
    assert_problem,
    bearer,
    form_head,
    metadata_of,
    post_document,
)
from tests.support.fakes_intake import PDF, IntakeBench

ROUTES = {
    "upload_document": ("POST", "/documents"),
    "list_documents": ("GET", "/documents"),
    "search_documents": ("POST", "/document-search"),
    "get_document": ("GET", "/documents/{id}"),
    "get_document_content": ("GET", "/documents/{id}/content"),
    "get_document_thumbnail": ("GET", "/documents/{id}/thumbnail"),
    "list_document_events": ("GET", "/documents/{id}/events"),
    "get_document_receipt": ("GET", "/documents/{id}/receipt"),
    "validate_document": ("POST", "/documents/{id}/validate"),
    "reject_document": ("POST", "/documents/{id}/reject"),
    "erase_document": ("POST", "/documents/{id}/erase"),
    "confirm_erasure": ("POST", "/documents/{id}/erase/confirm"),
    "withdraw_erasure": ("POST", "/documents/{id}/erase/withdraw"),
    "get_erasure_order": ("GET", "/documents/{id}/erasure-order"),
    "get_erasure_receipt": ("GET", "/documents/{id}/erasure-receipt"),
    "get_retention": ("GET", "/documents/{id}/retention"),
    "extend_retention": ("POST", "/documents/{id}/retention"),
    "set_legal_hold": ("POST", "/documents/{id}/legal-holds"),
    "lift_legal_hold": ("POST", "/documents/{id}/legal-holds/CASE-1/lift"),
    "create_dossier": ("POST", "/dossiers"),
    "list_dossiers": ("GET", "/dossiers"),
    "get_dossier": ("GET", "/dossiers/{id}"),
    "list_document_types": ("GET", "/document-types"),
    "revoke_token": ("POST", "/revocations"),
    "create_document_link": ("POST", "/documents/{id}/links"),
    "revoke_document_link": ("DELETE", "/documents/{id}/links/{id}"),
    "list_dead_letter_groups": ("GET", "/operations/dead-letters"),
    "list_dead_letters": ("GET", "/operations/dead-letters/group"),
    "plan_act": ("POST", "/operations/plans"),
    "confirm_plan": ("POST", "/operations/batches"),
    "list_batches": ("GET", "/operations/batches"),
    "get_batch": ("GET", "/operations/batches/{id}"),
    "list_batch_items": ("GET", "/operations/batches/{id}/items"),
    "continue_batch": ("POST", "/operations/batches/{id}/continue"),
    "stop_batch": ("POST", "/operations/batches/{id}/stop"),
    "confirm_batch": ("POST", "/operations/batches/{id}/confirm"),
    "list_orders": ("GET", "/operations/orders"),
    "list_pauses": ("GET", "/operations/pauses"),
    "pause_consumer": ("POST", "/operations/pauses"),
    "resume_consumer": ("POST", "/operations/pauses/archiving/resume"),
    "open_link": ("GET", "/links/x"),
}


# --- Problems, tracing, metrics --------------------------------------------------------------------------------------


async def test_unknown_routes_and_methods_are_problems(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/nowhere"), 404, "route_not_found")
    assert_problem(await client.get(f"{API}/documents/"), 404, "route_not_found")
    response = await client.delete(f"{API}/documents")
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD, POST"
    assert (await client.put(f"{API}/documents/{uuid4()}")).headers["allow"] == "GET, HEAD"


async def test_traces_and_correlations_are_continued(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    trace, correlation = "ab" * 16, str(uuid4())
    headers = {**bearer(), "traceparent": f"00-{trace}-{'cd' * 8}-01", "correlation-id": correlation}
    document = await bench.stored()
    response = await client.get(f"{API}/documents/{document.id}", headers=headers)
    assert response.headers["traceparent"].split("-")[1] == trace
    assert response.headers["correlation-id"] == correlation
    assert str(bench.audited()[-1].correlation_id) == correlation
    fresh = await client.get("/livez", headers={"traceparent": "garbage", "correlation-id": "x" * 36})
    assert len(fresh.headers["correlation-id"]) == 36
    assert fresh.headers["correlation-id"] != "x" * 36


async def test_every_answer_is_hardened(client: httpx.AsyncClient) -> None:
    for path in ("/livez", "/nowhere", f"{API}/documents"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"


async def test_logs_hold_no_personal_data(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    with structlog.testing.capture_logs() as logs:
        response = await post_document(client, bench)
        await client.get(response.json()["links"]["content"], headers=bearer())
        await client.get(f"{API}/documents", params={"type": "marie"}, headers=bearer())
    written = repr(logs)
    assert "/api/v1/documents/{document_id}/content" in written
    for personal in ("marie", "scan.pdf", "u1", "Bearer", "acme/"):
        assert personal not in written


async def test_metrics_count_by_route_and_never_by_id(bench: IntakeBench) -> None:
    registry = CollectorRegistry()
    async with a_client(an_app(bench, registry=registry)) as client:
        await post_document(client, bench)
        await client.get(f"{API}/documents/{uuid4()}", headers=bearer())
        await client.request("BREW", f"/{uuid4()}")
        nowhere = await client.get("/metrics")
    assert_problem(nowhere, 404, "route_not_found")
    assert "dpj_" not in nowhere.text
    text = generate_latest(registry).decode()
    assert f"dpj_upload_bytes_total {float(len(PDF))}" in text
    assert 'dpj_http_requests_total{method="POST",route="/api/v1/documents",status="201"} 1.0' in text
    assert 'dpj_http_problems_total{code="document_not_found",route="/api/v1/documents/{document_id}"} 1.0' in text
    assert 'dpj_http_requests_total{method="OTHER",route="unmatched",status="404"} 1.0' in text
    assert "dpj_http_in_flight 0.0" in text


async def test_health(bench: IntakeBench) -> None:
    async def fine() -> None: ...

    async def away() -> None:
        raise OSError("s3cret")

    async with a_client(an_app(bench, readiness={"postgresql": fine})) as client:
        assert (await client.get("/livez")).status_code == 200
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (
            200,
            {"ready": True, "checks": {"postgresql": "ok"}, "circuits": {}},
        )
    circuits = {"keyring": "open"}
    several = {"postgresql": fine, "keyring": away}
    async with a_client(an_app(bench, readiness=several, circuits=lambda: circuits)) as client:
        ready = await client.get("/readyz")
    assert ready.json()["circuits"] == circuits
    assert (ready.status_code, ready.json()["checks"]) == (503, {"postgresql": "ok", "keyring": "failed"})
    assert "s3cret" not in ready.text


async def test_a_check_that_hangs_has_a_deadline(bench: IntakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs() -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr("ingest_api.readiness.CHECK_SECONDS", 0.01)
    async with a_client(an_app(bench, readiness={"kafka": hangs})) as client:
        assert (await client.get("/readyz")).status_code == 503


def test_an_application_without_dependencies_only_describes_itself() -> None:
    app = routes_only()
    assert document_of(app)["paths"]
    assert document_of(app) is document_of(app)


# --- Bodies that nobody read -----------------------------------------------------------------------------------------


async def raw_call(app: Any, headers: dict[str, str], pieces: list[bytes], *, more: bool) -> tuple[Any, int]:
    """Status line and headers of the answer to a POST, and how many pieces of the body were taken."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": f"{API}/documents",
        "raw_path": b"",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("192.0.2.1", 1),
        "server": ("api", 80),
        "scheme": "http",
    }
    left = list(pieces)
    answers: list[Any] = []

    async def receive() -> Any:
        if not left:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": left.pop(0), "more_body": more or bool(left)}

    async def send(message: Any) -> None:
        answers.append(message)

    await app(scope, receive, send)
    start = answers[0]
    return (start["status"], {name.decode(): value.decode() for name, value in start["headers"]}), len(pieces) - len(
        left
    )


@pytest.mark.parametrize(
    ("headers", "closes"),
    [
        ({"Content-Length": "30"}, False),
        ({"Transfer-Encoding": "chunked"}, False),
        ({"Content-Length": str(DRAIN_BYTES)}, False),
        ({"Content-Length": str(DRAIN_BYTES + 1)}, True),
        ({"Content-Length": "9" * 30}, True),
    ],
)
async def test_a_refusal_waits_for_no_body(bench: IntakeBench, headers: dict[str, str], closes: bool) -> None:
    """The server reads what is left of it; who would send more than that is told that the connection ends."""
    (status, answered), taken = await raw_call(an_app(bench), headers, [b"x" * 10] * 3, more=True)
    assert (status, taken, "connection" in answered) == (401, 0, closes)


async def test_who_waits_for_100_continue_is_answered_without_its_body(bench: IntakeBench) -> None:
    expects = {"Content-Length": "99", "Expect": "100-continue"}
    (status, headers), taken = await raw_call(an_app(bench), expects, [b"x"], more=True)
    assert (status, taken, headers["connection"]) == (401, 0, "close")


async def test_a_client_that_leaves_midway_leaves_nothing(bench: IntakeBench) -> None:
    head = form_head(metadata_of(bench)) + PDF
    messages: list[Any] = [{"type": "http.request", "body": head, "more_body": True}, {"type": "http.disconnect"}]
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"{API}/documents",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in {**bearer(), **FORM_TYPE}.items()],
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0) if len(messages) > 1 else messages[0]

    async def send(message: Any) -> None:
        sent.append(message)

    await an_app(bench)({**scope, "headers": [*scope["headers"], (b"transfer-encoding", b"chunked")]}, receive, send)
    assert sent[0]["status"] == 400
    assert bench.nothing_left()


async def test_a_reader_that_leaves_stops_the_decryption(bench: IntakeBench) -> None:
    document = await bench.stored()
    pulled = 0

    async def endless(_: Any) -> AsyncIterator[bytes]:
        nonlocal pulled
        while pulled < 10_000:
            pulled += 1
            yield b"x" * 10

    bench.reading._content = type("Endless", (), {"read": staticmethod(endless)})
    scope = {
        "type": "http",
        "method": "GET",
        "path": f"{API}/documents/{document.id}/content",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in bearer().items()],
    }

    async def receive() -> Any:
        while pulled < 5:
            await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    await an_app(bench)(scope, receive, send)
    assert pulled < 1000


# --- OpenAPI ---------------------------------------------------------------------------------------------------------


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


async def test_the_openapi_document_is_whole(client: httpx.AsyncClient) -> None:
    document = (await client.get(f"{API}/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    operations = {
        operation["operationId"]: operation for path in document["paths"].values() for operation in path.values()
    }
    assert set(operations) == set(ROUTES)
    schemas = document["components"]["schemas"]
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas, reference
    for name, operation in operations.items():
        roles = sorted(role.value for role in route_authorization.roles_of(name))
        assert operation["security"] == ([{"bearer": roles}] if roles else [])
        assert {"429", "500", "503", *(("401", "403") if roles else ())} <= set(operation["responses"])
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"], (name, status)
    upload = operations["upload_document"]
    assert list(upload["requestBody"]["content"]) == ["multipart/form-data", "*/*"]
    assert {parameter["name"] for parameter in upload["parameters"]} == {"Idempotency-Key", "X-DPJ-Metadata"}
    assert "HTTPValidationError" not in schemas
    assert schemas["DocumentView"]["properties"]["status"] == {"$ref": "#/components/schemas/Status"}
    tags = {tag["name"] for tag in document["tags"]}
    assert {tag for operation in operations.values() for tag in operation["tags"]} == tags
    assert document["servers"][0]["url"] == "/"


async def test_the_description_names_what_answers_carry(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = (await client.get(f"{API}/openapi.json")).json()

    def described(path: str, method: str, status: int) -> set[str]:
        answers: dict[str, Any] = document["paths"][f"{API}{path}"][method]["responses"]
        return {name.lower() for name in answers[str(status)]["headers"]}

    made = await post_document(client, bench, key="k")
    again = await post_document(client, bench, key="k")
    assert {"location", "idempotent-replayed"} <= described("/documents", "post", 201) & set(again.headers)
    content = made.json()["links"]["content"]
    part = await client.get(content, headers={**bearer(), "Range": "bytes=0-0"})
    of_parts = {"etag", "content-range", "content-disposition", "accept-ranges"}
    assert of_parts <= described("/documents/{document_id}/content", "get", 206) & set(part.headers)
    assert {"retry-after", "ratelimit"} <= described("/documents", "get", 429)
    assert "retry-after" in described("/documents", "get", 503)


def test_examples_are_what_the_api_takes() -> None:
    inputs: dict[str, type[BaseModel]] = {**vars(models), **vars(models_erasure), **vars(models_operations)}
    for name, example in EXAMPLES.items():
        assert parse_json(json.dumps(example).encode(), inputs[name])


def test_the_openapi_document_prints_without_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    from ingest_api.openapi import main

    main()
    assert json.loads(capsys.readouterr().out) == document_of(routes_only())
