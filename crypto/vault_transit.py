"""Keyring over Vault's transit engine, with a transit key per tenant.

Data keys come from this machine's random source and are wrapped by transit ``encrypt`` under a *derived* key: transit derives the
wrapping key from its own and our context, so a wrapped key opens for its document only. Context = u16-length-prefixed UTF-8 of
tenant, document id, role. Calls of one moment for one tenant share a request (``domain.shared.micro_batcher``): one request per upload would
bound uploads at a thousand per second, a batch carries fifteen times that.

A tenant's key is called ``prefix + tenant``. Our policy (``deploy/vault/dpj-policy.hcl``) has no ``create``: a tenant's name that
was mistyped, or that nobody has created a key for, makes no key but gets TenantKeyMissing. What the single key wrapped, which
sites had before, is still opened.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final, Literal
from uuid import UUID

import structlog

from crypto.encoding import length_prefixed
from crypto.vault_session import KeyRefused, VaultSession
from domain.errors import DPJError, KeyringUnavailable, TenantKeyMissing, WrongKey
from domain.keys import DATA_KEY_BYTES, DataKey, EncryptionContext, WrappedKey, is_tenant
from domain.shared.micro_batcher import BatcherClosed, BatchItem, BatchPolicy, DeadlineExceeded, MicroBatcher, QueueFull

SCHEME = "vault-transit"
WRAP_PACE = 0.05
#: Threads that speak to Vault: tenants' calls go side by side, and one slow answer holds up none of the others.
THREADS = 8
#: A tenant without a key is asked for again after so long.
MISSING_SECONDS = 2.0

# What transit says of a ciphertext that is not (or no longer) the one that was made for this context. Anything else is no verdict
# on the document: a key version that is archived or not restored yet comes back, and so the document must wait.
_REFUSALS = ("message authentication failed", "invalid ciphertext")
_VERSION_AWAY = "version is too new"

#: Two calls at once, so that one that Vault is slow with does not hold up all others.
CALLS: Final = BatchPolicy(size=256, calls=2, waiting=4096, window=0.002, deadline=10.0)

_Request = Mapping[str, str]
_Answer = Mapping[str, Any]
_Operation = Literal["encrypt", "decrypt"]

log = structlog.get_logger()


class VaultTransitKeyring:
    """The Keyring port over transit keys ``prefix + tenant`` and the ``single`` one, for one event loop. Nothing is called until
    it is used."""

    def __init__(
        self,
        session: VaultSession,
        prefix: str,
        single: str = "",
        policy: BatchPolicy = CALLS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._prefix = prefix
        self._single = single
        self._policy: Final = policy
        self._clock = clock
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="vault")
        self._batchers: dict[tuple[_Operation, str], MicroBatcher[_Request, _Answer]] = {}
        self._missing: dict[str, float] = {}
        self._last: EncryptionContext | None = None
        self._closed = False

    async def new_data_key(self, context: EncryptionContext) -> tuple[DataKey, WrappedKey]:
        """A random data key, and it wrapped for ``context``. Raises TenantKeyMissing or KeyringUnavailable."""
        name = self._prefix + context.tenant
        if not is_tenant(context.tenant) or self._missing.get(name, 0.0) > self._clock():
            raise TenantKeyMissing("Nobody has created a key for this tenant.")
        key = DataKey(os.urandom(DATA_KEY_BYTES))
        try:
            request = {"plaintext": to_base64(key.secret), "context": derivation_context(context)}
            wrapped = wrapped_key(name, await self._batcher("encrypt", name).submit(request))
        except BaseException as error:
            key.wipe()
            if isinstance(error, KeyRefused):
                raise self._tenant_has_none(name, context.tenant) from None
            raise
        self._missing.pop(name, None)
        self._last = EncryptionContext(context.tenant, UUID(int=0), "readiness-check")
        return key, wrapped

    async def unwrap(self, wrapped: WrappedKey, context: EncryptionContext) -> DataKey:
        """Raises WrongKey (altered, or of another context), or KeyringUnavailable: away, or it lacks the key that is named."""
        if wrapped.scheme != SCHEME or not self._is_ours(wrapped.key_name):
            raise KeyringUnavailable("The key was wrapped under a key that this keyring does not have.", outage=False)
        request = {"ciphertext": wrapped.ciphertext, "context": derivation_context(context)}
        return data_key(await self._batcher("decrypt", wrapped.key_name).submit(request))

    async def check(self) -> None:
        """Raises KeyringUnavailable unless Vault knows us now, and wraps for the tenant who was served last."""
        if self._closed:
            raise KeyringUnavailable("The keyring is closed.")
        await asyncio.get_running_loop().run_in_executor(self._executor, self._session.check)
        if self._last is not None:
            try:
                key, _ = await self.new_data_key(self._last)
                key.wipe()
            except TenantKeyMissing:
                self._last = None  # deleted meanwhile: that tenant's trouble

    async def aclose(self) -> None:
        """Take no more calls; those that wait fail with KeyringUnavailable."""
        self._closed = True
        for batcher in self._batchers.values():
            await batcher.aclose()
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._session.close()

    def _is_ours(self, name: str) -> bool:
        if name == self._single:
            return name != ""
        return name.startswith(self._prefix) and is_tenant(name.removeprefix(self._prefix))

    def _tenant_has_none(self, name: str, tenant: str) -> TenantKeyMissing:
        log.error("tenant_key_missing", tenant=tenant)
        self._missing = {known: until for known, until in self._missing.items() if until > self._clock()}
        self._missing[name] = self._clock() + MISSING_SECONDS
        return TenantKeyMissing("Nobody has created a key for this tenant.")

    def _batcher(self, operation: _Operation, name: str) -> MicroBatcher[_Request, _Answer]:
        found = self._batchers.get((operation, name))
        if self._closed:
            raise KeyringUnavailable("The keyring is closed.")
        if found is None:
            # A call costs Vault as much as fifty keys in one call: under load a key waits that long for others, at most.
            policy = replace(self._policy, pace=WRAP_PACE) if operation == "encrypt" else self._policy

            async def send(batch: Sequence[BatchItem[_Request, _Answer]]) -> None:
                loop, requests = asyncio.get_running_loop(), [waiting.item for waiting in batch]
                answers = await loop.run_in_executor(self._executor, self._session.transit, operation, name, requests)
                for waiting, answer in zip(batch, answers, strict=True):
                    if answer.get("error"):
                        waiting.fail(_failed(operation, answer))
                    else:
                        waiting.answer(answer)

            found = self._batchers[operation, name] = MicroBatcher(send, policy, _unanswered)
        return found


def wrapped_key(name: str, answer: _Answer) -> WrappedKey:
    """The wrapped key in an item of transit's answer. Raises KeyringUnavailable if it is none."""
    ciphertext = str(answer.get("ciphertext"))
    version = ciphertext.removeprefix("vault:v").partition(":")[0]
    if not ciphertext.startswith("vault:v") or not version.isdecimal():
        raise KeyringUnavailable("The keyring's answer is not a wrapped key.")
    return WrappedKey(SCHEME, name, int(version), ciphertext)


def data_key(answer: _Answer) -> DataKey:
    """The data key in an item of transit's answer. Raises WrongKey if it is none."""
    try:
        return DataKey(base64.b64decode(str(answer.get("plaintext")), validate=True))
    except ValueError:
        raise WrongKey("What was wrapped is not a data key.") from None


def refusal(error: str) -> DPJError:
    """What transit's words on one ciphertext mean."""
    if _VERSION_AWAY not in error and any(known in error for known in _REFUSALS):
        return WrongKey("The wrapped key does not open for this document.")
    return KeyringUnavailable("The keyring can't open this key now.", outage=False)


def derivation_context(context: EncryptionContext) -> str:
    """The context as transit takes it."""
    return to_base64(length_prefixed(*context.fields()))


def to_base64(raw: bytes | bytearray) -> str:
    return base64.b64encode(raw).decode("ascii")


def _unanswered(ended: QueueFull | DeadlineExceeded | BatcherClosed) -> KeyringUnavailable:
    if isinstance(ended, QueueFull):
        return KeyringUnavailable("Too many calls wait for the keyring.", outage=False)
    if isinstance(ended, DeadlineExceeded):
        return KeyringUnavailable("The keyring did not answer in time.")
    return KeyringUnavailable("The keyring is closed.")


def _failed(operation: _Operation, answer: _Answer) -> DPJError:
    return KeyringUnavailable() if operation == "encrypt" else refusal(str(answer["error"]))
