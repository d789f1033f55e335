"""What is refused leaves nothing; what is sent twice is kept once; what is damaged is served no more."""

from __future__ import annotations

import http.client
import io
import json
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx

from tests.support.pipeline import TENANT, Pipeline, metadata, sample, small_pdf, wait_for

OTHER_TENANT = "autre-banque"


def test_the_same_request_with_the_same_key_is_one_document(pipeline: Pipeline) -> None:
    dossier, key = pipeline.dossier(), uuid4().hex
    first = pipeline.post(small_pdf("once"), metadata(dossier), key=key)
    again = pipeline.post(small_pdf("once"), metadata(dossier), key=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")
    other = pipeline.post(small_pdf("other"), metadata(dossier), key=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert _rows(pipeline, dossier) == {first.json()["id"]}


def test_of_ten_racing_uploads_with_one_key_one_document_comes(pipeline: Pipeline) -> None:
    dossier, key = pipeline.dossier(), uuid4().hex

    def send(_: int) -> httpx.Response:
        return pipeline.post(small_pdf("ten at once"), metadata(dossier), key=key)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(send, range(10)))
    codes = {(answer.status_code, answer.json().get("code")) for answer in answers}
    assert codes <= {(201, None), (409, "idempotency_in_progress")}
    last = send(0)
    assert (last.status_code, last.headers["idempotent-replayed"]) == (201, "true")
    assert {answer.json()["id"] for answer in [*answers, last] if answer.status_code == 201} == {last.json()["id"]}
    assert _rows(pipeline, dossier) == {last.json()["id"]}


def test_refused_uploads_leave_nothing(pipeline: Pipeline) -> None:
    dossier = pipeline.dossier()
    refused = _refusals(pipeline, dossier)
    assert {name: (answer.status_code, answer.json()["code"]) for name, answer in refused.items()} == {
        "empty": (422, "file_empty"),
        "wrong content": (415, "content_mismatch"),
        "unknown type": (422, "type_unknown"),
        "inactive type": (422, "type_inactive"),
        "unknown dossier": (422, "dossier_unknown"),
        "other tenant's dossier": (422, "dossier_unknown"),
        "other sha256": (422, "checksum_mismatch"),
        "too large": (413, "file_too_large"),
        "truncated multipart": (400, "body_truncated"),
        "no token": (401, "unauthenticated"),
        "wrong role": (403, "forbidden"),
    }
    assert all(answer.headers["content-type"] == "application/problem+json" for answer in refused.values())
    _break_off(pipeline, dossier)
    wait_for(lambda: not _rows(pipeline, dossier), "every attempt is given up", 30)
    _settle_objects(pipeline)
    attempts = pipeline.sql("SELECT id, chemin_stockage FROM documents WHERE dossier_id = $1", UUID(dossier))
    assert not {row[1] for row in attempts} & pipeline.objects()
    pipeline.settle()
    ids = {str(row[0]).encode() for row in attempts}
    assert len(ids) >= 5, "the attempts that began to be stored"
    events = [record for record in pipeline.records() if record.topic.startswith("dpj.document.")]
    assert events
    assert not [record for record in events if record.key in ids or any(one in record.value for one in ids)]


def _refusals(pipeline: Pipeline, dossier: str) -> dict[str, httpx.Response]:
    pdf, said = small_pdf("refused"), metadata(dossier)
    foreign = pipeline.dossier(OTHER_TENANT)
    large = small_pdf("large") + b"\n%" + bytes(10 * 1024 * 1024)
    whole = httpx.Request("POST", "http://none", files=_parts(pdf, said))
    cut = whole.read()[:-60]
    portal = pipeline.client("portal")
    return {
        "empty": pipeline.post(b"", said),
        "wrong content": pipeline.post(sample("programme.pdf"), metadata(dossier, "CONTRAT")),
        "unknown type": pipeline.post(pdf, metadata(dossier, "SANS_TYPE")),
        "inactive type": pipeline.post(pdf, metadata(dossier, "CHEQUE_ANNULE")),
        "unknown dossier": pipeline.post(pdf, metadata(str(uuid4()))),
        "other tenant's dossier": pipeline.post(pdf, metadata(foreign)),
        "other sha256": pipeline.post(pdf, {**said, "sha256": "0" * 64}),
        "too large": pipeline.post(large, metadata(dossier, "RIB")),
        "truncated multipart": portal.post(
            "/documents", content=cut, headers={"Content-Type": whole.headers["content-type"]}
        ),
        "no token": httpx.post(f"{pipeline.url}/api/v1/documents", files=_parts(pdf, said), trust_env=False),
        "wrong role": pipeline.post(pdf, said, role="validator"),
    }


def _parts(content: bytes, said: dict[str, Any]) -> list[tuple[str, Any]]:
    return [
        ("metadata", (None, json.dumps(said).encode(), "application/json")),
        ("file", ("piece.pdf", content, "application/pdf")),
    ]


def _break_off(pipeline: Pipeline, dossier: str) -> None:
    """A client that goes away in the middle of its upload."""
    request = pipeline.client("portal").build_request(
        "POST", "/documents", files=_parts(small_pdf("gone") + bytes(3_000_000), metadata(dossier))
    )
    body = request.read()
    connection = http.client.HTTPConnection(urlsplit(pipeline.url).netloc, timeout=30)
    connection.putrequest("POST", "/api/v1/documents")
    for name in ("Authorization", "Content-Type", "Content-Length"):
        connection.putheader(name, request.headers[name])
    connection.endheaders(body[:2_000_000])
    connection.close()


def _rows(pipeline: Pipeline, dossier: str) -> set[str]:
    """Documents of the dossier that are not given up."""
    query = "SELECT id FROM documents WHERE dossier_id = $1 AND statut <> 'ABANDONED'"
    return {str(row[0]) for row in pipeline.sql(query, UUID(dossier))}


def _settle_objects(pipeline: Pipeline) -> None:
    """The object store ends up with exactly the objects that the database knows."""
    wait_for(lambda: pipeline.objects() == pipeline.known_objects(), "objects are those of the database", 30)


def test_another_tenant_sees_nothing(pipeline: Pipeline) -> None:
    taken = pipeline.upload(small_pdf("mine"), metadata(pipeline.dossier()))
    stranger = pipeline.client("portal", OTHER_TENANT)
    for below in ("", "/content", "/thumbnail", "/events"):
        answer = stranger.get(f"/documents/{taken['id']}{below}")
        assert (answer.status_code, answer.json()["code"]) == (404, "document_not_found"), below
    assert taken["id"] not in stranger.get("/documents", params={"limit": 100}).text


def test_a_damaged_object_is_quarantined_and_served_no_more(pipeline: Pipeline) -> None:
    pipeline.end(signal.SIGTERM, "worker-integrity")
    content = sample("contrat-signe-scan.pdf")
    taken = pipeline.upload(content, metadata(pipeline.dossier(), "CONTRAT", language="en"))
    ((key,),) = pipeline.sql("SELECT chemin_stockage FROM documents WHERE id = $1", UUID(taken["id"]))
    store, bucket = pipeline.minio(), pipeline.settings["DPJ_MINIO_BUCKET"]
    answer = store.get_object(bucket, key)
    held = bytearray(answer.read())
    answer.close()
    answer.release_conn()
    assert content[1000:1064] not in held
    held[len(held) // 2] ^= 1
    store.put_object(bucket, key, io.BytesIO(bytes(held)), len(held))
    pipeline.up()
    done = pipeline.reaches(taken["id"], "QUARANTINED")
    assert done["failure_code"]
    served = pipeline.get(taken["id"], "/content")
    assert (served.status_code, served.json()["code"]) == (409, "content_not_available")
    assert pipeline.decide(taken["id"], "validate").status_code == 409
    expected = Counter([("receipt", "en"), ("quarantined", "en"), ("operators-quarantine", "fr")])
    wait_for(lambda: pipeline.mail_kinds(taken["id"]) == expected, "receipt and quarantine mails", 30)
    assert pipeline.timeline(taken["id"])[-1] == "QUARANTINED"
    assert done["tenant"] == TENANT
