"""PostgreSQL: connections, transactions, cluster-wide locks. Vendor errors become DatabaseUnavailable or DocumentBusy.

Waiting is bounded everywhere: for a connection, for a statement, for a lock. A server that is away when a process starts is
no error: connections are made when they are needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, cast

import asyncpg

from domain.errors import DatabaseConnectionsExhausted, DatabaseUnavailable, DocumentBusy
from domain.shared import tracing
from storage.postgres.audit.chain import PostgresAuditChains
from storage.postgres.audit.rebuild import PostgresChainRebuild
from storage.postgres.batches import PostgresBatches
from storage.postgres.connections import (
    AWAY,
    CONNECT_SECONDS,
    SERVER_SETTINGS,
    SERVER_STATEMENT_SECONDS,
    STATEMENT_SECONDS,
    of_the_driver,
    prepare_connection,
    translated,
)
from storage.postgres.console_sessions import PostgresConsoleSessions
from storage.postgres.delivery.dead_letter_index import PostgresDeadLetterIndexRows
from storage.postgres.delivery.dead_letters import PostgresDeadLetterMarks, PostgresGiveUpOrders
from storage.postgres.delivery.inbox import PostgresInboxMarks
from storage.postgres.delivery.outbox import Encode, PostgresOutbox
from storage.postgres.delivery.owed_events import PostgresReEmissions
from storage.postgres.delivery.refused_rows import PostgresRefusedRows
from storage.postgres.documents import PostgresDocuments, PostgresUploads
from storage.postgres.dossiers import PostgresDocumentTypes, PostgresDossiers
from storage.postgres.erasures import PostgresErasures
from storage.postgres.ged_attempts import PostgresGedAttempts
from storage.postgres.idempotency import PostgresIdempotencyKeys
from storage.postgres.keys.subject_keys import PostgresSubjectKeys
from storage.postgres.legal_holds import PostgresLegalHolds
from storage.postgres.links import PostgresLinks
from storage.postgres.orders import PostgresOrders
from storage.postgres.pauses import PostgresPauses
from storage.postgres.records import PostgresNotifications, PostgresRenditions, PostgresTimeline
from storage.postgres.tenants import PostgresTenants
from storage.postgres.uploads import PostgresUploadRecords

ACQUIRE_SECONDS: Final = 10.0
LOCK_SECONDS: Final = 30.0
#: As many documents as a consumer works on at once, about; each holds one while it is archived.
LOCK_CONNECTIONS: Final = 24
#: A session that holds a lock and says nothing for so long is that of a frozen process: the server ends it.
LOCK_SILENCE_SECONDS: Final = 20.0


class Postgres:
    """Two pools: one for statements, one for sessions that hold locks, so that neither can starve the other."""

    def __init__(self, dsn: str, *, connections: int = 10) -> None:
        self._dsn = dsn
        self._connections = connections
        self._pool: asyncpg.Pool[Any] | None = None
        self._locks: asyncpg.Pool[Any] | None = None
        self._opening = asyncio.Lock()
        self._free = asyncio.Semaphore(connections)
        self._resting: list[asyncpg.Connection[Any]] = []
        self._closed = False

    async def _open(self, size: int, reset: Callable[[Any], Awaitable[None]] | None = None) -> asyncpg.Pool[Any]:
        return await asyncpg.create_pool(
            self._dsn,
            min_size=0,
            max_size=size,
            timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS,
            server_settings=SERVER_SETTINGS,
            init=prepare_connection,
            reset=reset,
        )

    async def _pools(self) -> tuple[asyncpg.Pool[Any], asyncpg.Pool[Any]]:
        async with self._opening:
            if self._pool is None or self._locks is None:
                self._pool = await self._open(self._connections, _keep_session)
                self._locks = await self._open(LOCK_CONNECTIONS)
            return self._pool, self._locks

    def connection(self, operation: str = "query") -> AbstractAsyncContextManager[asyncpg.Connection[Any]]:
        """A connection of the pool. Raises DatabaseUnavailable, also for what the block's statements meet. ``operation``: what its span is
        called."""
        return _BorrowedConnection(self, operation)

    async def borrow(self) -> asyncpg.Connection[Any]:
        """A connection, to be given back. Those at rest stay out of the pool, whose hand-over costs as much as a statement."""
        if self._free.locked():
            try:
                async with asyncio.timeout(ACQUIRE_SECONDS):
                    await self._free.acquire()
            except TimeoutError:
                raise DatabaseConnectionsExhausted(
                    "All connections of this process are in use.", outage=False
                ) from None
        else:
            await self._free.acquire()
        try:
            while self._resting:
                resting = self._resting.pop()
                if not _is_closed(resting):
                    return resting
                await self._drop(resting)
            pool, _ = await self._pools()
            lent: Any = await pool.acquire(timeout=ACQUIRE_SECONDS)
            return cast("asyncpg.Connection[Any]", lent)  # a proxy with every method of a connection
        except BaseException:
            self._free.release()
            raise

    async def give_back(self, connection: asyncpg.Connection[Any], *, sound: bool) -> None:
        """One that met an error goes through the pool, which ends what is left of its statement."""
        try:
            if sound and not self._closed:
                self._resting.append(connection)
            else:
                await self._drop(connection)
        finally:
            self._free.release()

    async def _drop(self, connection: Any) -> None:
        if self._pool is not None:
            with suppress(*AWAY, asyncpg.PostgresError):
                await self._pool.release(connection, timeout=CONNECT_SECONDS)

    @asynccontextmanager
    async def lock(self, name: str, *, wait_seconds: float = LOCK_SECONDS) -> AsyncIterator[PostgresLock]:
        """Hold the cluster-wide lock ``name``; it ends with its session at the latest, or when this process has been frozen
        for ``LOCK_SILENCE_SECONDS``.

        Raises DocumentBusy if another holds it for longer than ``wait_seconds`` or too many locks are held here already, or
        DatabaseUnavailable.
        """
        with translated():
            _, locks = await self._pools()
            try:
                connection = await locks.acquire(timeout=ACQUIRE_SECONDS)
            except TimeoutError as error:
                if locks.get_size() == LOCK_CONNECTIONS and locks.get_idle_size() == 0:
                    raise DocumentBusy("Too many documents are worked on at once.") from error
                raise
        try:
            with translated():
                await _take(connection, name, wait_seconds)
            held = PostgresLock(connection)
            beating = asyncio.create_task(held.keep())
            try:
                yield held
            finally:
                beating.cancel()
                await asyncio.wait({beating})
        finally:
            # Giving a connection back to the pool resets it, and a reset lets go of its locks.
            with suppress(*AWAY, asyncpg.PostgresError):
                await locks.release(connection, timeout=CONNECT_SECONDS)

    async def check(self) -> None:
        """Raises DatabaseUnavailable if the database can't serve now."""
        async with self.connection() as connection:
            await connection.fetchval("SELECT 1")

    async def aclose(self) -> None:
        self._closed = True
        while self._resting:
            await self._drop(self._resting.pop())
        for pool in (self._pool, self._locks):
            if pool is not None:
                try:
                    await asyncio.wait_for(pool.close(), CONNECT_SECONDS)
                except (*AWAY, asyncpg.PostgresError):
                    pool.terminate()


class PostgresLock:
    """An advisory lock that is held; see ``processors.ports.database.HeldLock``."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._asking = asyncio.Lock()

    async def check(self) -> None:
        """Raises DatabaseUnavailable if the session is gone: the server let go of the lock when it ended."""
        async with self._asking:
            with translated():
                await self._connection.fetchval("SELECT 1")

    async def keep(self) -> None:
        """Keep the session from falling silent, until cancelled or the session is gone."""
        with suppress(DatabaseUnavailable):
            while True:
                await asyncio.sleep(LOCK_SILENCE_SECONDS / 4)
                await self.check()


class _BorrowedConnection:
    """A connection for the length of a block."""

    __slots__ = ("_connection", "_postgres", "_span")

    def __init__(self, postgres: Postgres, operation: str) -> None:
        self._postgres = postgres
        self._connection: asyncpg.Connection[Any] | None = None
        self._span = tracing.call(DatabaseUnavailable.waiting_for, operation)

    async def __aenter__(self) -> asyncpg.Connection[Any]:
        try:
            with translated():
                self._connection = await self._postgres.borrow()
                return self._connection
        except BaseException as error:
            self._span.end(error)
            raise

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._span.end(error)
        if self._connection is not None:
            await self._postgres.give_back(self._connection, sound=error is None)
        if isinstance(error, AWAY) and (not isinstance(error, OSError) or of_the_driver(error)):
            with translated():
                raise error


def _is_closed(connection: asyncpg.Connection[Any]) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True  # the server ended it while it rested, and the pool has taken it back already


async def _keep_session(_: Any) -> None:
    """No statement of ours leaves anything in a session of this pool; the driver itself rolls back what is open."""


async def _take(connection: Any, name: str, wait_seconds: float) -> None:
    try:
        # PostgreSQL 14 and later; giving the connection back resets them.
        await connection.execute(
            f"SET lock_timeout = {int(wait_seconds * 1000)}; SET idle_session_timeout = {int(LOCK_SILENCE_SECONDS * 1000)};"
            f"SET statement_timeout = {int((wait_seconds + SERVER_STATEMENT_SECONDS) * 1000)}"
        )
        await connection.fetchval(
            "SELECT pg_advisory_lock(hashtextextended($1, 0))", name, timeout=wait_seconds + STATEMENT_SECONDS
        )
    except asyncpg.LockNotAvailableError as error:
        raise DocumentBusy("Another process works on this document.") from error


class PostgresWork:
    """One transaction's repositories; see ``processors.ports.work.Work``."""

    def __init__(self, connection: asyncpg.Connection[Any], encode: Encode) -> None:
        self.documents = PostgresDocuments(connection)
        self.uploads = PostgresUploads(connection)
        self.dossiers = PostgresDossiers(connection)
        self.types = PostgresDocumentTypes(connection)
        self.outbox = PostgresOutbox(connection, encode)
        self.timeline = PostgresTimeline(connection)
        self.renditions = PostgresRenditions(connection)
        self.notifications = PostgresNotifications(connection)
        self.audit_chains = PostgresAuditChains(connection)
        self.idempotency = PostgresIdempotencyKeys(connection)
        self.inbox = PostgresInboxMarks(connection)
        self.ged_attempts = PostgresGedAttempts(connection)
        self.erasures = PostgresErasures(connection)
        self.holds = PostgresLegalHolds(connection)
        self.dead_letters = PostgresDeadLetterMarks(connection)
        self.batches = PostgresBatches(connection)
        self.pauses = PostgresPauses(connection)
        self.letter_index = PostgresDeadLetterIndexRows(connection)
        self.links = PostgresLinks(connection)
        self.held = PostgresGiveUpOrders(connection)
        self.refused = PostgresRefusedRows(connection)
        self.re_emissions = PostgresReEmissions(connection)
        self.chain_rebuild = PostgresChainRebuild(connection)
        self.subjects = PostgresSubjectKeys(connection)
        self.tenants = PostgresTenants(connection)
        self.orders = PostgresOrders(connection)
        self.sessions = PostgresConsoleSessions(connection)


class PostgresDatabase:
    """Transactions over ``Postgres``. ``encode`` turns an event into the bytes that Kafka will carry."""

    def __init__(self, postgres: Postgres, encode: Encode) -> None:
        self._postgres = postgres
        self._encode = encode
        self.uploads = PostgresUploadRecords(postgres, encode)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresWork]:
        """READ COMMITTED. Commits when the block ends, rolls back when it raises. Raises DatabaseUnavailable."""
        async with self._postgres.connection("transaction") as connection:
            work = PostgresWork(connection, self._encode)
            with work.outbox.spans:
                async with connection.transaction():
                    yield work
                    await work.audit_chains.flush()
                    await work.outbox.flush()
                    await work.inbox.flush()

    def lock(self, name: str) -> Any:
        """See ``Postgres.lock``."""
        return self._postgres.lock(name)
