"""Bearer tokens: JWTs (RFC 7519) of any OpenID Connect provider; checked here, and issued for development."""

from __future__ import annotations

import hashlib
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from domain.documents import Role
from domain.keys import MAX_BOUND_TENANTS, is_reserved, is_tenant
from domain.refusals import Unauthenticated
from domain.revocations import RevocableClaim, mark_of
from identity.jwks import VerificationKey
from processors.documents.callers import ALL_TENANTS

MAX_TOKEN: Final = 8192
MAX_SUBJECT: Final = 255
LEEWAY_SECONDS: Final = 5
CACHE_SECONDS: Final = 5.0
MAX_CACHED: Final = 4096

_REQUIRED: Final = ["exp", "iss", "aud", "sub"]
#: An access token's header says one of these (RFC 7519, RFC 9068); a logout or another kind of token says another.
_HEADER_TYPES: Final = frozenset({"jwt", "at+jwt"})
#: What Keycloak's access tokens say in a claim of that name; its ID and refresh tokens say ``ID`` and ``Refresh``.
_BEARER: Final = "Bearer"
_MAX_CLAIM: Final = 255
#: What a token that is none may raise: JSON that is nested too deep, numbers beyond any time, texts that are none, and the library's own.
_MALFORMED: Final = (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError)
_OUR_NAMES: Final = {role.value: role for role in Role}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a token speaks for. Roles that we do not know are left out; ``marks`` is what its revocation is looked up by; ``bound_to``: the
    only tenants that it shows an operator or auditor, None: all."""

    subject: str = field(repr=False)
    tenant: str
    roles: frozenset[Role]
    marks: tuple[str, ...] = field(default=(), repr=False)
    bound_to: frozenset[str] | None = None


class NoRolesClaim(Unauthenticated):
    """A token that is good but for its roles, of which it says nothing. Keycloak leaves the claim out where it would be empty: for a
    person that is signed in and has none of the roles that the client is for. A provider whose claim has another name does so, too."""


class Keys(Protocol):
    async def key(self, kid: str) -> VerificationKey: ...


class RevocationCheck(Protocol):
    async def any_of(self, marks: Sequence[str]) -> bool:
        """Whether one of the marks is revoked. Raises RevocationsUnavailable."""
        ...


class NothingRevoked:
    async def any_of(self, marks: Sequence[str]) -> bool:  # noqa: ARG002 - the protocol's
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRules:
    """Where a provider's tokens say what, and what they must be.

    ``tenant`` and ``roles`` are claim names, or paths into nested ones (``realm_access.roles``). ``role_names`` maps the
    provider's role names to ours; what it does not name grants nothing; None: they are called as ours. ``longest``: seconds that
    a token may be valid from now. ``identified``: a token must have a ``jti`` or ``sid``, by which it can be revoked.
    ``tenants``: the claim with the list of tenants that an operator or auditor is bound to. A token without it is bound to none, or, with
    ``operators_bound``, to its own tenant.
    """

    tenant: str = "tenant"
    roles: str = "roles"
    role_names: Mapping[str, Role] | None = None
    longest: float = 30 * 86_400.0
    identified: bool = False
    tenants: str = "tenants"
    operators_bound: bool = False


class _CachedToken(NamedTuple):
    """A token that was found good, and until when that counts."""

    identity: Identity
    until: float


class TokenAuthenticator:
    """Checks tokens: signature by the key's own algorithm, issuer, audience, times, shape of the claims, revocation.

    What was found good counts as good for ``CACHE_SECONDS``, never beyond the token's expiry: a portal sends one token with
    each of a burst of requests. Kept under the token's hash; a key taken out of the set stops counting as late as that. Whether
    it is revoked is asked each time.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        issuer: str,
        audience: str,
        rules: ClaimRules | None = None,
        revoked: RevocationCheck | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._rules = rules or ClaimRules()
        self._revoked = revoked or NothingRevoked()
        self._clock = clock
        self._cache: dict[bytes, _CachedToken] = {}

    async def authenticate(self, token: str) -> Identity:
        """Raises Unauthenticated, IdentityUnavailable or RevocationsUnavailable."""
        if len(token) > MAX_TOKEN:
            raise Unauthenticated("The token is too long.")
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        now = self._clock()
        known = self._cache.get(digest)
        if known is None or not known.until - CACHE_SECONDS <= now < known.until:
            known = self._checked(await self._claims(token), now)
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[digest] = known
        if await self._revoked.any_of(known.identity.marks):
            raise Unauthenticated("The token was revoked.")
        return known.identity

    def _checked(self, claims: Mapping[str, Any], now: float) -> _CachedToken:
        rules, expires = self._rules, int(claims["exp"])
        if expires > now + rules.longest + LEEWAY_SECONDS:
            raise Unauthenticated("The token is valid for longer than is allowed here.")
        marks = tuple(_marks(claims))
        if rules.identified and not marks:
            raise Unauthenticated("The token has neither a jti nor a sid: it could not be revoked.")
        return _CachedToken(replace(_identity(claims, rules), marks=marks), min(now + CACHE_SECONDS, expires))

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
        except _MALFORMED:
            raise Unauthenticated("The token is not valid.") from None
        if str(header.get("typ", "JWT")).lower().removeprefix("application/") not in _HEADER_TYPES:
            raise Unauthenticated("The token is no access token.")
        kid = header.get("kid")
        if not isinstance(kid, str):
            raise Unauthenticated("The token names no key.")
        key = await self._keys.key(kid)
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": _REQUIRED},
            )
            # JSON can spell half of a character, which is no text: nothing can hash, seal or answer it.
            json.dumps(claims, ensure_ascii=False).encode()
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("The token has expired.") from None
        except _MALFORMED:
            raise Unauthenticated("The token is not valid.") from None
        if claims.get("typ", _BEARER) != _BEARER:
            raise Unauthenticated("The token is no access token.")
        return claims


def _identity(claims: Mapping[str, Any], rules: ClaimRules) -> Identity:
    subject, tenant, roles = claims["sub"], _claim(claims, rules.tenant), _claim(claims, rules.roles)
    if not isinstance(subject, str) or not 1 <= len(subject) <= MAX_SUBJECT:
        raise Unauthenticated("The token's claim sub is not valid.")
    if not isinstance(tenant, str) or not is_tenant(tenant) or is_reserved(tenant):
        raise Unauthenticated(f"The token's claim {rules.tenant} is not valid.")
    if roles is None:
        raise NoRolesClaim(f"The token's claim {rules.roles} is not valid.")
    if not isinstance(roles, list):
        raise Unauthenticated(f"The token's claim {rules.roles} is not valid.")
    names = _OUR_NAMES if rules.role_names is None else rules.role_names
    known = frozenset(names[role] for role in roles if isinstance(role, str) and role in names)
    return Identity(subject, tenant, known, bound_to=_bound(claims, rules, tenant) if known & ALL_TENANTS else None)


def _bound(claims: Mapping[str, Any], rules: ClaimRules, tenant: str) -> frozenset[str] | None:
    """The tenants that an operator's or auditor's token is bound to. Raises Unauthenticated."""
    tenants = _claim(claims, rules.tenants)
    if tenants is None:
        return frozenset({tenant}) if rules.operators_bound else None
    if (
        not isinstance(tenants, list)
        or len(tenants) > MAX_BOUND_TENANTS
        or not all(isinstance(one, str) and is_tenant(one) for one in tenants)
    ):
        raise Unauthenticated(f"The token's claim {rules.tenants} is not valid.")
    return frozenset(tenants)


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of that very name (a URL has dots, too), else what the path of that name leads to; None if there is neither."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _marks(claims: Mapping[str, Any]) -> Iterator[str]:
    """What a revocation of the token or of its session would be looked up by. Raises Unauthenticated."""
    for claim in RevocableClaim:
        value = claims.get(claim.value)
        if value is None:
            continue
        if not isinstance(value, str) or not 1 <= len(value) <= _MAX_CLAIM:
            raise Unauthenticated(f"The token's claim {claim.value} is not valid.")
        yield mark_of(claim, value)


def issue_token(
    private_key_pem_path: Path,
    issuer: str,
    audience: str,
    subject: str,
    tenant: str,
    roles: Sequence[Role],
    ttl: int,
    *,
    tenants: Iterable[str] | None = None,
) -> str:
    """A token signed with the key in a PEM file, good for ``ttl`` seconds, with an id of its own; its key id is the key's RFC 7638
    thumbprint. ``tenants``: whom it binds an operator or auditor to.

    Raises ValueError for a key that is not RSA, P-256 or Ed25519, and OSError.
    """
    algorithm, private, public = _load(private_key_pem_path)
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "tenant": tenant,
        "roles": [role.value for role in roles],
        "iat": now,
        "exp": now + ttl,
        "jti": str(uuid4()),
    }
    if tenants is not None:
        claims["tenants"] = sorted(tenants)
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
