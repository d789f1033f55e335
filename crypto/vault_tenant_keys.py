"""What an operator does about the transit keys of tenants, with a login of his own (``deploy/vault/dpj-operator-policy.hcl``).

Keys under one tenant's key are moved to its newest version by transit ``rewrap``, so that no data key leaves Vault. Those under the
single key have to be decrypted and encrypted again; that needs ``deploy/vault/dpj-move-policy.hcl`` as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final

from crypto.vault_session import KeyRefused, VaultSession
from crypto.vault_transit import SCHEME, data_key, derivation_context, refusal, to_base64, wrapped_key
from domain.errors import DPJError, KeyringUnavailable, TenantKeyMissing
from domain.key_encryption_keys import KeyState
from domain.keys import EncryptionContext, WrappedKey

#: Data keys are derived per document; a key of this type can be neither exported nor deleted unless somebody allows it.
NEW_KEY: Final = {"type": "aes256-gcm96", "derived": True}

_Keys = Sequence[tuple[WrappedKey, EncryptionContext]]


class VaultTenantKeys:
    """The TenantKeys port over transit keys ``prefix + tenant`` and the ``single`` one. Raises KeyringUnavailable."""

    def __init__(self, session: VaultSession, prefix: str, single: str = "") -> None:
        self._session = session
        self._prefix = prefix
        self._single = single
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vault-keys")

    async def states(self, tenant: str | None = None) -> Sequence[KeyState]:
        if tenant is not None:
            found = await self._aside(self._read, self._prefix + tenant)
            return [] if found is None else [_state(tenant, self._prefix + tenant, found)]
        every: list[KeyState] = await self._aside(self._all)
        return every

    async def create(self, tenant: str) -> bool:
        name = self._prefix + tenant
        if await self._aside(self._read, name) is not None:
            return False
        await self._aside(self._session.ask, "post", f"keys/{name}", NEW_KEY)
        return True

    async def rotate(self, tenant: str) -> None:
        await self._aside(self._session.ask, "post", f"keys/{self._prefix}{tenant}/rotate", {})

    async def raise_floor(self, tenant: str, version: int) -> None:
        body = {"min_decryption_version": version}
        await self._aside(self._session.ask, "post", f"keys/{self._prefix}{tenant}/config", body)

    async def rewrap(self, tenant: str, keys: _Keys) -> Sequence[WrappedKey | DPJError]:
        answers: list[WrappedKey | DPJError] = [
            KeyringUnavailable("The key is not this tenant's.", outage=False) for _ in keys
        ]
        name = self._prefix + tenant
        for source in (name, self._single):
            places = [place for place, key in enumerate(keys) if _is_of(key, source, tenant)]
            if source and places:
                act = self._rewrapped if source == name else self._moved
                made = await self._aside(act, name, [keys[place] for place in places])
                for place, answer in zip(places, made, strict=True):
                    answers[place] = answer
        return answers

    async def aclose(self) -> None:
        """Give connections and thread back."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._session.close()

    async def _aside(self, call: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    def _read(self, name: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._session.ask("get", f"keys/{name}")
        return found

    def _all(self) -> list[KeyState]:
        names = (self._session.ask("list", "keys") or {}).get("keys", [])
        found = []
        for name in sorted(names):
            is_single = name == self._single
            if (is_single or name.startswith(self._prefix)) and (read := self._read(name)) is not None:
                found.append(_state(None if is_single else name.removeprefix(self._prefix), name, read))
        return found

    def _rewrapped(self, name: str, keys: _Keys) -> list[WrappedKey | DPJError]:
        batch = [{"ciphertext": key.ciphertext, "context": derivation_context(context)} for key, context in keys]
        try:
            answers = self._session.transit("rewrap", name, batch)
        except KeyRefused:
            raise TenantKeyMissing("Nobody has created a key for this tenant.") from None
        return [_made(name, answer) for answer in answers]

    def _moved(self, name: str, keys: _Keys) -> list[WrappedKey | DPJError]:
        batch = [{"ciphertext": key.ciphertext, "context": derivation_context(context)} for key, context in keys]
        try:
            opened = self._session.transit("decrypt", self._single, batch)
        except KeyRefused:
            text = "This role may not move keys off the single key: in Vault it needs dpj-move-policy."
            raise KeyringUnavailable(text, outage=False) from None
        found: list[WrappedKey | DPJError] = []
        wanted: list[tuple[int, dict[str, str]]] = []
        for place, (answer, request) in enumerate(zip(opened, batch, strict=True)):
            found.append(refusal(str(answer.get("error"))))
            if not answer.get("error"):
                try:
                    with data_key(answer) as key:
                        wanted.append((place, {"plaintext": to_base64(key.secret), "context": request["context"]}))
                except DPJError as error:
                    found[place] = error
        if wanted:
            sealed = self._session.transit("encrypt", name, [request for _, request in wanted])
            for (place, _), answer in zip(wanted, sealed, strict=True):
                found[place] = _made(name, answer)
        return found


def _is_of(key: tuple[WrappedKey, EncryptionContext], source: str, tenant: str) -> bool:
    wrapped, context = key
    return wrapped.scheme == SCHEME and wrapped.key_name == source and context.tenant == tenant


def _made(name: str, answer: dict[str, Any]) -> WrappedKey | DPJError:
    return refusal(str(answer["error"])) if answer.get("error") else wrapped_key(name, answer)


def _state(tenant: str | None, name: str, read: dict[str, Any]) -> KeyState:
    try:
        floor, latest = int(read["min_decryption_version"]), int(read["latest_version"])
        made = {int(version): _moment(at) for version, at in read["keys"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise KeyringUnavailable("The keyring's answer is not a key's description.") from None
    return KeyState(tenant, SCHEME, name, {v: made[v] for v in sorted(made) if v >= floor}, latest, floor)


def _moment(at: Any) -> datetime | None:
    return datetime.fromtimestamp(at, UTC) if isinstance(at, int | float) else None
