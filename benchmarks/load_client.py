"""A load client that costs little: one process, raw HTTP/1.1 over keep-alive connections, bodies built before the clock starts.

``python -m benchmarks.load_client`` reads one plan (JSON) from standard input and writes one result (JSON) to standard output.
A plan is a ``kind`` (``upload``: POST of multipart/form-data to the API; ``put``: signed PUT to an S3 store), ``host``, ``port``,
``connections``, ``seconds``, ``size`` (bytes of the file), ``timeout`` (seconds for one answer), and what its kind needs.

Both kinds do, per request, what any client must: a head of its own is built and sent with the body, the answer is read to its end. An
upload has an Idempotency-Key of its own and one token for all. A PUT is signed with SigV4, which takes an object name of its own,
the SHA-256 of the body and five HMACs: that is what an S3 client does over plain HTTP.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from secrets import token_hex
from typing import Any, Final, cast
from uuid import uuid4

BOUNDARY: Final = "dpj-benchmark-5f0c1d"
CREATED: Final = 201
OK: Final = 200
#: Answers' first lines kept, to tell what an error was.
KEPT_ERRORS: Final = 5

#: Head and body of the next request, in pieces.
Request = tuple[bytes, ...]


class _Connection(asyncio.Protocol):
    """One keep-alive connection with one request under way at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._received = bytearray()
        self._body_at = -1
        self._length = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the connection ended"))

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: Request) -> asyncio.Future[tuple[int, bytes]]:
        """Status and body of the answer, to be awaited."""
        if self._transport is None:
            raise ConnectionError("not connected")
        self._received.clear()
        self._body_at = -1
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.writelines(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._body_at < 0:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end]).lower()
            at = head.find(b"\r\ncontent-length:")
            self._length = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            self._body_at = end + 4
        if len(self._received) >= self._body_at + self._length and self._answer and not self._answer.done():
            self._answer.set_result((int(self._received[9:12]), bytes(self._received[self._body_at :])))

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


@dataclass(slots=True)
class _Tally:
    """What came of the requests that ended while the clock ran."""

    latencies: list[float] = field(default_factory=list)
    errors: int = 0
    timeouts: int = 0
    said: list[str] = field(default_factory=list)


def file_content(size: int) -> bytes:
    """``size`` bytes that begin and end like a PDF and do not compress."""
    begin, end = b"%PDF-1.7\n1 0 obj\nnull\nendobj\n", b"\ntrailer\n<<>>\n%%EOF\n"
    return begin + os.urandom(size - len(begin) - len(end)) + end


def uploads(plan: dict[str, Any]) -> tuple[Callable[[], Request], int]:
    """How to make the next upload, and the status of its success."""
    leads = cycle([_lead(plan["type"], dossier) for dossier in plan["dossiers"]])
    rest = file_content(plan["size"]) + f"\r\n--{BOUNDARY}--\r\n".encode()
    length = len(next(leads)) + len(rest)
    head = (
        f"POST /api/v1/documents HTTP/1.1\r\nHost: {plan['host']}:{plan['port']}\r\n"
        f"Authorization: Bearer {plan['token']}\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"User-Agent: dpj-benchmark\r\nContent-Length: {length}\r\nIdempotency-Key: "
    ).encode()
    return lambda: (head + uuid4().hex.encode() + b"\r\n\r\n" + next(leads), rest), CREATED


def _lead(type_code: str, dossier_id: str) -> bytes:
    """The body up to the file's first byte; as long for every dossier."""
    metadata = {
        "type": type_code,
        "dossier_id": dossier_id,
        "depositor": {"email": "depot@example.org", "language": "fr"},
        "tags": ["mesure"],
        "metadata": {"source": "benchmark"},
    }
    return (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="metadata"\r\n'
        f"Content-Type: application/json\r\n\r\n{json.dumps(metadata)}\r\n"
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="piece.pdf"\r\n'
        "Content-Type: application/pdf\r\n\r\n"
    ).encode()


def puts(plan: dict[str, Any]) -> tuple[Callable[[], Request], int]:
    """How to make the next signed PUT, and the status of its success."""
    body = file_content(plan["size"])
    signer = LoadSigner(plan["access_key"], plan["secret_key"], f"{plan['host']}:{plan['port']}")
    prefix = f"/{plan['bucket']}/{plan['prefix']}"

    def make() -> Request:
        name = uuid4()
        return signer.put(f"{prefix}/{name.hex[:2]}/{name}/{token_hex(16)}", body), body

    return make, OK


class LoadSigner:
    """SigV4 for one S3 store, as its clients do it: the day's key is kept, everything else is computed per request.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """

    SIGNED: Final = "host;x-amz-content-sha256;x-amz-date"

    def __init__(self, access_key: str, secret_key: str, host: str, region: str = "us-east-1") -> None:
        self._access_key = access_key
        self._secret_key = secret_key
        self._host = host
        self._region = region
        self._day = ""
        self._key = b""

    def put(self, path: str, body: bytes) -> bytes:
        """The head of a PUT of ``body`` to ``path``, which must need no percent-encoding."""
        return self.head("PUT", path, hashlib.sha256(body).hexdigest(), len(body))

    def head(self, method: str, path: str, body_sha256: str, length: int, query: str = "") -> bytes:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        day = stamp[:8]
        if day != self._day:
            self._key = f"AWS4{self._secret_key}".encode()
            for part in (day, self._region, "s3", "aws4_request"):
                self._key = hmac.digest(self._key, part.encode(), "sha256")
            self._day = day
        canonical = (
            f"{method}\n{path}\n{query}\nhost:{self._host}\nx-amz-content-sha256:{body_sha256}\n"
            f"x-amz-date:{stamp}\n\n{self.SIGNED}\n{body_sha256}"
        )
        scope = f"{day}/{self._region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._key, text.encode(), "sha256").hex()
        target = f"{path}?{query}" if query else path
        return (
            f"{method} {target} HTTP/1.1\r\nHost: {self._host}\r\nx-amz-content-sha256: {body_sha256}\r\n"
            f"x-amz-date: {stamp}\r\nAuthorization: AWS4-HMAC-SHA256 Credential={self._access_key}/{scope}, "
            f"SignedHeaders={self.SIGNED}, Signature={signature}\r\nContent-Length: {length}\r\n\r\n"
        ).encode()


_KINDS: Final = {"upload": uploads, "put": puts}


async def _one(plan: dict[str, Any], make: Callable[[], Request], good: int, tally: _Tally, end: float) -> None:
    """One client: a request, its answer, the next request, until the clock stops."""
    loop = asyncio.get_running_loop()
    connection = _Connection()
    while (started := loop.time()) < end:
        try:
            if not connection.usable:
                _, connection = await asyncio.wait_for(
                    loop.create_connection(_Connection, plan["host"], plan["port"]), plan["timeout"]
                )
                started = loop.time()
            expiry = loop.call_later(plan["timeout"], connection.abort)
            try:
                status, body = await connection.send(make())
            finally:
                expiry.cancel()
        except OSError as error:
            late = loop.time() - started >= plan["timeout"]
            tally.timeouts += late
            tally.errors += not late
            _say(tally, type(error).__name__)
            await asyncio.sleep(0.05)
            continue
        ended = loop.time()
        if ended > end:
            break
        if status == good:
            tally.latencies.append(ended - started)
        else:
            tally.errors += 1
            _say(tally, f"{status} {body[:200].decode('utf-8', 'replace')}")
    connection.abort()


def _say(tally: _Tally, text: str) -> None:
    if len(tally.said) < KEPT_ERRORS:
        tally.said.append(text)


async def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Carry ``plan`` out. Latencies in seconds, of what ended well and in time; ``cpu`` seconds are this process's own."""
    make, good = _KINDS[plan["kind"]](plan)
    tally = _Tally()
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.monotonic()
    end = asyncio.get_running_loop().time() + plan["seconds"]
    await asyncio.gather(*(_one(plan, make, good, tally, end) for _ in range(plan["connections"])))
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": min(plan["seconds"], time.monotonic() - started),
        "done": len(tally.latencies),
        "errors": tally.errors,
        "timeouts": tally.timeouts,
        "said": tally.said,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "latencies": tally.latencies,
    }


def main() -> None:
    import uvloop

    json.dump(uvloop.run(run(json.load(sys.stdin))), sys.stdout)


if __name__ == "__main__":
    main()
