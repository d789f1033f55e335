"""The Vault keyring against a Vault in memory: leases, lost tokens, faults, refusals. The real one is in tests/contract."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hvac.exceptions import Forbidden, InternalServerError, InvalidPath, VaultDown
from structlog.testing import capture_logs

from crypto.vault_login import WrappedSecretId
from crypto.vault_session import VaultSession
from crypto.vault_transit import CALLS, MISSING_SECONDS, VaultTransitKeyring
from domain.errors import KeyringLoginRefused, KeyringUnavailable, TenantKeyMissing, WrongKey
from domain.keys import EncryptionContext, WrappedKey
from tests.support.fakes_vault import FakeVault, all_failed_inside
from tests.support.waiting import until

CONTEXT = EncryptionContext("banque", UUID(int=5))
OTHER = EncryptionContext("banque", UUID(int=6))


@pytest.fixture
def vault() -> FakeVault:
    return FakeVault()


@pytest.fixture
async def keyring(vault: FakeVault) -> AsyncIterator[VaultTransitKeyring]:
    session = VaultSession(vault, "role", "secret", clock=vault.clock)
    made = VaultTransitKeyring(session, "dpj-tenant-", "dpj-documents", replace(CALLS, window=0.001, deadline=2.0))
    yield made
    await made.aclose()


async def test_wrap_and_unwrap(keyring: VaultTransitKeyring) -> None:
    key, wrapped = await keyring.new_data_key(CONTEXT)
    assert (wrapped.scheme, wrapped.key_name, wrapped.key_version) == ("vault-transit", "dpj-tenant-banque", 3)
    assert await keyring.unwrap(wrapped, CONTEXT) == key
    with pytest.raises(WrongKey):
        await keyring.unwrap(wrapped, OTHER)


async def test_the_context_is_length_prefixed(keyring: VaultTransitKeyring) -> None:
    _, wrapped = await keyring.new_data_key(CONTEXT)
    context = base64.b64decode(base64.b64decode(wrapped.ciphertext.split(":")[2]).split(b"|")[0])
    assert context == b"\x00\x06banque" + b"\x00\x24" + str(CONTEXT.document_id).encode() + b"\x00\x07content"


async def test_nothing_is_called_before_it_is_used(keyring: VaultTransitKeyring, vault: FakeVault) -> None:
    assert vault.logins == 0
    await keyring.check()
    assert vault.logins == 1


async def test_concurrent_wraps_share_a_call_and_a_login(keyring: VaultTransitKeyring, vault: FakeVault) -> None:
    contexts = [EncryptionContext("banque", uuid4()) for _ in range(50)]
    made = await asyncio.gather(*(keyring.new_data_key(context) for context in contexts))
    assert vault.batches == [("encrypt", 50)]
    back = await asyncio.gather(*(keyring.unwrap(w, c) for (_, w), c in zip(made, contexts, strict=True)))
    assert back == [key for key, _ in made]
    assert vault.batches == [("encrypt", 50), ("decrypt", 50)]
    assert vault.logins == 1


async def test_one_item_s_failure_is_its_own(keyring: VaultTransitKeyring, vault: FakeVault) -> None:
    vault.poison = base64.b64encode(
        b"\x00\x06banque" + b"\x00\x24" + str(OTHER.document_id).encode() + b"\x00\x07content"
    ).decode()
    answers = await asyncio.gather(
        keyring.new_data_key(CONTEXT),
        keyring.new_data_key(OTHER),
        keyring.new_data_key(CONTEXT),
        return_exceptions=True,
    )
    assert isinstance(answers[1], KeyringUnavailable)
    assert isinstance(answers[0], tuple)
    assert isinstance(answers[2], tuple)
    opened = await asyncio.gather(
        keyring.unwrap(answers[0][1], CONTEXT), keyring.unwrap(answers[2][1], OTHER), return_exceptions=True
    )
    assert opened[0] == answers[0][0]
    assert isinstance(opened[1], WrongKey)
    assert vault.batches == [("encrypt", 3), ("decrypt", 2)]


async def test_the_token_is_renewed_after_two_thirds_of_its_lease(
    keyring: VaultTransitKeyring, vault: FakeVault
) -> None:
    await keyring.check()
    vault.now += 2399
    await keyring.check()
    assert (vault.logins, vault.renewals) == (1, 0)
    vault.now += 2
    await keyring.check()
    assert (vault.logins, vault.renewals) == (1, 1)
    vault.now += 2399
    await keyring.check()
    assert (vault.logins, vault.renewals) == (1, 1)


async def test_after_the_lease_it_logs_in_again(keyring: VaultTransitKeyring, vault: FakeVault) -> None:
    await keyring.check()
    vault.now += 3601
    await keyring.check()
    assert (vault.logins, vault.renewals) == (2, 0)


async def test_a_renewal_that_is_refused_becomes_a_login(keyring: VaultTransitKeyring, vault: FakeVault) -> None:
    await keyring.check()
    vault.now += 2500
    vault.auth_failures.append(Forbidden("permission denied"))
    await keyring.check()
    assert (vault.logins, vault.renewals) == (2, 1)


async def test_a_token_without_end_is_kept(vault: FakeVault) -> None:
    vault.lease = 0
    keyring = VaultTransitKeyring(VaultSession(vault, "role", "secret", clock=vault.clock), "dpj-tenant-")
    await keyring.check()
    vault.now += 10**7
    await keyring.check()
    assert (vault.logins, vault.renewals) == (1, 0)
    await keyring.aclose()


async def test_a_revoked_token_is_replaced_within_the_call(keyring: VaultTransitKeyring, vault: FakeVault) -> None:
    _, wrapped = await keyring.new_data_key(CONTEXT)
    vault.revoke()
    await keyring.unwrap(wrapped, CONTEXT)
    assert vault.logins == 2


async def test_threads_that_lost_one_token_log_in_once(keyring: VaultTransitKeyring, vault: FakeVault) -> None:
    _, wrapped = await keyring.new_data_key(CONTEXT)
    vault.gate = threading.Event()
    asked = [asyncio.create_task(keyring.unwrap(wrapped, CONTEXT)), asyncio.create_task(keyring.new_data_key(CONTEXT))]
    await until(lambda: vault.at_gate == 2)  # both in their threads, with the old token
    vault.revoke()
    vault.gate.set()
    await asyncio.gather(*asked)
    assert vault.logins == 2


async def test_a_login_that_another_thread_made_is_used(vault: FakeVault) -> None:
    session = VaultSession(vault, "role", "secret", clock=vault.clock)
    session.transit("encrypt", "dpj-tenant-banque", [{"plaintext": "AA==", "context": "AA=="}])
    session._log_in(after=0)
    assert vault.logins == 1


@pytest.mark.parametrize(
    "failure",
    [
        VaultDown("Vault is sealed"),
        InternalServerError("1 error occurred"),
        InvalidPath("no handler for route"),
        ConnectionError("refused"),
        TimeoutError("timed out"),
        all_failed_inside("out of entropy", 1),
    ],
)
async def test_outages(keyring: VaultTransitKeyring, vault: FakeVault, failure: Exception) -> None:
    _, wrapped = await keyring.new_data_key(CONTEXT)
    for call in (keyring.new_data_key(CONTEXT), keyring.unwrap(wrapped, CONTEXT), keyring.check()):
        vault.failures.append(failure)
        with pytest.raises(KeyringUnavailable) as caught:
            await call
        assert str(failure) not in caught.value.detail or not str(failure)
    await keyring.unwrap(wrapped, CONTEXT)


async def test_403_without_a_known_token_is_an_outage(keyring: VaultTransitKeyring, vault: FakeVault) -> None:
    _, wrapped = await keyring.new_data_key(CONTEXT)
    vault.failures += [Forbidden("permission denied"), Forbidden("permission denied")]
    vault.auth_failures.append(Forbidden("permission denied"))  # of the first look at our token
    vault.on_login = vault.revoke
    with pytest.raises(KeyringUnavailable) as caught:
        await keyring.unwrap(wrapped, CONTEXT)
    assert (caught.value.outage, vault.logins) == (True, 2)
    vault.on_login = lambda: None
    await keyring.unwrap(wrapped, CONTEXT)


async def test_403_with_a_good_token_is_about_the_key(keyring: VaultTransitKeyring, vault: FakeVault) -> None:
    """No new login for it, no outage, and no other tenant is held up."""
    _, wrapped = await keyring.new_data_key(CONTEXT)
    vault.failures.append(Forbidden("permission denied"))
    with pytest.raises(KeyringUnavailable) as caught:
        await keyring.unwrap(wrapped, CONTEXT)
    assert (caught.value.outage, vault.logins) == (False, 1)


@pytest.mark.parametrize("tenant", ["banqeu", "../sys/seal", "", "a/b", "a?b", "é"])
async def test_a_tenant_without_a_key_is_told_so(keyring: VaultTransitKeyring, vault: FakeVault, tenant: str) -> None:
    with pytest.raises(TenantKeyMissing) as caught:
        await keyring.new_data_key(replace(CONTEXT, tenant=tenant))
    assert not caught.value.outage
    assert tenant not in caught.value.detail or not tenant
    with pytest.raises(KeyringUnavailable):
        await keyring.unwrap(
            WrappedKey("vault-transit", f"dpj-tenant-{tenant}", 1, "vault:v1:x"), replace(CONTEXT, tenant=tenant)
        )
    await keyring.new_data_key(CONTEXT)
    assert vault.logins == 1


async def test_a_tenant_without_a_key_is_asked_for_again_after_a_while(vault: FakeVault) -> None:
    keyring = VaultTransitKeyring(
        VaultSession(vault, "role", "secret", clock=vault.clock), "dpj-tenant-", clock=vault.clock
    )
    missing = replace(CONTEXT, tenant="new")
    for lookups in (1, 1):
        with pytest.raises(TenantKeyMissing):
            await keyring.new_data_key(missing)
        assert vault.lookups == lookups
    vault.now += MISSING_SECONDS + 1
    with pytest.raises(TenantKeyMissing):
        await keyring.new_data_key(missing)
    assert vault.lookups == 2
    await keyring.aclose()


async def test_each_tenant_has_a_key_and_calls_of_its_own(keyring: VaultTransitKeyring, vault: FakeVault) -> None:
    other = replace(CONTEXT, tenant="autre")
    made = await asyncio.gather(*(keyring.new_data_key(context) for context in (CONTEXT, other) * 3))
    assert {wrapped.key_name for _, wrapped in made} == {"dpj-tenant-banque", "dpj-tenant-autre"}
    assert sorted(vault.batches) == [("encrypt", 3), ("encrypt", 3)]
    with pytest.raises(WrongKey):  # another tenant's key is no key of this document
        await keyring.unwrap(made[1][1], CONTEXT)


async def test_what_the_single_key_wrapped_is_opened_and_nothing_new_wrapped(
    keyring: VaultTransitKeyring, vault: FakeVault
) -> None:
    key, wrapped = await keyring.new_data_key(CONTEXT)
    assert await keyring.unwrap(replace(wrapped, key_name="dpj-documents"), CONTEXT) == key
    without = VaultTransitKeyring(VaultSession(vault, "role", "secret", clock=vault.clock), "dpj-tenant-")
    with pytest.raises(KeyringUnavailable):
        await without.unwrap(replace(wrapped, key_name="dpj-documents"), CONTEXT)
    await without.aclose()


# --- the wrapped secret id ---------------------------------------------------------------------------------------------


CREATED_AT = "auth/approle/role/dpj/secret-id"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text("wrapping\n", "utf-8")
    return path


async def test_a_wrapped_secret_id_is_unwrapped_once_and_serves_every_login(vault: FakeVault, token_file: Path) -> None:
    vault.wrapped["wrapping"] = (CREATED_AT, "secret")
    session = VaultSession(vault, "role", WrappedSecretId(token_file), clock=vault.clock)
    session.check()
    assert vault.wrapped == {}
    vault.revoke()
    session.check()
    assert vault.logins == 2


async def test_a_wrapping_token_that_was_used_is_an_alarm_for_good(vault: FakeVault, token_file: Path) -> None:
    session = VaultSession(vault, "role", WrappedSecretId(token_file), clock=vault.clock)
    with capture_logs() as logs, pytest.raises(KeyringLoginRefused):
        session.check()
    assert [line["reason"] for line in logs if line["event"] == "vault_wrapping_token_refused"] == ["used_or_expired"]
    vault.wrapped["wrapping"] = (CREATED_AT, "secret")
    with pytest.raises(KeyringLoginRefused):
        session.check()
    assert vault.wrapped


async def test_what_somebody_else_wrapped_is_not_taken_for_ours(vault: FakeVault, token_file: Path) -> None:
    vault.wrapped["wrapping"] = ("sys/wrapping/wrap", "secret")
    session = VaultSession(vault, "role", WrappedSecretId(token_file), clock=vault.clock)
    with capture_logs() as logs, pytest.raises(KeyringLoginRefused):
        session.check()
    assert logs[0]["reason"] == "not_a_secret_id"
    assert vault.wrapped


async def test_vault_away_uses_nothing_up(vault: FakeVault, token_file: Path) -> None:
    vault.wrapped["wrapping"] = (CREATED_AT, "secret")
    session = VaultSession(vault, "role", WrappedSecretId(token_file), clock=vault.clock)
    for failure in (VaultDown("sealed"), ConnectionError("refused")):
        vault.auth_failures.append(failure)
        with pytest.raises(KeyringUnavailable) as caught:
            session.check()
        assert not isinstance(caught.value, KeyringLoginRefused)
    session.check()


async def test_a_login_that_fails_is_an_outage_and_is_tried_again(
    keyring: VaultTransitKeyring, vault: FakeVault
) -> None:
    vault.auth_failures.append(VaultDown("sealed"))
    with pytest.raises(KeyringUnavailable):
        await keyring.check()
    await keyring.check()


async def test_wrong_credentials_are_an_outage(vault: FakeVault) -> None:
    keyring = VaultTransitKeyring(VaultSession(vault, "role", "other", clock=vault.clock), "dpj-tenant-")
    with pytest.raises(KeyringUnavailable):
        await keyring.check()
    await keyring.aclose()


async def test_a_missing_transit_key_condemns_nothing(vault: FakeVault) -> None:
    keyring = VaultTransitKeyring(VaultSession(vault, "role", "secret", clock=vault.clock), "absent-")
    with pytest.raises(KeyringUnavailable):
        await keyring.unwrap(WrappedKey("vault-transit", "absent-banque", 3, "vault:v3:AAAA"), CONTEXT)
    await keyring.aclose()


@pytest.mark.parametrize("version", ["v99", "v1"])
async def test_versions_that_are_away_have_to_wait(keyring: VaultTransitKeyring, version: str) -> None:
    """Not restored yet, or archived: both come back, so the document isn't condemned."""
    _, wrapped = await keyring.new_data_key(CONTEXT)
    with pytest.raises(KeyringUnavailable):
        await keyring.unwrap(replace(wrapped, ciphertext=wrapped.ciphertext.replace("v3", version)), CONTEXT)


@pytest.mark.parametrize("change", [{"scheme": "local-aes-256-gcm"}, {"key_name": "other"}])
async def test_a_key_of_another_keyring_has_to_wait(keyring: VaultTransitKeyring, change: dict[str, str]) -> None:
    _, wrapped = await keyring.new_data_key(CONTEXT)
    with pytest.raises(KeyringUnavailable):
        await keyring.unwrap(replace(wrapped, **change), CONTEXT)


async def test_what_is_no_ciphertext_is_refused(keyring: VaultTransitKeyring) -> None:
    with pytest.raises(WrongKey):
        await keyring.unwrap(WrappedKey("vault-transit", "dpj-tenant-banque", 3, "other:v3:AAAA"), CONTEXT)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        {"data": None},
        {"data": {"batch_results": []}},
        {"data": {"batch_results": [{}]}},
        {"data": {"batch_results": [{"ciphertext": "other:v1:x"}]}},
        {"data": {"batch_results": [{"ciphertext": "vault:vx:x"}]}},
        {"data": {"batch_results": [{"ciphertext": "vault:v"}]}},
    ],
)
async def test_odd_answers_are_outages(keyring: VaultTransitKeyring, vault: FakeVault, answer: object) -> None:
    vault.answers.append(answer)
    with pytest.raises(KeyringUnavailable):
        await keyring.new_data_key(CONTEXT)


@pytest.mark.parametrize("plaintext", [None, "", "AAAA", "not base64", "é"])
async def test_what_is_no_data_key_is_refused(
    keyring: VaultTransitKeyring, vault: FakeVault, plaintext: str | None
) -> None:
    _, wrapped = await keyring.new_data_key(CONTEXT)
    vault.answers.append({"data": {"batch_results": [{"plaintext": plaintext}]}})
    with pytest.raises(WrongKey):
        await keyring.unwrap(wrapped, CONTEXT)


async def test_closing_closes_the_connections(keyring: VaultTransitKeyring, vault: FakeVault) -> None:
    await keyring.aclose()
    assert vault.closed
    with pytest.raises(KeyringUnavailable):
        await keyring.new_data_key(CONTEXT)


def test_connecting_calls_nothing_and_takes_nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "from-the-environment")
    session = VaultSession.connect("http://127.0.0.1:1", "role", "secret")
    assert session._client.token == ""
    assert session._client.session.trust_env is False
    session.close()
