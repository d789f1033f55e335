"""Vault at hvac's boundary, in memory: AppRole tokens with leases, a derived transit key, faults on demand."""

from __future__ import annotations

import base64
import itertools
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from hvac.exceptions import Forbidden, InternalServerError, InvalidPath, InvalidRequest


class FakeVault:
    """Stands where an ``hvac.Client`` does.

    ``failures`` are raised by the next transit calls, ``auth_failures`` by the next logins and renewals; ``poison`` is a context
    (base64) whose encryption fails. ``wrapped`` holds creation path and secret id by wrapping token. ``gate``, if set, is waited for by every transit call. ``now`` is the clock that leases run by.
    """

    def __init__(self, lease: int = 3600) -> None:
        self.lease = lease
        self.now = 1000.0
        self.token = ""
        self.failures: list[Exception] = []
        self.auth_failures: list[Exception] = []
        self.poison: str | None = None
        self.gate: threading.Event | None = None
        self.at_gate = 0
        self.answers: list[Any] = []
        self.batches: list[tuple[str, int]] = []
        self.logins = 0
        self.renewals = 0
        self.lookups = 0
        self.closed = False
        self.on_login: Callable[[], None] = lambda: None
        self._valid: dict[str, float] = {}
        self._numbers = itertools.count(1)
        self.auth = SimpleNamespace(
            approle=SimpleNamespace(login=self._login),
            token=SimpleNamespace(renew_self=self._renew, lookup_self=self._look_up),
        )
        self.adapter = SimpleNamespace(post=self._post, get=self._get)
        self.wrapped: dict[str, tuple[str, str]] = {}
        self.session = SimpleNamespace(close=self._close)

    def clock(self) -> float:
        return self.now

    def revoke(self) -> None:
        """All tokens there are."""
        self._valid.clear()

    def _login(self, *, role_id: str, secret_id: str, use_token: bool) -> dict[str, Any]:
        self.logins += 1
        if self.auth_failures:
            raise self.auth_failures.pop(0)
        if (role_id, secret_id) != ("role", "secret") or use_token:
            raise InvalidRequest("invalid role or secret ID")
        token = f"token-{next(self._numbers)}"
        self._valid[token] = self._end()
        self.on_login()
        return {"auth": {"client_token": token, "lease_duration": self.lease}}

    def _renew(self) -> dict[str, Any]:
        self.renewals += 1
        if self.auth_failures:
            raise self.auth_failures.pop(0)
        self._authorised()
        self._valid[self.token] = self._end()
        return {"auth": {"client_token": self.token, "lease_duration": self.lease}}

    def _look_up(self) -> dict[str, Any]:
        self.lookups += 1
        if self.auth_failures:
            raise self.auth_failures.pop(0)
        self._authorised()
        return {"data": {}}

    def _wrapping(self, url: str, json: dict[str, Any]) -> Any:
        token = json.get("token", self.token)
        if self.auth_failures:
            raise self.auth_failures.pop(0)
        if token not in self.wrapped:
            raise InvalidRequest("wrapping token is not valid or does not exist")
        if url.endswith("/lookup"):
            return {"data": {"creation_path": self.wrapped[token][0]}}
        return {"data": {"secret_id": self.wrapped.pop(token)[1]}}

    def _post(self, *, url: str, json: dict[str, Any]) -> Any:
        if url.startswith("/v1/sys/wrapping/"):
            return self._wrapping(url, json)
        if self.gate is not None:
            self.at_gate += 1
            self.gate.wait(5)
        if self.failures:
            raise self.failures.pop(0)
        self._authorised()
        if self.answers:
            return self.answers.pop(0)
        operation, key_name = url.removeprefix("/v1/transit/").split("/")
        if key_name not in {"dpj-tenant-banque", "dpj-tenant-autre", "dpj-documents"}:
            if operation == "encrypt":  # it would have to be created, which our policy does not allow
                raise Forbidden("permission denied")
            raise InvalidRequest("encryption key not found", json={"errors": ["encryption key not found"]})
        self.batches.append((operation, len(json["batch_input"])))
        one = self._encrypt if operation == "encrypt" else self._decrypt
        results = [one(item) for item in json["batch_input"]]
        answer = {"data": {"batch_results": results}}
        if all("error" in result for result in results):
            raise InvalidRequest("", json=answer)
        assert json["partial_failure_response_code"] == 200
        return answer

    def _get(self, *, url: str) -> Any:
        """Keys that are read: the answers that were laid ready, or none there."""
        self._authorised()
        if not self.answers:
            raise InvalidPath("no such key")
        return self.answers.pop(0)

    def _encrypt(self, item: dict[str, str]) -> dict[str, Any]:
        if item["context"] == self.poison:
            return {"error": "internal"}
        sealed = base64.b64encode(f"{item['context']}|{item['plaintext']}".encode()).decode()
        return {"ciphertext": f"vault:v3:{sealed}", "key_version": 3}

    def _decrypt(self, item: dict[str, str]) -> dict[str, Any]:
        prefix, version, body = item["ciphertext"].split(":")
        if prefix != "vault":
            return {"error": "invalid ciphertext: no prefix"}
        if version == "v99":
            return {"error": "invalid ciphertext: version is too new"}
        if version == "v1":
            return {"error": "ciphertext or signature version is disallowed by policy (too old)"}
        context, plaintext = base64.b64decode(body).decode().split("|")
        if context != item["context"]:
            return {"error": "cipher: message authentication failed"}
        return {"plaintext": plaintext}

    def _authorised(self) -> None:
        if self._valid.get(self.token, 0) <= self.now:
            raise Forbidden("permission denied")

    def _end(self) -> float:
        return self.now + (self.lease or 10**9)

    def _close(self) -> None:
        self.closed = True


def all_failed_inside(error: str, items: int) -> InternalServerError:
    """Vault's 500 with the items' errors in it."""
    return InternalServerError("", json={"data": {"batch_results": [{"error": error}] * items}})
