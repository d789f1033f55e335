"""A process that froze in the middle of an exchange with PostgreSQL loses its session; nobody else does."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from domain.errors import DatabaseUnavailable
from storage.postgres.connections import SERVER_SETTINGS, connect
from storage.postgres.database import Postgres
from storage.postgres.frozen_sessions import PostgresFrozenSessions

SILENT_SECONDS = 0.5
#: Holds a row; then does as the first argument says, and is ready.
CHILD = """
import asyncio, sys
from storage.postgres.connections import SERVER_SETTINGS, connect

async def main(way, dsn, name):
    connection = await connect(dsn, {"application_name": name})
    await connection.execute("BEGIN")
    await connection.execute("UPDATE row_of_all SET n = n + 1")
    if way == "prepares":
        await connection.prepare("SELECT n, 1 FROM row_of_all")
    print("ready", flush=True)
    if way == "works":
        await connection.execute("SELECT pg_sleep(60)", timeout=60)
    await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def watcher(database_dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await connect(database_dsn, {"lock_timeout": "200"})
    await connection.execute("CREATE TABLE row_of_all (n integer); INSERT INTO row_of_all VALUES (1)")
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def frozen_process(dsn: str, way: str, name: str = SERVER_SETTINGS["application_name"]) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, way, dsn, name, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        await asyncio.sleep(0.2)  # what it sent last has arrived
        process.send_signal(signal.SIGSTOP)
        yield
    finally:
        process.kill()
        await process.wait()


async def take_row(watcher: asyncpg.Connection[Any]) -> bool:
    try:
        await watcher.execute("UPDATE row_of_all SET n = n + 1")
    except asyncpg.LockNotAvailableError:
        return False
    return True


@pytest.mark.parametrize("name", ["dpj", "dpj-relay"])
async def test_one_that_froze_while_it_prepared_a_statement(
    watcher: asyncpg.Connection[Any], postgres: Postgres, database_dsn: str, name: str
) -> None:
    frozen = PostgresFrozenSessions(postgres, seconds=SILENT_SECONDS)
    async with frozen_process(database_dsn, "prepares", name):
        assert not await take_row(watcher)
        await asyncio.sleep(SILENT_SECONDS)  # the server's clock says how long it is silent
        assert await frozen.run_once() == 1
        async with asyncio.timeout(5):
            while not await take_row(watcher):
                await asyncio.sleep(0.05)
        assert await frozen.run_once() == 0


async def test_one_that_was_silent_for_a_moment_keeps_its_session(
    watcher: asyncpg.Connection[Any], postgres: Postgres, database_dsn: str
) -> None:
    async with frozen_process(database_dsn, "prepares"):
        assert await PostgresFrozenSessions(postgres, seconds=60).run_once() == 0
        assert not await take_row(watcher)


@pytest.mark.parametrize(("way", "name"), [("works", "dpj"), ("rests", "dpj"), ("prepares", "somebody-else")])
async def test_sessions_that_other_timeouts_end_and_those_of_others_are_left_alone(
    watcher: asyncpg.Connection[Any], postgres: Postgres, database_dsn: str, way: str, name: str
) -> None:
    async with frozen_process(database_dsn, way, name):
        await asyncio.sleep(SILENT_SECONDS)
        assert await PostgresFrozenSessions(postgres, seconds=SILENT_SECONDS / 2).run_once() == 0
        assert not await take_row(watcher)


async def test_the_process_that_wakes_up_is_told_that_the_database_is_away(
    postgres: Postgres, database_dsn: str
) -> None:
    held = Postgres(database_dsn, connections=1)

    async def wakes_up() -> None:
        async with held.connection() as connection:
            await connection.prepare("SELECT 1")
            assert await PostgresFrozenSessions(postgres, seconds=0.0).run_once() == 1
            await asyncio.sleep(0.1)
            await connection.fetchval("SELECT 2")

    try:
        with pytest.raises(DatabaseUnavailable):
            await wakes_up()
        await held.check()
    finally:
        await held.aclose()
