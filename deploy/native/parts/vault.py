"""Vault: transit keeps the tenants' keys that wrap documents' keys, AppRole lets the pipeline and operators in (full profile)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import hvac
import requests
from hvac.exceptions import BadGateway, InternalServerError, VaultDown, VaultError

from deploy.native import certificates, files
from deploy.native.cache import Recipe
from deploy.native.errors import PartFailed
from deploy.native.parts import http
from deploy.native.parts.base import FULL, QUESTION_SECONDS, NotReady, Part
from deploy.native.site import Profile, StackSite
from deploy.native.supervisor import Command

ROLE = "dpj"
OPERATOR_ROLE = "dpj-operator"
ISSUER = "dpj-issuer"
#: The single key of stacks that were made before each tenant had one.
TRANSIT_KEY = "dpj-documents"
#: Signs audit checkpoints, and receipts of archiving and erasure.
SIGNING_KEY = "dpj-proofs"
POLICIES = files.CHECKOUT / "deploy" / "vault"
#: What each role may do: names of files in POLICIES.
ROLES = {ROLE: ("dpj-policy", "dpj-proofs-policy"), OPERATOR_ROLE: ("dpj-operator-policy", "dpj-move-policy")}
#: How long a process has to unwrap its secret id.
WRAPPED_SECONDS = 300
# A login lasts an hour and can be renewed for a day; the secret id lasts as long as the stack.
LIFETIMES = {"token_ttl": "1h", "token_max_ttl": "24h", "secret_id_ttl": "0"}
# sys/health: ready, not initialised, sealed. All three are Vault's own answers; set_up leads to the first.
ANSWERS = frozenset({200, 501, 503})
#: What it says while it unseals.
PASSING = (InternalServerError, VaultDown, BadGateway)


class Vault(Part):
    name: ClassVar[str] = "vault"
    port: ClassVar[str] = "vault"
    profiles: ClassVar[frozenset[Profile]] = FULL
    recipe: ClassVar[Recipe | None] = Recipe("vault", "1.19.0", "go", "go/vault")

    def url(self, site: StackSite) -> str:
        return site.url("vault")

    def command(self, site: StackSite) -> Command:
        data = site.data("vault")
        arguments = ["-listen", site.address("vault"), "-data", str(data)]
        if site.tls:
            ours = certificates.pair(site, self.name)
            arguments += ["-certificate", str(ours.certificate), "-key", str(ours.key)]
        return Command((str(self.built / "vault"), *arguments), {}, data)

    def ask(self, site: StackSite) -> None:
        http.get_json(f"{self.url(site)}/v1/sys/health", certificates.trusting(site), statuses=ANSWERS)

    def set_up(self, site: StackSite) -> None:
        try:
            with _session(site) as session:
                self._set_up(site, session)
        except (*PASSING, requests.ConnectionError, requests.Timeout) as error:
            raise NotReady(f"it can't be set up yet ({type(error).__name__})") from None
        except (VaultError, requests.RequestException) as error:
            raise PartFailed(self.name, f"it can't be set up ({type(error).__name__})", "") from None

    def _set_up(self, site: StackSite, session: requests.Session) -> None:
        client = hvac.Client(url=self.url(site), session=session, timeout=QUESTION_SECONDS * 2)
        keys = self._unsealed(site, client)
        client.token = keys["root_token"]
        system = client.sys
        if "transit/" not in system.list_mounted_secrets_engines()["data"]:
            system.enable_secrets_engine("transit")
        if "approle/" not in system.list_auth_methods()["data"]:
            system.enable_auth_method("approle")
        for policy in {*ROLES[ROLE], *ROLES[OPERATOR_ROLE], f"{ISSUER}-policy"}:
            system.create_or_update_policy(name=policy, policy=(POLICIES / f"{policy}.hcl").read_text("utf-8"))
        client.secrets.transit.create_key(name=SIGNING_KEY, key_type="ed25519")
        approle = client.auth.approle
        for role, policies in ROLES.items():
            approle.create_or_update_approle(role_name=role, token_policies=list(policies), **LIFETIMES)
        if "vault_secret_id" not in site.identity["secrets"]:
            role_id, secret_id = _new_ids(client, ROLE)
            site.identity["secrets"] |= {"vault_role_id": role_id, "vault_secret_id": secret_id}
            site.save()
        if not operator_file(site).exists():
            role_id, secret_id = _new_ids(client, OPERATOR_ROLE)
            files.write_json(operator_file(site), {"role_id": role_id, "secret_id": secret_id})
        self._prove(site, client)

    def _unsealed(self, site: StackSite, client: hvac.Client) -> dict[str, str]:
        """Initialise at the first start, unseal at every one. The unseal key never leaves this file."""
        file = site.folder / "keys" / "vault.json"
        if not client.sys.is_initialized():
            made = client.sys.initialize(secret_shares=1, secret_threshold=1)
            files.write_json(file, {"unseal_key": made["keys_base64"][0], "root_token": made["root_token"]})
        try:
            keys: dict[str, str] = json.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            raise PartFailed(self.name, f"its unseal key is gone: {file}", "") from None
        if client.sys.is_sealed():
            client.sys.submit_unseal_key(keys["unseal_key"])
        return keys

    def _prove(self, site: StackSite, client: hvac.Client) -> None:
        """Log in as the pipeline does."""
        client.auth.approle.login(site.secret("vault_role_id"), site.secret("vault_secret_id"), use_token=True)
        client.auth.token.lookup_self()
        client.auth.token.revoke_self()


def operator_file(site: StackSite) -> Path:
    """The operators' role id and secret id, which no process of the pipeline reads."""
    return site.folder / "keys" / "vault-operator.json"


def hand_out(site: StackSite, process: str) -> Path:
    """A file with a response-wrapped secret id of the pipeline's role, for the one start of ``process`` that is to come.

    Issued under the issuer's policy, which allows nothing else. Raises PartFailed if Vault does not serve.
    """
    keys = json.loads((site.folder / "keys" / "vault.json").read_text("utf-8"))
    with _session(site) as session:
        client = hvac.Client(url=Vault().url(site), session=session, timeout=QUESTION_SECONDS * 2)
        client.token = keys["root_token"]
        try:
            issuer = client.auth.token.create(policies=[f"{ISSUER}-policy"], ttl="60s", no_default_policy=True)
            client.token = issuer["auth"]["client_token"]
            wrapped = client.auth.approle.generate_secret_id(role_name=ROLE, wrap_ttl=f"{WRAPPED_SECONDS}s")
        except (VaultError, requests.RequestException) as error:
            raise PartFailed("vault", f"it issues no secret id ({type(error).__name__})", "") from None
    path = files.private_folder(site.folder / "keys" / "wrapped") / process
    files.write_private(path, wrapped["wrap_info"]["token"] + "\n")
    return path


def _session(site: StackSite) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    if site.tls:
        session.verify = str(certificates.authority_file(site))
    return session


def _new_ids(client: hvac.Client, role: str) -> tuple[str, str]:
    approle = client.auth.approle
    role_id = approle.read_role_id(role_name=role)["data"]["role_id"]
    return str(role_id), str(approle.generate_secret_id(role_name=role)["data"]["secret_id"])
