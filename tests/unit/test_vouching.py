"""Whose fault it is that a wrapped key does not open: the document's, or the keyring's."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from domain.errors import DatabaseUnavailable, KeyringUnavailable, WrongKey
from domain.keys import EncryptionContext, WrappedKey
from processors.vouching import CANARY, VouchedKeyring
from tests.support.fakes_content import MemoryKeyring

CONTEXT = EncryptionContext("acme", UUID(int=1))


class MemoryCanaries:
    def __init__(self) -> None:
        self.held: dict[tuple[str, str, int], WrappedKey] = {}
        self.away = False

    async def find(self, wrapped: WrappedKey) -> WrappedKey | None:
        return self.held.get((wrapped.scheme, wrapped.key_name, wrapped.key_version))

    async def keep(self, canary: WrappedKey) -> WrappedKey:
        if self.away:
            raise DatabaseUnavailable
        return self.held.setdefault((canary.scheme, canary.key_name, canary.key_version), canary)


async def test_the_first_key_leaves_a_canary_and_the_others_cost_nothing() -> None:
    inner, canaries = MemoryKeyring(), MemoryCanaries()
    keyring = VouchedKeyring(inner, canaries)
    await keyring.new_data_key(CONTEXT)
    assert len(canaries.held) == 1
    inner.calls.clear()
    _, wrapped = await keyring.new_data_key(CONTEXT)
    await keyring.unwrap(wrapped, CONTEXT)
    assert inner.calls == ["new_data_key", "unwrap"]
    with pytest.raises(WrongKey):
        await keyring.unwrap(wrapped, replace(CANARY, document_id=UUID(int=7)))


async def test_a_damaged_key_is_the_document_s_fault() -> None:
    keyring = VouchedKeyring(MemoryKeyring(), MemoryCanaries())
    _, wrapped = await keyring.new_data_key(CONTEXT)
    with pytest.raises(WrongKey):
        await keyring.unwrap(replace(wrapped, ciphertext="damaged"), CONTEXT)


async def test_a_keyring_that_was_replaced_condemns_nothing_and_takes_nothing_in() -> None:
    canaries = MemoryCanaries()
    first = VouchedKeyring(MemoryKeyring(), canaries)
    _, wrapped = await first.new_data_key(CONTEXT)
    other = VouchedKeyring(MemoryKeyring(), canaries)
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
    keyring = VouchedKeyring(inner, canaries)
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
    keyring = VouchedKeyring(MemoryKeyring(), MemoryCanaries())
    with pytest.raises(WrongKey):
        await keyring.unwrap(WrappedKey("memory", "memory", 9, "older than canaries"), CONTEXT)


async def test_away_is_away() -> None:
    inner = MemoryKeyring()
    keyring = VouchedKeyring(inner, MemoryCanaries())
    inner.away = True
    with pytest.raises(KeyringUnavailable):
        await keyring.new_data_key(CONTEXT)
    with pytest.raises(KeyringUnavailable):
        await keyring.check()


async def test_the_database_away_says_nothing_of_the_keyring() -> None:
    canaries = MemoryCanaries()
    keyring = VouchedKeyring(MemoryKeyring(), canaries)
    canaries.away = True
    await keyring.check()
    with pytest.raises(DatabaseUnavailable):
        await keyring.new_data_key(CONTEXT)
    canaries.away = False
    await keyring.new_data_key(CONTEXT)
