"""Keyring over Vault's transit engine.

Data keys come from this machine's random source and are wrapped by transit ``encrypt`` under a *derived* key: transit derives the
wrapping key from its own and our context, so a wrapped key opens for its document only. Context = u16-length-prefixed UTF-8 of
tenant, document id, role. Calls of one moment share a request (``crypto.batching``): one request per upload would bound uploads at
a thousand per second, a batch carries fifteen times that.

Vault's policy for our role: ``update`` on ``transit/encrypt/<key>`` and ``transit/decrypt/<key>``, nothing more; with ``create`` a
mistyped key name would make a new key.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final, Literal
from uuid import UUID

from crypto.batching import Batcher, BatchLimits
from crypto.encoding import length_prefixed
from crypto.vault_session import VaultSession
from domain.errors import DPJError, KeyringUnavailable, WrongKey
from domain.keys import DATA_KEY_BYTES, DataKey, EncryptionContext, WrappedKey

SCHEME = "vault-transit"
WRAP_PACE = 0.05

# What transit says of a ciphertext that is not (or no longer) the one that was made for this context. Anything else is no verdict
# on the document: a key version that is archived or not restored yet comes back, and so the document must wait.
_REFUSALS = ("message authentication failed", "invalid ciphertext")
_VERSION_AWAY = "version is too new"

_NOBODY: Final = EncryptionContext("readiness-check", UUID(int=0))

_Request = Mapping[str, str]
_Answer = Mapping[str, Any]


class VaultTransitKeyring:
    """The Keyring port over one transit key, for one event loop. Nothing is called until it is used."""

    def __init__(self, session: VaultSession, key_name: str, limits: BatchLimits | None = None) -> None:
        limits = limits or BatchLimits()
        self._session = session
        self._key_name = key_name
        self._executor = ThreadPoolExecutor(2 * limits.calls, thread_name_prefix="vault")
        # A call costs Vault as much as fifty keys in one call: under load a key waits that long for company, at most.
        self._encrypting: Batcher[_Request, _Answer] = Batcher(self._encrypt, replace(limits, pace=WRAP_PACE))
        self._decrypting: Batcher[_Request, _Answer] = Batcher(self._decrypt, limits)

    async def new_data_key(self, context: EncryptionContext) -> tuple[DataKey, WrappedKey]:
        """A random data key, and it wrapped for ``context``. Raises KeyringUnavailable."""
        key = DataKey(os.urandom(DATA_KEY_BYTES))
        answer = await self._encrypting.submit({"plaintext": _base64(key.secret), "context": _context(context)})
        return key, self._wrapped(answer)

    async def unwrap(self, wrapped: WrappedKey, context: EncryptionContext) -> DataKey:
        """Raises WrongKey (altered, or of another context), or KeyringUnavailable: away, or it lacks the key that is named."""
        if (wrapped.scheme, wrapped.key_name) != (SCHEME, self._key_name):
            raise KeyringUnavailable("The key was wrapped under a key that this keyring does not have.", outage=False)
        answer = await self._decrypting.submit({"ciphertext": wrapped.ciphertext, "context": _context(context)})
        try:
            return DataKey(base64.b64decode(str(answer.get("plaintext")), validate=True))
        except ValueError:
            raise WrongKey("What was wrapped is not a data key.") from None

    async def check(self) -> None:
        """Raises KeyringUnavailable unless Vault wraps a key now."""
        await self.new_data_key(_NOBODY)

    async def aclose(self) -> None:
        """Take no more calls; those that wait fail with KeyringUnavailable."""
        await self._encrypting.aclose()
        await self._decrypting.aclose()
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._session.close()

    async def _encrypt(self, batch: list[_Request]) -> Sequence[_Answer | DPJError]:
        return [KeyringUnavailable() if a.get("error") else a for a in await self._call("encrypt", batch)]

    async def _decrypt(self, batch: list[_Request]) -> Sequence[_Answer | DPJError]:
        return [_refusal(str(a["error"])) if a.get("error") else a for a in await self._call("decrypt", batch)]

    async def _call(self, operation: Literal["encrypt", "decrypt"], batch: list[_Request]) -> list[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._session.transit, operation, self._key_name, batch)

    def _wrapped(self, answer: _Answer) -> WrappedKey:
        ciphertext = str(answer.get("ciphertext"))
        version = ciphertext.removeprefix("vault:v").partition(":")[0]
        if not ciphertext.startswith("vault:v") or not version.isdecimal():
            raise KeyringUnavailable("The keyring's answer is not a wrapped key.")
        return WrappedKey(SCHEME, self._key_name, int(version), ciphertext)


def _refusal(error: str) -> DPJError:
    if _VERSION_AWAY not in error and any(known in error for known in _REFUSALS):
        return WrongKey("The wrapped key does not open for this document.")
    return KeyringUnavailable("The keyring can't open this key now.", outage=False)


def _context(context: EncryptionContext) -> str:
    return _base64(length_prefixed(*context.fields()))


def _base64(raw: bytes | bytearray) -> str:
    return base64.b64encode(raw).decode("ascii")
