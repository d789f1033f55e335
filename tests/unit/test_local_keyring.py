"""The key file: its format, its mode, its versions. What it promises as a keyring is in tests/contract."""

from __future__ import annotations

import base64
import json
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crypto import key_files
from crypto.local_keyring import LocalKeyring
from domain.errors import KeyringUnavailable, WrongKey
from domain.keys import EncryptionContext, WrappedKey

CONTEXT = EncryptionContext("banque", UUID("6f1f6c3e-0c1b-4c38-9a55-3b1d5f0b7a01"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyring.json"


@pytest.fixture
def keyring(path: Path) -> LocalKeyring:
    return LocalKeyring.create(path)


def content_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(content_of(path) | changes), "utf-8")


def set_mode(path: Path, mode: int) -> None:
    path.chmod(mode)


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


def owner_of(path: Path) -> int:
    return path.stat().st_uid


def rotate(path: Path) -> None:
    """What an operator's rotation does to the file."""
    held = content_of(path)
    held["current"] += 1
    held["keys"][str(held["current"])] = base64.urlsafe_b64encode(os.urandom(32)).decode()
    path.write_text(json.dumps(held), "utf-8")


def test_the_file_is_the_owners_alone(keyring: LocalKeyring, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    held = content_of(path)
    assert held["format"] == "dpj-keyring-1"
    assert held["current"] == 1
    assert len(base64.urlsafe_b64decode(held["keys"]["1"] + "=")) == 32


def test_a_file_of_keys_is_never_overwritten(keyring: LocalKeyring, path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        LocalKeyring.create(path)
    assert path.read_bytes() == before


def test_a_file_that_could_not_be_written_is_not_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(key_files.os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        LocalKeyring.create(path)
    assert not path.exists()


async def test_the_published_wrapping_is_what_is_written(keyring: LocalKeyring, path: Path) -> None:
    """A second implementation, from the module's docstring."""
    key, wrapped = await keyring.new_data_key(CONTEXT)
    held = content_of(path)
    raw = base64.urlsafe_b64decode(wrapped.ciphertext + "=" * (-len(wrapped.ciphertext) % 4))
    assert len(raw) == 12 + 32 + 16
    texts = ["dpj-local-wrap-1", "local-aes-256-gcm", held["name"], "1", *CONTEXT.fields()]
    bound = b"".join(struct.pack(">H", len(text.encode())) + text.encode() for text in texts)
    kek = base64.urlsafe_b64decode(held["keys"]["1"] + "=")
    assert AESGCM(kek).decrypt(raw[:12], raw[12:], bound) == key.secret
    assert (wrapped.scheme, wrapped.key_name, wrapped.key_version) == ("local-aes-256-gcm", held["name"], 1)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o610, 0o601])
async def test_a_file_open_to_others_is_refused(keyring: LocalKeyring, path: Path, mode: int) -> None:
    set_mode(path, mode)
    with pytest.raises(KeyringUnavailable):
        await keyring.new_data_key(CONTEXT)
    set_mode(path, 0o400)
    await keyring.check()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"format": "dpj-keyring-1"}',
        b'{"format": "dpj-keyring-1", "name": "n", "current": 1, "keys": {}}',
        b'{"format": "dpj-keyring-1", "name": "n", "current": 1, "keys": {"1": "c2hvcnQ"}}',
        b'{"format": "dpj-keyring-1", "name": "n", "current": 1, "keys": {"1": "!"}}',
        b'{"format": "dpj-keyring-1", "name": "n", "current": 1, "keys": {"1": 5}}',
        b'{"format": "dpj-keyring-1", "name": "n", "current": 1, "keys": []}',
        b'{"format": "dpj-keyring-1", "name": "n", "current": "x", "keys": {"1": "%s"}}' % (b"A" * 43),
        b'{"format": "dpj-keyring-1", "name": "n", "current": 2, "keys": {"1": "%s"}}' % (b"A" * 43),
        b'{"format": "dpj-keyring-2", "name": "n", "current": 1, "keys": {"1": "%s"}}' % (b"A" * 43),
        b" " * ((1 << 20) + 1),
    ],
)
async def test_what_is_no_keyring_is_refused(path: Path, content: bytes) -> None:
    write(path, content)
    with pytest.raises(KeyringUnavailable):
        await LocalKeyring(path).check()


async def test_no_file_no_keyring(path: Path) -> None:
    with pytest.raises(KeyringUnavailable):
        await LocalKeyring(path).check()
    with pytest.raises(KeyringUnavailable):
        await LocalKeyring(path.parent).check()


async def test_a_pipe_or_a_strangers_file_is_refused(
    keyring: LocalKeyring, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = owner_of(path)
    monkeypatch.setattr(key_files.os, "geteuid", lambda: owner)
    await keyring.check()
    os.chown(path, 12345, -1) if os.getuid() == 0 else monkeypatch.setattr(key_files.os, "geteuid", lambda: owner + 1)
    with pytest.raises(KeyringUnavailable):
        await keyring.check()


async def test_errors_name_no_file(path: Path) -> None:
    with pytest.raises(KeyringUnavailable) as caught:
        await LocalKeyring(path).check()
    assert str(path) not in str(caught.value)


async def test_rotation_keeps_old_keys_open(keyring: LocalKeyring, path: Path) -> None:
    key, old = await keyring.new_data_key(CONTEXT)
    rotate(path)
    await keyring.check()
    newer_key, new = await keyring.new_data_key(CONTEXT)
    assert (old.key_version, new.key_version) == (1, 2)
    assert await keyring.unwrap(old, CONTEXT) == key
    assert await keyring.unwrap(new, CONTEXT) == newer_key


async def test_a_version_that_another_process_added_is_found(keyring: LocalKeyring, path: Path) -> None:
    other = LocalKeyring(path)
    await other.new_data_key(CONTEXT)
    rotate(path)
    await keyring.check()
    key, wrapped = await keyring.new_data_key(CONTEXT)
    assert await other.unwrap(wrapped, CONTEXT) == key


async def test_a_version_that_is_gone_has_to_wait(keyring: LocalKeyring, path: Path) -> None:
    _, wrapped = await keyring.new_data_key(CONTEXT)
    with pytest.raises(KeyringUnavailable):
        await keyring.unwrap(replace(wrapped, key_version=9), CONTEXT)
    rewrite(path, name="another")
    with pytest.raises(KeyringUnavailable):
        await LocalKeyring(path).unwrap(wrapped, CONTEXT)


async def test_a_key_of_another_keyring_has_to_wait(keyring: LocalKeyring) -> None:
    _, wrapped = await keyring.new_data_key(CONTEXT)
    with pytest.raises(KeyringUnavailable):
        await keyring.unwrap(replace(wrapped, scheme="vault-transit"), CONTEXT)


async def test_the_version_is_bound(keyring: LocalKeyring, path: Path) -> None:
    _, wrapped = await keyring.new_data_key(CONTEXT)
    held = content_of(path)
    rewrite(path, keys=held["keys"] | {"2": held["keys"]["1"]})
    with pytest.raises(WrongKey):
        await LocalKeyring(path).unwrap(replace(wrapped, key_version=2), CONTEXT)


async def test_every_flipped_bit_of_a_wrapped_key_is_refused(keyring: LocalKeyring) -> None:
    _, wrapped = await keyring.new_data_key(CONTEXT)
    raw = base64.urlsafe_b64decode(wrapped.ciphertext + "=" * (-len(wrapped.ciphertext) % 4))
    for place in range(len(raw)):
        altered = bytearray(raw)
        altered[place] ^= 1 << (place % 8)
        text = base64.urlsafe_b64encode(altered).decode()
        with pytest.raises(WrongKey):
            await keyring.unwrap(WrappedKey(wrapped.scheme, wrapped.key_name, 1, text), CONTEXT)


async def test_closing_forgets_and_the_secrets_are_in_no_repr(keyring: LocalKeyring, path: Path) -> None:
    await keyring.check()
    secret = content_of(path)["keys"]["1"]
    assert secret not in repr(keyring._keys)
    assert repr(base64.urlsafe_b64decode(secret + "="))[2:10] not in repr(keyring._keys)
    await keyring.aclose()
    assert keyring._keys is None
