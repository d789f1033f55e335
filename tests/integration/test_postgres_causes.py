"""What a PostgreSQL that answers, and can't do it now, is said to be: locked, slow, at odds, overrun or full."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from domain.errors import (
    DatabaseConflict,
    DatabaseConnectionsExhausted,
    DatabaseFull,
    DatabaseLocked,
    DatabaseTimeout,
    DatabaseUnavailable,
)
from ingest_api.problems import problem_of
from runtime.cli.failures import describe
from storage.migrate import upgrade
from storage.postgres import connections
from storage.postgres import database as postgres_module
from storage.postgres.connections import connect
from storage.postgres.database import Postgres, PostgresDatabase
from storage.postgres.statement_batcher import StatementBatcher
from tests.support.builders import a_document, a_dossier, add_documents


@asynccontextmanager
async def stranger(dsn: str, statement: str, *values: object) -> AsyncIterator[asyncpg.Connection]:
    """A session that is none of ours, in a transaction that has run ``statement`` and stays open."""
    connection = await asyncpg.connect(dsn)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(statement, *values)
        yield connection
        await transaction.rollback()
    finally:
        await connection.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that are opened from now on wait a moment only."""
    monkeypatch.setitem(connections.SERVER_SETTINGS, "lock_timeout", "300")
    monkeypatch.setitem(connections.SERVER_SETTINGS, "statement_timeout", "600")


@pytest.mark.usefixtures("impatient")
async def test_a_row_that_a_stranger_locks_is_locked_and_no_outage(
    database: PostgresDatabase, postgres: Postgres, database_dsn: str
) -> None:
    dossier = a_dossier()
    document = a_document(dossier)
    await add_documents(database, dossier, document)
    async with stranger(database_dsn, "SELECT FROM documents WHERE id = $1 FOR UPDATE", document.id):
        with pytest.raises(DatabaseLocked, match="Another transaction holds a lock") as caught:
            async with database.transaction() as work:
                await work.documents.lock(document.id)
        await postgres.check()
    assert not caught.value.outage
    async with database.transaction() as work:
        await work.documents.lock(document.id)
    assert described(caught.value) == ("database_locked", 503, "10")
    told = describe(caught.value)
    assert told.code == "database_locked"
    assert "does not answer" not in told.message
    assert "Is postgresql running" not in told.next_step


def described(error: DatabaseUnavailable) -> tuple[str, int, str]:
    """Code, status and Retry-After of the API's answer."""
    answer = problem_of(error)
    return error.code, answer.status_code, answer.headers["Retry-After"]


@pytest.mark.usefixtures("impatient")
async def test_a_statement_that_takes_too_long_is_a_timeout(postgres: Postgres) -> None:
    with pytest.raises(DatabaseTimeout, match="ended a statement that took too long"):
        async with postgres.connection() as connection:
            await connection.execute("SELECT pg_sleep(5)")
    await postgres.check()


async def test_a_deadlock_is_a_conflict_for_its_victim(postgres: Postgres, database_dsn: str) -> None:
    async with postgres.connection() as connection:
        await connection.execute("CREATE TABLE pair AS SELECT n FROM generate_series(1, 2) n")
    second = "UPDATE pair SET n = n WHERE n = 2"

    async def crosswise() -> None:
        async with postgres.connection() as connection, connection.transaction():
            await connection.execute("UPDATE pair SET n = n WHERE n = 1")
            await connection.execute(second)

    async with stranger(database_dsn, second) as other:
        ours = asyncio.create_task(crosswise())
        await asyncio.sleep(0.3)  # who waits first finds the deadlock
        theirs = asyncio.create_task(other.execute("UPDATE pair SET n = n WHERE n = 1"))
        with pytest.raises(DatabaseConflict, match="waited for each other"):
            await ours
        await theirs


async def test_a_server_that_takes_no_more_connections_is_said_so(database_dsn: str) -> None:
    first = await connect(database_dsn)
    parts = urlsplit(database_dsn)
    try:
        await first.execute(f"ALTER DATABASE {parts.path[1:]} CONNECTION LIMIT 1")
        with pytest.raises(DatabaseConnectionsExhausted, match="takes no more connections"):
            await connect(database_dsn)
        with pytest.raises(DatabaseConnectionsExhausted, match="takes no more connections"):
            await upgrade(database_dsn)
    finally:
        await first.close()
    wrong = urlunsplit(parts._replace(netloc=f"{parts.username}:wrong@{parts.hostname}:{parts.port}"))
    with pytest.raises(DatabaseUnavailable, match="refuses our login"):
        await connect(wrong)


async def test_a_process_whose_connections_are_all_in_use_says_so(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "ACQUIRE_SECONDS", 0.2)
    postgres = Postgres(database_dsn, connections=1)
    try:
        async with postgres.connection():
            with pytest.raises(DatabaseConnectionsExhausted, match="of this process are in use"):
                await postgres.check()
    finally:
        await postgres.aclose()


async def test_a_full_disk_is_said_so(postgres: Postgres) -> None:
    """The server's own code for it, raised on the server: its disk is not filled for this."""
    with pytest.raises(DatabaseFull, match="disk is full") as caught:
        async with postgres.connection() as connection:
            await connection.execute("DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = 'disk_full'; END $$")
    assert described(caught.value) == ("database_full", 503, "30")
    assert "make room" in describe(caught.value).next_step


@pytest.mark.usefixtures("impatient")
async def test_calls_that_share_a_round_do_not_share_a_lock(
    database: PostgresDatabase, postgres: Postgres, database_dsn: str
) -> None:
    async with postgres.connection() as connection:
        await connection.execute("CREATE TABLE seats AS SELECT n FROM generate_series(1, 3) n")
    batcher = StatementBatcher(postgres)
    statement = "UPDATE seats SET n = n WHERE n = $1 RETURNING n"
    async with stranger(database_dsn, "SELECT FROM seats WHERE n = 2 FOR UPDATE"):
        answers = await asyncio.gather(*(batcher.fetch_row(statement, n) for n in (1, 2, 3)), return_exceptions=True)
    assert isinstance(answers[1], DatabaseLocked)
    assert [answer["n"] for answer in answers if not isinstance(answer, BaseException)] == [1, 3]
