"""Processor time of the parts of one upload that are pure computing, each by itself in this process."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from benchmarks.load_client import BOUNDARY, uploads
from benchmarks.site import BenchSite
from crypto.envelope import Envelope
from domain.documents import Role
from domain.keys import DataKey, EncryptionContext
from identity.jwks import Jwks, jwks_source
from identity.tokens import TokenAuthenticator
from ingest_api.body import Body, parse_json
from ingest_api.models import UploadMetadata
from ingest_api.multipart import UploadForm
from ingest_api.sniffing import MagicSniffer
from storage.objects.s3_requests import SigV4Signer

#: What one read of the API's socket brings, about.
READ: Final = 64 * 1024
SIZE: Final = 100_000


async def part_milliseconds(site: BenchSite, times: int) -> dict[str, float]:
    """Milliseconds of processor time per upload of 100 KB, the best of five runs of ``times`` each."""
    token = site.token(Role.PORTAL)
    settings = site.settings
    plan: dict[str, Any] = {
        "host": "api",
        "port": 1,
        "token": token,
        "size": SIZE,
        "type": "T",
        "dossiers": [str(uuid4())],
    }
    make, _ = uploads(plan)
    _, body = b"", b"".join(make()).partition(b"\r\n\r\n")[2]
    start = body.index(b"%PDF-")
    content = body[start : start + SIZE]
    keys = Jwks(jwks_source(settings.jwks))
    signer = SigV4Signer("store:9000", "key", "secret", "us-east-1")
    envelope, sniffer = Envelope(), MagicSniffer()
    key, context = DataKey(bytes(32)), EncryptionContext("tenant", uuid4())

    async def verify() -> None:
        authenticator = TokenAuthenticator(keys, issuer=settings.jwt_issuer, audience=settings.jwt_audience)
        await authenticator.authenticate(token)

    remembering = TokenAuthenticator(keys, issuer=settings.jwt_issuer, audience=settings.jwt_audience)

    async def remember() -> None:
        await remembering.authenticate(token)

    async def parse() -> None:
        form = UploadForm(Body(_receiver(body), timeout=30.0), BOUNDARY.encode())
        parse_json(await form.metadata(), UploadMetadata)
        await form.file()
        async for _ in form.content():
            pass

    async def digest() -> None:
        hashlib.sha256(content).hexdigest()

    async def sniff() -> None:
        sniffer.sniff(content[: sniffer.wanted])

    async def seal() -> None:
        async for _ in envelope.encrypt(key, context, _once(content)):
            pass

    async def sign() -> None:
        signer.head("PUT", "/bucket/key", hashlib.sha256(content).hexdigest(), SIZE, datetime.now(UTC))

    parts = {
        "token, first time": verify,
        "token, remembered": remember,
        "multipart and metadata": parse,
        "SHA-256 of the content": digest,
        "media type": sniff,
        "envelope": seal,
        "signature of the PUT": sign,
    }
    return {name: await _best(call, times) for name, call in parts.items()}


async def _best(call: Callable[[], Awaitable[None]], times: int) -> float:
    found = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(times):
            await call()
        found.append((time.process_time() - began) * 1000 / times)
        await asyncio.sleep(0)
    return min(found)


def _receiver(body: bytes) -> Callable[[], Awaitable[dict[str, Any]]]:
    pieces = [body[at : at + READ] for at in range(0, len(body), READ)]

    async def receive() -> dict[str, Any]:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    return receive


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
