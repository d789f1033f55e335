"""The demonstration's proofs hold when things are right, and fail for each thing that may be wrong."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from domain.lifecycle import Status
from operations.api_client import ApiClient
from operations.demo import main as demo
from operations.demo import proofs
from operations.demo.proofs import DemoSite, Proof, StoreContents
from operations.demo.run import Journey
from operations.demo.samples import Sample, load, sha256_of
from operations.kafka.lag import PartitionLag

RANDOM = random.Random(1)
MANIFEST = Path(__file__).resolve().parents[2] / "samples" / "manifest.json"
SUBJECTS = {
    ("receipt", "fr"): "Reçu",
    ("receipt", "en"): "Received",
    ("validated", "fr"): "Validé",
    ("archived", "fr"): "Archivé",
    ("rejected", "fr"): "Refusé",
}
KEPT = StoreContents(frozenset({"a"}), frozenset({"a"}), 0, 0)


def a_site(tmp_path: Path, **changes: Any) -> DemoSite:
    (tmp_path / "maildir" / "new").mkdir(parents=True, exist_ok=True)
    (tmp_path / "store").mkdir(exist_ok=True)
    site = DemoSite(
        api_url="http://127.0.0.1:8082",
        kafka_bootstrap="127.0.0.1:9092",
        ged_url="http://127.0.0.1:8080/browser",
        ged_repository="A1",
        ged_user="dpj",
        ged_password="secret",
        maildir=tmp_path / "maildir",
        subjects=SUBJECTS,
        kept=lambda: KEPT,
        stored_files=lambda since: sorted((tmp_path / "store").iterdir()),
        verify_audit=lambda: SimpleNamespace(intact=True, detail="1 chain"),
    )
    return replace(site, **changes)


def a_journey(tmp_path: Path, ends: Status | None = Status.ARCHIVED, **changes: Any) -> Journey:
    path = tmp_path / f"{uuid4()}.pdf"
    path.write_bytes(RANDOM.randbytes(5000))
    about = {name: changes.pop(name) for name in ("refused", "thumbnail", "language") if name in changes}
    sample = Sample(
        path=path,
        name="sample.pdf",
        type_code="RIB",
        media_type="application/pdf",
        ends=ends,
        **{"language": "fr", **about},
    )
    state = ends.value if ends else "refused"
    journey = Journey(sample, state=state, document_id=str(uuid4()), sha256=sha256_of(path), size=5000)
    for name, value in changes.items():
        setattr(journey, name, value)
    return journey


# --- ends --------------------------------------------------------------------------------------------------------------


def test_all_at_their_ends(tmp_path: Path) -> None:
    refused = a_journey(tmp_path, None, refused="file_empty", refusal="file_empty", document_id="")
    found = proofs.ends_proof([a_journey(tmp_path, recorded=True), refused])
    assert found.holds
    assert "1 decided before" in found.detail


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "VERIFIED"},
        {"state": "QUARANTINED"},
        {"state": "refused", "refusal": "file_empty", "document_id": ""},
    ],
)
def test_one_elsewhere_is_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    found = proofs.ends_proof([a_journey(tmp_path), a_journey(tmp_path, **changes)])
    assert not found.holds
    assert "not ARCHIVED" in found.detail


def test_a_refusal_for_another_reason_or_none_is_not_the_expected_one(tmp_path: Path) -> None:
    other = a_journey(tmp_path, None, refused="file_empty", refusal="content_mismatch", document_id="")
    taken = a_journey(tmp_path, None, refused="file_empty", state="STORED")
    assert not proofs.ends_proof([other]).holds
    assert not proofs.ends_proof([taken]).holds
    assert other.stuck


# --- encryption --------------------------------------------------------------------------------------------------------


def test_noise_in_the_store_holds(tmp_path: Path) -> None:
    journey = a_journey(tmp_path)
    site = a_site(tmp_path)
    (tmp_path / "store" / "object").write_bytes(RANDOM.randbytes(5200))
    assert proofs.encryption_proof(site, [journey], 0).holds


def test_a_planted_clear_run_is_found(tmp_path: Path) -> None:
    journey = a_journey(tmp_path)
    site = a_site(tmp_path)
    stored = bytearray(RANDOM.randbytes(5200))
    stored[777 : 777 + 64] = journey.sample.path.read_bytes()[4001 : 4001 + 64]
    (tmp_path / "store" / "object").write_bytes(stored)
    found = proofs.encryption_proof(site, [journey], 0)
    assert not found.holds
    assert found.detail == "sample.pdf in object at 777"


def test_too_little_to_look_at_proves_nothing(tmp_path: Path) -> None:
    journey = a_journey(tmp_path)
    site = a_site(tmp_path)
    (tmp_path / "store" / "object").write_bytes(RANDOM.randbytes(4999))
    assert not proofs.encryption_proof(site, [journey], 0).holds


# --- mails -------------------------------------------------------------------------------------------------------------


def deliver(site: DemoSite, document_id: str, subject: str, language: str = "fr") -> None:
    message = EmailMessage()
    message["Subject"] = subject
    message.set_content(f"Référence : {document_id}\n", cte="quoted-printable")
    message.add_alternative("<p>x</p>", subtype="html")
    message["Content-Language"] = language
    (site.maildir / "new" / str(uuid4())).write_bytes(message.as_bytes())


def _all_three(site: DemoSite, journey: Journey) -> None:
    for subject in ("Reçu", "Validé", "Archivé"):
        deliver(site, journey.document_id, subject)


def test_each_mail_once_in_the_right_language(tmp_path: Path) -> None:
    site, journey = a_site(tmp_path), a_journey(tmp_path)
    english = a_journey(tmp_path, Status.VERIFIED, language="en")
    refused = a_journey(tmp_path, None, refused="file_empty", document_id="")
    _all_three(site, journey)
    deliver(site, english.document_id, "Received", "en")
    deliver(site, str(uuid4()), "Reçu")
    found = proofs.mail_proof(site, [journey, english, refused])
    assert found.holds
    assert found.detail == "1 en, 3 fr, each once"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda site, journey: None,
        lambda site, journey: (_all_three(site, journey), deliver(site, journey.document_id, "Reçu")),
        lambda site, journey: (_all_three(site, journey), deliver(site, journey.document_id, "Refusé")),
        lambda site, journey: (_all_three(site, journey), deliver(site, journey.document_id, "Something else")),
        lambda site, journey: [deliver(site, journey.document_id, text) for text in ("Reçu", "Validé")],
        lambda site, journey: [
            deliver(site, journey.document_id, text, "en") for text in ("Reçu", "Validé", "Archivé")
        ],
    ],
)
def test_missing_double_foreign_and_wrong_mails_are_told(
    tmp_path: Path, spoil: Callable[[DemoSite, Journey], Any]
) -> None:
    site, journey = a_site(tmp_path), a_journey(tmp_path)
    spoil(site, journey)
    assert not proofs.mail_proof(site, [journey]).holds


# --- what is kept, lag, thumbnails, audit ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "stored", "holds"), [({"a"}, {"a"}, True), ({"a"}, {"a", "b"}, False), ({"a", "b"}, {"a"}, False)]
)
def test_unknown_and_missing_objects(tmp_path: Path, known: set[str], stored: set[str], holds: bool) -> None:
    site = a_site(tmp_path, kept=lambda: StoreContents(frozenset(known), frozenset(stored), 0, 0))
    assert proofs.no_orphans_proof(site, []).holds is holds


def _lag(lag: int) -> PartitionLag:
    return PartitionLag(group="g", topic="t", partition=0, start=0, end=9, committed=9 - lag, lag=lag, behind=None)


@pytest.mark.parametrize(
    ("lag", "unpublished", "unchained", "holds"),
    [(0, 0, 0, True), (1, 0, 0, False), (0, 1, 0, False), (0, 0, 1, False)],
)
def test_all_is_done_only_when_nothing_waits_anywhere(lag: int, unpublished: int, unchained: int, holds: bool) -> None:
    kept = StoreContents(frozenset(), frozenset(), unpublished, unchained)
    assert proofs.idle_proof([_lag(lag)], kept).holds is holds
    assert not proofs.idle_proof([], kept).holds


class _Events:
    def __init__(self, *entries: dict[str, Any]) -> None:
        self._entries = entries

    def events(self, document_id: str) -> dict[str, Any]:
        return {"items": list(self._entries)}


READY = {"type": "THUMBNAILS_READY", "details": {"thumbnail-256": "1x1"}}
NONE = {"type": "NO_THUMBNAIL", "details": {"reason": "UNDECODABLE"}}


@pytest.mark.parametrize(
    ("expected", "entry", "holds"),
    [
        ("THUMBNAILS_READY", READY, True),
        ("THUMBNAILS_READY", NONE, False),
        ("NO_THUMBNAIL: UNDECODABLE", NONE, True),
        ("NO_THUMBNAIL: TOO_LARGE", NONE, False),
        ("NO_THUMBNAIL: UNDECODABLE", READY, False),
    ],
)
def test_thumbnails_as_the_manifest_says(tmp_path: Path, expected: str, entry: dict[str, Any], holds: bool) -> None:
    journey = a_journey(tmp_path, thumbnail=expected)
    assert proofs.thumbnail_proof(cast("ApiClient", _Events(entry)), [journey]).holds is holds


def test_a_broken_audit_chain(tmp_path: Path) -> None:
    broken = a_site(tmp_path, verify_audit=lambda: SimpleNamespace(intact=False, detail="entry 7"))
    assert proofs.audit_proof(broken) == Proof("audit chain", holds=False, detail="entry 7")


# --- samples and summary -----------------------------------------------------------------------------------------------


def test_the_manifest_covers_every_way_to_end() -> None:
    samples = load(MANIFEST, archived_types={"CONTRAT", "RIB", "JUSTIFICATIF_DOMICILE", "CNI"})
    assert {sample.ends for sample in samples} >= {Status.ARCHIVED, Status.VALIDATED, Status.REJECTED, None}
    assert {sample.language for sample in samples} == {"fr", "en"}
    assert any(sample.early for sample in samples)
    assert any(sample.ends is Status.ARCHIVED and not sample.early for sample in samples)
    for sample in samples:
        assert sample.path.exists()
        assert (sample.ends is None) is (sample.refused is not None)
    (rejected,) = [sample for sample in samples if sample.ends is Status.REJECTED]
    assert rejected.name == "photo-tronquee.jpg"
    assert not rejected.early


def test_the_summary_fits_eighty_columns_and_says_what_failed(tmp_path: Path) -> None:
    journeys = (
        a_journey(tmp_path),
        a_journey(tmp_path, None, refused="content_mismatch", refusal="content_mismatch", document_id=""),
    )
    found = (Proof("mails", holds=False, detail="d" * 200), Proof("audit chain", holds=True, detail="fine"))
    result = demo.DemoResult(journeys, found, "dossier", 12.3, 45.6, "http://127.0.0.1:1/x")
    lines = list(demo.summary(result, a_site(tmp_path), "demo", running=True))
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "FAILED  mails" in text
    assert "12.3 s" in text
    assert "secret" not in text
    assert journeys[0].document_id in text
    stopped = "\n".join(demo.summary(result, a_site(tmp_path), "demo", running=False))
    assert "Try next" in text
    assert "http" not in stopped
    assert not result.holds
    assert result.document()["documents"][1] == {"file": "sample.pdf", "id": None, "state": "content_mismatch"}
