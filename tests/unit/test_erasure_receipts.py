"""An erasure's receipt proves what it says to whoever has it and the public keys, and nothing once it was altered."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from domain.erasure import JWS_TYPE, RetentionPeriods, receipt_input
from domain.lifecycle import Status
from domain.shared.encoding import canonical
from domain.shared.jws import compact, payload_of, signing_input
from tests.support.audit_histories import kept_keys, verified
from tests.support.builders import NOW, a_document, an_erasure
from tests.support.memory_audit_trees import MemorySigner
from verifier import dpj_verify

CONTENT = b"a contract"


def a_receipt(signer: MemorySigner, at: datetime = NOW, **more: str) -> str:
    document = a_document(None, Status.ERASING, sha256=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))
    erasure = an_erasure(document, key=("vault-transit", "dpj-tenant-acme", 3))
    kept = RetentionPeriods(topic_days=30, backup_days=30, row_days=60, key_hours=72, **more)
    text = receipt_input(document, erasure, kept, at, signer.public.id, NOW)
    return compact(text, signer.private.sign(text))


@pytest.fixture
def signer() -> MemorySigner:
    return MemorySigner()


def looked_at(tmp_path: Path, capsys: Any, text: str, signer: MemorySigner, *more: object) -> tuple[int, Any]:
    file = tmp_path / "receipt.jws"
    file.write_text(text, "utf-8")
    return verified(capsys, "receipt", file, "--keys", kept_keys(tmp_path, signer), *more)


def test_it_verifies_without_us(tmp_path: Path, capsys: Any, signer: MemorySigner) -> None:
    receipt = a_receipt(signer)
    code, told = looked_at(tmp_path, capsys, receipt, signer)
    assert (code, told["verified"]) == (0, True)
    said = payload_of(receipt)
    assert (told["document_id"], told["tenant"]) == (said["document"]["id"], "acme")
    assert (told["reason"], told["legal_basis"], told["erased_at"]) == (
        "TICKET-1",
        "GDPR_17_1_B",
        "2026-03-01T12:00:00.000000+00:00",
    )
    assert {"data_key", "subject_key", "content", "archived_copy"} <= set(told["destroyed"])
    assert {"audit_entries", "backups"} <= set(told["remains"])


def test_who_still_has_the_file_can_hold_it_against_the_receipt(
    tmp_path: Path, capsys: Any, signer: MemorySigner
) -> None:
    file = tmp_path / "contract"
    for content, code in ((CONTENT, 0), (b"another", 1)):
        file.write_bytes(content)
        ended, told = looked_at(tmp_path, capsys, a_receipt(signer), signer, "--document", file)
        assert ended == code
        assert [one["kind"] for one in told["findings"]] == ["DOCUMENT_DIFFERS"] * code


@pytest.mark.parametrize("store", ["mongodb", "postgresql"])
def test_it_says_in_which_store_the_audit_entries_stay(signer: MemorySigner, store: str) -> None:
    said = payload_of(a_receipt(signer, audit_store=store))
    [kept] = [one for one in said["remains"] if one["what"] == "audit_entries"]
    [gone] = [one for one in said["destroyed"] if one["what"] == "extended_metadata"]
    assert (kept["where"], gone["where"]) == (store, store)


def test_times_are_utc_whatever_the_clock_says(signer: MemorySigner) -> None:
    here = NOW.astimezone(timezone(timedelta(hours=2)))
    assert payload_of(a_receipt(signer, here))["completed_at"] == NOW.astimezone(UTC).isoformat(timespec="microseconds")


def test_any_changed_character_is_found(tmp_path: Path, capsys: Any, signer: MemorySigner) -> None:
    receipt = a_receipt(signer)
    for place in range(0, len(receipt), 61):
        other = "A" if receipt[place] != "A" else "B"
        code, told = looked_at(tmp_path, capsys, receipt[:place] + other + receipt[place + 1 :], signer)
        assert (code, told["findings"][0]["kind"]) == (1, "RECEIPT_INVALID"), place
    assert looked_at(tmp_path, capsys, receipt, MemorySigner(7))[0] == 1


def signed_as(signer: MemorySigner, typ: Any, payload: dict[str, Any]) -> str:
    text = signing_input(typ, payload, signer.public.id)
    return compact(text, signer.private.sign(text))


def test_what_the_key_signed_for_another_purpose_is_none(tmp_path: Path, capsys: Any, signer: MemorySigner) -> None:
    said = payload_of(a_receipt(signer))
    for typ, payload in (
        ("dpj-receipt+jws", said),
        ("x", said),
        ([], said),
        (JWS_TYPE, {**said, "type": "dpj-document-receipt"}),
        (JWS_TYPE, {**said, "v": 2}),
        (JWS_TYPE, {name: said[name] for name in said if name != "request"}),
        (JWS_TYPE, {**said, "destroyed": [1]}),
        (JWS_TYPE, {}),
    ):
        code, told = looked_at(tmp_path, capsys, signed_as(signer, typ, payload), signer)
        assert (code, told["findings"][0]["kind"]) == (1, "RECEIPT_INVALID"), (typ, payload)
    body = canonical(said)
    bare = f"{base64.urlsafe_b64encode(body).rstrip(b'=').decode()}.."
    assert looked_at(tmp_path, capsys, bare, signer)[0] == 1


def test_it_may_stand_among_what_was_kept(tmp_path: Path, capsys: Any, signer: MemorySigner) -> None:
    kept = tmp_path / "kept.jws"
    kept.write_text(a_receipt(signer))
    assert looked_at(tmp_path, capsys, a_receipt(signer), signer, "--known", kept)[0] == 0


def test_it_is_told_to_people_in_a_line(tmp_path: Path, capsys: Any, signer: MemorySigner) -> None:
    file = tmp_path / "receipt.jws"
    file.write_text(a_receipt(signer))
    assert dpj_verify.main(["receipt", str(file), "--keys", str(kept_keys(tmp_path, signer))]) == 0
    out = capsys.readouterr().out
    assert out.startswith("VERIFIED: ")
    assert "TICKET-1" in out


@pytest.mark.parametrize("text", ["", "a", "a.b", "a.b.c.d", "e30.W10.x", "é.é.é"])
def test_what_is_no_receipt_has_nothing_to_say(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - several texts, one meaning
        payload_of(text)
