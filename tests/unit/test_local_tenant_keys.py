"""Acts on the keys of a key file: whole or not at all, one writer at a time, nothing lost."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from crypto import key_files, local_key_file
from crypto.local_keyring import LocalKeyring
from crypto.local_tenant_keys import LocalTenantKeys
from domain.errors import KeyringUnavailable, TenantKeyMissing, WrongKey
from domain.keys import EncryptionContext, WrappedKey
from tests.support.keyrings import a_keyring


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyring.json"


@pytest.fixture
def keys(path: Path) -> LocalTenantKeys:
    a_keyring(path, "acme")
    return LocalTenantKeys(path)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def leave_half_a_file(path: Path) -> None:
    path.with_name("keyring.json.new").write_bytes(b"{")


async def test_writers_at_once_lose_nothing(keys: LocalTenantKeys, path: Path) -> None:
    tenants = [f"t{number}" for number in range(12)]
    made = await asyncio.gather(*(LocalTenantKeys(path).create(tenant) for tenant in (*tenants, *tenants)))
    assert sum(made) == 12
    await asyncio.gather(*(LocalTenantKeys(path).rotate("acme") for _ in range(5)))
    states = {state.tenant: state.latest for state in await keys.states()}
    assert states == {"acme": 6, **dict.fromkeys(tenants, 1)}
    assert mode_of(path) == 0o600


async def test_what_a_writer_that_died_left_is_in_nobody_s_way(keys: LocalTenantKeys, path: Path) -> None:
    leave_half_a_file(path)
    await LocalKeyring(path).check()
    await keys.rotate("acme")
    ((state,), missing) = await keys.states("acme"), await keys.states("nobody")
    assert (state.latest, list(missing)) == (2, [])


async def test_a_change_that_fails_changes_nothing(keys: LocalTenantKeys, path: Path) -> None:
    before = await keys.states()
    for act in (keys.rotate("nobody"), keys.raise_floor("nobody", 1)):
        with pytest.raises(TenantKeyMissing):
            await act
    for version in (0, 2):
        with pytest.raises(KeyringUnavailable):
            await keys.raise_floor("acme", version)
    assert await keys.states() == before


async def test_what_is_below_the_floor_opens_no_more(keys: LocalTenantKeys, path: Path) -> None:
    keyring, context = LocalKeyring(path), EncryptionContext("acme", uuid4())
    key, old = await keyring.new_data_key(context)
    await keys.rotate("acme")
    (new,) = await keys.rewrap("acme", [(old, context)])
    await keys.raise_floor("acme", 2)
    assert isinstance(new, WrappedKey)
    assert await keyring.unwrap(new, context) == key
    with pytest.raises(KeyringUnavailable):
        await keyring.unwrap(old, context)
    (state,) = await keys.states("acme")
    assert (state.min_decryption, list(state.versions)) == (2, [2])


async def test_each_key_of_a_batch_has_its_own_answer(keys: LocalTenantKeys, path: Path) -> None:
    await keys.create("other")
    keyring, context = LocalKeyring(path), EncryptionContext("acme", uuid4())
    key, wrapped = await keyring.new_data_key(context)
    theirs = EncryptionContext("other", uuid4())
    _, foreign = await keyring.new_data_key(theirs)
    await keys.rotate("acme")
    damaged = replace(wrapped, ciphertext="AAAA" + wrapped.ciphertext[4:])
    unknown = replace(wrapped, key_version=7)
    asked = [(damaged, context), (wrapped, context), (foreign, theirs), (unknown, context)]
    answers = await keys.rewrap("acme", asked)
    assert [type(answer) for answer in answers] == [WrongKey, WrappedKey, KeyringUnavailable, KeyringUnavailable]
    assert isinstance(answers[1], WrappedKey)
    assert answers[1].key_version == 2
    assert await keyring.unwrap(answers[1], context) == key


async def test_a_key_file_that_is_open_to_others_is_not_changed(keys: LocalTenantKeys, path: Path) -> None:
    os.chmod(path, 0o640)  # noqa: PTH101 - as an operator's slip does it
    with pytest.raises(KeyringUnavailable):
        await keys.rotate("acme")
    os.chmod(path, 0o600)  # noqa: PTH101
    with local_key_file.changing(path) as content:
        assert content.tenants["acme"].current == 1


async def test_a_writer_that_hangs_is_not_waited_for_for_ever(
    keys: LocalTenantKeys, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_files, "LOCK_SECONDS", 0.1)
    with local_key_file.changing(path), pytest.raises(KeyringUnavailable):
        await keys.rotate("acme")
    await keys.rotate("acme")
