"""What it costs PostgreSQL to know what is owed: the relay's look over published events, beside all that a document costs it."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any, Final

import asyncpg
import httpx

from benchmarks.console import note
from benchmarks.latency import create_dossier, upload_and_validate
from benchmarks.report import BenchReport, Cell, Ratio
from benchmarks.site import BenchSite
from domain.consumers import readers
from domain.documents import Role
from runtime.processes.owed_events_job import LOOK_SECONDS
from storage.postgres.delivery.owed_events import FINISHED_SECONDS, PostgresOwedEvents

GOAL: Final = 3.0
GROWTH_GOAL: Final = 1.2
AT_ONCE: Final = 4
SLICE: Final = 5_000
LOOKS: Final = 40
WARM_UP: Final = 5
HISTORY: Final = (0, 1_000_000)
QUICK_HISTORY: Final = (0, 50_000)
#: A session hands its counts over when it rests, a second later at the soonest.
COUNTED_SECONDS: Final = 3.0
REST_SECONDS: Final = 120.0
#: A row of the outbox is looked at so often before it goes.
LOOKS_PER_ROW: Final = FINISHED_SECONDS / LOOK_SECONDS + 1
METHOD: Final = (
    """Documents go through the whole pipeline, four at a time, until all are ARCHIVED and the outbox is published. PostgreSQL's time
    is what it counts itself as spent in statements (`pg_stat_database.active_time`), waiting for locks included, all processes
    together.""",
    f"""Then the relay's look, the same statement through the same code, goes over the rows that these documents left in the outbox,
    {LOOKS} times. A row is looked at {LOOKS_PER_ROW:.0f} times at most: every {LOOK_SECONDS:.0f} s until {FINISHED_SECONDS:.0f} s after it
    was published.""",
    """History: the inbox with so many finished events more. The outbox has none: rows that everybody has finished leave it.""",
)


async def run(site: BenchSite, quick: bool) -> BenchReport:
    """Send documents, then look."""
    count, history = (24, QUICK_HISTORY) if quick else (400, HISTORY)
    async with site.running():
        database = await asyncpg.connect(site.settings.postgres_dsn.get_secret_value())
        try:
            before = await _active_ms(database)
            await _send(site, database, count)
            spent = await _active_ms(database) - before
        finally:
            await database.close()
    pool = await asyncpg.create_pool(site.settings.postgres_dsn.get_secret_value(), min_size=1, max_size=1)
    try:
        looks = {size: await _looks(pool, size) for size in history}
    finally:
        await pool.close()
    return _report(count, spent, looks)


async def _send(site: BenchSite, database: Any, count: int) -> None:
    headers = {"Authorization": f"Bearer {site.token(Role.PORTAL, Role.VALIDATOR)}"}
    gate = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(base_url=f"{site.api}/api/v1", headers=headers, trust_env=False) as client:

        async def one() -> None:
            async with gate:
                await upload_and_validate(client, await create_dossier(client))

        await asyncio.gather(*(one() for _ in range(count)))
    ends = time.monotonic() + REST_SECONDS
    under_way = """
        SELECT (SELECT count(*) FROM documents WHERE statut IN ('STORED', 'VERIFIED', 'VALIDATED'))
             + (SELECT count(*) FROM outbox WHERE published_at IS NULL) + (SELECT count(*) FROM inbox WHERE state = 'CLAIMED')"""
    while await database.fetchval(under_way):
        if time.monotonic() > ends:
            raise TimeoutError("the documents do not come to rest")
        await asyncio.sleep(0.5)
    note(f"owed: {count} documents are archived")


async def _active_ms(database: Any) -> float:
    await asyncio.sleep(COUNTED_SECONDS)
    return float(await database.fetchval("SELECT active_time FROM pg_stat_database WHERE datname = current_database()"))


class _Pool:
    """``storage.postgres.connections.Connections`` over a pool."""

    def __init__(self, pool: Any) -> None:
        self.connection = pool.acquire


async def _looks(pool: Any, history: int) -> tuple[float, int]:
    """Milliseconds of a look (median), and the rows that it goes over, beside ``history`` finished events in the inbox."""
    owed = PostgresOwedEvents(_Pool(pool), readers(), keep_hours=24.0)
    async with pool.acquire() as connection:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute(
            """
            INSERT INTO inbox (consumer, event_id, document_key, state, owner, lease_until)
            SELECT 'integrity', gen_random_uuid(), 'bench', 'DONE', gen_random_uuid(), now()
            FROM generate_series(1, $1::integer)""",
            history,
            timeout=600,
        )
        await connection.execute("VACUUM ANALYZE inbox, outbox", timeout=600)
        rows = int(await connection.fetchval("SELECT count(*) FROM outbox"))
    times = []
    for _ in range(WARM_UP + LOOKS):
        began, last = time.perf_counter(), 0
        while (found := await owed.slice(last, SLICE)).last is not None:
            last = found.last
        times.append((time.perf_counter() - began) * 1000)
    note(f"owed: a look over {rows} rows beside {history:,} takes {statistics.median(times[WARM_UP:]):.1f} ms")
    async with pool.acquire() as connection:
        await connection.execute("DELETE FROM inbox WHERE document_key = 'bench'", timeout=600)
    return statistics.median(times[WARM_UP:]), rows


def _report(count: int, spent: float, looks: dict[int, tuple[float, int]]) -> BenchReport:
    (least, rows), (most, _) = (looks[size] for size in sorted(looks))
    per_document = spent / count
    looked = LOOKS_PER_ROW * least / count
    cells: list[tuple[Cell, ...]] = [
        ("PostgreSQL's time for a document, all of it", per_document),
        ("rows of the outbox per document", rows / count),
        *((f"a look at one row, {size:,} events of history", took / rows) for size, (took, _) in looks.items()),
        ("looks at a document's rows until they go", looked),
    ]
    return BenchReport(
        name="owed",
        title="Knowing what is owed, milliseconds",
        method=METHOD,
        columns=("what", "value"),
        rows=tuple(cells),
        ratios=(
            Ratio(
                name="looks of PostgreSQL's time", value=100 * looked / per_document, goal=GOAL, at_most=True, unit="%"
            ),
            Ratio(
                name=f"a look, {max(looks):,} against {min(looks):,} events of history",
                value=most / least,
                goal=GROWTH_GOAL,
                at_most=True,
            ),
        ),
        notes=(
            f"{count} documents, {rows} rows. The looks' time is the client's, so it holds the way to the server, too.",
        ),
    )
