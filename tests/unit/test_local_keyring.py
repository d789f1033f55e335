"""The key file: its format, its mode, its versions. What it promises as a keyring is in tests/contract."""

from __future__ import annotations

import base64
import json
import os
import struct
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crypto import key_files, local_key_file
from crypto.encoding import to_text
from crypto.local_keyring import LocalKeyring
from crypto.local_tenant_keys import LocalTenantKeys
from domain.errors import KeyringUnavailable, TenantKeyMissing, WrongKey
from domain.keys import EncryptionContext, WrappedKey

CONTEXT = EncryptionContext("banque", UUID("6f1f6c3e-0c1b-4c38-9a55-3b1d5f0b7a01"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyring.json"


@pytest.fixture
async def keyring(path: Path) -> LocalKeyring:
    made = LocalKeyring.create(path)
    await LocalTenantKeys(path).create(CONTEXT.tenant)
    return made


def content_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(content_of(path) | changes), "utf-8")


def rekey(path: Path, **changes: object) -> None:
    """Change the tenant's key in the file."""
    held = content_of(path)
    held["tenants"][CONTEXT.tenant] |= changes
    path.write_text(json.dumps(held), "utf-8")


def single(path: Path) -> None:
    """Make it a file of format 1."""
    key = to_text(os.urandom(32))
    write(path, json.dumps({"format": "dpj-keyring-1", "name": "local-x", "current": 1, "keys": {"1": key}}).encode())


def set_mode(path: Path, mode: int) -> None:
    path.chmod(mode)


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


def owner_of(path: Path) -> int:
    return path.stat().st_uid


def rotate(path: Path) -> None:
    with local_key_file.changing(path) as keys:
        keys.tenants[CONTEXT.tenant].add_version(datetime(2026, 3, 1, tzinfo=UTC))


def test_the_file_is_the_owners_alone(keyring: LocalKeyring, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    held = content_of(path)
    assert held["format"] == "dpj-keyring-2"
    assert held["tenants"]["banque"]["current"] == 1
    assert len(base64.urlsafe_b64decode(held["tenants"]["banque"]["keys"]["1"] + "=")) == 32


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
    name = f"{held['name']}.banque"
    texts = ["dpj-local-wrap-1", "local-aes-256-gcm", name, "1", *CONTEXT.fields()]
    bound = b"".join(struct.pack(">H", len(text.encode())) + text.encode() for text in texts)
    kek = base64.urlsafe_b64decode(held["tenants"]["banque"]["keys"]["1"] + "=")
    assert AESGCM(kek).decrypt(raw[:12], raw[12:], bound) == key.secret
    assert (wrapped.scheme, wrapped.key_name, wrapped.key_version) == ("local-aes-256-gcm", name, 1)


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
        b'{"format": "dpj-keyring-2", "name": "n", "tenants": {"a": {"current": 2, "keys": {"1": "%s"}}}}'
        % (b"A" * 43),
        b'{"format": "dpj-keyring-2", "name": "n", "tenants": {"../a": {"current": 1, "keys": {"1": "%s"}}}}'
        % (b"A" * 43),
        b'{"format": "dpj-keyring-2", "name": "n.m", "tenants": {}}',
        b'{"format": "dpj-keyring-2", "name": "n", "tenants": {"a": {"current": 1, "from": 2, "keys": {"1": "%s"}}}}'
        % (b"A" * 43),
        b'{"format": "dpj-keyring-3", "name": "n", "tenants": {}}',
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
    held = content_of(path)["tenants"][CONTEXT.tenant]
    rekey(path, keys=held["keys"] | {"2": held["keys"]["1"]})
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
    secret = content_of(path)["tenants"]["banque"]["keys"]["1"]
    assert secret not in repr(keyring._keys)
    assert repr(base64.urlsafe_b64decode(secret + "="))[2:10] not in repr(keyring._keys)
    assert keyring._keys is not None
    held = keyring._keys.tenants["banque"].by_version[1]
    assert bytes(held) == base64.urlsafe_b64decode(secret + "=")
    await keyring.aclose()
    assert keyring._keys is None
    assert bytes(held) == bytes(32)


async def test_a_tenant_without_a_key_is_told_so_and_gets_none(keyring: LocalKeyring, path: Path) -> None:
    before = content_of(path)
    with pytest.raises(TenantKeyMissing) as caught:
        await keyring.new_data_key(replace(CONTEXT, tenant="banqeu"))
    assert not caught.value.outage
    assert content_of(path) == before


async def test_each_tenant_has_a_key_of_its_own(keyring: LocalKeyring, path: Path) -> None:
    await LocalTenantKeys(path).create("autre")
    other = replace(CONTEXT, tenant="autre")
    _, wrapped = await keyring.new_data_key(CONTEXT)
    _, theirs = await keyring.new_data_key(other)
    assert theirs.key_name != wrapped.key_name
    with pytest.raises(WrongKey):
        await keyring.unwrap(replace(wrapped, key_name=theirs.key_name), CONTEXT)


async def test_the_old_key_is_forgotten_where_it_lay_when_the_file_changes(keyring: LocalKeyring, path: Path) -> None:
    await keyring.check()
    assert keyring._keys is not None
    held = keyring._keys.tenants["banque"].by_version[1]
    rotate(path)
    await keyring.new_data_key(CONTEXT)
    assert bytes(held) == bytes(32)


async def test_a_file_of_format_1_opens_what_it_wrapped_and_wraps_no_more(path: Path) -> None:
    single(path)
    keyring = LocalKeyring(path)
    old = content_of(path)
    kek, nonce = base64.urlsafe_b64decode(old["keys"]["1"] + "="), os.urandom(12)
    texts = ["dpj-local-wrap-1", "local-aes-256-gcm", "local-x", "1", *CONTEXT.fields()]
    bound = b"".join(struct.pack(">H", len(text.encode())) + text.encode() for text in texts)
    sealed = AESGCM(kek).encrypt(nonce, b"k" * 32, bound)
    wrapped = WrappedKey("local-aes-256-gcm", "local-x", 1, to_text(nonce + sealed))
    assert (await keyring.unwrap(wrapped, CONTEXT)).secret == b"k" * 32
    with pytest.raises(TenantKeyMissing):
        await keyring.new_data_key(CONTEXT)
    await LocalTenantKeys(path).create(CONTEXT.tenant)
    assert content_of(path)["format"] == "dpj-keyring-2"
    await keyring.new_data_key(CONTEXT)
    assert (await keyring.unwrap(wrapped, CONTEXT)).secret == b"k" * 32
