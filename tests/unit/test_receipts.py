"""A receipt proves what it says to whoever has it and the public keys, and nothing once it was altered."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from crypto.receipt_signer import LocalReceiptSigner
from operations.receipts import ReceiptInvalid, verify


def text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.fixture
async def signed(tmp_path: Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    said = {"document": {"id": "x"}, "completed_at": "2026-03-01"}
    payload = json.dumps(said).encode()
    signature = await LocalReceiptSigner(tmp_path / "r.pem").sign(payload)
    answer = {
        "receipt": said,
        "payload": text(payload),
        "signature": text(signature.value),
        "algorithm": "Ed25519",
        "key_id": signature.key_id,
    }
    return answer, json.loads(_read(tmp_path / "r.pem.jwks.json"))


def _read(path: Path) -> str:
    return path.read_text("utf-8")


def test_a_true_receipt_is_valid(signed: tuple[dict[str, Any], Mapping[str, Any]]) -> None:
    answer, keys = signed
    assert verify(answer, keys) == answer["receipt"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"payload": text(b'{"document":{"id":"y"}}')}, "signature"),
        ({"signature": text(b"s" * 64)}, "signature"),
        ({"key_id": "another"}, "trusted"),
        ({"receipt": {"document": {"id": "y"}}}, "readable"),
        ({"payload": None}, "not one"),
        ({"payload": "***"}, "not one"),
    ],
)
def test_an_altered_one_is_not(
    signed: tuple[dict[str, Any], Mapping[str, Any]], changes: dict[str, Any], why: str
) -> None:
    answer, keys = signed
    with pytest.raises(ReceiptInvalid, match=why):
        verify({**answer, **changes}, keys)
    with pytest.raises(ReceiptInvalid):
        verify(answer, {"keys": "none"})
