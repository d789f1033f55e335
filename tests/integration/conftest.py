"""A PostgreSQL database of each test's own, migrated, dropped at the end. What fills one at length fills it once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from domain.events import EVENT_TYPES
from schemas.codec import EventCodec
from storage.migrate import upgrade
from storage.postgres.connections import connect
from storage.postgres.database import Postgres, PostgresDatabase
from storage.postgres.delivery.outbox import PostgresOutboxReader
from tests.support.own_loop import run_beside


class NoRegistry:
    """Schemas of other writers can't be had."""

    async def schema_by_id(self, schema_id: int) -> str:
        raise LookupError(schema_id)


def renamed(dsn: str, name: str) -> str:
    """``dsn`` with another database of the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


async def on_server(dsn: str, statement: str) -> None:
    """One statement outside of any transaction."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def drop(dsn: str, name: str) -> None:
    """Drop a database and end who is still connected to it."""
    async with asyncio.timeout(20):
        while True:
            try:
                await on_server(dsn, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            except asyncpg.InsufficientPrivilegeError:
                await asyncio.sleep(0.2)  # the server's own vacuum is there, which may not be ended and soon is
            else:
                return


@asynccontextmanager
async def copied(server_dsn: str, template: str) -> AsyncIterator[str]:
    """DSN of a new database that is like ``template``, dropped at the end.

    Files are copied: through the log, as is the default, costs four times the processor time where nothing is flushed.
    """
    name = f"test_{uuid4().hex}"
    await on_server(server_dsn, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    try:
        yield renamed(server_dsn, name)
    finally:
        await drop(server_dsn, name)


@contextmanager
def filled(server_dsn: str, template: str | None, fill: Callable[[str], Awaitable[object]]) -> Iterator[str]:
    """Name of a new database, like ``template`` or empty, that ``fill`` was given the DSN of; dropped at the end. For tests to copy."""
    name = f"template_{uuid4().hex}"

    async def create() -> None:
        like = f"TEMPLATE {template} STRATEGY FILE_COPY" if template else ""
        await on_server(server_dsn, f"CREATE DATABASE {name} {like}")
        await fill(renamed(server_dsn, name))

    run_beside(create())
    try:
        yield name
    finally:
        run_beside(drop(server_dsn, name))


@pytest.fixture(scope="session")
def server_dsn(stack: Mapping[str, str]) -> str:
    """The database that the stack runs on: only for creating others beside it."""
    return stack["DPJ_POSTGRES_DSN"]


@pytest.fixture(scope="session")
def migrated_template(server_dsn: str) -> Iterator[str]:
    """Name of a migrated database that the tests' databases are copies of."""
    with filled(server_dsn, None, upgrade) as name:
        yield name


@pytest.fixture
async def empty_dsn(server_dsn: str) -> AsyncIterator[str]:
    """DSN of a new database without any table."""
    name = f"test_{uuid4().hex}"
    await on_server(server_dsn, f"CREATE DATABASE {name}")
    yield renamed(server_dsn, name)
    await drop(server_dsn, name)


@pytest.fixture
async def database_dsn(server_dsn: str, migrated_template: str) -> AsyncIterator[str]:
    """DSN of a new database with the tables and document types of this release."""
    async with copied(server_dsn, migrated_template) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def filled_template(request: pytest.FixtureRequest, server_dsn: str, migrated_template: str) -> Iterator[str]:
    """Name of a database that the module's ``fill(connection)`` has put rows into, once for all of its tests."""

    async def fill(dsn: str) -> None:
        connection = await connect(dsn)
        await connection.execute("SET statement_timeout = 0")
        await request.module.fill(connection)
        await connection.close()

    with filled(server_dsn, migrated_template, fill) as name:
        yield name


@pytest.fixture
async def filled_dsn(server_dsn: str, filled_template: str) -> AsyncIterator[str]:
    """DSN of a test's own copy of the filled database."""
    async with copied(server_dsn, filled_template) as dsn:
        yield dsn


@pytest.fixture
async def filled_connection(filled_dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A connection to it, on which a statement may take its time."""
    connection = await connect(filled_dsn)
    await connection.execute("SET statement_timeout = 0")
    yield connection
    await connection.close()


@pytest.fixture
async def postgres(database_dsn: str) -> AsyncIterator[Postgres]:
    """Connections to the test's own database."""
    postgres = Postgres(database_dsn)
    yield postgres
    await postgres.aclose()


@pytest.fixture
def codec() -> EventCodec:
    """A codec with schema ids that no registry gave."""
    return EventCodec({event.TOPIC: number for number, event in enumerate(EVENT_TYPES, 1)}, NoRegistry())


@pytest.fixture
def database(postgres: Postgres, codec: EventCodec) -> PostgresDatabase:
    """Transactions on the test's own database."""
    return PostgresDatabase(postgres, codec.encode)


@pytest.fixture
async def reader(database_dsn: str) -> AsyncIterator[PostgresOutboxReader]:
    """The outbox as a relay reads it, on an ordinary session: the server ends a relay's own when it is silent for longer than a test
    may be."""
    reader = PostgresOutboxReader(await connect(database_dsn))
    await reader.listen()
    yield reader
    await reader.close()
