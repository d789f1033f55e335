"""Signing key in Vault's transit engine: an ``ed25519`` key that never leaves it.

Vault's policy for our role: ``read`` on ``transit/keys/<key>`` (public halves and versions) and ``update`` on ``transit/sign/<key>``,
nothing more: the key can't be exported, deleted or replaced from here. Every version of it stays known, because its public half
verifies what it signed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Literal

from crypto.vault_session import VaultSession
from domain.checkpoints import SIGNATURE_BYTES, PublicKey, public_key
from domain.errors import KeyringUnavailable

#: Few: they and the keyring's threads share one session's ten connections.
WORKERS: Final = 2
#: Seconds for one call, its wait for a thread included.
DEADLINE: Final = 12.0


class VaultSigner:
    """The Signer port over one transit key, for one event loop. Nothing is called until it is used.

    A rotation in Vault is followed when ``check`` runs, or a process starts.
    """

    def __init__(self, session: VaultSession, key_name: str) -> None:
        self._session = session
        self._key_name = key_name
        self._executor = ThreadPoolExecutor(WORKERS, thread_name_prefix="vault-signer")
        self._versions: Mapping[int, PublicKey] = {}

    async def current(self) -> PublicKey:
        """The key that signs now. Raises KeyringUnavailable."""
        versions = await self._known()
        return versions[max(versions)]

    async def sign(self, message: bytes, key_id: str) -> bytes:
        """64 bytes. Raises KeyringUnavailable, also for a key that Vault does not have."""
        known = await self._known()
        number = next((version for version, key in known.items() if key.id == key_id), None)
        if number is None:
            raise KeyringUnavailable("Vault lacks the signing key that is asked for.", outage=False)
        body = {"input": base64.b64encode(message).decode("ascii"), "key_version": number}
        answer = await self._call("post", f"sign/{self._key_name}", body)
        text = str(answer.get("signature"))
        try:
            signature = base64.b64decode(text.removeprefix(f"vault:v{number}:"), validate=True)
        except (ValueError, binascii.Error):
            signature = b""
        if len(signature) != SIGNATURE_BYTES:
            raise KeyringUnavailable("Vault's answer is not a signature.")
        return signature

    async def public_keys(self) -> Sequence[PublicKey]:
        """Oldest first. Raises KeyringUnavailable."""
        return [key for _, key in sorted((await self._known()).items())]

    async def check(self) -> None:
        """Ask for the key's versions anew. Raises KeyringUnavailable."""
        answer = await self._call("get", f"keys/{self._key_name}")
        try:
            versions = {
                int(number): public_key(base64.b64decode(said["public_key"], validate=True))
                for number, said in answer["keys"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError):
            versions = {}
        if not versions:
            raise KeyringUnavailable("Vault's key is no signing key.", outage=False)
        self._versions = versions

    async def aclose(self) -> None:
        """Take no more calls."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._session.close()

    async def _known(self) -> Mapping[int, PublicKey]:
        if not self._versions:
            await self.check()
        return self._versions

    async def _call(
        self, method: Literal["get", "post"], path: str, body: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        asked = functools.partial(self._session.ask, method, path, body)
        try:
            async with asyncio.timeout(DEADLINE):
                answer = await asyncio.get_running_loop().run_in_executor(self._executor, asked)
        except TimeoutError:
            raise KeyringUnavailable("Vault did not answer in time.") from None
        if not isinstance(answer, Mapping):
            raise KeyringUnavailable("Vault has no such signing key.", outage=False)
        return answer
