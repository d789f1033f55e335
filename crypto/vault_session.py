"""A login to Vault that keeps itself alive, and calls with it. Blocking: for worker threads.

AppRole: role id and secret id give a token with a lease. The token is renewed once two thirds of the lease are over, at the next
call; where it can't be renewed, or Vault does not know it any more (revoked, expired, Vault restored), we log in again, once per
call. A 403 that a good token gets is about the path: there is no such key, or our policy does not allow it.
"""

from __future__ import annotations

import math
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, Literal

import hvac
import structlog
from hvac.exceptions import Forbidden, InvalidRequest, VaultError
from requests.adapters import HTTPAdapter

from crypto.vault_login import WrappedSecretId
from domain.errors import KeyringUnavailable

RENEW_AFTER = 2 / 3  # of the lease

log = structlog.get_logger()


class KeyRefused(KeyringUnavailable):
    """Vault serves, but not this path: there is no such key, or our policy does not allow what was asked."""

    def __init__(self, detail: str = "", *, outage: bool = False) -> None:
        super().__init__(detail or "The keyring has no such key for us.", outage=outage)


class _TlsContextAdapter(HTTPAdapter):
    """HTTPS under a context of ours; requests knows files of authorities alone, and would add its own to the context's."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        super().__init__()

    def init_poolmanager(self, *sizes: Any, **options: Any) -> None:
        super().init_poolmanager(*sizes, **options, ssl_context=self._tls)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """The context says it all."""


class VaultSession:
    """``client`` is an ``hvac.Client`` with timeouts and without a token. Safe to use from several threads."""

    def __init__(
        self,
        client: Any,
        role_id: str,
        secret_id: str | WrappedSecretId,
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
        secret_id: str | WrappedSecretId,
        *,
        mount: str = "transit",
        tls: ssl.SSLContext | None = None,
        timeout: float = 5.0,
    ) -> VaultSession:
        """To the Vault at ``address`` (URL), with ``timeout`` seconds to connect and as many to answer; ``tls`` says whom to trust,
        if not the usual authorities. Calls nothing yet."""
        client = hvac.Client(url=address, token="", verify=True, timeout=(timeout, timeout), namespace="")
        client.session.trust_env = False
        if tls is not None:
            client.session.mount("https://", _TlsContextAdapter(tls))
        return cls(client, role_id, secret_id, mount=mount)

    def transit(
        self, operation: Literal["encrypt", "decrypt", "rewrap"], key_name: str, batch: Sequence[Mapping[str, str]]
    ) -> list[dict[str, Any]]:
        """``batch_results`` of a transit call, one per item and in its order; an item that failed has an ``error``.

        Raises KeyringUnavailable (Vault is away or sealed, refuses us, or answers something else), as KeyRefused where it is the
        key that we can't have.
        """
        # Not hvac's encrypt_data, which has no way to ask that a batch with one bad item be answered with a 200.
        body = {"batch_input": list(batch), "partial_failure_response_code": 200}

        def post() -> Any:
            try:
                return self._client.adapter.post(url=f"/v1/{self._mount}/{operation}/{key_name}", json=body)
            except VaultError as error:
                # When every item fails the answer is a 400 all the same, with the items' errors in it.
                if isinstance(error.json, dict) and "batch_results" in (error.json.get("data") or {}):
                    return error.json
                raise

        def results() -> list[dict[str, Any]]:
            found = self._with_login(post)["data"]["batch_results"]
            if len(found) != len(batch):
                raise KeyError("batch_results")
            return list(found)

        found: list[dict[str, Any]] = self._translated(results)
        return found

    def ask(self, method: Literal["get", "post", "list"], path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The ``data`` of a call below the mount: ``path`` is ``keys/name/rotate``, ``sign/name`` and the like.

        None if Vault knows no such thing. Raises as ``transit``.
        """

        def call() -> Any:
            url = f"/v1/{self._mount}/{path}"
            try:
                return getattr(self._client.adapter, method)(url=url, **({} if body is None else {"json": dict(body)}))
            except hvac.exceptions.InvalidPath:
                return None

        def data() -> Any:
            answer = self._with_login(call)
            return answer.get("data") if isinstance(answer, dict) else answer

        return self._translated(data)

    def check(self) -> None:
        """Raises KeyringUnavailable unless Vault serves and we are logged in. Logs in if need be."""
        self._translated(lambda: self._with_login(self._client.auth.token.lookup_self))

    def close(self) -> None:
        """Give the connections back. The token ends with its lease."""
        self._client.session.close()

    def _translated(self, call: Callable[[], Any]) -> Any:
        """What ``call`` gives; vendor errors become ours."""
        try:
            return call()
        except KeyringUnavailable as error:
            log.warning("vault_call_failed", error=type(error).__name__)
            raise
        except InvalidRequest:
            raise KeyRefused from None
        except (VaultError, OSError) as error:  # the errors of requests are OSErrors
            log.warning("vault_call_failed", error=type(error).__name__)
            raise KeyringUnavailable from None
        except (KeyError, TypeError):
            log.warning("vault_call_failed", error="answer_malformed")
            raise KeyringUnavailable from None

    def _with_login(self, call: Callable[[], Any]) -> Any:
        """``call`` with a token that Vault knows. Raises KeyRefused if it is not the token that is refused."""
        login = self._ensure_login()
        try:
            return call()
        except Forbidden:
            if self._token_is_valid():
                raise KeyRefused from None
        self._log_in(after=login)
        try:
            return call()
        except Forbidden:
            if self._token_is_valid():
                raise KeyRefused from None
            raise

    def _token_is_valid(self) -> bool:
        try:
            self._client.auth.token.lookup_self()
        except Forbidden:
            return False
        return True

    def _ensure_login(self) -> int:
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
            self._keep_lease(self._client.auth.token.renew_self())
        except VaultError as error:
            log.info("vault_token_not_renewed", error=type(error).__name__)
            self._authenticate()

    def _authenticate(self) -> None:
        self._expires_at = -math.inf
        given = self._secret_id
        secret_id = given if isinstance(given, str) else given.take(self._client)
        try:
            answer = self._client.auth.approle.login(role_id=self._role_id, secret_id=secret_id, use_token=False)
        except InvalidRequest:
            # Not a key's fault: role or secret id are not (or no longer) good.
            raise KeyringUnavailable("The keyring does not let this process in.") from None
        self._client.token = answer["auth"]["client_token"]
        self._keep_lease(answer)
        self._logins += 1

    def _keep_lease(self, answer: Any) -> None:
        lease = answer["auth"]["lease_duration"] or math.inf  # 0: it never ends
        now = self._clock()
        self._renew_at, self._expires_at = now + lease * RENEW_AFTER, now + lease
