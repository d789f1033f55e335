"""A keyring checked with canaries: what it can't open is a document's damage only while it opens keys that it wrapped before.

Someone may delete Vault's transit key and make a new one of the same name, or point a site at another Vault. Then no document opens,
and none of them is damaged: they must wait. So a data key that belongs to no document, the canary, is kept wrapped by each version
of each tenant's key, from that version's first use on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from domain.errors import DatabaseUnavailable, KeyringUnavailable, WrongKey
from domain.key_encryption_keys import Canary, canary_context
from domain.keys import DataKey, EncryptionContext, WrappedKey
from processors.ports.content import Keyring

#: Canaries that a check tries to open, chosen anew each time.
CANARIES_PER_CHECK: Final = 8

log = structlog.get_logger()


class Canaries(Protocol):
    """One wrapped key by scheme, name and version of what wrapped it. Raises DatabaseUnavailable."""

    async def find(self, wrapped: WrappedKey) -> Canary | None:
        """The canary of the version that made ``wrapped``, else that of its key's newest version that has one."""
        ...

    async def put_if_absent(self, canary: Canary) -> Canary:
        """The canary that is kept for this version: this one, if there was none."""
        ...

    async def sample(self, limit: int) -> Sequence[Canary]:
        """At most so many, each of another key's newest version; not always the same ones."""
        ...


class CanaryCheckedKeyring:
    """See ``processors.ports.content.Keyring``; raises DatabaseUnavailable too."""

    def __init__(self, keyring: Keyring, canaries: Canaries) -> None:
        self._keyring = keyring
        self._canaries = canaries
        self._checked_versions: set[tuple[str, str, int]] = set()
        self._canary_lock = asyncio.Lock()

    async def new_data_key(self, context: EncryptionContext) -> tuple[DataKey, WrappedKey]:
        """Raises KeyringUnavailable also where the key's version is not the one that was used here before."""
        key, wrapped = await self._keyring.new_data_key(context)
        if _version(wrapped) not in self._checked_versions:
            try:
                async with self._canary_lock:
                    if _version(wrapped) not in self._checked_versions:
                        await self._check_canary(context.tenant)
            except BaseException:
                key.wipe()
                raise
        return key, wrapped

    async def unwrap(self, wrapped: WrappedKey, context: EncryptionContext) -> DataKey:
        """Raises WrongKey only if the canary of that key opens, or there is none."""
        try:
            return await self._keyring.unwrap(wrapped, context)
        except WrongKey:
            canary = await self._canaries.find(wrapped)
            if canary is not None:
                await self._open(canary)
            raise

    async def check(self) -> None:
        """Raises KeyringUnavailable if the keyring can't serve now, or no longer opens its canaries.

        One tenant's key that is not the right one is that tenant's trouble, unless no other one is right either.
        """
        await self._keyring.check()
        try:
            canaries = await self._canaries.sample(CANARIES_PER_CHECK)
        except DatabaseUnavailable:
            return  # no answer is not a wrong one; the database has a check of its own
        wrong: KeyringUnavailable | None = None
        opened = 0
        for canary in canaries:
            try:
                await self._open(canary)
                opened += 1
            except _CanaryRefused as error:
                wrong = error
            except KeyringUnavailable as error:
                if error.outage:
                    raise
                # Of another keyring, or not restored yet: it says nothing of the keys that are here.
        if wrong is not None and not opened:
            raise wrong

    async def _check_canary(self, tenant: str) -> None:
        """For the version of the tenant's key that wraps now, and its key's earlier ones."""
        secret, made = await self._keyring.new_data_key(canary_context(tenant))
        secret.wipe()
        canary = await self._canaries.find(made)
        if canary is not None:
            await self._open(canary)
        if canary is None or _version(canary.wrapped) != _version(made):
            canary = await self._canaries.put_if_absent(Canary(tenant, made))
            await self._open(canary)
        self._checked_versions.add(_version(made))

    async def _open(self, canary: Canary) -> None:
        try:
            key = await self._keyring.unwrap(canary.wrapped, canary.context)
        except WrongKey:
            name = canary.wrapped.key_name
            self._checked_versions = {version for version in self._checked_versions if version[1] != name}
            log.error("keyring_canary_refused", key=name)
            raise _CanaryRefused(
                "The keyring's key is not the one that wrapped this site's documents; restore it."
            ) from None
        key.wipe()


class _CanaryRefused(KeyringUnavailable):
    """A canary does not open: someone has put another key under an old name."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, outage=False)


def _version(wrapped: WrappedKey) -> tuple[str, str, int]:
    return wrapped.scheme, wrapped.key_name, wrapped.key_version
