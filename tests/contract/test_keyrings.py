"""What every keyring promises, run over the key file and over the real Vault."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from crypto.local_keyring import LocalKeyring
from crypto.vault_session import VaultSession
from crypto.vault_transit import CALLS, VaultTransitKeyring
from domain.errors import KeyringUnavailable, TenantKeyMissing, WrongKey
from domain.keys import DataKey, EncryptionContext
from tests.support.keyrings import a_keyring, create_vault_key
from tests.support.tcp_proxy import Proxy

Keyring = LocalKeyring | VaultTransitKeyring
CONTEXT = EncryptionContext("banque", UUID(int=11))
PREFIX = "dpj-tenant-"


def vault_session(stack: dict[str, str], **changes: str) -> VaultSession:
    at = {**stack, **changes}
    return VaultSession.connect(at["DPJ_VAULT_ADDR"], at["DPJ_VAULT_ROLE_ID"], at["DPJ_VAULT_SECRET_ID"], timeout=1.0)


@pytest.fixture
def banque_has_a_key(stack: dict[str, str]) -> str:
    """The prefix of keys' names. The key is made as an operator makes it."""
    create_vault_key(stack, "banque")
    return PREFIX


@pytest.fixture(params=["local", "vault"])
async def keyring(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Keyring]:
    made: Keyring
    if request.param == "local":
        made = a_keyring(tmp_path / "keyring.json", "banque")
    else:
        stack = request.getfixturevalue("stack")
        made = VaultTransitKeyring(vault_session(stack), request.getfixturevalue("banque_has_a_key"))
    yield made
    await made.aclose()


def flipped(ciphertext: str, place: int) -> str:
    other = "A" if ciphertext[place] != "A" else "B"
    return ciphertext[:place] + other + ciphertext[place + 1 :]


async def test_a_key_comes_back(keyring: Keyring) -> None:
    key, wrapped = await keyring.new_data_key(CONTEXT)
    assert isinstance(key, DataKey)
    assert await keyring.unwrap(wrapped, CONTEXT) == key
    assert wrapped.key_version >= 1
    assert wrapped.scheme in {"local-aes-256-gcm", "vault-transit"}
    assert key.secret.hex() not in repr(wrapped)


async def test_each_key_is_new(keyring: Keyring) -> None:
    made = await asyncio.gather(*(keyring.new_data_key(CONTEXT) for _ in range(20)))
    assert len({bytes(key.secret) for key, _ in made}) == 20
    assert len({wrapped.ciphertext for _, wrapped in made}) == 20


@pytest.mark.parametrize(
    "other",
    [
        EncryptionContext("autre", CONTEXT.document_id),
        EncryptionContext("banque", UUID(int=12)),
        EncryptionContext("banque", CONTEXT.document_id, "thumbnail-256"),
    ],
)
async def test_it_opens_in_its_own_context_only(keyring: Keyring, other: EncryptionContext) -> None:
    _, wrapped = await keyring.new_data_key(CONTEXT)
    with pytest.raises(WrongKey):
        await keyring.unwrap(wrapped, other)


async def test_altered_keys_are_refused(keyring: Keyring) -> None:
    _, wrapped = await keyring.new_data_key(CONTEXT)
    begin = len("vault:v1:") if wrapped.scheme == "vault-transit" else 0
    for place in range(begin, len(wrapped.ciphertext) - 3, 7):
        with pytest.raises(WrongKey):
            await keyring.unwrap(replace(wrapped, ciphertext=flipped(wrapped.ciphertext, place)), CONTEXT)
    for garbled in ("", "!", "vault:v1:", "vault:v1:AAAA", "vault:vx:AAAA", "vault:v1:é", wrapped.ciphertext[:-8]):
        with pytest.raises((WrongKey, KeyringUnavailable)):
            await keyring.unwrap(replace(wrapped, ciphertext=garbled), CONTEXT)


async def test_a_key_of_another_keyring_has_to_wait(keyring: Keyring) -> None:
    """Settings that name the wrong keyring condemn no document."""
    _, wrapped = await keyring.new_data_key(CONTEXT)
    for foreign in (replace(wrapped, scheme="other"), replace(wrapped, key_name="other")):
        with pytest.raises(KeyringUnavailable):
            await keyring.unwrap(foreign, CONTEXT)


async def test_many_at_once(keyring: Keyring) -> None:
    contexts = [EncryptionContext("banque", uuid4()) for _ in range(600)]
    made = await asyncio.gather(*(keyring.new_data_key(context) for context in contexts))
    back = await asyncio.gather(*(keyring.unwrap(w, c) for (_, w), c in zip(made, contexts, strict=True)))
    assert back == [key for key, _ in made]


async def test_one_bad_key_among_many_spoils_no_other(keyring: Keyring) -> None:
    contexts = [EncryptionContext("banque", uuid4()) for _ in range(30)]
    made = await asyncio.gather(*(keyring.new_data_key(context) for context in contexts))
    asked = [wrapped for _, wrapped in made]
    asked[7] = replace(asked[7], ciphertext=flipped(asked[7].ciphertext, 30))
    contexts[19] = CONTEXT
    answers = await asyncio.gather(
        *(keyring.unwrap(w, c) for w, c in zip(asked, contexts, strict=True)), return_exceptions=True
    )
    for number, answer in enumerate(answers):
        if number in {7, 19}:
            assert isinstance(answer, WrongKey)
        else:
            assert answer == made[number][0]


async def test_check(keyring: Keyring) -> None:
    await keyring.check()


# --- Vault -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def vault(
    stack: dict[str, str], banque_has_a_key: str
) -> AsyncIterator[tuple[VaultTransitKeyring, VaultSession]]:
    session = vault_session(stack)
    made = VaultTransitKeyring(session, banque_has_a_key)
    yield made, session
    await made.aclose()


async def test_a_revoked_token_is_replaced(vault: tuple[VaultTransitKeyring, VaultSession]) -> None:
    keyring, session = vault
    key, wrapped = await keyring.new_data_key(CONTEXT)
    first = session._client.token
    await asyncio.to_thread(session._client.auth.token.revoke_self)
    assert await keyring.unwrap(wrapped, CONTEXT) == key
    assert session._client.token != first


async def test_the_token_is_renewed(vault: tuple[VaultTransitKeyring, VaultSession]) -> None:
    keyring, session = vault
    await keyring.check()
    token, session._renew_at = session._client.token, time.monotonic() - 1
    await keyring.check()
    assert session._client.token == token
    assert session._renew_at > time.monotonic() + 60


async def test_wraps_share_requests(
    vault: tuple[VaultTransitKeyring, VaultSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring, session = vault
    sizes: list[int] = []
    original = session.transit

    def counted(operation: str, key_name: str, batch: list[dict[str, str]]) -> object:
        sizes.append(len(batch))
        return original(operation, key_name, batch)

    monkeypatch.setattr(session, "transit", counted)
    await asyncio.gather(*(keyring.new_data_key(CONTEXT) for _ in range(500)))
    assert sum(sizes) == 500
    assert len(sizes) <= 4


async def test_a_role_that_is_refused_is_an_outage(stack: dict[str, str]) -> None:
    keyring = VaultTransitKeyring(vault_session(stack, DPJ_VAULT_SECRET_ID=str(uuid4())), PREFIX)
    with pytest.raises(KeyringUnavailable):
        await keyring.check()
    await keyring.aclose()


async def test_a_tenant_without_a_key_makes_none(keyring: Keyring) -> None:
    absent = EncryptionContext(f"absent-{uuid4().hex[:8]}", uuid4())
    for _ in range(2):
        with pytest.raises(TenantKeyMissing) as caught:
            await keyring.new_data_key(absent)
        assert not caught.value.outage
    _, wrapped = await keyring.new_data_key(CONTEXT)
    name = wrapped.key_name.removesuffix("banque") + absent.tenant
    with pytest.raises(KeyringUnavailable) as waits:
        await keyring.unwrap(replace(wrapped, key_name=name), absent)
    assert not waits.value.outage


async def test_a_version_that_vault_does_not_have_yet_has_to_wait(
    vault: tuple[VaultTransitKeyring, VaultSession],
) -> None:
    keyring, _ = vault
    _, wrapped = await keyring.new_data_key(CONTEXT)
    later = replace(wrapped, ciphertext=wrapped.ciphertext.replace("vault:v1:", "vault:v99:"), key_version=99)
    with pytest.raises(KeyringUnavailable):
        await keyring.unwrap(later, CONTEXT)


async def test_a_vault_that_is_away_is_an_outage_in_time(stack: dict[str, str], banque_has_a_key: str) -> None:
    async with Proxy(stack["DPJ_VAULT_ADDR"].removeprefix("http://")) as proxy:
        session = vault_session(stack, DPJ_VAULT_ADDR=f"http://{proxy.endpoint}")
        keyring = VaultTransitKeyring(session, banque_has_a_key, policy=replace(CALLS, deadline=3.0))
        _, wrapped = await keyring.new_data_key(CONTEXT)
        proxy.silent = True
        started = time.monotonic()
        with pytest.raises(KeyringUnavailable):
            await keyring.unwrap(wrapped, CONTEXT)
        assert time.monotonic() - started < 4
        proxy.silent = False
        await keyring.unwrap(wrapped, CONTEXT)
        await proxy.close()
        with pytest.raises(KeyringUnavailable):
            await keyring.unwrap(wrapped, CONTEXT)
        await keyring.aclose()
