"""What the running product left in MinIO, Vault, PostgreSQL, the log, the bucket of checkpoints, receipts and exports, read by
what was written from docs/ENVELOPE.md alone (``tests/second_implementation``)."""

from __future__ import annotations

import hashlib
import json
import random
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from minio import Minio

from tests.second_implementation import documents, proofs
from tests.second_implementation.documents import Context, WrappedKey
from tests.second_implementation.forms import Refused
from tests.support.pipeline import TENANT, Pipeline, metadata, small_pdf, wait_for

#: More than one chunk of the envelope, and more than one part of a multipart upload.
SIZE = (8 << 20) + 4_321
ADDRESS, NAME = "Zoe.Dupont@client.example", "Relevé d'identité.pdf"


@dataclass(frozen=True)
class Archived:
    """A document that went all the way, and its row."""

    id: str
    content: bytes
    answer: Mapping[str, Any]
    row: Mapping[str, Any]

    @property
    def context(self) -> Context:
        return Context(TENANT, self.id)


@pytest.fixture(scope="module")
def archived(running: Pipeline) -> Archived:
    content = small_pdf(f"{uuid4().hex} {random.Random(7).randbytes(SIZE // 2).hex()}")
    more = {"email": ADDRESS, "tags": ["tag-é"], "metadata": {"n": "1"}}
    taken = running.upload(content, metadata(running.dossier(), **more), name=NAME)
    running.reaches(taken["id"], "VERIFIED")
    wait_for(lambda: "THUMBNAILS_READY" in running.timeline(taken["id"]), "thumbnails", 30)
    running.decide(taken["id"], "validate", comment="vu")
    answer = running.reaches(taken["id"], "ARCHIVED")
    running.settle()
    query = """
        SELECT documents.*, cles_sujets.cle_enveloppee AS cle_sujet
        FROM documents JOIN cles_sujets ON sujet = documents.id WHERE documents.id = $1::text::uuid"""
    (row,) = running.sql(query, taken["id"])
    return Archived(taken["id"], content, answer, row)


@pytest.fixture(scope="module")
def keys(running: Pipeline) -> proofs.Keys:
    return proofs.public_keys(running.dpj("audit", "keys").encode())


def ask_vault(pipeline: Pipeline) -> documents.AskVault:
    """Vault's HTTP API, as the role of the pipeline."""
    given = pipeline.settings

    def ask(path: str, body: Mapping[str, str], token: str = "") -> Mapping[str, Any]:
        headers = {"Content-Type": "application/json", "X-Vault-Token": token}
        asked = urllib.request.Request(f"{given['DPJ_VAULT_ADDR']}{path}", json.dumps(body).encode(), headers)  # noqa: S310
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=20) as answer:
            found: Mapping[str, Any] = json.loads(answer.read())
            return found

    login = {"role_id": given["DPJ_VAULT_ROLE_ID"], "secret_id": given["DPJ_VAULT_SECRET_ID"]}
    token = ask("/v1/auth/approle/login", login)["auth"]["client_token"]
    return lambda path, body: ask(path, body, token)


def read_object(store: Minio, bucket: str, key: str, offset: int = 0, length: int = 0) -> bytes:
    answer = store.get_object(bucket, key, offset=offset, length=length)
    try:
        held: bytes = answer.read()
        return held
    finally:
        answer.close()
        answer.release_conn()


def test_a_document_opens_whole_in_part_and_in_small(running: Pipeline, archived: Archived) -> None:
    row, store, bucket = archived.row, running.minio(), running.settings["DPJ_MINIO_BUCKET"]
    wrapped = WrappedKey(row["cle_schema"], row["cle_nom"], row["cle_version"], row["cle_enveloppee"])
    assert wrapped.key_name == f"dpj-tenant-{TENANT}"
    ask = ask_vault(running)
    key = documents.unwrap_by_vault(wrapped, archived.context, ask)
    sealed = read_object(store, bucket, row["chemin_stockage"])
    assert (len(sealed), row["taille_objet"]) == (documents.sealed_size(len(archived.content)), len(sealed))
    stat = store.stat_object(bucket, row["chemin_stockage"])
    assert stat.etag == row["etag_objet"]
    assert not [name for name in stat.metadata or {} if name.lower().startswith("x-amz-meta-")]
    clear = documents.open_envelope(sealed, key, archived.context)
    assert clear == archived.content
    assert (hashlib.sha256(clear).hexdigest(), len(clear)) == (row["checksum_sha256"], row["taille_fichier"])

    def read(offset: int, length: int) -> bytes:
        return read_object(store, bucket, row["chemin_stockage"], offset, length)

    start, end = (1 << 20) - 5, (2 << 20) + 5
    assert documents.open_range(read, len(clear), key, archived.context, start, end) == clear[start:end]
    thumbnails = running.sql("SELECT * FROM vignettes WHERE document_id = $1::text::uuid", archived.id)
    assert {one["role"] for one in thumbnails} == {"thumbnail-256", "thumbnail-1024"}
    for one in thumbnails:
        assert one["chemin_stockage"].startswith(f"{row['chemin_stockage']}.{one['role']}.")
        picture = documents.open_envelope(
            read_object(store, bucket, one["chemin_stockage"]), key, Context(TENANT, archived.id, one["role"])
        )
        assert (hashlib.sha256(picture).hexdigest(), len(picture)) == (one["checksum_sha256"], one["taille"])
    with pytest.raises(Refused):
        documents.open_envelope(sealed, key, Context(TENANT, archived.id, "thumbnail-256"))
    with pytest.raises(urllib.request.HTTPError) as refused:
        documents.unwrap_by_vault(wrapped, Context(TENANT, str(uuid4())), ask)
    refused.value.close()


def test_personal_texts_open_and_are_found(running: Pipeline, archived: Archived) -> None:
    row, given = archived.row, running.settings
    columns = documents.listed_keys(Path(given["DPJ_COLUMN_KEY_FILE"]), "dpj-column")
    lookups = documents.listed_keys(Path(given["DPJ_LOOKUP_KEY_FILE"]), "dpj-lookup")

    def opened(column: str, what: str) -> str:
        return documents.open_column(row[column], columns, TENANT, archived.id, what)

    assert opened("nom_original", "file_name") == NAME
    assert opened("courriel_scelle", "depositor_email") == ADDRESS
    assert json.loads(opened("etiquettes_scellees", "labels")) == {"tags": ["tag-é"], "metadata": {"n": "1"}}
    assert opened("commentaire_validation", "note") == "vu"
    lookup = lookups[row["cle_index"]]
    assert row["nom_original_index"] == documents.look_up_index(lookup, TENANT, "file_name", NAME.upper())
    assert row["courriel_index"] == documents.look_up_index(lookup, TENANT, "depositor_email", ADDRESS)


def test_entries_of_the_log_are_read(running: Pipeline, archived: Archived) -> None:
    personal = documents.listed_keys(Path(running.settings["DPJ_PERSONAL_KEY_FILE"]), "dpj-personal")
    held = sorted(running.mongo("audit_logs", {"tenant": TENANT}), key=lambda entry: int(entry["seq"]))
    proofs.follow(TENANT, [entry["entree"].encode() for entry in held])
    assert [proofs.sha256_hex(entry["entree"].encode()) for entry in held] == [entry["empreinte"] for entry in held]
    about = [proofs.read_entry(entry["entree"].encode()) for entry in held if entry["entity_id"] == archived.id]
    (taken,) = [entry for entry in about if entry["action"] == "document.stored"]
    key = documents.open_subject_key(archived.row["cle_sujet"], personal, TENANT, archived.id)
    assert documents.open_audit_field(taken["ip_sealed"], key, TENANT, archived.id, "ip") == "127.0.0.1"
    assert "httpx" in documents.open_audit_field(taken["user_agent_sealed"], key, TENANT, archived.id, "user_agent")


def test_a_receipt_an_export_and_checkpoints_verify(
    running: Pipeline, archived: Archived, keys: proofs.Keys, tmp_path: Path
) -> None:
    def receipt() -> str | None:
        answer = running.get(archived.id, "/receipt")
        assert answer.status_code in {200, 409}, answer.text
        return answer.text if answer.status_code == 200 else None

    said = proofs.verify_archiving(wait_for(receipt, "a receipt", 90), keys)
    assert (said["document_id"], said["sha256"]) == (archived.id, hashlib.sha256(archived.content).hexdigest())
    assert said["stored_size"] == archived.row["taille_objet"]
    running.dpj("audit", "export", "--tenant", TENANT, "--to", str(tmp_path / "export"))
    entries, checkpoints = proofs.verify_export(tmp_path / "export", TENANT, keys)
    assert said["audit"]["entry"].encode() in entries
    given = running.settings
    store = Minio(
        given["DPJ_CHECKPOINT_ENDPOINT"],
        access_key=given["DPJ_CHECKPOINT_ACCESS_KEY"],
        secret_key=given["DPJ_CHECKPOINT_SECRET_KEY"],
        region="us-east-1",  # not asked for: these credentials may not
        secure=False,
    )
    for made in checkpoints:
        held = read_object(store, given["DPJ_CHECKPOINT_BUCKET"], proofs.checkpoint_name(TENANT, made.size))
        assert proofs.read_checkpoint(held, keys) == made


def test_a_link_says_whose_it_is(running: Pipeline, archived: Archived) -> None:
    answer = running.client("portal").post(f"/documents/{archived.id}/links", json={"purpose": "CHECK", "seconds": 60})
    assert answer.status_code == 201, answer.text
    token = answer.json()["url"].rpartition("/")[2]
    links = documents.listed_keys(Path(running.settings["DPJ_LINK_KEY_FILE"]), "dpj-link")
    link, document, _ = documents.open_link(token, links)
    assert (str(link), str(document)) == (answer.json()["id"], archived.id)


def test_an_erasure_and_an_anonymised_export(running: Pipeline, keys: proofs.Keys, tmp_path: Path) -> None:
    taken = running.upload(small_pdf(uuid4().hex), metadata(running.dossier()))
    running.reaches(taken["id"], "VERIFIED")
    body = {"reason": "T-1", "legal_basis": "GDPR_17_1_B"}
    assert running.client("operator").post(f"/documents/{taken['id']}/erase", json=body).status_code == 202
    running.reaches(taken["id"], "ERASED", 120)
    running.json("erasure", "receipt", taken["id"], "--to", str(tmp_path / "receipt.jws"))
    said = proofs.verify_erasure((tmp_path / "receipt.jws").read_text(), keys)
    assert (said["document"]["id"], said["request"]["legal_basis"]) == (taken["id"], "GDPR_17_1_B")
    (key,) = running.sql("SELECT cle_enveloppee FROM cles_sujets WHERE sujet = $1::text::uuid", taken["id"])
    assert key["cle_enveloppee"] is None
    running.json("export", "anonymised", "--tenant", TENANT, "--to", str(tmp_path / "out"), "--reason", "TEST-1")
    manifest = proofs.verify_anonymised(tmp_path / "out")
    assert manifest["files"]["documents.jsonl"]["lines"] > 0
    members = {
        name: set(json.loads((tmp_path / "out" / name).read_text().partition("\n")[0])) for name in manifest["files"]
    }
    assert members == proofs.ANONYMISED_MEMBERS
