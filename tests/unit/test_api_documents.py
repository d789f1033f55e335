"""The API of documents, end to end over memory."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import structlog

from domain.events import AuditRecorded
from domain.lifecycle import Status
from domain.processing import StoppedStep
from ingest_api.presenters import API
from tests.support.api import (
    FORM_END,
    FORM_TYPE,
    a_client,
    an_app,
    assert_problem,
    bearer,
    form_head,
    metadata_of,
    post_document,
)
from tests.support.fakes_intake import NOW, PDF, IntakeBench
from tests.unit.test_reading import a_stored_rendition

ETAG = f'"{hashlib.sha256(PDF).hexdigest()}"'


async def test_a_deposit_answers_201_with_the_document(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    response = await post_document(client, bench, tags=["a"], metadata={"pages": 3})
    assert response.status_code == 201
    body = response.json()
    assert response.headers["location"] == body["links"]["self"] == f"{API}/documents/{body['id']}"
    assert (body["status"], body["size"], body["media_type"]) == ("STORED", len(PDF), "application/pdf")
    assert (body["file_name"], body["tags"], body["metadata"]) == ("scan.pdf", ["a"], {"pages": 3})
    assert "marie" not in response.text
    again = await client.get(body["links"]["self"], headers=bearer())
    assert (again.status_code, again.json()) == (200, body)


async def test_an_ordinary_clients_form_is_taken_with_any_name(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    for name in ("pièce d'identité.pdf", "身分証.pdf", "a; b=c.pdf", "plain.pdf"):
        parts = [
            ("metadata", (None, json.dumps(metadata_of(bench)), "application/json")),
            ("file", (name, PDF, "application/pdf")),
        ]
        response = await client.post(f"{API}/documents", headers=bearer(), files=parts)
        assert (response.status_code, response.json()["file_name"]) == (201, name)
        content = await client.get(response.json()["links"]["content"], headers=bearer())
        assert content.headers["content-disposition"].isascii()


async def test_free_metadata_keeps_its_values(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    sent = {"a": 2**53 - 1, "b": 1.5, "c": None, "d": True, "e": "é\n"}
    assert (await post_document(client, bench, metadata=sent)).json()["metadata"] == sent
    for value in (2**53, 2**80, -(2**70)):
        response = await post_document(client, bench, metadata={"a": value})
        assert (response.status_code, response.json()["metadata"]["a"]) == (201, float(value))


async def test_a_raw_body_deposits_too(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    metadata = base64.urlsafe_b64encode(json.dumps(metadata_of(bench, file_name="é.pdf")).encode()).decode()
    headers = {**bearer(), "Content-Type": "application/pdf", "X-DPJ-Metadata": metadata}
    response = await client.post(f"{API}/documents", headers=headers, content=PDF)
    assert (response.status_code, response.json()["file_name"]) == (201, "é.pdf")


async def test_the_same_key_replays(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    first = await post_document(client, bench, key="k")
    again = await post_document(client, bench, key="k")
    assert (again.status_code, again.json()) == (201, first.json())
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert_problem(await post_document(client, bench, PDF + b"x", key="k"), 422, "idempotency_key_reused")
    assert len(bench.objects.objects) == 1


async def test_a_key_in_use_says_when_to_come_back(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    gate = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield form_head(metadata_of(bench)) + PDF
        await gate.wait()
        yield FORM_END

    headers = {**bearer(), **FORM_TYPE, "Idempotency-Key": "k"}
    first = asyncio.create_task(client.post(f"{API}/documents", headers=headers, content=slow()))
    while not bench.database.rows.documents:
        await asyncio.sleep(0.001)
    second = await post_document(client, bench, key="k")
    assert_problem(second, 409, "idempotency_in_progress")
    assert int(second.headers["retry-after"]) >= 1
    gate.set()
    assert (await first).status_code == 201


REFUSALS: list[tuple[dict[str, Any], bytes, int, str]] = [
    ({"type": "NONE"}, PDF, 422, "type_unknown"),
    ({"type": "OLD"}, PDF, 422, "type_inactive"),
    ({"dossier_id": str(uuid4())}, PDF, 422, "dossier_unknown"),
    ({"step_id": str(uuid4())}, PDF, 422, "step_unknown"),
    ({"parent_id": str(uuid4())}, PDF, 422, "parent_unknown"),
    ({"type": "SMALL"}, PDF * 2, 413, "file_too_large"),
    ({}, PDF * 10_000, 413, "file_too_large"),
    ({}, b"", 422, "file_empty"),
    ({}, b"\x89PNG", 415, "content_mismatch"),
    ({}, PDF + b"(cut off", 415, "content_mismatch"),
    ({"sha256": "0" * 64}, PDF, 422, "checksum_mismatch"),
    ({"surprise": 1}, PDF, 422, "metadata_invalid"),
]


@pytest.mark.parametrize(("changes", "content", "status", "code"), REFUSALS)
async def test_a_refused_deposit_leaves_nothing(
    client: httpx.AsyncClient, bench: IntakeBench, changes: dict[str, Any], content: bytes, status: int, code: str
) -> None:
    assert_problem(await post_document(client, bench, content, key="k", **changes), status, code)
    assert bench.nothing_left()


async def test_a_format_that_the_type_does_not_take(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    body = form_head(metadata_of(bench), media_type="image/png") + b"\x89PNG" + FORM_END
    response = await client.post(f"{API}/documents", headers={**bearer(), **FORM_TYPE}, content=body)
    assert_problem(response, 415, "format_not_allowed")
    assert bench.nothing_left()


@pytest.mark.parametrize("missing", [1, 3, len(FORM_END), len(FORM_END) + 10])
async def test_a_truncated_body_leaves_nothing(client: httpx.AsyncClient, bench: IntakeBench, missing: int) -> None:
    body = (form_head(metadata_of(bench)) + PDF + FORM_END)[: -missing - 2]
    response = await client.post(f"{API}/documents", headers={**bearer(), **FORM_TYPE}, content=body)
    assert_problem(response, 400, "body_truncated")
    assert bench.nothing_left()


async def test_a_slow_body_leaves_nothing(bench: IntakeBench) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield form_head(metadata_of(bench)) + PDF
        await asyncio.sleep(5)
        yield FORM_END

    async with a_client(an_app(bench, body_timeout=0.05)) as client:
        headers = {**bearer(), **FORM_TYPE}
        response = await client.post(f"{API}/documents", headers=headers, content=stalled())
    assert_problem(response, 408, "body_too_slow")
    assert bench.nothing_left()


@pytest.mark.parametrize(
    ("headers", "content", "status", "code"),
    [
        ({"Content-Type": "text/plain"}, b"x", 400, "body_malformed"),
        ({"Content-Type": "multipart/form-data"}, b"x", 400, "body_malformed"),
        (FORM_TYPE, b"garbage" * 10, 400, "body_malformed"),
    ],
)
async def test_bodies_of_no_known_form(
    client: httpx.AsyncClient, bench: IntakeBench, headers: dict[str, str], content: bytes, status: int, code: str
) -> None:
    response = await client.post(f"{API}/documents", headers={**bearer(), **headers}, content=content)
    assert_problem(response, status, code)
    assert bench.nothing_left()


async def test_invalid_metadata_names_the_fields_and_echoes_nothing(
    client: httpx.AsyncClient, bench: IntakeBench
) -> None:
    response = await post_document(client, bench, depositor={"email": "s3cret"}, **{"s3cret!": "s3cret"})
    body = assert_problem(response, 422, "metadata_invalid")
    assert {error["field"] for error in body["errors"]} == {"depositor.email", "*"}
    assert "s3cret" not in response.text


@pytest.mark.parametrize(
    ("part", "code", "status"),
    [
        ("objects", "object_store_unavailable", 503),
        ("keyring", "keyring_unavailable", 503),
    ],
)
async def test_a_dependency_that_is_away(
    client: httpx.AsyncClient, bench: IntakeBench, part: str, code: str, status: int
) -> None:
    getattr(bench, part).away = True
    response = await post_document(client, bench, key="k")
    assert_problem(response, status, code)
    assert int(response.headers["retry-after"]) >= 1


async def test_the_database_away(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    bench.database.faults = ["away"]
    assert_problem(await post_document(client, bench), 503, "database_unavailable")


async def test_a_defect_shows_nothing_of_itself(
    client: httpx.AsyncClient, bench: IntakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(head: bytes) -> str:
        raise RuntimeError("s3cret internals")

    monkeypatch.setattr(bench.intake._sniffer, "sniff", broken)
    with structlog.testing.capture_logs() as logs:
        response = await post_document(client, bench)
    assert_problem(response, 500, "internal_error")
    assert "s3cret" not in response.text + repr(logs)
    assert [log["error"] for log in logs if log["event"] == "request_failed"] == ["RuntimeError"]
    assert bench.nothing_left()


# --- Reading ---------------------------------------------------------------------------------------------------------


async def test_content_comes_back_whole_and_safe(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = await bench.stored()
    response = await client.get(f"{API}/documents/{document.id}/content", headers=bearer("validator"))
    assert (response.status_code, response.content) == (200, PDF)
    headers = response.headers
    assert (headers["etag"], headers["content-length"]) == (ETAG, str(len(PDF)))
    assert (headers["content-type"], headers["accept-ranges"]) == ("application/pdf", "bytes")
    assert headers["content-disposition"].startswith('attachment; filename="scan.pdf"')
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")


def reads(bench: IntakeBench) -> list[AuditRecorded]:
    return [line for line in bench.audited() if line.action == "document.content.read"]


async def test_a_range_is_206(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = await bench.stored()
    url = f"{API}/documents/{document.id}/content"
    response = await client.get(url, headers={**bearer(), "Range": "bytes=5-8", "If-Range": ETAG})
    assert (response.status_code, response.content) == (206, PDF[5:9])
    assert response.headers["content-range"] == f"bytes 5-8/{len(PDF)}"
    stale = await client.get(url, headers={**bearer(), "Range": "bytes=5-8", "If-Range": '"old"'})
    assert (stale.status_code, stale.content) == (200, PDF)
    outside = await client.get(url, headers={**bearer(), "Range": f"bytes={len(PDF)}-"})
    assert_problem(outside, 416, "range_not_satisfiable")
    assert outside.headers["content-range"] == f"bytes */{len(PDF)}"
    assert json.loads(reads(bench)[-1].details) == {"outcome": "range_not_satisfiable"}
    assert len(reads(bench)) == 3


async def test_what_the_client_has_is_304(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = await bench.stored()
    url = f"{API}/documents/{document.id}/content"
    response = await client.get(url, headers={**bearer(), "If-None-Match": ETAG})
    assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", ETAG)
    assert [json.loads(line.details) for line in reads(bench)] == [{"outcome": "not_modified"}]


async def test_content_that_may_not_be_read(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = await bench.stored(Status.QUARANTINED)
    response = await client.get(f"{API}/documents/{document.id}/content", headers=bearer())
    assert_problem(response, 409, "content_not_available")


@pytest.mark.parametrize("status", [Status.ERASING, Status.ERASED])
@pytest.mark.parametrize("what", ["content", "thumbnail"])
async def test_nothing_is_read_of_what_is_erased(
    client: httpx.AsyncClient, bench: IntakeBench, status: Status, what: str
) -> None:
    document = await bench.stored(status)
    response = await client.get(f"{API}/documents/{document.id}/{what}", headers=bearer())
    assert_problem(response, 410, "document_erased")


async def test_damage_found_before_the_first_byte_is_a_problem(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = await bench.stored()
    url = f"{API}/documents/{document.id}/content"
    bench.objects.objects.clear()
    assert_problem(await client.get(url, headers=bearer()), 500, "object_missing")
    bench.objects.away = True
    assert_problem(await client.get(url, headers=bearer()), 503, "object_store_unavailable")


async def test_damage_found_later_cuts_the_answer_short(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    bench.database.rows.types["CNI"] = replace(bench.database.rows.types["CNI"], max_size_bytes=8 << 20)
    receipt = await bench.receive(PDF + bytes(3 << 20))
    (row,) = bench.database.rows.documents.values()
    sealed = bytearray(bench.objects.objects[row.object_key])
    sealed[-1] ^= 1
    bench.objects.objects[row.object_key] = bytes(sealed)
    etag = (await bench.objects.stat(row.object_key)).etag
    bench.database.rows.documents[row.id] = replace(row, object_etag=etag)
    with structlog.testing.capture_logs() as logs, pytest.raises(AssertionError):
        # httpx's transport asserts that an answer is complete, and this one rightly is not.
        await client.get(receipt.body["links"]["content"], headers=bearer())
    assert [log["code"] for log in logs if log["event"] == "content_cut_short"] == ["envelope_invalid"]


async def test_thumbnails(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    url = f"{API}/documents/{document.id}/thumbnail"
    body = assert_problem(await client.get(url, headers=bearer()), 404, "thumbnail_not_found")
    assert "to come" in body["detail"]
    await a_stored_rendition(bench, document.id, 256, b"webp")
    response = await client.get(url, headers=bearer(), params={"size": 256})
    assert (response.status_code, response.content) == (200, b"webp")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-type"] == "image/webp"
    same = await client.get(url, headers={**bearer(), "If-None-Match": response.headers["etag"]})
    assert same.status_code == 304
    told = [json.loads(line.details) for line in reads(bench)]
    assert told == [{"role": "thumbnail-256"}, {"role": "thumbnail-256", "outcome": "not_modified"}]
    for size in ("100", "x", "", "-256", "9" * 99):
        refused = await client.get(url, headers=bearer(), params={"size": size})
        assert "256, 1024" in assert_problem(refused, 422, "thumbnail_size_invalid")["detail"]


async def test_lists_events_and_types(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    documents = [await bench.stored() for _ in range(3)]
    url = f"{API}/documents"
    first = (await client.get(url, headers=bearer(), params={"limit": 2, "status": "STORED", "type": "CNI"})).json()
    rest = (await client.get(url, headers=bearer(), params={"limit": 2, "cursor": first["next_cursor"]})).json()
    ids = [item["id"] for item in first["items"] + rest["items"]]
    assert ids == [str(row.id) for row in reversed(documents)]
    assert rest["next_cursor"] is None
    for dossier, count in ((bench.dossier.id, 3), (uuid4(), 0)):
        found = (await client.get(url, headers=bearer(), params={"dossier": str(dossier)})).json()
        assert len(found["items"]) == count
    assert_problem(await client.get(url, headers=bearer(), params={"cursor": "x"}), 400, "cursor_invalid")
    events = (await client.get(f"{url}/{ids[0]}/events", headers=bearer())).json()
    assert [entry["type"] for entry in events["items"]] == ["STORED"]
    types = (await client.get(f"{API}/document-types", headers=bearer())).json()["items"]
    assert [(rule["code"], rule["active"]) for rule in types] == [("CNI", True), ("OLD", False), ("SMALL", True)]
    assert types[0]["metadata_template"] == {"numero": "string"}


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 500}, {"status": "s3cret"}, {"dossier": "s3cret"}])
async def test_invalid_parameters(client: httpx.AsyncClient, params: dict[str, Any]) -> None:
    response = await client.get(f"{API}/documents", headers=bearer(), params=params)
    body = assert_problem(response, 400, "parameter_invalid")
    assert body["errors"][0]["field"] == next(iter(params))
    assert "s3cret" not in response.text


async def test_a_misspelt_filter_does_not_list_everything(client: httpx.AsyncClient) -> None:
    response = await client.get(f"{API}/documents", headers=bearer(), params={"statut": "s3cret"})
    body = assert_problem(response, 400, "parameter_invalid")
    assert "status" in body["detail"]
    assert "s3cret" not in response.text
    assert_problem(
        await client.get(f"{API}/document-types", headers=bearer(), params={"x": 1}), 400, "parameter_invalid"
    )


async def test_unknown_and_malformed_ids(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get(f"{API}/documents/{uuid4()}", headers=bearer()), 404, "document_not_found")
    assert_problem(await client.get(f"{API}/documents/7", headers=bearer()), 400, "parameter_invalid")


# --- Deciding --------------------------------------------------------------------------------------------------------


async def test_validating(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    url = f"{API}/documents/{document.id}"
    response = await client.post(f"{url}/validate", headers=bearer("validator"), json={"comment": "fine"})
    assert (response.status_code, response.json()["status"]) == (200, "VALIDATED")
    assert response.json()["decision"]["note"] == "fine"
    again = await client.post(f"{url}/validate", headers=bearer("validator"))
    assert_problem(again, 409, "transition_refused")


async def test_deciding_early_is_202(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = await bench.stored()
    url = f"{API}/documents/{document.id}"
    response = await client.post(f"{url}/reject", headers=bearer("validator"), json={"reason": "why"})
    assert (response.status_code, response.json()["status"]) == (202, "STORED")
    assert response.json()["pending_decision"]["status"] == "REJECTED"
    other = await client.post(f"{url}/validate", headers=bearer("validator"), json={})
    assert_problem(other, 409, "transition_refused")


@pytest.mark.parametrize(
    ("path", "sent", "status", "code"),
    [
        ("reject", {}, 422, "metadata_invalid"),
        ("reject", {"reason": ""}, 422, "metadata_invalid"),
        ("reject", {"reason": "  "}, 422, "metadata_invalid"),
        ("reject", {"reason": "x" * 2001}, 422, "metadata_invalid"),
        ("validate", {"comment": "nul\0"}, 422, "metadata_invalid"),
        ("validate", {"other": 1}, 422, "metadata_invalid"),
        ("validate", {"comment": "x" * 70_000}, 400, "body_malformed"),
    ],
)
async def test_decisions_are_checked(
    client: httpx.AsyncClient, bench: IntakeBench, path: str, sent: dict[str, str], status: int, code: str
) -> None:
    document = await bench.stored(Status.VERIFIED)
    response = await client.post(f"{API}/documents/{document.id}/{path}", headers=bearer("validator"), json=sent)
    assert_problem(response, status, code)
    assert bench.database.rows.documents[document.id].status is Status.VERIFIED


async def test_a_decision_is_json(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    headers = {**bearer("validator"), "Content-Type": "text/plain"}
    response = await client.post(f"{API}/documents/{document.id}/validate", headers=headers, content=b"{}")
    assert_problem(response, 415, "media_type_unsupported")


# --- Dossiers --------------------------------------------------------------------------------------------------------


async def test_dossiers(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    sent = {
        "number": "N-1",
        "client_id": "C-1",
        "journey_type": "LOAN",
        "steps": [{"code": "KYC", "name": "Connaissance", "mandatory_documents": ["CNI"]}],
    }
    response = await client.post(f"{API}/dossiers", headers=bearer(), json=sent)
    assert response.status_code == 201
    body = response.json()
    assert (body["number"], body["steps"][0]["mandatory_documents"]) == ("N-1", ["CNI"])
    assert (await client.get(response.headers["location"], headers=bearer())).json() == body
    assert_problem(await client.post(f"{API}/dossiers", headers=bearer(), json=sent), 409, "dossier_exists")
    listed = (await client.get(f"{API}/dossiers", headers=bearer())).json()["items"]
    assert [UUID(row["id"]) for row in listed] == [UUID(body["id"]), bench.dossier.id]
    assert_problem(await client.get(f"{API}/dossiers/{uuid4()}", headers=bearer()), 404, "dossier_not_found")
    invalid = await client.post(f"{API}/dossiers", headers=bearer(), json={**sent, "priority": 99})
    assert assert_problem(invalid, 422, "metadata_invalid")["errors"][0]["field"] == "priority"


async def test_a_document_says_that_it_stands_still(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document, other = await bench.stored(), await bench.stored()
    under_way = {"status": "UNDER_WAY", "step": None, "code": None, "since": None, "advice": "Look again later."}
    assert (await client.get(f"{API}/documents/{document.id}", headers=bearer())).json()["processing"] == under_way
    step = StoppedStep(step="integrity", code="event_undecodable", since=NOW)
    bench.stopped.steps[document.id] = [step]
    stopped = (await client.get(f"{API}/documents/{document.id}", headers=bearer())).json()
    assert stopped["status"] == "STORED"
    assert stopped["processing"] == {
        "status": "STOPPED",
        "step": "integrity",
        "code": "event_undecodable",
        "since": "2026-03-01T12:00:00Z",
        "advice": "Wait no longer: report the document id to the operators.",
    }
    bench.stopped.asked.clear()
    listed = (await client.get(f"{API}/documents", headers=bearer())).json()["items"]
    assert {one["id"]: one["processing"]["status"] for one in listed} == {
        str(document.id): "STOPPED",
        str(other.id): "UNDER_WAY",
    }
    assert [set(ids) for ids in bench.stopped.asked] == [{document.id, other.id}]  # one query for the whole page


async def test_what_an_idempotency_key_keeps_of_an_earlier_release_is_answered_whole(
    client: httpx.AsyncClient, bench: IntakeBench
) -> None:
    await post_document(client, bench, key="k")
    ((record, _),) = bench.database.rows.keys.values()
    assert "processing" not in repr(record)
    again = await post_document(client, bench, key="k")
    assert (again.headers["idempotent-replayed"], again.json()["processing"]["status"]) == ("true", "UNDER_WAY")
