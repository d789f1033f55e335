"""A small OpenID Connect provider of the tests' own: real HTTP, real RS256 signatures, PKCE checked as RFC 7636 says, nobody's password.

Not a certified one: what it refuses is what the console has to get right (code, verifier, client, redirect address).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT, SECRET, AUDIENCE = "dpj-console", "s3cret-of-the-tests", "dpj"
_KID = "key-1"


@dataclass
class Provider:
    """``claims`` go into every access token, ``id_claims`` into every ID token, over what is usual."""

    issuer: str
    claims: dict[str, Any] = field(default_factory=lambda: {"tenant": "acme", "roles": ["operator"]})
    id_claims: dict[str, Any] = field(default_factory=dict)
    subject: str = "marie"
    sid: str = "session-1"
    asked: dict[str, dict[str, str]] = field(default_factory=dict)
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    @property
    def keys(self) -> dict[str, Any]:
        public = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": _KID, "alg": "RS256", "use": "sig"}]}

    def signed(self, claims: dict[str, Any], *, typ: str = "JWT") -> str:
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": _KID, "typ": typ})

    def logout_token(self, **changes: Any) -> str:
        """A logout token as section 2.4 has it; a claim that is None is left out."""
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": int(time.time()),
            "exp": int(time.time()) + 60,
            "jti": secrets.token_hex(8),
            "sid": self.sid,
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
            **changes,
        }
        return self.signed({name: value for name, value in claims.items() if value is not None}, typ="logout+jwt")

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._metadata),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/keys", self._keys),
            ]
        )

    async def _metadata(self, _: Request) -> Response:
        names = ("authorize", "token", "logout")
        ends = ("authorization_endpoint", "token_endpoint", "end_session_endpoint")
        found = {end: f"{self.issuer}/{name}" for end, name in zip(ends, names, strict=True)}
        return JSONResponse({"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys", **found})

    async def _keys(self, _: Request) -> Response:
        return JSONResponse(self.keys)

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        if asked["client_id"] != CLIENT or asked["code_challenge_method"] != "S256" or asked["response_type"] != "code":
            return Response("refused", 400)
        code = secrets.token_urlsafe(16)
        self.asked[code] = asked
        answer = urlencode({"code": code, "state": asked["state"], "iss": self.issuer})
        return RedirectResponse(f"{asked['redirect_uri']}?{answer}", 303)

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        asked = self.asked.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        good = (
            asked is not None
            and form.get("redirect_uri") == asked["redirect_uri"]
            and challenge == asked["code_challenge"]
            and (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)
        )
        if not good or asked is None:
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        usual = {"iss": self.issuer, "sub": self.subject, "iat": now, "exp": now + 300, "sid": self.sid}
        access = {**usual, "aud": AUDIENCE, "jti": secrets.token_hex(8), **self.claims}
        identity = {**usual, "aud": CLIENT, "nonce": asked["nonce"], **self.id_claims}
        return JSONResponse(
            {"access_token": self.signed(access), "id_token": self.signed(identity), "token_type": "Bearer"}
        )


@asynccontextmanager
async def running_provider() -> AsyncIterator[Provider]:
    """One that listens on a port of this machine's own."""
    provider = Provider("")
    config = uvicorn.Config(provider.app(), host="127.0.0.1", port=0, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    config.load()
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    provider.issuer = f"http://127.0.0.1:{port}"
    try:
        yield provider
    finally:
        server.should_exit = True
        await serving


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))
