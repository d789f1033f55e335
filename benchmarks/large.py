"""One large file up and down, beside a raw PUT and GET of as many bytes and beside SHA-256 alone."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from typing import Any, Final
from uuid import uuid4

import httpx

from benchmarks.latency import create_dossier
from benchmarks.load import TYPE_CODE
from benchmarks.load_client import BOUNDARY, LoadSigner
from benchmarks.measurement import MemoryMeter, RoundValues, alternate
from benchmarks.report import BenchReport, Cell, Chart, Ratio
from benchmarks.site import BenchSite
from domain.documents import Role

GIB: Final = 1 << 30
MEGABYTE: Final = 1_000_000
MEBIBYTE: Final = 1 << 20
UP_GOAL: Final = 0.70
DOWN_GOAL: Final = 0.45
GROWTH_GOAL: Final = 64.0
PATIENCE: Final = 900.0
#: S3's way of saying that the signature does not cover the body: nothing but the transfer and the store's own work is measured.
UNSIGNED: Final = "UNSIGNED-PAYLOAD"
METHOD: Final = (
    """One connection and one file: up through the API with all guarantees (multipart form, SHA-256, envelope, proof of what is
    stored), then down through the API, decrypted. Raw: one PUT and one GET of as many bytes to the same store by the same client,
    the body unsigned. SHA-256: hashlib over as many bytes in blocks of 1 MiB, the least that an upload has to compute.""",
    """The client is a process of its own with blocking sockets; it sends one block of random bytes over and over. Contestants run in
    turn. Memory is the API process's highest resident size in all rounds, less its size after a small upload.""",
)


async def run(site: BenchSite, quick: bool) -> BenchReport:
    """Move one file of 1 GiB (quick: 128 MiB) up and down."""
    size, rounds = (GIB // 8, 2) if quick else (GIB, 3)
    async with site.running("api") as ours:
        bench = await _Transfers.prepare(site, size)
        await bench.upload_of(MEBIBYTE)
        memory = MemoryMeter(ours["api"])
        rates = await alternate(
            {
                "upload": bench.upload,
                "raw PUT": bench.put,
                "download": bench.download,
                "raw GET": bench.get,
                "SHA-256": bench.digest,
            },
            rounds,
        )
        growth = memory.growth() / MEBIBYTE
    return _report(rates, growth, size)


class _Transfers:
    """Each call moves ``size`` bytes and gives MB/s."""

    def __init__(self, site: BenchSite, size: int, token: str, dossier: str) -> None:
        settings = site.settings
        self._size = size
        self._token = token
        self._dossier = dossier
        self._api = {"host": settings.api_host, "port": settings.api_port}
        host, _, port = settings.minio_endpoint.rpartition(":")
        self._store = {"host": host, "port": int(port)}
        self._signer = LoadSigner(
            settings.minio_access_key.get_secret_value(),
            settings.minio_secret_key.get_secret_value(),
            settings.minio_endpoint,
        )
        self._object = f"/{settings.minio_bucket}/bench/large-{uuid4()}"
        self._document = ""

    @classmethod
    async def prepare(cls, site: BenchSite, size: int) -> _Transfers:
        token = site.token(Role.PORTAL)
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=f"{site.api}/api/v1", headers=headers, trust_env=False) as client:
            return cls(site, size, token, await create_dossier(client))

    async def upload(self) -> float:
        return await self.upload_of(self._size)

    async def upload_of(self, size: int) -> float:
        metadata = {
            "type": TYPE_CODE,
            "dossier_id": self._dossier,
            "depositor": {"email": "depot@example.org", "language": "fr"},
        }
        lead = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="metadata"\r\n'
            f"Content-Type: application/json\r\n\r\n{json.dumps(metadata)}\r\n"
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="large.pdf"\r\n'
            "Content-Type: application/pdf\r\n\r\n%PDF-1.7\n1 0 obj\nnull\nendobj\n"
        )
        tail = f"\ntrailer\n<<>>\n%%EOF\n\r\n--{BOUNDARY}--\r\n"
        head = (
            f"POST /api/v1/documents HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {self._token}\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nIdempotency-Key: {uuid4()}\r\n"
            f"Content-Length: {len(lead) + size + len(tail)}\r\n\r\n"
        )
        answer = await _exchange({**self._api, "head": head, "lead": lead, "tail": tail, "size": size}, 201)
        self._document = str(json.loads(answer["body"])["id"])
        return size / MEGABYTE / float(answer["seconds"])

    async def download(self) -> float:
        head = (
            f"GET /api/v1/documents/{self._document}/content HTTP/1.1\r\nHost: api\r\n"
            f"Authorization: Bearer {self._token}\r\n\r\n"
        )
        return await self._fetched({**self._api, "head": head})

    async def put(self) -> float:
        head = self._signer.head("PUT", self._object, UNSIGNED, self._size).decode()
        answer = await _exchange({**self._store, "head": head, "lead": "", "tail": "", "size": self._size}, 200)
        return self._size / MEGABYTE / float(answer["seconds"])

    async def get(self) -> float:
        return await self._fetched(
            {**self._store, "head": self._signer.head("GET", self._object, UNSIGNED, 0).decode()}
        )

    async def digest(self) -> float:
        return await asyncio.to_thread(self._digest)

    def _digest(self) -> float:
        block, began, digest = os.urandom(MEBIBYTE), time.perf_counter(), hashlib.sha256()
        for _ in range(self._size // MEBIBYTE):
            digest.update(block)
        return self._size / MEGABYTE / (time.perf_counter() - began)

    async def _fetched(self, plan: dict[str, Any]) -> float:
        answer = await _exchange({**plan, "lead": "", "tail": "", "size": 0}, 200)
        if answer["received"] < self._size:
            raise RuntimeError("less came down than went up")
        return float(answer["received"] / MEGABYTE / answer["seconds"])


async def _exchange(plan: dict[str, Any], status: int) -> dict[str, Any]:
    """Raises RuntimeError for another status, or a client that fails."""
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.large_client"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaint = await asyncio.wait_for(client.communicate(json.dumps(plan).encode()), PATIENCE)
    if client.returncode:
        raise RuntimeError(f"the client failed: {complaint.decode()[-300:]}")
    answer: dict[str, Any] = json.loads(output)
    if answer["status"] != status:
        raise RuntimeError(f"answered {answer['status']}: {answer['body'][:300]}")
    return answer


def _report(rates: dict[str, RoundValues], growth: float, size: int) -> BenchReport:
    def least(*names: str) -> RoundValues:
        return RoundValues(tuple(min(values) for values in zip(*(rates[name].values for name in names), strict=True)))

    def against(name: str, bound: RoundValues) -> float:
        return RoundValues(
            tuple(ours / theirs for ours, theirs in zip(rates[name].values, bound.values, strict=True))
        ).median

    rows: list[tuple[Cell, ...]] = [(name, sample.median, str(sample)) for name, sample in rates.items()]
    return BenchReport(
        name="large",
        title=f"One file of {size // MEBIBYTE} MiB, up and down",
        method=METHOD,
        columns=("what", "MB/s", "spread"),
        rows=tuple(rows),
        ratios=(
            Ratio(
                name="upload of min(raw PUT, SHA-256)",
                value=against("upload", least("raw PUT", "SHA-256")),
                goal=UP_GOAL,
            ),
            Ratio(
                name="download of min(raw GET, SHA-256)",
                value=against("download", least("raw GET", "SHA-256")),
                goal=DOWN_GOAL,
            ),
            Ratio(name="memory growth of the API", value=growth, goal=GROWTH_GOAL, at_most=True, unit="MiB"),
        ),
        chart=Chart(
            title=f"One file of {size // MEBIBYTE} MiB",
            unit="MB/s",
            categories=tuple(rates),
            series={"MB/s": tuple(sample.median for sample in rates.values())},
            spread={"MB/s": tuple(sample.spread for sample in rates.values())},
        ),
    )
