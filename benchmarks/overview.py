"""What the watchdog's look at the whole pipeline costs PostgreSQL a minute, as the tables grow, and while much waits."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import asyncpg

from benchmarks.console import note
from benchmarks.report import BenchReport, Cell, Ratio
from benchmarks.seeding import seeded
from benchmarks.site import BenchSite
from domain.consumers import readers
from runtime.processes.overview_job import LOOK_SECONDS
from storage.postgres.overview import PostgresOverview

#: Milliseconds of PostgreSQL a minute.
GOAL: Final = 50.0
SIZES: Final = (10_000, 1_000_000)
QUICK_SIZES: Final = (1_000, 10_000)
LOOKS: Final = 40
WARM_UP: Final = 5
#: What an outage leaves: rows that wait for the relay, documents that wait for their verification, events that workers hold.
WAITING: Final = 30_000
HELD: Final = 1_000
METHOD: Final = (
    """One database per size on the same server, seeded by SQL as for growth. A look is the watchdog's own code over one connection:
    what waits in the outbox, documents by state, held events, checkpoints, erasures, the last hour of the history, and the
    documents that these are about. Median of the client's time, which holds the way to the server, too.""",
    f"""at rest: nothing waits. in an outage: {WAITING:,} rows wait for the relay, as many documents are STORED, and workers hold
    {HELD:,} events. The watchdog looks every {LOOK_SECONDS:.0f} s.""",
)

_OUTAGE: Final = (
    f"""
    UPDATE documents SET statut = 'STORED' WHERE id IN (SELECT id FROM documents ORDER BY created_at DESC LIMIT {WAITING})
    """,  # noqa: S608 - made of constants
    f"""
    INSERT INTO outbox (topic, key, body, headers, event_id)
    SELECT 'dpj.document.uploaded', convert_to(id::text, 'UTF8'), convert_to(repeat('b', 300), 'UTF8'), '{{}}', gen_random_uuid()
    FROM documents WHERE statut = 'STORED' LIMIT {WAITING}
    """,  # noqa: S608 - made of constants
    f"""
    INSERT INTO held_events (consumer, event_id, document_key, topic, partition, "offset", code, waiting_for, attempts)
    SELECT 'archiving', gen_random_uuid(), id::text, 'dpj.document.validated', 0, 0, 'ged_unavailable', 'ged', 3
    FROM documents LIMIT {HELD}
    """,  # noqa: S608 - made of constants
)
_HISTORY: Final = """
    INSERT INTO releves SELECT date_trunc('minute', now()) - n * interval '1 minute', lieu, n, n
    FROM generate_series(0, 7 * 1440 - 1) AS n,
         unnest(ARRAY['integrity', 'renditions', 'archiving', 'notification', 'audit', 'outbox']) AS lieu
    ON CONFLICT DO NOTHING
"""


class _Connections:
    """``storage.postgres.connections.Connections`` over one connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        yield self._connection


async def run(site: BenchSite, quick: bool) -> BenchReport:
    """Seed, look, let much wait, look again; what was added is taken back."""
    sizes = QUICK_SIZES if quick else SIZES
    return _report({size: await _of_size(site, size) for size in sizes})


async def _of_size(site: BenchSite, documents: int) -> dict[str, float]:
    dsn = await seeded(site.settings.postgres_dsn.get_secret_value(), documents, note)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_HISTORY, timeout=600)
        # A vacuum runs outside of transactions, and what an outage adds is rolled back.
        await connection.execute("VACUUM ANALYZE documents, outbox, inbox, releves", timeout=600)
        times = {"at rest": await _looks(connection)}
        change = connection.transaction()
        await change.start()
        try:
            for statement in _OUTAGE:
                await connection.execute(statement, timeout=600)
            times["in an outage"] = await _looks(connection)
        finally:
            await change.rollback()
    finally:
        await connection.close()
    for state, took in times.items():
        note(f"overview: a look over {documents:,} documents {state} takes {took:.1f} ms")
    return times


async def _looks(connection: Any) -> float:
    """Milliseconds of a look, median."""
    overview = PostgresOverview(_Connections(connection), readers())
    times = []
    for _ in range(WARM_UP + LOOKS):
        began = time.perf_counter()
        found = await overview.numbers()
        keys = {one.key for one in found.unfinished or ()}
        await overview.documents([UUID(key) for key in keys if len(key) == 36])
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times[WARM_UP:])


def _report(looks: dict[int, dict[str, float]]) -> BenchReport:
    states = list(next(iter(looks.values())))
    rows: list[tuple[Cell, ...]] = [(state, *(looks[size][state] for size in looks)) for state in states]
    largest = max(looks)
    a_minute = 60.0 / LOOK_SECONDS
    return BenchReport(
        name="overview",
        title="A look at the whole pipeline, milliseconds",
        method=METHOD,
        columns=("state", *(f"{size:,} documents" for size in looks)),
        rows=tuple(rows),
        ratios=tuple(
            Ratio(
                name=f"PostgreSQL's time a minute, {largest:,} documents, {state}",
                value=looks[largest][state] * a_minute,
                goal=GOAL,
                at_most=True,
                unit="ms",
            )
            for state in states
        ),
    )
