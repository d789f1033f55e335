"""A stack with Keycloak, as its administrator, its portals and its persons see it. Nothing of the product is imported here."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import struct
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from playwright.sync_api import Page

REALM: Final = "dpj"
CONSOLE_CLIENT: Final = "dpj-console"
TIMEOUT_SECONDS: Final = 60.0


class Keycloak:
    """``issuer``: the realm's; ``accounts``: what the stack's file ``identity.env`` says; ``password``: the administrator's."""

    def __init__(self, issuer: str, accounts: Mapping[str, str], password: str) -> None:
        self.issuer = issuer
        self.accounts = accounts
        self.url = issuer.partition("/realms/")[0]
        self._password = password
        self._http = httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False)

    def close(self) -> None:
        self._http.close()

    # --- the administrator ---------------------------------------------------------------------------------------

    def admin(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """One call below ``/admin/realms/dpj``; AssertionError if it is refused."""
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": self._password}
        token = self._http.post(f"{self.url}/realms/master/protocol/openid-connect/token", data=form)
        headers = {"Authorization": f"Bearer {token.raise_for_status().json()['access_token']}"}
        answer = self._http.request(method, f"{self.url}/admin/realms/{REALM}{path}", json=body, headers=headers)
        assert answer.is_success, (method, path, answer.status_code, answer.text)
        return answer

    def user_id(self, name: str) -> str:
        [found] = self.admin("GET", f"/users?exact=true&username={name}").json()
        return str(found["id"])

    def sessions(self, name: str) -> list[str]:
        """The ids of the sessions that a person has there."""
        return [one["id"] for one in self.admin("GET", f"/users/{self.user_id(name)}/sessions").json()]

    def add_person(self, name: str, password: str, tenant: str, role: str) -> None:
        for former in self.admin("GET", f"/users?exact=true&username={name}").json():
            self.admin("DELETE", f"/users/{former['id']}")
        person = {
            "username": name,
            "enabled": True,
            "attributes": {"tenant": [tenant]},
            "credentials": [{"type": "password", "value": password, "temporary": False}],
        }
        self.admin("POST", "/users", person)
        self._grant(self.user_id(name), role)

    def add_portal(self, client_id: str, tenant: str) -> str:
        """A client as ``portal-demo`` is one, of another tenant. Returns its secret."""
        [model] = self.admin("GET", "/clients?clientId=portal-demo").json()
        for former in self.admin("GET", f"/clients?clientId={client_id}").json():
            self.admin("DELETE", f"/clients/{former['id']}")
        secret = hashlib.sha256(client_id.encode()).hexdigest()
        kept = {name: value for name, value in model.items() if name not in {"id", "attributes", "protocolMappers"}}
        self.admin("POST", "/clients", {**kept, "clientId": client_id, "secret": secret})
        [made] = self.admin("GET", f"/clients?clientId={client_id}").json()
        account = self.admin("GET", f"/clients/{made['id']}/service-account-user").json()
        self.admin("PUT", f"/users/{account['id']}", {**account, "attributes": {"tenant": [tenant]}})
        self._grant(account["id"], "portal")
        self.admin("POST", f"/clients/{made['id']}/scope-mappings/realm", [self._role("portal")])
        return secret

    def rotate_key(self) -> str:
        """A new signing key, and the former ones withdrawn at once. Returns its id."""
        realm = self.admin("GET", "").json()["id"]
        kind = "org.keycloak.keys.KeyProvider"
        former = [
            one for one in self.admin("GET", f"/components?type={kind}").json() if one["providerId"] == "rsa-generated"
        ]
        config = {"priority": ["200"], "enabled": ["true"], "active": ["true"], "algorithm": ["RS256"]}
        made = {
            "name": "next",
            "providerId": "rsa-generated",
            "providerType": kind,
            "parentId": realm,
            "config": config,
        }
        self.admin("POST", "/components", made)
        for one in former:
            self.admin("DELETE", f"/components/{one['id']}")
        return str(self.admin("GET", "/keys").json()["active"]["RS256"])

    def _role(self, name: str) -> Any:
        return self.admin("GET", f"/roles/{name}").json()

    def _grant(self, user_id: str, role: str) -> None:
        self.admin("POST", f"/users/{user_id}/role-mappings/realm", [self._role(role)])

    # --- portals -------------------------------------------------------------------------------------------------

    def portal_token(self, client_id: str = "portal-demo", secret: str | None = None) -> str:
        secret = secret or self.accounts["DPJ_IDENTITY_PORTAL_SECRET"]
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
        answer = self._http.post(f"{self.issuer}/protocol/openid-connect/token", data=form)
        return str(answer.raise_for_status().json()["access_token"])

    # --- persons -------------------------------------------------------------------------------------------------

    def password(self, name: str) -> str:
        return self.accounts[f"DPJ_IDENTITY_{name.upper()}_PASSWORD"]

    def fill(self, page: Page, name: str, password: str | None = None) -> None:
        """Keycloak's own page of sign-in, with the name there already or not."""
        page.wait_for_url(f"{self.url}/**")
        page.wait_for_selector("#password")
        if page.locator("#username").count():  # who is asked again is known there
            page.fill("#username", name)
        page.fill("#password", password or self.password(name))
        page.click("#kc-login")

    def authorization_url(self, verifier: str, redirect_uri: str, **asked: str) -> str:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        said = {
            "response_type": "code",
            "client_id": CONSOLE_CLIENT,
            "redirect_uri": redirect_uri,
            "scope": "openid",
            "state": "none",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **asked,
        }
        return f"{self.issuer}/protocol/openid-connect/auth?{urlencode(said)}"

    def redeemed(self, answer_url: str, verifier: str, redirect_uri: str) -> Mapping[str, Any]:
        """The claims of the ID token that the code of ``answer_url`` is good for."""
        form = {
            "grant_type": "authorization_code",
            "code": parse_qs(urlsplit(answer_url).query)["code"][0],
            "redirect_uri": redirect_uri,
            "client_id": CONSOLE_CLIENT,
            "client_secret": self.accounts["DPJ_IDENTITY_CONSOLE_SECRET"],
            "code_verifier": verifier,
        }
        answer = self._http.post(f"{self.issuer}/protocol/openid-connect/token", data=form)
        return claims_of(answer.raise_for_status().json()["id_token"])


def claims_of(token: str) -> Mapping[str, Any]:
    """What a token says; nobody asks here whether it is true."""
    body = token.split(".")[1]
    found: Mapping[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


def header_of(token: str) -> Mapping[str, Any]:
    head = token.split(".", maxsplit=1)[0]
    found: Mapping[str, Any] = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    return found


def one_time_password(secret: str) -> str:
    """Six digits by RFC 6238 (SHA-1, 30 s), from a secret in Base32 as it is shown to people."""
    key = base64.b32decode(re.sub(r"\s", "", secret).upper())
    digest = hmac.new(key, struct.pack(">Q", int(time.time()) // 30), "sha1").digest()
    place = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[place : place + 4])[0] & 0x7FFFFFFF) % 1_000_000:06d}"
