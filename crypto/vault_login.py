"""How a process proves to Vault who it is: AppRole's role id and secret id, the latter given plainly or response-wrapped.

A wrapped secret id is a token of one use in a file: this process unwraps it once, at its start, and keeps the secret id in memory.
Where the token is used up already, somebody else may have what was meant for us: that is an alarm, not an outage. So is a
token that wraps something else than a secret id: somebody may have taken ours and put his own in its place.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import structlog
from hvac.exceptions import Forbidden, InvalidRequest

from crypto.key_files import read_key_file, refused
from domain.errors import KeyringLoginRefused

_SECRET_ID_PATH = re.compile(r"auth/[^/]+/role/[^/]+/secret-id")

log = structlog.get_logger()


class WrappedSecretId:
    """A secret id behind the wrapping token in a file (mode 0600, the token on one line)."""

    def __init__(self, token_file: Path) -> None:
        self._token_file = token_file
        self._secret_id: str | None = None
        self._refusal = ""

    def take(self, client: Any) -> str:
        """The secret id, unwrapped at the first call. ``client`` is an ``hvac.Client``, whose token is not kept.

        Raises KeyringLoginRefused for good where there is nothing to unwrap (any more), KeyringUnavailable if the file can't be
        read, or what hvac raises while Vault is away: then nothing was used up.
        """
        if self._refusal:
            raise KeyringLoginRefused(self._refusal)
        if self._secret_id is None:
            self._secret_id = self._unwrapped(client)
        return self._secret_id

    def _unwrapped(self, client: Any) -> str:
        token = read_key_file(self._token_file).decode("ascii", "replace").strip()
        client.token = ""
        try:
            made_at = client.adapter.post(url="/v1/sys/wrapping/lookup", json={"token": token})["data"]["creation_path"]
            if not _SECRET_ID_PATH.fullmatch(str(made_at)):
                raise self._refused("not_a_secret_id")
            client.token = token
            return str(client.adapter.post(url="/v1/sys/wrapping/unwrap", json={})["data"]["secret_id"])
        except (InvalidRequest, Forbidden):
            raise self._refused("used_or_expired") from None
        finally:
            client.token = ""

    def _refused(self, reason: str) -> KeyringLoginRefused:
        log.error(
            "vault_wrapping_token_refused",
            reason=reason,
            advice="If no earlier start of this process used it, somebody else did: revoke the secret id, then issue another.",
        )
        self._refusal = "The wrapping token was used before, is too old, or wraps something else."
        return KeyringLoginRefused(self._refusal)


def read_role_file(path: Path) -> tuple[str, str]:
    """Role id and secret id of a JSON file ``{"role_id": ..., "secret_id": ...}``, mode 0600. Raises KeyringUnavailable."""
    content = read_key_file(path)
    try:
        found = json.loads(content)
        role_id, secret_id = found["role_id"], found["secret_id"]
    except (ValueError, KeyError, TypeError):
        raise refused(path, "malformed") from None
    if not isinstance(role_id, str) or not isinstance(secret_id, str):
        raise refused(path, "malformed")
    return role_id, secret_id
