"""Bearer tokens: JWTs (RFC 7519) with claims ``sub``, ``tenant`` and ``roles``; checked here, and issued for operators."""

from __future__ import annotations

import hashlib
import json
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from domain.documents import Role
from domain.errors import Unauthenticated
from ingest_api.jwks import VerificationKey

MAX_TOKEN: Final = 8192
MAX_SUBJECT: Final = 255
LEEWAY_SECONDS: Final = 5
REMEMBERED_SECONDS: Final = 5.0
MAX_REMEMBERED: Final = 4096

_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_REQUIRED: Final = ["exp", "iss", "aud", "sub"]
_ROLES: Final = {role.value: role for role in Role}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a token speaks for. Roles that we do not know are left out."""

    subject: str = field(repr=False)
    tenant: str
    roles: frozenset[Role]


class Keys(Protocol):
    async def key(self, kid: str) -> VerificationKey: ...


class TokenAuthenticator:
    """Checks tokens: signature by the key's own algorithm, issuer, audience, expiry, shape of the claims.

    What was found good counts as good for ``REMEMBERED_SECONDS``, never beyond the token's expiry: a portal sends one token with
    each of a burst of requests. Kept under the token's hash; a key taken out of the set stops counting as late as that.
    """

    def __init__(self, keys: Keys, *, issuer: str, audience: str, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._remembered: dict[bytes, tuple[Identity, float]] = {}

    async def authenticate(self, token: str) -> Identity:
        """Raises Unauthenticated or IdentityUnavailable."""
        if len(token) > MAX_TOKEN:
            raise Unauthenticated("The token is too long.")
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        now = self._clock()
        identity, until = self._remembered.get(digest, (None, now))
        if identity is not None and until - REMEMBERED_SECONDS <= now < until:
            return identity
        claims = await self._claims(token)
        identity = _identity(claims)
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[digest] = (identity, min(now + REMEMBERED_SECONDS, int(claims["exp"])))
        return identity

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            if not isinstance(kid, str):
                raise Unauthenticated("The token names no key.")
            key = await self._keys.key(kid)
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": _REQUIRED},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("The token has expired.") from None
        except jwt.PyJWTError:
            raise Unauthenticated("The token is not valid.") from None
        return claims


def _identity(claims: dict[str, Any]) -> Identity:
    subject, tenant, roles = claims["sub"], claims.get("tenant"), claims.get("roles")
    if not isinstance(subject, str) or not 1 <= len(subject) <= MAX_SUBJECT:
        raise Unauthenticated("The token's claim sub is not valid.")
    if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
        raise Unauthenticated("The token's claim tenant is not valid.")
    if not isinstance(roles, list):
        raise Unauthenticated("The token's claim roles is not valid.")
    known = frozenset(_ROLES[role] for role in roles if isinstance(role, str) and role in _ROLES)
    return Identity(subject, tenant, known)


def issue_token(
    private_key_pem_path: Path,
    issuer: str,
    audience: str,
    subject: str,
    tenant: str,
    roles: Sequence[Role],
    ttl: int,
) -> str:
    """A token signed with the key in a PEM file, good for ``ttl`` seconds; its key id is the key's RFC 7638 thumbprint.

    Raises ValueError for a key that is not RSA, P-256 or Ed25519, and OSError.
    """
    algorithm, private, public = _load(private_key_pem_path)
    now = int(time.time())
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "tenant": tenant,
        "roles": [role.value for role in roles],
        "iat": now,
        "exp": now + ttl,
    }
    return jwt.encode(claims, private, algorithm=algorithm, headers={"kid": thumbprint(public)})


def thumbprint(public: dict[str, Any]) -> str:
    """The RFC 7638 thumbprint of a public JWK: base64url SHA-256 of its required members."""
    required = {name: public[name] for name in ("crv", "e", "kty", "n", "x", "y") if name in public}
    text = json.dumps(required, sort_keys=True, separators=(",", ":"))
    return urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def _load(path: Path) -> tuple[str, Any, dict[str, Any]]:
    """Algorithm, private key, public JWK (kty and parameters)."""
    key = load_pem_private_key(path.read_bytes(), password=None)
    algorithm, public = "", dict[str, Any]()
    if isinstance(key, RSAPrivateKey):
        algorithm, public = "RS256", RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    elif isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        algorithm, public = "ES256", ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    elif isinstance(key, Ed25519PrivateKey):
        algorithm, public = "EdDSA", OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    if not algorithm:
        raise ValueError("tokens are signed with RSA, P-256 or Ed25519 keys")
    return algorithm, key, {name: value for name, value in public.items() if name != "key_ops"}
