"""Whose fault it is that a wrapped key does not open: the document's, or the keyring's."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from crypto import local_key_file
from crypto.local_keyring import LocalKeyring
from crypto.local_tenant_keys import LocalTenantKeys
from domain.errors import DatabaseUnavailable, KeyringUnavailable, WrongKey
from domain.key_encryption_keys import Canary, canary_context
from domain.keys import EncryptionContext, WrappedKey
from processors.resilience.canary_keyring import CanaryCheckedKeyring
from tests.support.fakes_canaries import MemoryCanaries
from tests.support.fakes_content import MemoryKeyring

CONTEXT = EncryptionContext("acme", UUID(int=1))


async def test_the_first_key_leaves_a_canary_and_the_others_cost_nothing() -> None:
    inner, canaries = MemoryKeyring(), MemoryCanaries()
    keyring = CanaryCheckedKeyring(inner, canaries)
    await keyring.new_data_key(CONTEXT)
    assert len(canaries.held) == 1
    inner.calls.clear()
    _, wrapped = await keyring.new_data_key(CONTEXT)
    await keyring.unwrap(wrapped, CONTEXT)
    assert inner.calls == ["new_data_key", "unwrap"]
    with pytest.raises(WrongKey):
        await keyring.unwrap(wrapped, replace(canary_context(None), document_id=UUID(int=7)))


async def test_a_damaged_key_is_the_document_s_fault() -> None:
    keyring = CanaryCheckedKeyring(MemoryKeyring(), MemoryCanaries())
    _, wrapped = await keyring.new_data_key(CONTEXT)
    with pytest.raises(WrongKey):
        await keyring.unwrap(replace(wrapped, ciphertext="damaged"), CONTEXT)


async def test_a_keyring_that_was_replaced_condemns_nothing_and_takes_nothing_in() -> None:
    canaries = MemoryCanaries()
    first = CanaryCheckedKeyring(MemoryKeyring(), canaries)
    _, wrapped = await first.new_data_key(CONTEXT)
    other = CanaryCheckedKeyring(MemoryKeyring(), canaries)
    for _ in range(2):
        with pytest.raises(KeyringUnavailable):
            await other.unwrap(wrapped, CONTEXT)
        with pytest.raises(KeyringUnavailable):
            await other.new_data_key(CONTEXT)
        with pytest.raises(KeyringUnavailable):
            await other.check()
    await first.check()
    assert await first.unwrap(wrapped, CONTEXT)


async def test_a_keyring_that_is_replaced_under_a_running_process_is_noticed_by_its_check() -> None:
    inner, canaries = MemoryKeyring(), MemoryCanaries()
    keyring = CanaryCheckedKeyring(inner, canaries)
    await keyring.new_data_key(CONTEXT)
    held, inner._held = inner._held, {}
    with pytest.raises(KeyringUnavailable):
        await keyring.check()
    with pytest.raises(KeyringUnavailable):
        await keyring.new_data_key(CONTEXT)
    inner._held = held
    await keyring.check()
    await keyring.new_data_key(CONTEXT)


async def test_a_version_without_a_canary_is_judged_as_it_answers() -> None:
    keyring = CanaryCheckedKeyring(MemoryKeyring(), MemoryCanaries())
    with pytest.raises(WrongKey):
        await keyring.unwrap(WrappedKey("memory", "memory", 9, "older than canaries"), CONTEXT)


async def test_away_is_away() -> None:
    inner = MemoryKeyring()
    keyring = CanaryCheckedKeyring(inner, MemoryCanaries())
    inner.away = True
    with pytest.raises(KeyringUnavailable):
        await keyring.new_data_key(CONTEXT)
    with pytest.raises(KeyringUnavailable):
        await keyring.check()


async def test_the_database_away_says_nothing_of_the_keyring() -> None:
    canaries = MemoryCanaries()
    keyring = CanaryCheckedKeyring(MemoryKeyring(), canaries)
    canaries.away = True
    await keyring.check()
    with pytest.raises(DatabaseUnavailable):
        await keyring.new_data_key(CONTEXT)
    canaries.away = False
    await keyring.new_data_key(CONTEXT)


async def test_one_tenant_s_wrong_key_is_not_everybody_s_outage(tmp_path: Path) -> None:
    keys = LocalTenantKeys(tmp_path / "keyring.json")
    LocalKeyring.create(tmp_path / "keyring.json")
    for tenant in ("acme", "other"):
        await keys.create(tenant)
    canaries = MemoryCanaries()
    keyring = CanaryCheckedKeyring(LocalKeyring(tmp_path / "keyring.json"), canaries)
    _, wrapped = await keyring.new_data_key(CONTEXT)
    await keyring.new_data_key(replace(CONTEXT, tenant="other"))
    with local_key_file.changing(tmp_path / "keyring.json") as content:
        content.tenants["acme"].by_version[1] = bytearray(32)
    await keyring.check()
    with pytest.raises(KeyringUnavailable):
        await keyring.new_data_key(CONTEXT)
    with pytest.raises(KeyringUnavailable):
        await keyring.unwrap(wrapped, CONTEXT)
    await keyring.new_data_key(replace(CONTEXT, tenant="other"))


async def test_a_rotated_key_has_to_open_what_its_earlier_version_wrapped(tmp_path: Path) -> None:
    """Somebody puts another key under the old name and rotates it: the new version is not taken on trust."""
    path, canaries = tmp_path / "keyring.json", MemoryCanaries()
    LocalKeyring.create(path)
    keys = LocalTenantKeys(path)
    await keys.create("acme")
    await CanaryCheckedKeyring(LocalKeyring(path), canaries).new_data_key(CONTEXT)
    with local_key_file.changing(path) as content:
        content.tenants["acme"].by_version[1] = bytearray(os.urandom(32))
    await keys.rotate("acme")
    with pytest.raises(KeyringUnavailable):
        await CanaryCheckedKeyring(LocalKeyring(path), canaries).new_data_key(CONTEXT)


async def test_canaries_of_another_keyring_say_nothing(tmp_path: Path) -> None:
    canaries = MemoryCanaries()
    await canaries.put_if_absent(Canary("acme", WrappedKey("vault-transit", "dpj-tenant-acme", 1, "vault:v1:x")))
    LocalKeyring.create(tmp_path / "keyring.json")
    await CanaryCheckedKeyring(LocalKeyring(tmp_path / "keyring.json"), canaries).check()
