"""What an operator does about the keys of a local keyring. The file is its own authority: whoever may write it may do all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from crypto import local_key_file
from crypto.local_key_file import Key, KeyFile
from crypto.local_keyring import SCHEME, unwrap, wrap
from domain.errors import DPJError, KeyringUnavailable, TenantKeyMissing
from domain.key_encryption_keys import KeyState
from domain.keys import EncryptionContext, WrappedKey


class LocalTenantKeys:
    """The TenantKeys port over a key file. Raises KeyringUnavailable."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def states(self, tenant: str | None = None) -> Sequence[KeyState]:
        keys = await asyncio.to_thread(local_key_file.read, self._path)
        try:
            found = [_state(held, name, key) for held, name, key in _all(keys) if tenant in {None, held}]
        finally:
            keys.wipe()
        return found

    async def create(self, tenant: str) -> bool:
        def act(keys: KeyFile) -> bool:
            if tenant in keys.tenants:
                return False
            keys.tenants[tenant] = key = Key(0, {})
            key.add_version(datetime.now(UTC))
            return True

        return await self._change(act)

    async def rotate(self, tenant: str) -> None:
        await self._change(lambda keys: _of(keys, tenant).add_version(datetime.now(UTC)))

    async def raise_floor(self, tenant: str, version: int) -> None:
        def act(keys: KeyFile) -> None:
            key = _of(keys, tenant)
            if not key.floor <= version <= key.current:
                raise KeyringUnavailable("The key has no such version.", outage=False)
            key.floor = version

        await self._change(act)

    async def rewrap(
        self, tenant: str, keys: Sequence[tuple[WrappedKey, EncryptionContext]]
    ) -> Sequence[WrappedKey | DPJError]:
        held = await asyncio.to_thread(local_key_file.read, self._path)
        try:
            return [_rewrapped(held, tenant, *key) for key in keys]
        finally:
            held.wipe()

    async def aclose(self) -> None:
        """Nothing is held."""

    async def _change(self, act: Callable[[KeyFile], bool | None]) -> bool:
        def change() -> bool:
            with local_key_file.changing(self._path) as keys:
                return bool(act(keys))

        return await asyncio.to_thread(change)


def _rewrapped(keys: KeyFile, tenant: str, wrapped: WrappedKey, context: EncryptionContext) -> WrappedKey | DPJError:
    if context.tenant != tenant:
        return KeyringUnavailable("The key is another tenant's.", outage=False)
    try:
        with unwrap(keys, wrapped, context) as key:
            made = wrap(keys, key, context)
            with unwrap(keys, made, context) as again:
                if again != key:
                    return KeyringUnavailable("What was wrapped anew is not the same key.", outage=False)
            return made
    except DPJError as error:
        return error


def _all(keys: KeyFile) -> list[tuple[str | None, str, Key]]:
    single: list[tuple[str | None, str, Key]] = [] if keys.single is None else [(None, keys.name, keys.single)]
    return [*single, *((tenant, keys.name_of(tenant), key) for tenant, key in sorted(keys.tenants.items()))]


def _of(keys: KeyFile, tenant: str) -> Key:
    if tenant not in keys.tenants:
        raise TenantKeyMissing("Nobody has created a key for this tenant.")
    return keys.tenants[tenant]


def _state(tenant: str | None, name: str, key: Key) -> KeyState:
    made = {
        version: datetime.fromisoformat(key.made[version]) if version in key.made else None
        for version in sorted(key.by_version)
        if version >= key.floor
    }
    return KeyState(tenant, SCHEME, name, made, key.current, key.floor)
