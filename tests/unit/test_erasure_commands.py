"""What ``dpj erasure verify`` and ``dpj purge`` say."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crypto.receipt_signer import LocalReceiptSigner
from domain.retention import DueGroup
from runtime.cli import main
from runtime.commands.erasure import _due_lines, _receipt_lines


def text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.fixture
def receipt(tmp_path: Path) -> dict[str, Any]:
    """An answer of the API; the keys stand beside it."""
    said = {"document": {"id": "doc-1", "type": "CNI"}, "completed_at": "2026-03-01T12:00:00"}
    payload = json.dumps(said).encode()
    signature = asyncio.run(LocalReceiptSigner(tmp_path / "r.pem").sign(payload))
    answer = {
        "receipt": said,
        "payload": text(payload),
        "signature": text(signature.value),
        "key_id": signature.key_id,
    }
    (tmp_path / "receipt.json").write_text(json.dumps(answer), "utf-8")
    return answer


def test_a_valid_receipt_is_told_so(
    receipt: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["erasure", "verify", str(tmp_path / "receipt.json"), "--keys", str(tmp_path / "r.pem.jwks.json")]
    assert main(words) == 0
    assert capsys.readouterr().out == "Valid: document doc-1 was erased at 2026-03-01T12:00:00.\n"
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"valid": True, "receipt": receipt["receipt"]}


def test_an_altered_one_is_refused(receipt: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    altered = {**receipt, "payload": text(b"{}")}
    (tmp_path / "receipt.json").write_text(json.dumps(altered), "utf-8")
    words = ["erasure", "verify", str(tmp_path / "receipt.json"), "--keys", str(tmp_path / "r.pem.jwks.json")]
    assert main(words) == 1
    assert "Not valid" in capsys.readouterr().err
    (tmp_path / "receipt.json").write_text("[]", "utf-8")
    assert main(words) == 1
    assert "not a JSON object" in capsys.readouterr().err


def test_a_purge_is_a_table_and_says_what_was_done() -> None:
    oldest = datetime.now(UTC) - timedelta(days=3)
    due = [DueGroup(tenant="acme", type_code="CNI", count=5, held=1, oldest=oldest)]
    lines = list(_due_lines(due, 0, apply=False))
    assert lines[0].split() == ["TENANT", "TYPE", "DUE", "HELD", "LONGEST", "DUE"]
    assert lines[1].split()[:4] == ["acme", "CNI", "5", "1"]
    assert lines[-1].startswith("Dry run")
    assert list(_due_lines(due, 4, apply=True))[-1] == "4 are being erased."
    assert list(_due_lines([], 0, apply=True)) == ["Nothing is due."]


def test_a_receipt_for_people_says_what_remains_and_until_when() -> None:
    said = {
        "document": {"id": "doc-1", "type": "CNI"},
        "completed_at": "2026-03-01",
        "request": {"by": "u-1", "reason": "T-1", "legal_basis": "COURT_ORDER"},
        "destroyed": [{"what": "content", "where": "object_store"}],
        "remains": [
            {"what": "events", "where": "kafka", "why": "because", "until": "2026-03-31T12:00"},
            {"what": "mails", "where": "mailbox", "why": "out of reach", "until": None},
        ],
    }
    lines = list(_receipt_lines(said, "k-1"))
    assert "  content (object_store)" in lines
    assert "  events (kafka) until 2026-03-31: because" in lines
    assert "  mails (mailbox): out of reach" in lines
