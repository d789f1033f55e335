"""Keys of personal texts change under the running pipeline: nobody notices, rows from before are sealed, old keys go."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support.pipeline import Pipeline, metadata, small_pdf, wait_for


@pytest.fixture
def upgraded(pipeline: Pipeline) -> Iterator[Pipeline]:
    """A site of an earlier release: it reads texts that are not sealed, which a new one does not."""
    path = pipeline.home / "settings.env"
    said = path.read_text("utf-8")
    line = re.compile(r"^DPJ_COLUMNS_SEALED_ONLY=.*$", re.MULTILINE)
    assert line.search(said)
    pipeline.stop()
    path.write_text(line.sub("DPJ_COLUMNS_SEALED_ONLY=false", said), "utf-8")
    pipeline.up()
    yield pipeline
    pipeline.stop()
    path.write_text(line.sub("DPJ_COLUMNS_SEALED_ONLY=true", path.read_text("utf-8")), "utf-8")
    pipeline.ended = True


def as_before(pipeline: Pipeline, document: str, name: str, address: str) -> None:
    """Put a row into the form that the release before wrote: its name clear, its address sealed as ``p1``."""
    line = Path(pipeline.settings["DPJ_PERSONAL_KEY_FILE"]).read_text("ascii").split()[0]
    key = base64.urlsafe_b64decode(line + "=" * (-len(line) % 4))
    prefix = f"p1.{hmac.new(key, b'dpj-personal-key-id', hashlib.sha256).hexdigest()[:8]}"
    nonce = os.urandom(12)
    sealed = nonce + AESGCM(key).encrypt(nonce, address.encode(), prefix.encode())
    pipeline.sql(
        """
        UPDATE documents
        SET nom_original = $2, courriel_scelle = $3, cle_personnelle = NULL, cle_index = NULL, nom_original_index = NULL,
            courriel_index = NULL, deposant_nom_scelle = NULL, etiquettes_scellees = NULL, tags = '{urgent}',
            metadata = $4::jsonb
        WHERE id = $1::text::uuid
        """,
        document,
        name,
        f"{prefix}.{base64.urlsafe_b64encode(sealed).decode().rstrip('=')}",
        json.dumps({"pages": 3}),
    )


def test_keys_change_under_the_running_pipeline(upgraded: Pipeline) -> None:
    pipeline = upgraded
    mark, dossier = uuid4().hex[:10], pipeline.dossier()
    name, address, key = f"piece-{mark}.pdf", f"marie-{mark}@client.example", uuid4().hex
    said = metadata(dossier, email=address, language="en", tags=["urgent"], metadata={"pages": 3})
    first = pipeline.upload(small_pdf(f"a {mark}"), said, name=name, key=key)
    before = pipeline.upload(small_pdf(f"b {mark}"), said, name=name)
    pipeline.reaches(before["id"], "VERIFIED")
    pipeline.settle()
    as_before(pipeline, before["id"], name, address)
    assert pipeline.get(before["id"]).json()["file_name"] == name
    assert len(found(pipeline, name)) == 1
    old = current(pipeline)
    assert pipeline.json("personal", "status")["not_sealed"] == 1

    new = {kind: pipeline.json("personal", "rotate", *words)["key"] for kind, words in KINDS.items()}
    assert current(pipeline) == new
    later = pipeline.upload(small_pdf(f"c {mark}"), said, name=name)
    assert key_of(pipeline, later["id"]) == new["sealing"]
    assert key_of(pipeline, first["id"]) == old["sealing"]
    refused = pipeline.dpj("personal", "retire", old["sealing"], "--apply", "--json", status=1)
    assert "personal_key_in_use" in refused

    run = pipeline.json("personal", "reseal", "--rate", "10000")
    assert (run["left"], run["failed"]) == (0, [])
    assert run["sealed"] == run["documents"] >= 2
    ids = [one["id"] for one in (first, before, later)]
    assert {key_of(pipeline, one) for one in ids} == {new["sealing"]}
    for kind in KINDS:
        assert pipeline.json("personal", "retire", old[kind])["apply"] is False
        pipeline.json("personal", "retire", old[kind], "--apply")
    status = pipeline.json("personal", "status")
    assert (status["not_sealed"], status["unknown"]) == (0, [])
    assert old["sealing"] not in json.dumps(status)

    for one in ids:
        shown = pipeline.get(one).json()
        assert (shown["file_name"], shown["tags"], shown["metadata"]) == (name, ["urgent"], {"pages": 3})
    assert found(pipeline, name.upper()) == set(ids)
    again = pipeline.post(small_pdf(f"a {mark}"), said, name=name, key=key)
    assert (again.status_code, again.json()) == (201, first)
    assert pipeline.decide(before["id"], "validate", comment=f"vu {mark}").json()["decision"]["note"] == f"vu {mark}"
    wait_for(lambda: ("archived", "en") in pipeline.mail_kinds(before["id"]), "mails go on", 60)
    assert {mail.to for mail in pipeline.mails(before["id"])} == {address}
    row = pipeline.sql("SELECT row_to_json(d)::text FROM documents d WHERE id = $1::text::uuid", before["id"])[0][0]
    assert mark not in row
    acts = [
        line["action"] for line in pipeline.mongo("audit_logs") if str(line.get("action")).startswith("personal_key.")
    ]
    assert {"personal_key.rotated", "personal_key.resealed", "personal_key.retired"} <= set(acts)


def test_a_text_from_another_row_is_shown_to_nobody(pipeline: Pipeline) -> None:
    dossier = pipeline.dossier()
    mine, other = (pipeline.upload(small_pdf(one), metadata(dossier), name=f"{one}.pdf")["id"] for one in ("m", "o"))
    pipeline.settle()
    pipeline.sql(
        """
        UPDATE documents SET nom_original = o.nom_original, nom_original_index = o.nom_original_index
        FROM (SELECT nom_original, nom_original_index FROM documents WHERE id = $2::text::uuid) AS o WHERE id = $1::text::uuid
        """,
        mine,
        other,
    )
    assert pipeline.get(mine).json()["file_name"] == ""
    assert mine not in found(pipeline, "o.pdf")
    log = (pipeline.home / "logs" / "api.log").read_text()
    assert any("personal_text_unreadable" in line and mine in line for line in log.splitlines())


KINDS = {"sealing": (), "lookup": ("--lookup",)}


def current(pipeline: Pipeline) -> dict[str, str]:
    return {one["kind"]: one["key"] for one in pipeline.json("personal", "status")["keys"] if one["current"]}


def key_of(pipeline: Pipeline, document: str) -> str:
    return str(pipeline.sql("SELECT cle_personnelle FROM documents WHERE id = $1::text::uuid", document)[0][0])


def found(pipeline: Pipeline, name: str) -> set[str]:
    answer = pipeline.client("portal").post("/document-search", json={"file_name": name})
    assert answer.status_code == 200, answer.text
    return {one["id"] for one in answer.json()["items"]}
