"""Token keys over HTTP: fetched, refused when too large, slow or broken."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from domain.documents import Role
from domain.errors import IdentityUnavailable
from identity.jwks import MAX_JWKS_BYTES, Jwks, jwks_source
from identity.oidc import OidcClient, OidcSignIn
from identity.tokens import TokenAuthenticator, issue_token
from tests.support.jwks import public_jwks


class Provider(ThreadingHTTPServer):
    """An identity provider: ``/keys`` holds the set, other paths misbehave."""

    jwks = b""

    def handle_error(self, *_: object) -> None:
        """Clients that gave up are what these tests are about."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Provider)
        if self.path == "/slow":
            time.sleep(1)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/keys")
            self.end_headers()
            return
        self.send_response(200 if self.path != "/broken" else 500)
        self.end_headers()
        self.wfile.write(b" " * (MAX_JWKS_BYTES + 1) if self.path == "/large" else self.server.jwks)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


async def test_tokens_are_checked_with_keys_behind_a_url(provider: Provider, key_file: Path) -> None:
    provider.jwks = json.dumps(public_jwks(key_file)).encode()
    keys = Jwks(jwks_source(f"http://127.0.0.1:{provider.server_port}/keys"))
    token = issue_token(key_file, "i", "a", "u", "t", [Role.AUDITOR], 60)
    identity = await TokenAuthenticator(keys, issuer="i", audience="a").authenticate(token)
    assert identity.roles == {Role.AUDITOR}


@pytest.mark.parametrize("path", ["slow", "moved", "broken", "large"])
async def test_a_provider_that_misbehaves_is_unavailable(provider: Provider, path: str) -> None:
    with pytest.raises(IdentityUnavailable):
        await jwks_source(f"http://127.0.0.1:{provider.server_port}/{path}", timeout=0.3)()


async def test_no_proxy_of_the_environment_says_whose_keys_are_believed(
    provider: Provider, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed port stands for the proxy: whoever used it would fetch nothing."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    provider.jwks = json.dumps(public_jwks(key_file)).encode()
    location = f"http://127.0.0.1:{provider.server_port}"
    assert await jwks_source(f"{location}/keys")() == provider.jwks
    client = OidcClient(issuer=location, client_id="c", redirect_uri=f"{location}/r", signed_out_uri=f"{location}/o")
    keys = Jwks(jwks_source(location))
    sign_in = OidcSignIn(client, keys, TokenAuthenticator(keys, issuer=location, audience="a"))
    with pytest.raises(IdentityUnavailable, match="calls itself something else"):  # so it was reached
        await sign_in.check()


async def test_a_provider_that_is_away_is_unavailable() -> None:
    with pytest.raises(IdentityUnavailable):
        await jwks_source("http://127.0.0.1:9/keys", timeout=0.3)()
