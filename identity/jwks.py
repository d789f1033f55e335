"""Keys that verify tokens, from a JWK Set (RFC 7517) in a file or behind a URL.

The algorithm follows from the key, never from the token: what the key itself names (``alg``) where that fits its type, else the
usual one of its type. RSA keys have 2048 bits or more. Only algorithms of an allow-list are used; symmetric ones never.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import jwt
import structlog

from domain.errors import IdentityUnavailable
from domain.refusals import Unauthenticated

MAX_JWKS_BYTES: Final = 256 * 1024
MIN_RSA_BITS: Final = 2048

#: What fits a key, by type and curve; the usual one first.
_FITTING: Final[Mapping[tuple[str, str | None], tuple[str, ...]]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
ALGORITHMS: Final = frozenset({"RS256", "ES256", "EdDSA"})
#: All that may be put on an allow-list.
KNOWN: Final = frozenset(name for fitting in _FITTING.values() for name in fitting)

Fetch = Callable[[], Awaitable[bytes]]

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key and the one algorithm it is used with."""

    algorithm: str
    key: Any = field(repr=False)


def jwks_source(location: str, *, timeout: float = 5.0, tls: ssl.SSLContext | None = None) -> Fetch:
    """How to fetch the set at ``location``: an http(s) URL, a file URL, or a path; ``tls`` says whom to trust over TLS, if not the
    usual authorities. The fetch raises IdentityUnavailable."""
    if location.startswith(("https://", "http://")):
        return lambda: _fetch_url(location, timeout, tls)
    path = Path(location.removeprefix("file://"))
    return lambda: _fetch_file(path)


async def _fetch_url(url: str, timeout: float, tls: ssl.SSLContext | None) -> bytes:
    try:
        async with (
            asyncio.timeout(timeout),
            # As everywhere: the settings alone say who is asked, and no variable of a shell puts somebody in between.
            httpx.AsyncClient(timeout=timeout, verify=tls or True, trust_env=False) as client,
            client.stream("GET", url) as response,
        ):
            response.raise_for_status()
            content = bytearray()
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > MAX_JWKS_BYTES:
                    raise IdentityUnavailable("The key set is too large.")
            return bytes(content)
    except (httpx.HTTPError, TimeoutError):
        raise IdentityUnavailable("The key set can't be fetched.") from None


async def _fetch_file(path: Path) -> bytes:
    try:
        return await asyncio.to_thread(path.read_bytes)
    except OSError:
        raise IdentityUnavailable("The key set can't be read.") from None


def parse_jwks(content: bytes, algorithms: AbstractSet[str] = ALGORITHMS) -> Mapping[str, VerificationKey]:
    """Usable signature keys by id; others are left out, and one that is no JWK is logged (RFC 7517, section 5: a member that is not
    understood is ignored). Raises IdentityUnavailable if it is no key set."""
    try:
        entries = json.loads(content)["keys"]
        if not isinstance(entries, list):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise IdentityUnavailable("The key set is not a JWK Set.") from None
    found: dict[str, VerificationKey] = {}
    for place, entry in enumerate(entries):
        try:
            if "kid" in entry and (key := _verification_key(entry, algorithms)) is not None:
                found[_text(entry["kid"])] = key
        except Exception as error:  # noqa: BLE001 - one member, of whatever form, takes no other key away
            _log.warning("jwks_key_not_used", place=place, error=type(error).__name__)
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _may_verify(entry: Mapping[str, Any]) -> bool:
    """By ``use`` and ``key_ops`` (RFC 7517, sections 4.2 and 4.3), where they are given. Raises TypeError for what is neither."""
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list):
        raise TypeError
    return "verify" in operations and entry.get("use", "sig") == "sig"


def _verification_key(entry: Mapping[str, Any], allowed: AbstractSet[str]) -> VerificationKey | None:
    """None for a key that is not for us. Raises anything for what is no JWK."""
    fitting = _FITTING.get((str(entry.get("kty")), entry.get("crv")), ())
    algorithm = entry.get("alg", fitting[0] if fitting else None)
    if algorithm is not None:
        _text(algorithm)
    if algorithm not in fitting or algorithm not in allowed or not _may_verify(entry):
        return None
    public = {name: value for name, value in entry.items() if name not in {"d", "p", "q", "dp", "dq", "qi"}}
    key = jwt.PyJWK(public, algorithm=algorithm).key
    if entry["kty"] == "RSA" and key.key_size < MIN_RSA_BITS:
        return None
    return VerificationKey(algorithm, key)


class Jwks:
    """A cached key set. Fetched anew for an unknown key id, at most every ``min_interval`` seconds, and, in the background,
    when older than ``max_age``: at a use, or by ``renew``, which who goes on using the set calls regularly, so that no pause makes
    it old. While a fetch fails (a set without a usable key is no set), the keys at hand go on serving, for ``keep`` seconds after
    they were fetched: who can keep the provider from us shall not keep a withdrawn key alive for ever.

    ``copy`` is a file that holds the last good set, for a process that starts while the provider is away; its time is the file's,
    and it counts only for the ``location`` that it came from. Raises ValueError for algorithms that are not known, or none.
    """

    def __init__(
        self,
        fetch: Fetch,
        *,
        algorithms: AbstractSet[str] = ALGORITHMS,
        copy: Path | None = None,
        location: str = "",
        max_age: float = 300.0,
        min_interval: float = 10.0,
        keep: float = 86_400.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not algorithms or not algorithms <= KNOWN:
            raise ValueError(f"tokens may be signed with some of {', '.join(sorted(KNOWN))}")
        self._fetch = fetch
        self._algorithms = algorithms
        self._copy = copy
        self._origin = hashlib.sha256(location.encode()).hexdigest().encode()
        self._max_age = max_age
        self._min_interval = min_interval
        self._keep = keep
        self._monotonic = monotonic
        self._keys: Mapping[str, VerificationKey] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._failing = False
        self._lock = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None

    async def key(self, kid: str) -> VerificationKey:
        """Raises Unauthenticated (no such key), or IdentityUnavailable: no such key at hand, and none to be had now."""
        if self._keys and self._age(self._fetched_at) > self._keep:
            self._keys, self._fetched_at = {}, None
        if kid not in self._keys:
            await self._refresh()
        elif self._age(self._fetched_at) > 2 * self._max_age and self._age(self._tried_at) > self._max_age:
            # Nobody has asked for so long that the key may well have been withdrawn.
            await self._refresh()
        elif self._age(self._fetched_at) > self._max_age and (self._renewal is None or self._renewal.done()):
            # A provider that answers slowly must not make every request wait for it.
            self._renewal = asyncio.create_task(self._refresh())
        if kid in self._keys:
            return self._keys[kid]
        if self._fetched_at is None or self._failing:
            # It may be a new key of the provider's.
            raise IdentityUnavailable("The key set can't be fetched.")
        raise Unauthenticated("The token is signed with an unknown key.")

    async def renew(self) -> None:
        """Have the set fetched anew if it is older than ``max_age``; that it can't be had is logged."""
        if self._age(self._fetched_at) > self._max_age:
            await self._refresh()

    async def check(self) -> None:
        """Raises IdentityUnavailable if there are no keys."""
        if not self._keys:
            await self._refresh()
        if not self._keys:
            raise IdentityUnavailable("The key set can't be fetched.")

    def _age(self, since: float | None) -> float:
        return float("inf") if since is None else self._monotonic() - since

    async def _refresh(self) -> None:
        async with self._lock:
            if self._age(self._tried_at) < self._min_interval:
                return
            self._tried_at = self._monotonic()
            try:
                content = await self._fetch()
                self._keys = self._usable(content)
                self._fetched_at = self._monotonic()
                self._failing = False
            except IdentityUnavailable as error:
                self._failing = True
                _log.warning("jwks_not_refreshed", code=error.code)
                if self._fetched_at is None and self._copy is not None:
                    await asyncio.to_thread(self._recall, self._copy)
            else:
                if self._copy is not None:
                    await asyncio.to_thread(_write_copy, self._copy, self._origin + b"\n" + content)

    def _usable(self, content: bytes) -> Mapping[str, VerificationKey]:
        if keys := parse_jwks(content, self._algorithms):
            return keys
        raise IdentityUnavailable("The key set has no key that could be used.")

    def _recall(self, copy: Path) -> None:
        """Take the last good set of an earlier process, if it is not too old and from where ours is."""
        try:
            age = max(0.0, time.time() - copy.stat().st_mtime)
            origin, _, content = copy.read_bytes().partition(b"\n")
            if origin != self._origin:
                raise IdentityUnavailable("The copy is not of this key set.")
            if age <= self._keep:
                self._keys = self._usable(content)
                self._fetched_at = self._monotonic() - age
        except (OSError, IdentityUnavailable) as error:
            _log.warning("jwks_copy_not_used", error=type(error).__name__)


def _write_copy(path: Path, content: bytes) -> None:
    """Whole or not at all, for its owner alone. That it can't be kept is no reason to refuse anybody."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
        new.replace(path)
    except OSError as error:
        _log.warning("jwks_copy_not_kept", error=type(error).__name__)
