"""The key file that signs receipts: made once, kept private, its public half beside it."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from crypto.receipt_signer import LocalReceiptSigner, NoReceiptSigner
from domain.errors import KeyringUnavailable


def published(path: Path) -> tuple[str, Ed25519PublicKey]:
    (key,) = json.loads(path.with_name(f"{path.name}.jwks.json").read_text("utf-8"))["keys"]
    raw = base64.urlsafe_b64decode(key["x"] + "=" * (-len(key["x"]) % 4))
    return key["kid"], Ed25519PublicKey.from_public_bytes(raw)


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


async def test_the_key_is_made_at_its_first_use_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "receipts.pem"
    signer = LocalReceiptSigner(path)
    assert not path.exists()
    signed = await signer.sign(b"receipt")
    assert path.stat().st_mode & 0o777 == 0o600
    key_id, public = published(path)
    assert signed.key_id == key_id
    public.verify(signed.value, b"receipt")
    with pytest.raises(InvalidSignature):
        public.verify(signed.value, b"another")
    assert await LocalReceiptSigner(path).sign(b"receipt") == signed


async def test_of_many_processes_one_makes_the_key(tmp_path: Path) -> None:
    path = tmp_path / "receipts.pem"
    signed = await asyncio.gather(*(LocalReceiptSigner(path).sign(b"x") for _ in range(8)))
    assert len({one.key_id for one in signed}) == 1
    assert names(tmp_path) == {"receipts.pem", "receipts.pem.jwks.json"}


async def test_a_public_half_that_is_missing_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "receipts.pem"
    signed = await LocalReceiptSigner(path).sign(b"x")
    path.with_name("receipts.pem.jwks.json").unlink()
    await LocalReceiptSigner(path).sign(b"x")
    assert published(path)[0] == signed.key_id


@pytest.mark.parametrize(
    "content", [b"", b"no key", b"-----BEGIN " + b"PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
async def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "receipts.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyringUnavailable):
        await LocalReceiptSigner(path).sign(b"x")


async def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "receipts.pem"
    await LocalReceiptSigner(path).sign(b"x")
    path.chmod(0o644)
    with pytest.raises(KeyringUnavailable):
        await LocalReceiptSigner(path).sign(b"x")


async def test_a_folder_that_is_not_there_is_an_outage(tmp_path: Path) -> None:
    with pytest.raises(KeyringUnavailable):
        await LocalReceiptSigner(tmp_path / "none" / "receipts.pem").sign(b"x")


async def test_without_a_key_nothing_is_signed() -> None:
    with pytest.raises(KeyringUnavailable):
        await NoReceiptSigner().sign(b"x")
