"""Vault: transit keeps the key that wraps the documents' keys, AppRole lets the pipeline in (full profile)."""

from __future__ import annotations

import json
from typing import ClassVar

import hvac
import requests
from hvac.exceptions import VaultError

from deploy.native import files
from deploy.native.cache import Recipe
from deploy.native.errors import PartFailed
from deploy.native.parts import http
from deploy.native.parts.base import FULL, QUESTION_SECONDS, Part
from deploy.native.site import Profile, Site
from deploy.native.supervisor import Command

ROLE = "dpj"
TRANSIT_KEY = "dpj-documents"
SIGNING_KEY = "dpj-proofs"
POLICY = files.CHECKOUT / "deploy" / "vault" / "dpj-policy.hcl"
# A login lasts an hour and can be renewed for a day; the secret id lasts as long as the stack.
LIFETIMES = {"token_ttl": "1h", "token_max_ttl": "24h", "secret_id_ttl": "0"}
# sys/health: ready, not initialised, sealed. All three are Vault's own answers; set_up leads to the first.
ANSWERS = frozenset({200, 501, 503})


class Vault(Part):
    name: ClassVar[str] = "vault"
    port: ClassVar[str] = "vault"
    profiles: ClassVar[frozenset[Profile]] = FULL
    recipe: ClassVar[Recipe | None] = Recipe("vault", "1.19.0", "go", "go/vault")

    def url(self, site: Site) -> str:
        return f"http://{site.address('vault')}"

    def command(self, site: Site) -> Command:
        data = site.data("vault")
        return Command((str(self.built / "vault"), "-listen", site.address("vault"), "-data", str(data)), {}, data)

    def ask(self, site: Site) -> None:
        http.get_json(f"{self.url(site)}/v1/sys/health", statuses=ANSWERS)

    def set_up(self, site: Site) -> None:
        try:
            with requests.Session() as session:
                session.trust_env = False
                self._set_up(site, session)
        except (VaultError, requests.RequestException) as error:
            raise PartFailed(self.name, f"it can't be set up ({type(error).__name__})", "") from None

    def _set_up(self, site: Site, session: requests.Session) -> None:
        client = hvac.Client(url=self.url(site), session=session, timeout=QUESTION_SECONDS * 2)
        keys = self._unsealed(site, client)
        client.token = keys["root_token"]
        system = client.sys
        if "transit/" not in system.list_mounted_secrets_engines()["data"]:
            system.enable_secrets_engine("transit")
        if "approle/" not in system.list_auth_methods()["data"]:
            system.enable_auth_method("approle")
        # Derived: every document's key is wrapped under a key of its own, derived from its id.
        client.secrets.transit.create_key(name=TRANSIT_KEY, derived=True, key_type="aes256-gcm96")
        # Signs audit checkpoints and receipts.
        client.secrets.transit.create_key(name=SIGNING_KEY, key_type="ed25519")
        system.create_or_update_policy(name=ROLE, policy=POLICY.read_text("utf-8"))
        approle = client.auth.approle
        approle.create_or_update_approle(role_name=ROLE, token_policies=[ROLE], **LIFETIMES)
        if "vault_secret_id" not in site.identity["secrets"]:
            site.identity["secrets"]["vault_role_id"] = approle.read_role_id(role_name=ROLE)["data"]["role_id"]
            site.identity["secrets"]["vault_secret_id"] = approle.generate_secret_id(role_name=ROLE)["data"][
                "secret_id"
            ]
            site.save()
        self._prove(site, client)

    def _unsealed(self, site: Site, client: hvac.Client) -> dict[str, str]:
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

    def _prove(self, site: Site, client: hvac.Client) -> None:
        """Log in as the pipeline does and use the key."""
        client.auth.approle.login(site.secret("vault_role_id"), site.secret("vault_secret_id"), use_token=True)
        client.secrets.transit.encrypt_data(name=TRANSIT_KEY, plaintext="cHJvYmU=", context="cHJvYmU=")
        client.auth.token.revoke_self()
