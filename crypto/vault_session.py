"""A login to Vault that keeps itself alive, and transit's batch calls. Blocking: for worker threads.

AppRole: role id and secret id give a token with a lease. The token is renewed once two thirds of the lease are over, at the next
call; where it can't be renewed, or Vault answers 403 (revoked, expired, Vault restored), we log in again, once per call.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import hvac
import structlog
from hvac.exceptions import Forbidden, VaultError

from domain.errors import KeyringUnavailable

RENEW_AFTER = 2 / 3  # of the lease

log = structlog.get_logger()


class VaultSession:
    """``client`` is an ``hvac.Client`` with timeouts and without a token. Safe to use from several threads."""

    def __init__(
        self,
        client: Any,
        role_id: str,
        secret_id: str,
        *,
        mount: str = "transit",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._role_id = role_id
        self._secret_id = secret_id
        self._mount = mount
        self._clock = clock
        self._lock = Lock()
        self._logins = 0
        self._renew_at = -math.inf
        self._expires_at = -math.inf

    @classmethod
    def connect(
        cls,
        address: str,
        role_id: str,
        secret_id: str,
        *,
        mount: str = "transit",
        ca_file: Path | None = None,
        timeout: float = 5.0,
    ) -> VaultSession:
        """To the Vault at ``address`` (URL), with ``timeout`` seconds to connect and as many to answer. Calls nothing yet."""
        client = hvac.Client(
            url=address, token="", verify=str(ca_file) if ca_file else True, timeout=(timeout, timeout), namespace=""
        )
        client.session.trust_env = False
        return cls(client, role_id, secret_id, mount=mount)

    def transit(
        self, operation: Literal["encrypt", "decrypt"], key_name: str, batch: Sequence[Mapping[str, str]]
    ) -> list[dict[str, Any]]:
        """``batch_results`` of a transit call, one per item and in its order; an item that failed has an ``error``.

        Raises KeyringUnavailable: Vault is away or sealed, refuses us or this key, or answers something else.
        """
        try:
            results = self._called(lambda: self._post(operation, key_name, batch))["data"]["batch_results"]
            if len(results) == len(batch):
                return list(results)
            log.warning("vault_call_failed", error="answer_incomplete")
        except (KeyError, TypeError):
            log.warning("vault_call_failed", error="answer_malformed")
        raise KeyringUnavailable

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """``data`` of transit's answer: read from ``path`` below its mount, or with a ``body`` sent there.

        Raises KeyringUnavailable as ``transit`` does.
        """
        url = f"/v1/{self._mount}/{path}"
        adapter = self._client.adapter
        answer = self._called(lambda: adapter.get(url=url) if body is None else adapter.post(url=url, json=dict(body)))
        try:
            return dict(answer["data"])
        except (KeyError, TypeError, ValueError):
            log.warning("vault_call_failed", error="answer_malformed")
            raise KeyringUnavailable from None

    def _called(self, call: Callable[[], Any]) -> Any:
        """The call's answer, logged in anew once where Vault refuses us."""
        try:
            login = self._ready()
            try:
                return call()
            except Forbidden:
                self._log_in(after=login)
                return call()
        except (VaultError, OSError) as error:  # the errors of requests are OSErrors
            log.warning("vault_call_failed", error=type(error).__name__)
        except (KeyError, TypeError):
            log.warning("vault_call_failed", error="answer_malformed")
        raise KeyringUnavailable

    def close(self) -> None:
        """Give the connections back. The token ends with its lease."""
        self._client.session.close()

    def _post(self, operation: str, key_name: str, batch: Sequence[Mapping[str, str]]) -> Any:
        try:
            # Not hvac's encrypt_data, which has no way to ask that a batch with one bad item be answered with a 200.
            return self._client.adapter.post(
                url=f"/v1/{self._mount}/{operation}/{key_name}",
                json={"batch_input": list(batch), "partial_failure_response_code": 200},
            )
        except VaultError as error:
            # When every item fails the answer is a 400 all the same, with the items' errors in it.
            if isinstance(error.json, dict) and "batch_results" in (error.json.get("data") or {}):
                return error.json
            raise

    def _ready(self) -> int:
        """Be logged in, with time left. The number of the login that holds."""
        with self._lock:
            now = self._clock()
            if now >= self._expires_at:
                self._authenticate()
            elif now >= self._renew_at:
                self._renew()
            return self._logins

    def _log_in(self, *, after: int) -> None:
        """Log in anew, unless another thread has done so since login number ``after``."""
        with self._lock:
            if self._logins == after:
                self._authenticate()

    def _renew(self) -> None:
        try:
            self._hold(self._client.auth.token.renew_self())
        except VaultError as error:
            log.info("vault_token_not_renewed", error=type(error).__name__)
            self._authenticate()

    def _authenticate(self) -> None:
        self._expires_at = -math.inf
        answer = self._client.auth.approle.login(role_id=self._role_id, secret_id=self._secret_id, use_token=False)
        self._client.token = answer["auth"]["client_token"]
        self._hold(answer)
        self._logins += 1

    def _hold(self, answer: Any) -> None:
        lease = answer["auth"]["lease_duration"] or math.inf  # 0: it never ends
        now = self._clock()
        self._renew_at, self._expires_at = now + lease * RENEW_AFTER, now + lease
