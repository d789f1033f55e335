"""A backlog of 100,000 rows, and a table of a million published ones: time, memory, and what the planner does."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient

from operations.kafka.lag import measure
from operations.kafka.topics import TopicPlan, ensure_topics
from storage.postgres.database import Postgres
from storage.postgres.delivery import outbox as outbox_postgres
from storage.postgres.delivery import owed_events as owed_postgres
from storage.postgres.delivery.outbox import PostgresOutboxSource

REPOSITORY = Path(__file__).resolve().parents[2]
ROWS = 100_000
#: The relay's growth on a backlog: what it has in hand, twice over, and what librdkafka keeps for itself.
GROWTH_MB = 48

#: Publishes all there is in a process of its own, and tells seconds, growth of its memory and rows.
_CHILD = """
import asyncio, json, sys, time
from storage.postgres.delivery.outbox import PostgresOutboxSource
from streams.outbox_relay import OutboxRelay
from streams.librdkafka import create_producer

class Metrics:
    count = 0
    def published(self, count): Metrics.count += count
    def refused(self, rows): ...
    def leading(self, *, leader): ...

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

async def main(dsn, bootstrap, rows):
    relay = OutboxRelay(PostgresOutboxSource(dsn), lambda: create_producer(bootstrap), Metrics(), batch=2000)
    stopping = asyncio.Event()
    before = most = resident()
    began = time.monotonic()
    running = asyncio.create_task(relay.run(stopping))
    while Metrics.count < rows:
        await asyncio.sleep(0.05)
        most = max(most, resident())
    print(json.dumps({"seconds": time.monotonic() - began, "growth": most - before, "cpu": time.process_time()}))
    stopping.set()
    await running

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.fixture
def topics(stack: Mapping[str, str]) -> Iterator[list[str]]:
    bootstrap = stack["DPJ_KAFKA_BOOTSTRAP"]
    plans = [
        TopicPlan(name=f"test.relay.{uuid4().hex}", partitions=6, replication=1, retention_days=1) for _ in range(2)
    ]
    ensure_topics(bootstrap, plans)
    yield [plan.name for plan in plans]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for deleted in admin.delete_topics([plan.name for plan in plans]).values():
        deleted.result(20)


async def test_a_backlog_of_100_000_rows_is_drained_in_bounded_memory(
    stack: Mapping[str, str], database_dsn: str, postgres: Postgres, topics: list[str]
) -> None:
    bootstrap = stack["DPJ_KAFKA_BOOTSTRAP"]
    async with postgres.connection() as connection:
        await connection.execute("SET statement_timeout = 0")
        # As uploads leave it while Kafka is away: two rows of 1 KB per document, on two topics; one in 1,000 is large.
        await connection.execute(
            """
            INSERT INTO outbox (topic, key, body, headers, event_id)
            SELECT ($2::text[])[1 + n % 2], convert_to('document ' || n / 2, 'UTF8'),
                   decode(repeat(md5(n::text), CASE WHEN n % 1000 = 0 THEN 24000 ELSE 64 END), 'hex'),
                   '{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}', gen_random_uuid()
            FROM generate_series(1, $1::int) n
            """,
            ROWS,
            topics,
            timeout=600,
        )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CHILD, database_dsn, bootstrap, str(ROWS),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    try:
        async with asyncio.timeout(240):
            output, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
    found = json.loads(output.splitlines()[-1])
    print(f"{ROWS} rows: {found['seconds']:.1f} s, {ROWS / found['seconds']:.0f} rows/s, +{found['growth']:.0f} MB")
    assert found["growth"] < GROWTH_MB
    reader = await PostgresOutboxSource(database_dsn).open_reader()
    assert await reader.fetch_unpublished(1) == []
    await reader.close()
    rows = await asyncio.to_thread(measure, bootstrap, {"dpj.none": tuple(topics)})
    assert sum(row.end for row in rows) >= ROWS


#: Who reads what, as two columns.
READS = "ARRAY['dpj.document.uploaded', 'dpj.document.uploaded'], ARRAY['integrity', 'archiving']"


async def test_with_a_million_published_rows_the_relays_statements_look_at_few(
    database_dsn: str, postgres: Postgres
) -> None:
    async with postgres.connection() as connection:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute(
            """
            INSERT INTO outbox (topic, key, body, headers, event_id, published_at)
            SELECT CASE WHEN n <= 20000 THEN 'dpj.document.uploaded' ELSE 't' END, convert_to('d' || n / 4, 'UTF8'), '\\x00',
                   '{}', CASE WHEN n <= 20000 THEN gen_random_uuid() END,
                   now() - CASE WHEN n <= 20000 THEN interval '2 days' ELSE interval '1 hour' END
            FROM generate_series(1, 1000000) n
            """,
            timeout=600,
        )
        await connection.execute(
            """
            INSERT INTO inbox (consumer, event_id, document_key, state, owner, lease_until)
            SELECT 'integrity', event_id, 'd', 'DONE', gen_random_uuid(), now() FROM outbox WHERE event_id IS NOT NULL
            """,
            timeout=600,
        )
        await connection.execute(
            """
            INSERT INTO outbox (topic, key, body, headers, refused_at)
            SELECT 't', convert_to('r' || n / 5, 'UTF8'), '\\x00', '{}', CASE WHEN n % 5 = 0 THEN now() END
            FROM generate_series(1, 5000) n
            """
        )
        # As the planner finds the table between two runs of autovacuum: it knows nothing, then all.
        for known in (False, True):
            if known:
                await connection.execute("ANALYZE outbox", timeout=300)
            everything = await connection.fetchval("SELECT pg_relation_size('outbox') / 8192")
            for name, statement, kinds, values in (
                (
                    *("fetch", outbox_postgres._ALL_TOPICS),
                    *("(int, bigint, bigint[])", "(2000, 4194304, ARRAY[1000001, 1000002]::bigint[])"),
                ),
                (
                    *("owed", owed_postgres._FROM_ID, "(bigint, int, text[], text[], float8, float8)"),
                    f"(0, 5000, {READS}, 300, 86400)",
                ),
                ("count", "SELECT count(*) FROM outbox WHERE published_at IS NULL AND refused_at IS NOT NULL", "", ""),
            ):
                plan = await _explained(connection, statement, kinds, values)
                blocks = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
                took = plan["Execution Time"]
                print(f"{name}, {'' if known else 'not '}analysed: {blocks} of {everything} blocks, {took:.1f} ms")
                assert "Seq Scan" not in json.dumps(plan), name
                # Each of the few rows in question costs some look-ups; the published million costs none.
                assert blocks < 30_000, name
                assert took < 1_000, name


async def _explained(connection: Any, statement: str, kinds: str, values: str) -> dict[str, Any]:
    """The plan that a prepared statement gets once it is used often, with what it read."""
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE asked {kinds} AS {statement}")
    async with connection.transaction():
        plan = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE asked {values}")
    await connection.execute("DEALLOCATE asked")
    found: dict[str, Any] = plan[0]
    return found
