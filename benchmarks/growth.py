"""What an upload and a list cost as the tables grow: three databases of different size behind one API each, asked in turn."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import httpx

from benchmarks.console import note
from benchmarks.latency import create_dossier
from benchmarks.measurement import percentile
from benchmarks.report import BenchReport, Cell, Chart, Ratio
from benchmarks.results import REPOSITORY
from benchmarks.seeding import SMALL_TENANT, seeded, seeded_dossier
from benchmarks.site import BenchSite
from domain.documents import Role

GOAL: Final = 1.2
SIZES: Final = (10_000, 100_000, 1_000_000)
QUICK_SIZES: Final = (1_000, 10_000)
REQUESTS: Final = 200
QUICK_REQUESTS: Final = 40
WARM_UP: Final = 10
UPLOAD_BYTES: Final = 100_000
#: The rarest status has so many documents among 10,000: a page is as full at every size.
PAGE: Final = 15
METHOD: Final = (
    """One database per size on the same server, seeded by SQL with documents of three years and what belongs to them (5 timeline
    rows, 2 thumbnails and 2 notifications for each; dossiers of 5; outbox, inbox and idempotency keys for the last of them), and
    an API process for each. 60 % of the documents are the asking tenant's.""",
    f"""One request at a time. Every request is put to each size in turn, in changing order, so that what else the machine does falls
    on all alike. {REQUESTS} requests of each kind and size; uploads of 100 KB with all guarantees; lists of {PAGE} documents; P95 of
    the answers' times.""",
    """deep: a page from the middle of the tenant's documents. all tenants: as an operator asks. small tenant: one with ten documents,
    the oldest of all.""",
)

Request = Callable[[], Awaitable[httpx.Response]]


@dataclass
class GrowthContestant:
    """One size: its API's client, and seconds of every answer by kind."""

    documents: int
    client: httpx.AsyncClient
    operator: Mapping[str, str]
    small: Mapping[str, str]
    dossier: str = ""
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def requests(self, number: int) -> dict[str, Request]:
        """Every kind of request, the ``number``-th of its kind."""
        find = partial(self.client.get, "/documents")
        early = seeded_dossier(self.documents // 50 * (number % 50) // 50 * 50)
        return {
            "upload": self._upload,
            "list, newest": partial(find, params={"limit": PAGE}),
            "list, dossier": partial(find, params={"dossier": str(early)}),
            "list, status": partial(find, params={"status": "QUARANTINED", "limit": PAGE}),
            "list, type and status": partial(find, params={"type": "RIB", "status": "REJECTED", "limit": PAGE}),
            "list, deep": partial(find, params={"cursor": _middle(), "limit": PAGE}),
            "list, small tenant": partial(find, params={"limit": PAGE}, headers=self.small),
            "list, all tenants": partial(
                find, params={"status": "ARCHIVE_FAILED", "limit": PAGE}, headers=self.operator
            ),
            "list, all tenants, type": partial(find, params={"type": "CHEQUE_ANNULE"}, headers=self.operator),
        }

    async def _upload(self) -> httpx.Response:
        name = f"{time.time_ns()}.pdf"
        sample = (REPOSITORY / "samples" / "contrat-pret.pdf").read_bytes()
        data = sample + name.encode() + b" " * (UPLOAD_BYTES - len(sample) - len(name))
        metadata = {
            "type": "CONTRAT",
            "dossier_id": self.dossier,
            "depositor": {"email": "claire.martin@client.example", "language": "fr"},
            "file_name": name,
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        parts: list[tuple[str, Any]] = [
            ("metadata", (None, json.dumps(metadata).encode(), "application/json")),
            ("file", (name, data, "application/pdf")),
        ]
        return await self.client.post("/documents", files=parts, headers={"Idempotency-Key": name})


def _middle() -> str:
    """The cursor of a page in the middle of the seeded three years (``processors.documents.pagination``)."""
    now = datetime.now(UTC)
    at = now.replace(year=now.year - 2, day=min(now.day, 28), microsecond=0)
    return base64.urlsafe_b64encode(f"{at.isoformat()}|{'8' * 32}".encode()).decode().rstrip("=")


async def run(site: BenchSite, quick: bool) -> BenchReport:
    """Seed, start one API per size, and ask."""
    sizes, requests = (QUICK_SIZES, QUICK_REQUESTS) if quick else (SIZES, REQUESTS)
    async with AsyncExitStack() as parts:
        contestants = [await parts.enter_async_context(_contestant(site, size)) for size in sizes]
        for number in range(WARM_UP + requests):
            if number == WARM_UP:
                for one in contestants:
                    one.seconds.clear()
            await _round(contestants, number)
        return _report(contestants)


async def _round(contestants: Sequence[GrowthContestant], number: int) -> None:
    asked = [one.requests(number) for one in contestants]
    for kind in asked[0]:
        for place in range(len(contestants)):
            at = (place + number) % len(contestants)
            began = time.perf_counter()
            answer = await asked[at][kind]()
            took = time.perf_counter() - began
            answer.raise_for_status()
            contestants[at].seconds.setdefault(kind, []).append(took)


@asynccontextmanager
async def _contestant(site: BenchSite, documents: int) -> AsyncIterator[GrowthContestant]:
    """A seeded database and an API on it; the database stays for the next run on a stack that is kept."""
    dsn = await seeded(site.settings.postgres_dsn.get_secret_value(), documents, note)
    async with site.api_beside({"DPJ_POSTGRES_DSN": dsn}) as url:
        headers = {"Authorization": f"Bearer {site.token(Role.PORTAL)}"}
        operator, small = (
            {"Authorization": f"Bearer {token}"}
            for token in (site.token(Role.OPERATOR), site.token(Role.PORTAL, tenant=SMALL_TENANT))
        )
        async with httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, timeout=30, trust_env=False) as client:
            contestant = GrowthContestant(documents, client, operator, small)
            contestant.dossier = await create_dossier(client)
            yield contestant


def _report(contestants: Sequence[GrowthContestant]) -> BenchReport:
    kinds = list(contestants[0].seconds)
    p95 = {kind: [percentile(one.seconds[kind], 0.95) * 1000 for one in contestants] for kind in kinds}
    growth = {kind: values[-1] / values[0] for kind, values in p95.items()}
    rows: list[tuple[Cell, ...]] = [(kind, *values, growth[kind]) for kind, values in p95.items()]
    lists = [kind for kind in kinds if kind != "upload"]
    worst = max(lists, key=lambda kind: growth[kind])
    pooled = [percentile([second for kind in lists for second in one.seconds[kind]], 0.95) for one in contestants]
    largest = f"{contestants[-1].documents:,} against {contestants[0].documents:,} rows"
    return BenchReport(
        name="growth",
        title="P95 as the tables grow, milliseconds",
        method=METHOD,
        columns=("request", *(f"{one.documents:,}" for one in contestants), "growth"),
        rows=tuple(rows),
        ratios=(
            Ratio(name=f"upload, P95, {largest}", value=growth["upload"], goal=GOAL, at_most=True),
            Ratio(name=f"lists, P95, {largest}", value=pooled[-1] / pooled[0], goal=GOAL, at_most=True),
            Ratio(name=f"{worst} (the worst list), P95, {largest}", value=growth[worst], goal=GOAL, at_most=True),
        ),
        chart=Chart(
            title="P95 as the tables grow",
            unit="milliseconds, less is better",
            categories=tuple(kinds),
            series={
                f"{one.documents:,} documents": tuple(p95[kind][at] for kind in kinds)
                for at, one in enumerate(contestants)
            },
        ),
    )
