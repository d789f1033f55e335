"""Signing in at an OpenID Connect provider: authorization code with PKCE, the ID token's check, and its back-channel logout.

Sources: OpenID Connect Core 1.0 (3.1), RFC 7636 (PKCE, S256), RFC 9207 (iss in the answer), OpenID Connect Discovery 1.0,
OpenID Connect Back-Channel Logout 1.0 (2.4 to 2.7).

What a browser has to bring back follows from one random value in its cookie: ``state``, ``nonce`` and the code verifier are hashes of it
under names of their own. So nothing is kept on the server of who only began, and nothing of it leads back to the cookie.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import httpx
import jwt

from domain.errors import IdentityUnavailable
from domain.refusals import Unauthenticated
from domain.revocations import RevocableClaim, mark_of
from domain.sessions import subject_mark
from identity.jwks import VerificationKey
from identity.tokens import Identity

TIMEOUT_SECONDS: Final = 10.0
MAX_ANSWER: Final = 256 * 1024
#: How long what the provider says of itself counts.
METADATA_SECONDS: Final = 3600.0
LEEWAY_SECONDS: Final = 5
#: How old a logout token may be.
LOGOUT_SECONDS: Final = 300
MAX_CODE: Final = 4096
MAX_TOKEN: Final = 16_384
_LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
_LOGOUT_TYPES: Final = frozenset({"jwt", "logout+jwt"})
_MALFORMED: Final = (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError)


class Keys(Protocol):
    async def key(self, kid: str) -> VerificationKey: ...


class AccessTokens(Protocol):
    async def authenticate(self, token: str) -> Identity:
        """Who an access token speaks for. Raises Unauthenticated, IdentityUnavailable or RevocationsUnavailable."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcClient:
    """How the provider knows us. ``redirect_uri``: where it sends browsers back to after a sign-in, ``signed_out_uri``: after a
    sign-out; whole URLs, as they are registered there. ``secret`` empty: a public client, by PKCE alone.
    ``step_up_acr``: the authentication context that a sign-in before an act without a way back is to have, empty: any."""

    issuer: str
    client_id: str
    secret: str = field(default="", repr=False)
    redirect_uri: str
    signed_out_uri: str
    scope: str = "openid"
    step_up_acr: str = ""


@dataclass(frozen=True, slots=True)
class Authentication:
    """Who signed in. ``at``: when the provider last asked who it is (``auth_time``), None if it does not say; ``acr``: how well it
    asked, as it says, empty if it does not."""

    identity: Identity
    at: datetime | None
    acr: str


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """What the provider says of itself (Discovery, section 3). ``end_session_endpoint`` may be empty."""

    authorization_endpoint: str
    token_endpoint: str
    end_session_endpoint: str


def state_of(value: str) -> str:
    """What the provider has to send back beside the code."""
    return _derived("state", value)


def _derived(name: str, value: str) -> str:
    digest = hmac.new(value.encode(), f"dpj sign-in {name}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


class OidcSignIn:
    """``keys`` verify the provider's tokens; ``access`` says who an access token speaks for, by the same rules as at the API."""

    def __init__(
        self,
        client: OidcClient,
        keys: Keys,
        access: AccessTokens,
        *,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._keys = keys
        self._access = access
        self._tls = tls
        self._clock = clock
        self._metadata: ProviderMetadata | None = None
        self._metadata_at = 0.0
        self._lock = asyncio.Lock()

    async def authorization_url(self, value: str, *, again: bool = False) -> str:
        """Where to send a browser whose cookie holds ``value``. ``again``: the provider is to ask who it is, whoever is signed in there
        (Core, 3.1.2.1), as well as ``step_up_acr`` says. Raises IdentityUnavailable."""
        metadata = await self._discovered()
        challenge = hashlib.sha256(_derived("verifier", value).encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": self._client.redirect_uri,
            "scope": self._client.scope,
            "state": state_of(value),
            "nonce": _derived("nonce", value),
            "code_challenge": base64.urlsafe_b64encode(challenge).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        if again:
            asked |= {"prompt": "login", "max_age": "0"}
            asked |= {"acr_values": self._client.step_up_acr} if self._client.step_up_acr else {}
        joint = "&" if "?" in metadata.authorization_endpoint else "?"
        return f"{metadata.authorization_endpoint}{joint}{urlencode(asked)}"

    async def finish(self, value: str, *, code: str, state: str, issuer: str | None) -> Authentication:
        """Who signed in, with the marks by which the session is revoked or ended. ``issuer``: the answer's ``iss``, if it has one.

        Raises Unauthenticated for an answer that is not to this browser's question, or a token that is not good; IdentityUnavailable.
        """
        if not hmac.compare_digest(state.encode(), state_of(value).encode()) or not code or len(code) > MAX_CODE:
            raise Unauthenticated("The answer is not to a question of this browser's.")
        if issuer is not None and issuer != self._client.issuer:
            raise Unauthenticated("The answer is another provider's.")
        metadata = await self._discovered()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._client.redirect_uri,
            "client_id": self._client.client_id,
            "code_verifier": _derived("verifier", value),
        }
        if self._client.secret:
            form["client_secret"] = self._client.secret
        answer = await self._asked("POST", metadata.token_endpoint, form)
        id_token, access_token = answer.get("id_token"), answer.get("access_token")
        if not isinstance(id_token, str) or not isinstance(access_token, str):
            raise Unauthenticated("The provider gave no tokens.")
        claims = await self._claims(id_token)
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), _derived("nonce", value).encode()):
            raise Unauthenticated("The ID token is another sign-in's.")
        audience = claims["aud"]
        if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != self._client.client_id:
            raise Unauthenticated("The ID token was issued to another client.")
        identity = await self._access.authenticate(access_token)
        if identity.subject != claims["sub"]:
            raise Unauthenticated("The two tokens are about two persons.")
        identity = replace(identity, marks=tuple(dict.fromkeys((*identity.marks, *_session_marks(claims)))))
        acr = claims.get("acr")
        return Authentication(identity, self._auth_time(claims), acr if isinstance(acr, str) else "")

    def _auth_time(self, claims: Mapping[str, Any]) -> datetime | None:
        """Raises Unauthenticated for a time that is none, or is still to come."""
        said = claims.get("auth_time")
        if said is None:
            return None
        if (
            isinstance(said, bool)
            or not isinstance(said, int | float)
            or not 0 < said <= self._clock() + LEEWAY_SECONDS
        ):
            raise Unauthenticated("The ID token's auth_time is not valid.")
        return datetime.fromtimestamp(said, UTC)

    async def sign_out_url(self) -> str:
        """Where a browser ends its session at the provider too (RP-Initiated Logout 1.0, section 2); ``signed_out_uri`` where there is
        no such place. Raises nothing."""
        back_to = self._client.signed_out_uri
        try:
            metadata = await self._discovered()
        except IdentityUnavailable:
            return back_to
        if not metadata.end_session_endpoint:
            return back_to
        asked = {"client_id": self._client.client_id, "post_logout_redirect_uri": back_to}
        joint = "&" if "?" in metadata.end_session_endpoint else "?"
        return f"{metadata.end_session_endpoint}{joint}{urlencode(asked)}"

    async def ended(self, logout_token: str) -> tuple[str, ...]:
        """The marks of the sessions that the provider says are over. Raises Unauthenticated or IdentityUnavailable."""
        claims = await self._claims(logout_token, required=("iss", "aud", "iat", "jti", "events"), types=_LOGOUT_TYPES)
        events = claims["events"]
        if not isinstance(events, dict) or not isinstance(events.get(_LOGOUT_EVENT), dict) or "nonce" in claims:
            raise Unauthenticated("The token is no logout token.")
        if self._clock() - float(claims["iat"]) > LOGOUT_SECONDS:
            raise Unauthenticated("The logout token is too old.")
        # One that names a session ends that one; one that names a person alone ends all of his.
        marks = _session_marks(claims)
        if not marks and isinstance(claims.get("sub"), str):
            marks = (subject_mark(claims["sub"]),)
        if not marks:
            raise Unauthenticated("The logout token names neither a session nor a person.")
        return marks

    async def check(self) -> None:
        """Raises IdentityUnavailable if nobody could sign in now."""
        await self._discovered()

    async def _claims(
        self,
        token: str,
        *,
        required: tuple[str, ...] = ("iss", "aud", "exp", "iat", "sub", "nonce"),
        types: frozenset[str] = frozenset({"jwt"}),
    ) -> Mapping[str, Any]:
        """The claims of a token for us, signed by the provider. Raises Unauthenticated or IdentityUnavailable."""
        if len(token) > MAX_TOKEN:
            raise Unauthenticated("The token is too long.")
        try:
            header = jwt.get_unverified_header(token)
        except _MALFORMED:
            raise Unauthenticated("The token is not valid.") from None
        kid = header.get("kid")
        if str(header.get("typ", "JWT")).lower() not in types or not isinstance(kid, str):
            raise Unauthenticated("The token is of another kind, or names no key.")
        key = await self._keys.key(kid)
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=self._client.client_id,
                issuer=self._client.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": list(required)},
            )
        except _MALFORMED:
            raise Unauthenticated("The token is not valid.") from None
        return claims

    async def _discovered(self) -> ProviderMetadata:
        async with self._lock:
            if self._metadata is None or self._clock() - self._metadata_at > METADATA_SECONDS:
                try:
                    found = await self._asked(
                        "GET", f"{self._client.issuer.rstrip('/')}/.well-known/openid-configuration"
                    )
                    self._metadata = self._read_metadata(found)
                    self._metadata_at = self._clock()
                except IdentityUnavailable:
                    if self._metadata is None:
                        raise
            return self._metadata

    def _read_metadata(self, said: Mapping[str, Any]) -> ProviderMetadata:
        if said.get("issuer") != self._client.issuer:
            raise IdentityUnavailable("The provider calls itself something else.")
        found = [said.get(name, "") for name in ("authorization_endpoint", "token_endpoint", "end_session_endpoint")]
        secure = self._client.issuer.startswith("https://")
        wanted = "https://" if secure else ("https://", "http://")
        if not all(isinstance(one, str) for one in found) or not all(one.startswith(wanted) for one in found[:2]):
            raise IdentityUnavailable("The provider does not say where to sign in.")
        return ProviderMetadata(found[0], found[1], found[2] if found[2].startswith(wanted) else "")

    async def _asked(self, method: str, url: str, form: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        """A JSON object from the provider. Raises Unauthenticated if it refuses (4xx), IdentityUnavailable."""
        try:
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                httpx.AsyncClient(timeout=TIMEOUT_SECONDS, verify=self._tls or True, trust_env=False) as client,
                client.stream(method, url, data=form, headers={"Accept": "application/json"}) as response,
            ):
                content = bytearray()
                async for piece in response.aiter_bytes():
                    content += piece
                    if len(content) > MAX_ANSWER:
                        raise IdentityUnavailable("The provider's answer is too long.")
                status = response.status_code
        except (httpx.HTTPError, TimeoutError):
            raise IdentityUnavailable("The provider does not answer.") from None
        if form is not None and 400 <= status < 500:
            raise Unauthenticated("The provider does not take the code.")
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            found = None
        if status != httpx.codes.OK or not isinstance(found, dict):
            raise IdentityUnavailable("The provider's answer is none.")
        return found


def _session_marks(claims: Mapping[str, Any]) -> tuple[str, ...]:
    sid = claims.get("sid")
    return (mark_of(RevocableClaim.SESSION, sid),) if isinstance(sid, str) and 1 <= len(sid) <= 255 else ()
