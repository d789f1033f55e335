"""The signer over a Vault in memory: what its answers mean. The real one is in tests/contract."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hvac.exceptions import Forbidden, VaultDown

from crypto.vault_session import KeyRefused, VaultSession
from crypto.vault_signer import VaultSigner
from domain.checkpoints import SIGNATURE_BYTES, public_key
from domain.errors import KeyringUnavailable
from tests.support.fakes_vault import FakeVault

OLD, NEW = public_key(bytes(32)), public_key(bytes([1]) * 32)


def said(*keys: Any) -> dict[str, Any]:
    versions = {str(number): {"public_key": base64.b64encode(key.raw).decode()} for number, key in enumerate(keys, 1)}
    return {"data": {"keys": versions}}


@pytest.fixture
def vault() -> FakeVault:
    return FakeVault()


@pytest.fixture
async def signer(vault: FakeVault) -> AsyncIterator[VaultSigner]:
    made = VaultSigner(VaultSession(vault, "role", "secret", clock=vault.clock), "dpj-proofs")
    yield made
    await made.aclose()


async def test_the_newest_version_signs_and_all_are_known(signer: VaultSigner, vault: FakeVault) -> None:
    signature = bytes(range(SIGNATURE_BYTES))
    vault.answers += [said(OLD, NEW), {"data": {"signature": f"vault:v2:{base64.b64encode(signature).decode()}"}}]
    assert await signer.current() == NEW
    assert await signer.public_keys() == [OLD, NEW]
    assert await signer.sign(b"x", NEW.id) == signature
    assert vault.logins == 1


async def test_a_key_that_vault_has_not_is_no_outage(signer: VaultSigner) -> None:
    with pytest.raises(KeyringUnavailable) as caught:
        await signer.current()
    assert not caught.value.outage


@pytest.mark.parametrize("answer", [{"data": {"keys": {}}}, {"data": {"keys": {"1": 1712}}}, {"data": {}}])
async def test_a_key_of_another_kind_signs_nothing(signer: VaultSigner, vault: FakeVault, answer: Any) -> None:
    vault.answers.append(answer)
    with pytest.raises(KeyringUnavailable):
        await signer.current()


@pytest.mark.parametrize("signature", ["vault:v1:AAAA", "vault:v3:", "", None])
async def test_what_is_no_signature_of_that_key_is_not_given_out(
    signer: VaultSigner, vault: FakeVault, signature: str | None
) -> None:
    vault.answers += [said(OLD, NEW), {"data": {"signature": signature}}]
    with pytest.raises(KeyringUnavailable):
        await signer.sign(b"x", NEW.id)


async def test_vault_away_and_a_token_that_may_not(signer: VaultSigner, vault: FakeVault) -> None:
    vault.answers.append(said(OLD))
    key = await signer.current()
    vault.failures.append(VaultDown())
    with pytest.raises(KeyringUnavailable) as caught:
        await signer.sign(b"x", key.id)
    assert caught.value.outage
    vault.failures.append(Forbidden("permission denied"))
    with pytest.raises(KeyRefused):
        await signer.sign(b"x", key.id)


async def test_a_lost_token_costs_a_login_and_no_signature(signer: VaultSigner, vault: FakeVault) -> None:
    vault.answers.append(said(OLD))
    await signer.current()
    vault.revoke()
    vault.answers.append({"data": {"signature": f"vault:v1:{base64.b64encode(bytes(SIGNATURE_BYTES)).decode()}"}})
    assert await signer.sign(b"x", OLD.id) == bytes(SIGNATURE_BYTES)
    assert vault.logins == 2
