"""A keyring that vouches for itself: what it can't open is a document's damage only while it opens what it made here before.

Someone may delete Vault's transit key and make a new one of the same name, or point a site at another Vault. Then no document opens,
and none of them is damaged: they must wait. So a data key that belongs to no document, the canary, is kept wrapped by each version
of the key-encryption key, from that version's first use on.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol
from uuid import UUID

from domain.errors import DatabaseUnavailable, KeyringUnavailable, WrongKey
from domain.keys import DataKey, EncryptionContext, WrappedKey
from processors.ports import Keyring

CANARY: Final = EncryptionContext("keyring-canary", UUID(int=0), "canary")


class Canaries(Protocol):
    """One wrapped key by scheme, name and version of what wrapped it. Raises DatabaseUnavailable."""

    async def find(self, wrapped: WrappedKey) -> WrappedKey | None:
        """The canary of the version that made ``wrapped``."""
        ...

    async def keep(self, canary: WrappedKey) -> WrappedKey:
        """The canary that is kept for this version: this one, if there was none."""
        ...


class VouchedKeyring:
    """See ``processors.ports.Keyring``; raises DatabaseUnavailable too."""

    def __init__(self, keyring: Keyring, canaries: Canaries) -> None:
        self._keyring = keyring
        self._canaries = canaries
        self._vouched: set[tuple[str, str, int]] = set()
        self._vouching = asyncio.Lock()

    async def new_data_key(self, context: EncryptionContext) -> tuple[DataKey, WrappedKey]:
        """Raises KeyringUnavailable also where the key's version is not the one that was used here before."""
        key, wrapped = await self._keyring.new_data_key(context)
        if _version(wrapped) not in self._vouched:
            async with self._vouching:
                if _version(wrapped) not in self._vouched:
                    await self._vouch()
        return key, wrapped

    async def unwrap(self, wrapped: WrappedKey, context: EncryptionContext) -> DataKey:
        """Raises WrongKey only if the keyring can vouch for itself, or was never asked to make a canary of that version."""
        try:
            return await self._keyring.unwrap(wrapped, context)
        except WrongKey:
            canary = await self._canaries.find(wrapped)
            if canary is not None:
                await self._open(canary)
            raise

    async def check(self) -> None:
        """Raises KeyringUnavailable if the keyring can't serve now, or can't vouch for itself any more."""
        await self._keyring.check()
        try:
            await self._vouch()
        except DatabaseUnavailable:
            return  # no answer is not a wrong one; the database has a check of its own
        except KeyringUnavailable:
            self._vouched.clear()
            raise

    async def _vouch(self) -> None:
        """For the version that wraps now."""
        _, made = await self._keyring.new_data_key(CANARY)
        canary = await self._canaries.find(made) or await self._canaries.keep(made)
        await self._open(canary)
        self._vouched.add(_version(canary))

    async def _open(self, canary: WrappedKey) -> None:
        try:
            await self._keyring.unwrap(canary, CANARY)
        except WrongKey:
            text = "The keyring's key is not the one that wrapped this site's documents; restore it."
            raise KeyringUnavailable(text, outage=False) from None


def _version(wrapped: WrappedKey) -> tuple[str, str, int]:
    return wrapped.scheme, wrapped.key_name, wrapped.key_version
