"""Upload, archive, erase over the real API and processes: nothing of it is left in any store, and the receipt proves it."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

from bson import json_util

from tests.e2e.test_confidentiality import dump, traces
from tests.support.pipeline import ROOT, TENANT, Pipeline, metadata, small_pdf, wait_for


def _erase(pipeline: Pipeline, document_id: str, **body: str) -> tuple[int, str]:
    answer = pipeline.client("operator").post(f"/documents/{document_id}/erase", json=body)
    return answer.status_code, str(answer.json().get("code") or answer.json()["status"])


def test_nothing_is_left_of_an_erased_document(pipeline: Pipeline, tmp_path: Path) -> None:
    mark, key = uuid4().hex[:10], uuid4().hex
    address, name = f"nom-{mark}@client.example", f"passeport-{mark}.pdf"
    more = {"email": address, "tags": [f"tag-{mark}"], "metadata": {"numero": f"n-{mark}"}}
    said = metadata(pipeline.dossier(), **more)
    content = small_pdf(mark)
    taken = pipeline.upload(content, said, name=name, key=key)
    document_id = taken["id"]
    pipeline.reaches(document_id, "VERIFIED")
    wait_for(lambda: "THUMBNAILS_READY" in pipeline.timeline(document_id), "thumbnails", 30)
    pipeline.decide(document_id, "validate", comment=f"vu avec {mark}")
    archived = pipeline.reaches(document_id, "ARCHIVED")
    pipeline.settle()
    assert [digest for _, digest in pipeline.ged_copies(archived)] == [hashlib.sha256(content).hexdigest()]
    assert pipeline.mongo("documents_metadata", {"_id": document_id})
    assert len([key for key in pipeline.objects() if document_id in key]) == 3
    wrapped = pipeline.sql("SELECT cle_enveloppee FROM documents WHERE id = $1::text::uuid", document_id)[0][0]
    subject = pipeline.sql("SELECT cle_enveloppee FROM cles_sujets WHERE sujet = $1::text::uuid", document_id)[0][0]
    agents = _agents(pipeline, document_id)
    assert {told["state"] for told in agents.values()} <= {"CLEAR", "ABSENT"}
    assert "httpx" in agents["document.stored"]["text"]

    assert pipeline.dpj("hold", "set", document_id, "--reference", "CASE-1", "--reason", "LITIGATION")
    assert _erase(pipeline, document_id, reason="T-1", legal_basis="GDPR_17_1_B") == (409, "legal_hold")
    assert pipeline.json("hold", "lift", document_id, "--reference", "CASE-1", "--reason", "CLOSED")["held"] is False
    assert _erase(pipeline, document_id, reason="T-1") == (409, "retention_running")
    assert pipeline.client("portal").post(f"/documents/{document_id}/erase", json={"reason": "x"}).status_code == 403
    assert _erase(pipeline, document_id, reason="T-1", legal_basis="GDPR_17_1_B") == (202, "ERASING")
    for below in ("/content", "/thumbnail"):
        gone = pipeline.get(document_id, below)
        assert (gone.status_code, gone.json()["code"]) == (410, "document_erased")
    erased = pipeline.reaches(document_id, "ERASED", 60)
    assert (erased["file_name"], erased["tags"], erased["metadata"]) == ("", [], {})
    assert _erase(pipeline, document_id, reason="T-2") == (200, "ERASED")
    again = pipeline.post(content, said, name=name, key=key)
    assert (again.status_code, again.json()["code"]) == (410, "document_erased")
    pipeline.settle()

    # Every store, searched.
    places = {f"table {table}": held for table, held in dump(pipeline).items()}
    for number, record in enumerate(pipeline.records()):
        places[f"{record.topic} {number}"] = b"\n".join((record.key, record.value, record.headers))
    for collection in pipeline.mongo_collections():
        places[f"mongo {collection}"] = json_util.dumps(pipeline.mongo(collection)).encode()
    secrets = [mark, address, name, wrapped, subject]
    assert traces(places, [secret.encode() for secret in secrets]) == []
    assert not [key for key in pipeline.objects() if document_id in key]
    assert pipeline.mongo("documents_metadata", {"_id": document_id}) == []
    assert pipeline.ged_copies(archived) == []
    ((topic, body),) = [
        (record.topic, record.value) for record in pipeline.records() if record.topic == "dpj.document.erased"
        and document_id.encode() in record.key
    ]  # fmt: skip
    assert b"GDPR_17_1_B" in body, topic

    # The receipt, and what is made of it by who has nothing but the public keys.
    receipt, keys, still = tmp_path / "receipt.jws", tmp_path / "keys.json", tmp_path / "kept.pdf"
    answer = pipeline.json("erasure", "receipt", document_id, "--to", str(receipt))
    assert receipt.read_text() == answer["jws"]
    keys.write_text(pipeline.dpj("audit", "keys"))
    still.write_bytes(content)
    checked = _verify(receipt, keys, still)
    assert (checked["verified"], checked["document_id"]) == (True, document_id)
    assert set(checked["destroyed"]) >= {"data_key", "subject_key", "content", "archived_copy"}
    header, _, signature = answer["jws"].split(".")
    altered = {**answer["receipt"], "document": {**answer["receipt"]["document"], "id": str(uuid4())}}
    text = base64.urlsafe_b64encode(json.dumps(altered, sort_keys=True).encode()).rstrip(b"=").decode()
    receipt.write_text(f"{header}.{text}.{signature}")
    assert [one["kind"] for one in _verify(receipt, keys, still, status=1)["findings"]] == ["RECEIPT_INVALID"]

    # Addresses in the audit log can't be read any more but for those of who asked for the erasure; the log itself still verifies.
    agents = _agents(pipeline, document_id)
    assert (agents["document.stored"]["state"], agents["document.stored"]["text"]) == ("ERASED", None)
    assert agents["document.validated"]["state"] == "ERASED"
    assert "httpx" in agents["document.erasing"]["text"]
    assert "[erased " in pipeline.dpj("audit", "show", document_id, "--tenant", TENANT, "--reason", "TEST-1")
    assert pipeline.json("audit", "verify", "--tenant", TENANT)["intact"] is True
    actions = [line["action"] for line in pipeline.mongo("audit_logs", {"entity_id": document_id}) if "action" in line]
    assert {"document.legal_hold.set", "document.erasing", "document.erased"} <= set(actions)


def _agents(pipeline: Pipeline, document_id: str) -> dict[str, dict[str, Any]]:
    """What an auditor reads of user agents, by action."""
    told = pipeline.json("audit", "show", document_id, "--tenant", TENANT, "--reason", "TEST-1")
    return {entry["action"]: entry["user_agent"] for entry in told["entries"]}


def _verify(receipt: Path, keys: Path, document: Path, status: int = 0) -> dict[str, Any]:
    words = ("receipt", str(receipt), "--keys", str(keys), "--document", str(document), "--json")
    command = [sys.executable, str(ROOT / "verifier" / "dpj_verify.py"), *words]
    done = subprocess.run(command, cwd=receipt.parent, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr[-1000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_purging_erases_what_is_due_and_nothing_else(pipeline: Pipeline) -> None:
    dossier = pipeline.dossier()
    due, kept = (pipeline.upload(small_pdf(uuid4().hex), metadata(dossier))["id"] for _ in range(2))
    for one in (due, kept):
        pipeline.reaches(one, "VERIFIED")
        pipeline.decide(one, "reject", reason="illisible")
        pipeline.reaches(one, "REJECTED")
    pipeline.sql("UPDATE documents SET date_expiration = now() - interval '1 day' WHERE id = $1::text::uuid", due)
    before = pipeline.json("purge")
    assert (before["due"], before["asked"]) == (1, 0)
    assert pipeline.get(due).json()["status"] == "REJECTED"
    assert "Dry run" in pipeline.dpj("purge")
    assert pipeline.json("purge", "--apply")["asked"] == 1
    pipeline.reaches(due, "ERASED", 60)
    assert pipeline.get(kept).json()["status"] == "REJECTED"
    assert pipeline.json("purge") == {"apply": False, "due": 0, "asked": 0, "groups": []}
