"""Each role of the pipeline in a real Vault can do what it is for, and nothing else. The stack gives them the policies of deploy/vault."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from crypto.vault_login import WrappedSecretId
from crypto.vault_session import VaultSession
from deploy.native import site
from deploy.native.parts.vault import POLICIES, hand_out
from domain.errors import KeyringLoginRefused
from tests.support.keyrings import create_vault_key

CONTEXT = "AAA="
PLAIN = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

#: Method, path and body; "T" is a tenant's key that is there.
Call = tuple[str, str, dict[str, Any]]

ENCRYPT: Call = ("POST", "transit/encrypt/T", {"plaintext": PLAIN, "context": CONTEXT})
DECRYPT: Call = ("POST", "transit/decrypt/T", {"ciphertext": "CIPHERTEXT", "context": CONTEXT})
REWRAP: Call = ("POST", "transit/rewrap/T", {"ciphertext": "CIPHERTEXT", "context": CONTEXT})
LIST: Call = ("LIST", "transit/keys", {})
READ: Call = ("GET", "transit/keys/T", {})
CREATE: Call = ("POST", "transit/keys/dpj-tenant-NEW", {"type": "aes256-gcm96", "derived": True})
ROTATE: Call = ("POST", "transit/keys/T/rotate", {})
FLOOR: Call = ("POST", "transit/keys/T/config", {"min_decryption_version": 1})
WHO: Call = ("GET", "auth/token/lookup-self", {})
RENEW: Call = ("POST", "auth/token/renew-self", {})
SECRET_ID: Call = ("POST", "auth/approle/role/dpj/secret-id", {})
ROLE_ID: Call = ("GET", "auth/approle/role/dpj/role-id", {})
OLD_ENCRYPT: Call = ("POST", "transit/encrypt/dpj-documents", {"plaintext": PLAIN, "context": CONTEXT})
OLD_DECRYPT: Call = ("POST", "transit/decrypt/dpj-documents", {"ciphertext": "OLD", "context": CONTEXT})
SIGN: Call = ("POST", "transit/sign/dpj-proofs", {"input": PLAIN})
PUBLIC_KEYS: Call = ("GET", "transit/keys/dpj-proofs", {})

#: What nobody of the pipeline may do.
NEVER: tuple[Call, ...] = (
    ("POST", "transit/encrypt/dpj-tenant-NEW", {"plaintext": PLAIN, "context": CONTEXT}),  # would make a key
    ("POST", "transit/encrypt/other", {"plaintext": PLAIN, "context": CONTEXT}),
    ("POST", "transit/decrypt/other", {"ciphertext": "CIPHERTEXT", "context": CONTEXT}),
    OLD_ENCRYPT,
    ("POST", "transit/datakey/plaintext/T", {"context": CONTEXT}),
    ("GET", "transit/export/encryption-key/T", {}),
    ("GET", "transit/backup/T", {}),
    ("DELETE", "transit/keys/T", {}),
    ("POST", "transit/keys/T/trim", {"min_available_version": 1}),
    ("POST", "transit/keys/T/config", {"deletion_allowed": True}),
    ("POST", "transit/keys/T/config", {"exportable": True}),
    ("POST", "transit/keys/T/config", {"min_decryption_version": 1, "allow_plaintext_backup": True}),
    ("POST", "transit/keys/dpj-tenant-NEW", {"type": "aes256-gcm96", "exportable": True}),
    ("POST", "transit/keys/dpj-tenant-NEW", {"type": "rsa-2048"}),
    ("POST", "transit/keys/T/import", {}),
    ("POST", "transit/keys/dpj-proofs/config", {"min_decryption_version": 1}),  # would hide old public keys
    ("GET", "transit/export/signing-key/dpj-proofs", {}),
    ("DELETE", "transit/keys/dpj-proofs", {}),
    ("GET", "sys/mounts", {}),
    ("GET", "sys/policies/acl/dpj-policy", {}),
    ("POST", "sys/policies/acl/dpj-policy", {"policy": ""}),
    ("POST", "sys/seal", {}),
    ("POST", "auth/token/create", {}),
    ("LIST", "auth/approle/role", {}),
    ("POST", "auth/approle/role/dpj", {"token_policies": "root"}),
    ("POST", "auth/approle/role/dpj-operator/secret-id", {}),
)

MAY: Mapping[str, tuple[Call, ...]] = {
    "dpj-policy": (ENCRYPT, DECRYPT, OLD_DECRYPT, WHO, RENEW),
    "dpj-proofs-policy": (SIGN, PUBLIC_KEYS),
    "dpj-operator-policy": (LIST, READ, PUBLIC_KEYS, CREATE, ROTATE, FLOOR, REWRAP, WHO, RENEW),
    "dpj-move-policy": (ENCRYPT, OLD_DECRYPT),
    "dpj-issuer-policy": (ROLE_ID,),
}
KNOWN = tuple({repr(call): call for calls in MAY.values() for call in calls}.values())


class Vault:
    """The stack's Vault as its administrator."""

    def __init__(self, stack: Mapping[str, str]) -> None:
        here = site.load(stack["DPJ_STACK_NAME"])
        assert here is not None
        self.site = here
        keys = json.loads((here.folder / "keys" / "vault.json").read_text("utf-8"))
        self.http = httpx.Client(
            base_url=f"{stack['DPJ_VAULT_ADDR']}/v1/",
            headers={"X-Vault-Token": keys["root_token"]},
            timeout=20,
            trust_env=False,
        )
        self.tenant = f"policies-{uuid4().hex[:8]}"
        create_vault_key(stack, self.tenant)
        self.http.post("transit/keys/dpj-documents", json={"type": "aes256-gcm96", "derived": True})
        self.http.post("transit/keys/other", json={"type": "aes256-gcm96", "derived": True})
        self.words = {"CIPHERTEXT": self._sealed(f"dpj-tenant-{self.tenant}"), "OLD": self._sealed("dpj-documents")}

    def _sealed(self, key: str) -> str:
        answer = self.http.post(f"transit/encrypt/{key}", json={"plaintext": PLAIN, "context": CONTEXT})
        return str(answer.raise_for_status().json()["data"]["ciphertext"])

    def token(self, policy: str) -> str:
        body = {"policies": [policy], "ttl": "5m", "no_default_policy": True}
        answer = self.http.post("auth/token/create-orphan", json=body).raise_for_status()
        return str(answer.json()["auth"]["client_token"])

    def status(self, token: str, call: Call) -> int:
        method, path, body = call
        place = path.replace("/T", f"/dpj-tenant-{self.tenant}").replace("NEW", f"new-{uuid4().hex[:8]}")
        sent = {name: self.words.get(value, value) if isinstance(value, str) else value for name, value in body.items()}
        return self.http.request(method, place, json=sent or None, headers={"X-Vault-Token": token}).status_code


@pytest.fixture(scope="module")
def vault(stack: Mapping[str, str]) -> Iterator[Vault]:
    made = Vault(stack)
    yield made
    made.http.close()


@pytest.mark.parametrize("policy", MAY)
def test_a_policy_allows_what_it_is_for_and_nothing_else(vault: Vault, policy: str) -> None:
    token = vault.token(policy)
    can = {repr(call): vault.status(token, call) for call in MAY[policy]}
    assert {call: status for call, status in can.items() if status not in {200, 204}} == {}
    others = [call for call in (*KNOWN, *NEVER) if call not in MAY[policy]]
    could = {repr(call): vault.status(token, call) for call in others}
    assert {call: status for call, status in could.items() if status != 403} == {}


def test_the_issuer_gives_out_secret_ids_that_are_wrapped_and_no_others(vault: Vault) -> None:
    token = vault.token("dpj-issuer-policy")
    headers = {"X-Vault-Token": token}
    assert vault.status(token, SECRET_ID) == 403
    for seconds, status in ((60, 200), (3600, 403)):
        wrapped = {**headers, "X-Vault-Wrap-TTL": f"{seconds}s"}
        answer = vault.http.post("auth/approle/role/dpj/secret-id", headers=wrapped)
        assert answer.status_code == status


def test_every_policy_file_is_one_that_the_stack_uses_and_this_test_knows(vault: Vault) -> None:
    files = {path.stem: path.read_text("utf-8") for path in POLICIES.glob("*.hcl")}
    assert set(files) == set(MAY)
    for name, text in files.items():
        assert vault.http.get(f"sys/policies/acl/{name}").json()["data"]["policy"] == text
    roles = {role: vault.http.get(f"auth/approle/role/{role}").json()["data"] for role in ("dpj", "dpj-operator")}
    assert sorted(roles["dpj"]["token_policies"]) == ["dpj-policy", "dpj-proofs-policy"]
    assert sorted(roles["dpj-operator"]["token_policies"]) == ["dpj-move-policy", "dpj-operator-policy"]


def test_a_secret_id_that_is_handed_out_is_good_for_one_process(vault: Vault, stack: Mapping[str, str]) -> None:
    path = hand_out(vault.site, "api-test")
    assert path.stat().st_mode & 0o777 == 0o600

    def session() -> VaultSession:
        return VaultSession.connect(stack["DPJ_VAULT_ADDR"], stack["DPJ_VAULT_ROLE_ID"], WrappedSecretId(path))

    first = session()
    first.check()
    with pytest.raises(KeyringLoginRefused):
        session().check()
    first.check()
    first._client.auth.token.revoke_self()
    first.check()  # the secret id is kept: a lost token needs no new one


def test_a_token_that_wraps_something_else_is_refused(vault: Vault, stack: Mapping[str, str], tmp_path: Path) -> None:
    answer = vault.http.post("sys/wrapping/wrap", json={"secret_id": "mine"}, headers={"X-Vault-Wrap-TTL": "60s"})
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(answer.json()["wrap_info"]["token"], "utf-8")
    secret = WrappedSecretId(path)
    with pytest.raises(KeyringLoginRefused):
        VaultSession.connect(stack["DPJ_VAULT_ADDR"], stack["DPJ_VAULT_ROLE_ID"], secret).check()
