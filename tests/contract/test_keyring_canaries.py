"""Canaries in PostgreSQL, with a keyring whose key was made anew under the old name."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from crypto import local_key_file
from crypto.local_keyring import LocalKeyring
from domain.errors import KeyringUnavailable
from domain.key_encryption_keys import Canary
from domain.keys import EncryptionContext, WrappedKey
from processors.resilience.canary_keyring import CanaryCheckedKeyring
from storage.postgres.database import Postgres
from storage.postgres.keys.canaries import PostgresCanaries
from tests.support.keyrings import a_keyring


@pytest.fixture
async def canaries(database_dsn: str) -> AsyncIterator[PostgresCanaries]:
    postgres = Postgres(database_dsn, connections=4)
    yield PostgresCanaries(postgres)
    await postgres.aclose()


async def test_the_first_canary_of_a_version_stays(canaries: PostgresCanaries) -> None:
    made = [Canary("acme", WrappedKey("vault-transit", "documents", 1, f"vault:v1:{number}")) for number in range(8)]
    assert await canaries.find(made[0].wrapped) is None
    kept = await asyncio.gather(*(canaries.put_if_absent(one) for one in made))
    assert len(set(kept)) == 1
    assert await canaries.find(made[3].wrapped) == kept[0]
    later = Canary("acme", WrappedKey("vault-transit", "documents", 2, "vault:v2:x"))
    assert await canaries.find(later.wrapped) == kept[0]  # the key's newest that there is
    assert await canaries.put_if_absent(later) == later
    assert await canaries.find(made[0].wrapped) == kept[0]
    assert await canaries.sample(5) == [later]
    await canaries.move(kept[0], later)
    assert await canaries.of("vault-transit", "documents") == [later]
    assert await canaries.find(made[0].wrapped) == later


async def test_a_key_made_anew_is_an_outage_until_the_old_one_is_back(
    canaries: PostgresCanaries, tmp_path: Path
) -> None:
    path, context = tmp_path / "keyring.json", EncryptionContext("acme", uuid4())
    a_keyring(path, "acme")
    old = path.read_text("utf-8")
    key, wrapped = await CanaryCheckedKeyring(LocalKeyring(path), canaries).new_data_key(context)
    with local_key_file.changing(path) as keys:
        keys.tenants["acme"].by_version[1] = bytearray(os.urandom(32))
    anew = CanaryCheckedKeyring(LocalKeyring(path), canaries)
    with pytest.raises(KeyringUnavailable):
        await anew.unwrap(wrapped, context)
    with pytest.raises(KeyringUnavailable):
        await anew.new_data_key(context)
    path.write_text(old, "utf-8")
    await anew.check()
    assert await anew.unwrap(wrapped, context) == key
