"""A PostgreSQL that is away, slow, restarted or overrun: said as such, within seconds, and over when it is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from domain.errors import DatabaseUnavailable, DocumentBusy
from domain.refusals import StateChanged
from schemas.codec import EventCodec
from storage.postgres import database as postgres_module
from storage.postgres.connections import connect
from storage.postgres.database import Postgres, PostgresDatabase, PostgresLock
from tests.support.builders import a_document, a_dossier, add_documents
from tests.support.free_ports import free_port
from tests.support.tcp_proxy import Proxy


@pytest.fixture
async def proxy(database_dsn: str) -> AsyncIterator[Proxy]:
    """A line to the server that can be cut."""
    parts = urlsplit(database_dsn)
    async with Proxy(f"{parts.hostname}:{parts.port}") as line:
        yield line


def through(dsn: str, endpoint: str) -> str:
    """``dsn`` at another host and port."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@{endpoint}"))


async def end_others(dsn: str) -> int:
    """End every other session on the database."""
    connection = await asyncpg.connect(dsn)
    try:
        return int(
            await connection.fetchval(
                """
                SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                """
            )
        )
    finally:
        await connection.close()


# --- transactions -----------------------------------------------------------------------------------------------------


async def test_a_session_lost_before_a_statement(database: PostgresDatabase, database_dsn: str) -> None:
    dossier = a_dossier()

    async def work_on() -> None:
        async with database.transaction() as work:
            await work.dossiers.add(dossier)
            assert await end_others(database_dsn) == 1
            await work.dossiers.get("acme", dossier.id)

    with pytest.raises(DatabaseUnavailable):
        await work_on()
    async with database.transaction() as work:
        assert await work.dossiers.page("acme", None, 10) == []


async def test_a_session_lost_before_the_commit(database: PostgresDatabase, database_dsn: str) -> None:
    async def work_on() -> None:
        async with database.transaction() as work:
            await work.dossiers.add(a_dossier())
            await end_others(database_dsn)

    with pytest.raises(DatabaseUnavailable):
        await work_on()
    async with database.transaction() as work:
        assert await work.dossiers.page("acme", None, 10) == []


async def test_a_session_lost_during_a_statement(
    database: PostgresDatabase, postgres: Postgres, database_dsn: str
) -> None:
    dossier = a_dossier()
    document = a_document(dossier)
    await add_documents(database, dossier, document)

    async def waits() -> None:
        async with database.transaction() as work:
            await work.documents.lock(document.id)

    async with postgres.connection() as connection, connection.transaction():
        await connection.execute("SELECT FROM documents FOR UPDATE")
        waiting = asyncio.create_task(waits())
        ended = 0
        async with asyncio.timeout(10):
            while not ended:
                await asyncio.sleep(0.05)
                ended = await connection.fetchval(
                    """
                    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'
                    """
                )
        with pytest.raises(DatabaseUnavailable):
            await waiting
    await waits()


async def test_idle_connections_that_died_are_replaced(
    database: PostgresDatabase, postgres: Postgres, database_dsn: str
) -> None:
    await asyncio.gather(*(postgres.check() for _ in range(8)))
    assert await end_others(database_dsn) >= 1
    await asyncio.sleep(0.1)
    for _ in range(12):
        async with database.transaction() as work:
            await work.dossiers.page(None, None, 1)


async def test_an_error_of_the_block_passes_as_it_is(database: PostgresDatabase) -> None:
    async def work_on(error: Exception) -> None:
        async with database.transaction() as work:
            await work.dossiers.add(a_dossier())
            raise error

    for error in (StateChanged(), KeyError("x"), ZeroDivisionError()):
        with pytest.raises(type(error)):
            await work_on(error)
    async with database.transaction() as work:
        assert await work.dossiers.page(None, None, 10) == []


async def test_what_waiting_cannot_mend_is_no_outage(database: PostgresDatabase, database_dsn: str) -> None:
    async def read(code: Any) -> None:
        async with database.transaction() as work:
            await work.types.get(code)

    with pytest.raises(asyncpg.CharacterNotInRepertoireError):
        await read("\x00")
    with pytest.raises(asyncpg.DataError):
        await read(b"bytes")
    with pytest.raises(asyncpg.ClientConfigurationError):
        await Postgres(f"{database_dsn}?sslmode=maybe").check()
    with pytest.raises(asyncpg.ClientConfigurationError):
        await connect(f"{database_dsn}?sslmode=maybe")


async def test_a_cancelled_statement_gives_its_connection_back(database_dsn: str, codec: EventCodec) -> None:
    postgres = Postgres(database_dsn, connections=1)
    database = PostgresDatabase(postgres, codec.encode)
    started = asyncio.Event()

    async def sleeps() -> None:
        async with postgres.connection() as connection:
            started.set()
            await connection.execute("SELECT pg_sleep(30)")

    async def holds() -> None:
        async with database.transaction() as work:
            await work.dossiers.add(a_dossier())
            started.set()
            await asyncio.sleep(30)

    try:
        for work in (sleeps, holds, sleeps):
            started.clear()
            task = asyncio.create_task(work())
            await started.wait()
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(5):
                async with database.transaction() as unit:
                    assert await unit.dossiers.page(None, None, 10) == []
    finally:
        await postgres.aclose()


@pytest.mark.parametrize("error", [TimeoutError("other"), ConnectionResetError("other"), FileNotFoundError("other")])
async def test_what_other_code_raises_in_a_transaction_is_no_outage_of_the_database(
    database_dsn: str, codec: EventCodec, error: OSError
) -> None:
    postgres = Postgres(database_dsn, connections=1)
    database = PostgresDatabase(postgres, codec.encode)

    async def other_code() -> None:
        async with database.transaction() as work:
            await work.dossiers.add(a_dossier())
            raise error

    try:
        with pytest.raises(type(error), match="other"):
            await other_code()
        async with database.transaction() as work:
            assert await work.dossiers.page(None, None, 10) == []
    finally:
        await postgres.aclose()


async def test_a_statement_that_takes_too_long(database_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_module, "STATEMENT_SECONDS", 0.5)
    postgres = Postgres(database_dsn, connections=1)

    async def sleeps() -> None:
        async with postgres.connection() as connection:
            await connection.execute("SELECT pg_sleep(30)")

    try:
        for _ in range(2):
            async with asyncio.timeout(5):
                with pytest.raises(DatabaseUnavailable):
                    await sleeps()
        await postgres.check()
    finally:
        await postgres.aclose()


async def test_a_pool_that_is_used_up(database_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_module, "ACQUIRE_SECONDS", 0.3)
    postgres = Postgres(database_dsn, connections=1)
    try:
        async with postgres.connection():
            with pytest.raises(DatabaseUnavailable):
                await postgres.check()
            async with postgres.lock("x"):  # locks have sessions of their own
                pass
        await postgres.check()
    finally:
        await postgres.aclose()


async def test_a_server_that_takes_no_more_sessions(database_dsn: str, server_dsn: str) -> None:
    name = urlsplit(database_dsn).path.removeprefix("/")
    admin = await asyncpg.connect(server_dsn)
    postgres = Postgres(database_dsn)
    try:
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        with pytest.raises(DatabaseUnavailable):
            await postgres.check()
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await postgres.check()
    finally:
        await postgres.aclose()
        await admin.close()


async def test_a_table_changed_under_us_and_a_standby_are_waited_for(
    database: PostgresDatabase, postgres: Postgres, database_dsn: str
) -> None:
    dossier = a_dossier()
    async with database.transaction() as work:
        await work.dossiers.add(dossier)

    async def read() -> None:
        async with database.transaction() as work:
            await work.dossiers.get("acme", dossier.id)

    async def write() -> None:
        async with database.transaction() as work:
            await work.dossiers.add(a_dossier())

    await read()
    async with postgres.connection() as connection:
        await connection.execute("ALTER TABLE dossiers ADD COLUMN more text")
    with pytest.raises(DatabaseUnavailable):
        await read()
    await read()
    async with postgres.connection() as connection:
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await end_others(database_dsn)
    await asyncio.sleep(0.1)
    with pytest.raises(DatabaseUnavailable):
        await write()
    await read()


async def test_a_transaction_left_open_too_long_is_ended_by_the_server(postgres: Postgres) -> None:
    async def idles() -> None:
        async with postgres.connection() as connection, connection.transaction():
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 200")
            await asyncio.sleep(0.6)
            await connection.execute("SELECT 1")

    with pytest.raises(DatabaseUnavailable):
        await idles()
    await postgres.check()


# --- lines ------------------------------------------------------------------------------------------------------------


async def test_a_server_that_is_away_at_the_start(database_dsn: str) -> None:
    port = free_port()
    postgres = Postgres(through(database_dsn, f"127.0.0.1:{port}"))
    parts = urlsplit(database_dsn)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(parts.hostname, parts.port)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while piece := await source.read(65536):
                sink.write(piece)
            sink.close()

        await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer))

    try:
        started = time.monotonic()
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                await postgres.check()
            with pytest.raises(DatabaseUnavailable):
                async with postgres.lock("x"):
                    pass
        assert time.monotonic() - started < 5
        server = await asyncio.start_server(forward, "127.0.0.1", port)
        await postgres.check()
    finally:
        await postgres.aclose()
    server.close()


async def test_a_cut_line_is_an_outage_and_a_new_line_is_taken(database_dsn: str, proxy: Proxy) -> None:
    postgres = Postgres(through(database_dsn, proxy.endpoint))

    async def talk(size: int) -> int:
        async with postgres.connection() as connection, connection.transaction():
            return int(await connection.fetchval("SELECT length(repeat('x', $1))", size))

    async def fetch() -> None:
        async with postgres.connection() as connection, connection.transaction():
            await connection.fetchval("SELECT repeat('x', 1000000)")

    try:
        assert await talk(10) == 10
        proxy.cut_answers_after = 5_000
        with pytest.raises(DatabaseUnavailable):
            await fetch()
        proxy.cut_answers_after = None
        assert await talk(11) == 11
    finally:
        await postgres.aclose()


async def test_a_silent_line_is_given_up(database_dsn: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATEMENT_SECONDS", "CONNECT_SECONDS", "ACQUIRE_SECONDS"):
        monkeypatch.setattr(postgres_module, name, 0.7)
    postgres = Postgres(through(database_dsn, proxy.endpoint), connections=1)
    try:
        await postgres.check()
        proxy.silent = True
        async with asyncio.timeout(15):
            with pytest.raises(DatabaseUnavailable):
                await postgres.check()
            with pytest.raises(DatabaseUnavailable):
                async with postgres.lock("x"):
                    pass
        proxy.silent = False
        async with asyncio.timeout(10):
            await postgres.check()
    finally:
        await postgres.aclose()


# --- cluster-wide locks -----------------------------------------------------------------------------------------------


async def test_a_lock_is_held_by_one_at_a_time(postgres: Postgres, database_dsn: str) -> None:
    other = Postgres(database_dsn)
    inside = most = 0

    async def work(database: Postgres) -> None:
        nonlocal inside, most
        async with database.lock("ged-document:1"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.01)
            inside -= 1

    try:
        await asyncio.gather(*(work(postgres if turn % 2 else other) for turn in range(24)))
        async with postgres.lock("a"), other.lock("b"):
            pass
    finally:
        await other.aclose()
    assert most == 1


async def test_a_lock_that_stays_taken_is_busy(database: PostgresDatabase, postgres: Postgres) -> None:
    async with database.lock("x"):
        started = time.monotonic()
        with pytest.raises(DocumentBusy):
            async with postgres.lock("x", wait_seconds=0.3):
                pass
        assert 0.2 < time.monotonic() - started < 3
    async with postgres.lock("x", wait_seconds=0.3):
        pass


async def test_an_error_inside_a_lock_frees_it(postgres: Postgres) -> None:
    with pytest.raises(KeyError):
        async with postgres.lock("x"):
            raise KeyError
    async with postgres.lock("x", wait_seconds=0.3):
        pass


async def test_the_end_of_its_session_frees_a_lock(postgres: Postgres, database_dsn: str) -> None:
    other = Postgres(database_dsn)
    try:
        async with postgres.lock("x"):
            await end_others(database_dsn)
            async with other.lock("x", wait_seconds=3):
                pass
        async with postgres.lock("x", wait_seconds=0.3):
            pass
    finally:
        await other.aclose()


async def test_a_lock_outlives_a_long_work_but_not_its_process_falling_silent(
    postgres: Postgres, database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.postgres.database.LOCK_SILENCE_SECONDS", 1.0)
    other = Postgres(database_dsn)
    try:
        async with postgres.lock("x") as held:
            with pytest.raises(DocumentBusy):
                async with other.lock("x", wait_seconds=2.5):
                    pass
            await held.check()

        async def silent(_: PostgresLock) -> None:
            """As a frozen process: it asks nothing more."""

        monkeypatch.setattr(PostgresLock, "keep", silent)
        async with postgres.lock("x") as held, other.lock("x", wait_seconds=5):
            with pytest.raises(DatabaseUnavailable):
                await held.check()
    finally:
        await other.aclose()


async def test_cancelling_its_holder_or_its_waiter_frees_a_lock(postgres: Postgres) -> None:
    holding = asyncio.Event()

    async def hold() -> None:
        async with postgres.lock("x"):
            holding.set()
            await asyncio.sleep(30)

    holder = asyncio.create_task(hold())
    await holding.wait()
    waiter = asyncio.create_task(hold())
    await asyncio.sleep(0.2)
    for task in (waiter, holder):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    for _ in range(10):  # every session of the pool is free of it
        async with postgres.lock("x", wait_seconds=1):
            pass


async def test_closing_ends_every_session(database_dsn: str) -> None:
    postgres = Postgres(database_dsn)
    await postgres.aclose()  # nothing was opened
    await postgres.check()
    async with postgres.lock(str(uuid4())):
        pass
    await postgres.aclose()
    assert await end_others(database_dsn) == 0
