"""How long the console takes for each of its pages over a million documents and ten thousand dead letters."""

from __future__ import annotations

import re
import time
from typing import Final
from uuid import UUID

import asyncpg
import httpx

from benchmarks.console import note
from benchmarks.measurement import percentile
from benchmarks.report import BenchReport, Cell, Ratio
from benchmarks.seeding import seeded, seeded_dossier
from benchmarks.site import BenchSite
from runtime.processes.local_stack import DEFAULT_TENANT

#: Milliseconds, at the 95th percentile.
GOAL: Final = 300.0
DOCUMENTS: Final = 1_000_000
QUICK_DOCUMENTS: Final = 10_000
LETTERS: Final = 10_000
ROUNDS: Final = 40
QUICK_ROUNDS: Final = 5
WARM_UP: Final = 2
TENANT: Final = "bench"
METHOD: Final = (
    f"""A console process over a database with so many documents, seeded by SQL as for growth, and {LETTERS:,} open dead letters of 20
    groups. One signed-in operator asks for each page {ROUNDS} times, page after page, over one connection; the client's time, from the
    request to the last byte.""",
)

_LETTERS: Final = """
    INSERT INTO lettres_mortes (consumer, event_id, tenant, document_id, code, error_class, origine_topic, origine_partition,
                                origine_offset, tentatives, rejeux, ecrite_a)
    SELECT (ARRAY['integrity', 'renditions', 'archiving', 'notification'])[1 + n % 4], gen_random_uuid(), $2,
           md5('document ' || n * 50)::uuid, 'code_' || n % 5, 'SomeError', 'dpj.document.uploaded', n % 6, n, 3, 0,
           now() - n * interval '1 second'
    FROM generate_series(1, $1::bigint) AS n
    WHERE NOT EXISTS (SELECT FROM lettres_mortes)
"""
#: The tenant of who signs in for development.
_OPERATORS: Final = "INSERT INTO tenants (tenant, cree_par) VALUES ($1, 'seed') ON CONFLICT DO NOTHING"
_SECRET: Final = re.compile(r'name="csrf" value="([^"]+)"')


async def run(site: BenchSite, quick: bool) -> BenchReport:
    """Seed, sign in, ask for every page."""
    documents, rounds = (QUICK_DOCUMENTS, QUICK_ROUNDS) if quick else (DOCUMENTS, ROUNDS)
    dsn = await seeded(site.settings.postgres_dsn.get_secret_value(), documents, note)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_OPERATORS, DEFAULT_TENANT)
        await connection.execute(_LETTERS, LETTERS, TENANT, timeout=600)
        await connection.execute("VACUUM ANALYZE lettres_mortes", timeout=600)
        document = await connection.fetchval("SELECT id FROM documents WHERE tenant = $1 LIMIT 1 OFFSET 5000", TENANT)
    finally:
        await connection.close()
    async with (
        site.console_beside({"DPJ_POSTGRES_DSN": dsn}) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=60.0) as client,
    ):
        await _sign_in(client)
        times = {path: await _times(client, path, rounds) for path in _pages(document)}
    for path, found in times.items():
        note(f"pages: {_named(path)}: {percentile(found, 0.95):.0f} ms at P95")
    return _report(documents, times)


def _pages(document: UUID) -> list[str]:
    group = "consumer=archiving&code=code_2&error_class=SomeError"
    return [
        "/",
        "/consumers",
        "/consumers/archiving",
        "/topics",
        "/documents",
        "/documents?status=ARCHIVED",
        "/documents?status=QUARANTINED&type=RIB",
        f"/documents?tenant={TENANT}&older=1h",
        f"/documents?dossier={seeded_dossier(500_000)}",
        f"/documents/{document}",
        "/operations",
        "/operations/lost",
        "/operations/restore",
        f"/operations/dead-letters?{group}",
        "/proof",
        f"/acts?tenant={TENANT}",
        "/reconcile",
        "/runbook",
        "/me",
    ]


async def _sign_in(client: httpx.AsyncClient) -> None:
    """As the operator of a stack for development. Raises ValueError where that can't be."""
    form = await client.get("/sign-in")
    found = _SECRET.search(form.raise_for_status().text)
    if found is None:
        raise ValueError("the sign-in has no form: this console is not for development")
    fields = {"csrf": found[1], "to": "/me", "role": "operator"}
    headers = {"Origin": str(client.base_url).rstrip("/")}
    answer = await client.post("/sign-in", data=fields, headers=headers, follow_redirects=True)
    if answer.raise_for_status().url.path != "/me":
        raise ValueError(f"nobody is signed in: {answer.url.path}")


async def _times(client: httpx.AsyncClient, path: str, rounds: int) -> list[float]:
    """Milliseconds of each request."""
    times = []
    for _ in range(WARM_UP + rounds):
        began = time.perf_counter()
        (await client.get(path)).raise_for_status()
        times.append((time.perf_counter() - began) * 1000)
    return times[WARM_UP:]


def _named(path: str) -> str:
    """The page without ids."""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "{id}", path)


def _report(documents: int, times: dict[str, list[float]]) -> BenchReport:
    rows: list[tuple[Cell, ...]] = [
        (_named(path), percentile(found, 0.5), percentile(found, 0.95), max(found)) for path, found in times.items()
    ]
    slowest = max(times, key=lambda path: percentile(times[path], 0.95))
    return BenchReport(
        name="pages",
        title=f"Pages of the console over {documents:,} documents, milliseconds",
        method=METHOD,
        columns=("page", "median", "P95", "slowest"),
        rows=tuple(rows),
        ratios=(
            Ratio(
                name=f"slowest page at P95, {documents:,} documents ({_named(slowest).partition('?')[0]})",
                value=percentile(times[slowest], 0.95),
                goal=GOAL,
                at_most=True,
                unit="ms",
            ),
        ),
    )
