"""Connections to PostgreSQL and what their errors mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Final, Protocol

import asyncpg
import orjson

from domain.errors import (
    DatabaseConflict,
    DatabaseConnectionsExhausted,
    DatabaseFull,
    DatabaseLocked,
    DatabaseTimeout,
    DatabaseUnavailable,
)

CONNECT_SECONDS: Final = 5.0
#: After so long the driver gives a statement up, and with it a server that says nothing any more.
STATEMENT_SECONDS: Final = 15.0
#: The server ends a statement a little sooner, and one that waits for a lock sooner still: then it is known what took so long.
SERVER_STATEMENT_SECONDS: Final = 14.0
SERVER_LOCK_SECONDS: Final = 10.0

#: The server's way of saying "not now": away, overloaded, restarting, or a conflict that a new transaction resolves.
AWAY: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what the driver makes of a session that ends between two statements
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.ObjectNotInPrerequisiteStateError,  # a lock not to be had, a database under maintenance
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, before or after a fail-over
    asyncpg.InvalidCachedStatementError,  # a migration changed a table under us
    asyncpg.OutdatedSchemaCacheError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    OSError,
    TimeoutError,
)

#: What a server that answers says, where that is more than "not now"; the first class that fits. Words, and the error's class.
_CAUSES: Final[tuple[tuple[type[BaseException], type[DatabaseUnavailable], str], ...]] = (
    (asyncpg.LockNotAvailableError, DatabaseLocked, "Another transaction holds a lock on what is needed."),
    (asyncpg.QueryCanceledError, DatabaseTimeout, "The database ended a statement that took too long."),
    (asyncpg.DeadlockDetectedError, DatabaseConflict, "Two transactions waited for each other; this one was undone."),
    (asyncpg.TransactionRollbackError, DatabaseConflict, "Another transaction came in between; this one was undone."),
    (asyncpg.TooManyConnectionsError, DatabaseConnectionsExhausted, "The database takes no more connections."),
    (asyncpg.DiskFullError, DatabaseFull, "The database's disk is full."),
    (asyncpg.OutOfMemoryError, DatabaseUnavailable, "The database is out of memory."),
    (asyncpg.ReadOnlySQLTransactionError, DatabaseUnavailable, "The database takes no writes: it is a standby."),
    (asyncpg.InvalidAuthorizationSpecificationError, DatabaseUnavailable, "The database refuses our login."),
    (asyncpg.InvalidCatalogNameError, DatabaseUnavailable, "The server has no such database."),
    (asyncpg.CannotConnectNowError, DatabaseUnavailable, "The database starts or stops."),
    (asyncpg.AdminShutdownError, DatabaseUnavailable, "The database ended our session."),
)
#: Of one call, not of the database.
_OF_ONE_CALL: Final = (DatabaseLocked, DatabaseConflict, DatabaseTimeout)

#: What our sessions are called, and the relay's that leads.
APPLICATION_NAMES: Final = ("dpj", "dpj-relay")

SERVER_SETTINGS: Final = {
    "application_name": APPLICATION_NAMES[0],
    "jit": "off",
    "lock_timeout": str(int(SERVER_LOCK_SECONDS * 1000)),
    "statement_timeout": str(int(SERVER_STATEMENT_SECONDS * 1000)),
    # A process that is frozen in a transaction keeps its rows from the others no longer than a statement may take.
    "idle_in_transaction_session_timeout": str(int(STATEMENT_SECONDS * 1000)),
    # The server notices within seconds when a client's machine is gone, and frees what it held.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}


class Connections(Protocol):
    """Gives connections of a pool; see ``storage.postgres.database.Postgres.connection``."""

    def connection(self) -> AbstractAsyncContextManager[asyncpg.Connection[Any]]: ...


@contextmanager
def translated() -> Iterator[None]:
    """Vendor errors that mean "not now" become DatabaseUnavailable or the class below it that names the cause; any other is a defect
    and passes as it is."""
    try:
        yield
    except AWAY as error:
        if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
            raise  # the driver refuses the DSN: waiting would not help
        raise unavailable(error) from error


def unavailable(error: BaseException) -> DatabaseUnavailable:
    """What an error of ``AWAY`` means: DatabaseUnavailable, or the class below it that names the cause."""
    for vendor, ours, words in _CAUSES:
        if isinstance(error, vendor):
            return ours(words, outage=not issubclass(ours, _OF_ONE_CALL))
    return DatabaseUnavailable("The database does not answer.")


def of_the_driver(error: BaseException) -> bool:
    """Whether ``error`` was raised in a call to the driver. A socket's errors and timeouts have no class of their own: by
    their class alone those of any other code in a block would count as the database's."""
    trace = error.__traceback__
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).startswith("asyncpg."):
            return True
        trace = trace.tb_next
    return False


async def prepare_connection(connection: asyncpg.Connection[Any]) -> None:
    """Have json and jsonb columns read and written as Python values."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + orjson.dumps(value, default=str),
        decoder=lambda data: orjson.loads(data[1:]),
    )
    await connection.set_type_codec(
        "json",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: orjson.dumps(value, default=str),
        decoder=orjson.loads,
    )


async def connect(dsn: str, settings: Mapping[str, str] | None = None) -> asyncpg.Connection[Any]:
    """A connection of one's own, with ``settings`` over the usual ones. Raises DatabaseUnavailable."""
    with translated():
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS,
            server_settings={**SERVER_SETTINGS, **(settings or {})},
        )
        try:
            await prepare_connection(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection
