"""What every signer promises, run over the key file and over the real Vault."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crypto.encoding import to_text
from crypto.local_signer import LocalSigner
from crypto.signatures import verifies
from crypto.vault_session import VaultSession
from crypto.vault_signer import VaultSigner
from domain.checkpoints import public_key
from domain.errors import KeyringUnavailable
from tests.support.tcp_proxy import Proxy

Signer = LocalSigner | VaultSigner


def vault_signer(stack: dict[str, str], address: str | None = None, key: str | None = None) -> VaultSigner:
    session = VaultSession.connect(
        address or stack["DPJ_VAULT_ADDR"], stack["DPJ_VAULT_ROLE_ID"], stack["DPJ_VAULT_SECRET_ID"], timeout=1.0
    )
    return VaultSigner(session, key or stack["DPJ_VAULT_SIGNING_KEY"])


@pytest.fixture(params=["local", "vault"])
async def signer(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Signer]:
    made: Signer
    if request.param == "local":
        made = LocalSigner.create(tmp_path / "signing.json")
    else:
        made = vault_signer(request.getfixturevalue("stack"))
    yield made
    await made.aclose()


async def test_a_signature_verifies_under_the_current_key(signer: Signer) -> None:
    key = await signer.current()
    assert key == public_key(key.raw)
    for message in (b"", b"x", b"{" * 50_000):
        signature = await signer.sign(message, key.id)
        assert verifies(key, signature, message)
        assert not verifies(key, signature, message + b".")
        assert not verifies(key, signature[:-1] + bytes([signature[-1] ^ 1]), message)


async def test_the_same_message_has_the_same_signature(signer: Signer) -> None:
    key = await signer.current()
    made = await asyncio.gather(*(signer.sign(b"checkpoint", key.id) for _ in range(20)))
    assert len(set(made)) == 1


async def test_the_current_key_is_the_last_of_all(signer: Signer) -> None:
    await signer.check()
    keys = await signer.public_keys()
    assert keys[-1] == await signer.current()
    assert keys[-1].jwk["kid"] == keys[-1].id


async def test_a_key_that_is_not_there_signs_nothing(signer: Signer) -> None:
    with pytest.raises(KeyringUnavailable):
        await signer.sign(b"x", public_key(bytes(32)).id)


async def test_a_rotated_file_signs_anew_and_knows_the_old_key(tmp_path: Path) -> None:
    path = tmp_path / "signing.json"
    signer = LocalSigner.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    old = await signer.current()
    content = json.loads(path.read_text())
    content["keys"]["2"] = to_text(bytes(range(32)))
    content["current"] = 2
    path.write_text(json.dumps(content))
    await signer.check()
    new = await signer.current()
    assert [key.id for key in await signer.public_keys()] == [old.id, new.id]
    assert old != new
    assert verifies(old, await signer.sign(b"x", old.id), b"x")


@pytest.mark.parametrize("broken", ["open", "malformed", "absent", "short"])
async def test_a_file_that_can_not_be_used(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "signing.json"
    signer = LocalSigner.create(path)
    if broken == "open":
        path.chmod(0o640)
    elif broken == "absent":
        path.unlink()
    elif broken == "short":
        path.write_text(json.dumps({"format": "dpj-signing-1", "current": 1, "keys": {"1": to_text(b"short")}}))
    else:
        path.write_text("{}")
    with pytest.raises(KeyringUnavailable):
        await signer.current()


async def test_a_vault_that_is_away_or_lacks_the_key(stack: dict[str, str]) -> None:
    absent = vault_signer(stack, key="absent")
    with pytest.raises(KeyringUnavailable):
        await absent.current()
    await absent.aclose()
    documents = vault_signer(stack, key=stack["DPJ_VAULT_TRANSIT_KEY"])
    with pytest.raises(KeyringUnavailable):  # our role may not even look at that one
        await documents.current()
    await documents.aclose()
    async with Proxy(stack["DPJ_VAULT_ADDR"].removeprefix("http://")) as proxy:
        signer = vault_signer(stack, f"http://{proxy.endpoint}")
        key = await signer.current()
        await proxy.close()
        with pytest.raises(KeyringUnavailable):
            await signer.sign(b"x", key.id)
        await signer.aclose()
