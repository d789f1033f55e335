"""A document's way from upload to archive, and the decisions on it, looked at from every side."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat

from tests.support.pipeline import ROOT, TENANT, Pipeline, metadata, sample, small_pdf, wait_for

PHOTO = "facture-photo.jpg"


def mails_are(pipeline: Pipeline, document_id: str, language: str, *templates: str) -> None:
    """Each of ``templates`` arrives once in ``language``, and nothing else."""
    expected = Counter((template, language) for template in templates)
    wait_for(lambda: pipeline.mail_kinds(document_id) >= expected, f"mails {templates}", 30)
    assert pipeline.mail_kinds(document_id) == expected


@pytest.fixture(scope="module")
def archived(running: Pipeline) -> dict[str, Any]:
    """A photo with EXIF rotation and GPS, raw and in French, all the way; with the states it was seen in."""
    pipeline = running
    content = sample(PHOTO)
    taken = pipeline.upload_raw(content, metadata(pipeline.dossier(), file_name=PHOTO), "image/jpeg")
    assert (taken["status"], taken["size"]) == ("STORED", len(content))
    pipeline.reaches(taken["id"], "VERIFIED")
    wait_for(lambda: "THUMBNAILS_READY" in pipeline.timeline(taken["id"]), "thumbnails", 30)
    answer = pipeline.decide(taken["id"], "validate", comment="conforme")
    assert (answer.status_code, answer.json()["status"]) == (200, "VALIDATED")
    return pipeline.reaches(taken["id"], "ARCHIVED")


def test_content_is_served_as_it_was_sent(pipeline: Pipeline, archived: dict[str, Any]) -> None:
    content = sample(PHOTO)
    digest = hashlib.sha256(content).hexdigest()
    whole = pipeline.get(archived["id"], "/content")
    assert (whole.status_code, whole.headers["etag"], whole.headers["content-type"]) == (
        200,
        f'"{digest}"',
        "image/jpeg",
    )
    assert whole.content == content
    part = pipeline.get(archived["id"], "/content", headers={"Range": "bytes=100000-262144"})
    assert (part.status_code, part.content) == (206, content[100_000:262_145])
    assert part.headers["content-range"] == f"bytes 100000-262144/{len(content)}"
    again = pipeline.get(archived["id"], "/content", headers={"If-None-Match": f'"{digest}"'})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("box", [256, 1024])
def test_thumbnails_are_upright_images(pipeline: Pipeline, archived: dict[str, Any], box: int) -> None:
    answer = pipeline.get(archived["id"], "/thumbnail", params={"size": box})
    assert answer.status_code == 200, answer.text
    with Image.open(io.BytesIO(answer.content)) as thumbnail, Image.open(io.BytesIO(sample(PHOTO))) as source:
        assert Image.MIME[str(thumbnail.format)] == answer.headers["content-type"]
        upright = ImageOps.exif_transpose(source).convert("RGB")
        assert max(thumbnail.size) == box
        assert thumbnail.height > thumbnail.width, "the photo lies on its side only without its EXIF rotation"
        assert not thumbnail.getexif()

        def distance(picture: Image.Image) -> float:
            wanted = picture.resize(thumbnail.size)
            return sum(ImageStat.Stat(ImageChops.difference(wanted, thumbnail.convert("RGB"))).mean)

        assert distance(upright) < distance(upright.rotate(180)) / 3


def test_the_archive_holds_one_copy_of_the_same_bytes(pipeline: Pipeline, archived: dict[str, Any]) -> None:
    digest = hashlib.sha256(sample(PHOTO)).hexdigest()
    assert archived["sha256"] == digest
    assert pipeline.ged_copies(archived) == [(archived["archive"]["ged_id"], digest)]
    assert archived["archive"]["retention_years"] == 10


def test_mails_and_timeline_tell_the_way_in_order(pipeline: Pipeline, archived: dict[str, Any]) -> None:
    mails_are(pipeline, archived["id"], "fr", "receipt", "validated", "archived")
    assert {mail.to for mail in pipeline.mails(archived["id"])} == {"depositor@client.example"}
    told = pipeline.timeline(archived["id"])
    states = [entry for entry in told if entry in {"STORED", "VERIFIED", "VALIDATED", "ARCHIVED"}]
    assert states == ["STORED", "VERIFIED", "VALIDATED", "ARCHIVED"]
    assert told.count("THUMBNAILS_READY") == 1
    assert told.index("VERIFIED") < told.index("THUMBNAILS_READY")


def test_extended_metadata_say_what_the_file_is_but_not_where_it_was_taken(
    pipeline: Pipeline, archived: dict[str, Any]
) -> None:
    (found,) = pipeline.mongo("documents_metadata", {"_id": archived["id"]})
    said = found["metadata"] if isinstance(found["metadata"], str) else json.dumps(found["metadata"], default=str)
    assert "1860" in said
    assert "1400" in said
    assert "gps" not in said.lower()
    with Image.open(io.BytesIO(sample(PHOTO))) as source:
        assert source.getexif().get_ifd(0x8825), "the sample has a position"


def test_the_audit_chain_holds_and_names_every_step(pipeline: Pipeline, archived: dict[str, Any]) -> None:
    assert pipeline.get(archived["id"], "/content").status_code == 200
    pipeline.settle()
    entries = sorted(pipeline.mongo("audit_logs", {"tenant": TENANT}), key=lambda entry: int(entry["seq"]))
    assert [int(entry["seq"]) for entry in entries] == list(range(1, len(entries) + 1))
    said = [json.loads(entry["entree"]) for entry in entries]
    for entry, fields in zip(entries, said, strict=True):
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert canonical == entry["entree"]
        assert hashlib.sha256(canonical.encode()).hexdigest() == entry["empreinte"]
        assert (fields["tenant"], fields["seq"], fields["event_id"]) == (TENANT, entry["seq"], entry["_id"])
    assert said[0]["prev"] == hashlib.sha256(f"dpj-audit-chain|1|{TENANT}".encode()).hexdigest()
    assert [fields["prev"] for fields in said[1:]] == [entry["empreinte"] for entry in entries[:-1]]
    ((seq, head),) = pipeline.sql("SELECT seq, hash FROM audit_heads WHERE tenant = $1", TENANT)
    assert (seq, head) == (entries[-1]["seq"], entries[-1]["empreinte"])
    about = Counter(fields["action"] for fields in said if fields["entity_id"] == archived["id"])
    steps = {"document.stored", "document.verified", "document.validated", "document.archived"}
    assert {step: about[step] for step in steps} == dict.fromkeys(steps, 1)
    assert sum(count for action, count in about.items() if "content" in action or "download" in action) >= 1, about
    assert all(fields["ip_sealed"] is None or "127.0.0.1" not in fields["ip_sealed"] for fields in said)
    verdict = pipeline.json("audit", "verify", "--tenant", TENANT)
    assert verdict["intact"] is True


def test_a_receipt_and_an_export_prove_it_without_us(
    pipeline: Pipeline, archived: dict[str, Any], tmp_path: Path
) -> None:
    """The single file, copied elsewhere and run alone, with keys that were kept."""
    link = archived["links"]["receipt"].removeprefix("/api/v1")

    def receipt() -> httpx.Response | None:
        answer = pipeline.client("portal").get(link)
        assert answer.status_code in {200, 409}, answer.text
        if answer.status_code == 409:
            assert (answer.json()["code"], answer.headers["retry-after"]) == ("receipt_pending", "10")
        return answer if answer.status_code == 200 else None

    (tmp_path / "receipt.jws").write_bytes(wait_for(receipt, "a receipt", 40).content)
    (tmp_path / "photo.jpg").write_bytes(sample(PHOTO))
    (tmp_path / "dpj_verify.py").write_bytes((ROOT / "verifier" / "dpj_verify.py").read_bytes())
    (tmp_path / "keys.json").write_text(pipeline.dpj("audit", "keys"))
    pipeline.dpj("audit", "export", "--tenant", TENANT, "--to", str(tmp_path / "export"))

    def verify(*words: str) -> tuple[int, dict[str, Any]]:
        command = [sys.executable, "-I", "dpj_verify.py", *words, "--keys", "keys.json", "--json"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr == ""
        return done.returncode, json.loads(done.stdout)

    code, said = verify("receipt", "receipt.jws", "--document", "photo.jpg")
    assert (code, said["document_id"], said["ged_id"]) == (0, archived["id"], archived["archive"]["ged_id"])
    code, said = verify("export", "export", "--tenant", TENANT, "--known", "receipt.jws")
    assert (code, said["findings"]) == (0, [])
    (tmp_path / "photo.jpg").write_bytes(sample(PHOTO) + b".")
    assert verify("receipt", "receipt.jws", "--document", "photo.jpg")[0] == 1
    verdict = pipeline.json("audit", "verify", "--tenant", TENANT)
    assert verdict["intact"] is True
    assert verdict["chains"][0]["signed"] >= said["signed"]


def test_the_command_line_tells_the_same(pipeline: Pipeline, archived: dict[str, Any]) -> None:
    shown = pipeline.json("doc", "show", archived["id"], "--tenant", TENANT)
    assert {name: shown[name] for name in ("id", "status", "sha256", "archive")} == {
        name: archived[name] for name in ("id", "status", "sha256", "archive")
    }
    assert [entry["type"] for entry in shown["events"]] == pipeline.timeline(archived["id"])
    assert {row["group"] for row in pipeline.json("lag")} == {
        f"dpj.{name}" for name in ("integrity", "renditions", "archiving", "notification", "audit")
    }
    status = pipeline.json("status")
    assert status["stack"] == pipeline.name
    assert {part["state"] for part in status["parts"]} == {"ready"}
    assert {"api", "relay", "worker-integrity", "worker-archiving", "minio", "vault"} <= {
        part["name"] for part in status["parts"]
    }


def test_a_decision_before_verification_is_kept_and_carried_out(pipeline: Pipeline) -> None:
    """The worker that verifies is stopped, so that the document is certainly still STORED."""
    pipeline.end(signal.SIGTERM, "worker-integrity")
    content = sample("payslip-en.pdf")
    said = metadata(pipeline.dossier(), "BULLETIN_SALAIRE", language="en", email="jane@client.example")
    taken = pipeline.upload(content, said, name="payslip.pdf")
    answer = pipeline.decide(taken["id"], "validate", comment="")
    assert (answer.status_code, answer.json()["status"]) == (202, "STORED")
    assert answer.json()["pending_decision"]["status"] == "VALIDATED"
    assert pipeline.decide(taken["id"], "reject", reason="late").status_code == 409
    pipeline.up()
    done = pipeline.reaches(taken["id"], "ARCHIVED")
    assert pipeline.ged_copies(done) == [(done["archive"]["ged_id"], hashlib.sha256(content).hexdigest())]
    mails_are(pipeline, taken["id"], "en", "receipt", "validated", "archived")


def test_a_rejection_tells_the_depositor_why(pipeline: Pipeline) -> None:
    taken = pipeline.upload(small_pdf("reject"), metadata(pipeline.dossier()))
    pipeline.reaches(taken["id"], "VERIFIED")
    answer = pipeline.decide(taken["id"], "reject", reason="La pièce est illisible : bas de page coupé.")
    assert (answer.status_code, answer.json()["status"]) == (200, "REJECTED")
    mails_are(pipeline, taken["id"], "fr", "receipt", "rejected")
    (rejected,) = [mail for mail in pipeline.mails(taken["id"]) if mail.kind[0] == "rejected"]
    assert "La pièce est illisible : bas de page coupé." in rejected.text
    late = pipeline.decide(taken["id"], "validate")
    assert (late.status_code, late.json()["code"]) == (409, "transition_refused")


def test_of_two_racing_decisions_one_wins(pipeline: Pipeline) -> None:
    dossier = pipeline.dossier()
    ids = [pipeline.upload(small_pdf(f"race {number}"), metadata(dossier))["id"] for number in range(4)]
    for document_id in ids:
        pipeline.reaches(document_id, "VERIFIED")

    def decide(document_id: str, verb: str) -> httpx.Response:
        body = {"reason": "non"} if verb == "reject" else {}
        return pipeline.decide(document_id, verb, **body)

    with ThreadPoolExecutor(8) as pool:
        racing = [(pool.submit(decide, one, "validate"), pool.submit(decide, one, "reject")) for one in ids]
    for document_id, (validating, rejecting) in zip(ids, racing, strict=True):
        validated, rejected = validating.result(), rejecting.result()
        assert sorted([validated.status_code, rejected.status_code]) == [200, 409]
        pipeline.reaches(document_id, "ARCHIVED" if validated.status_code == 200 else "REJECTED")
        kinds = ("receipt", "validated", "archived") if validated.status_code == 200 else ("receipt", "rejected")
        mails_are(pipeline, document_id, "fr", *kinds)
