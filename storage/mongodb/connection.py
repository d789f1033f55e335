"""A connection to MongoDB, made when it is first used. Whatever keeps it from serving is AuditStoreUnavailable."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

import structlog
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure, PyMongoError

from domain.errors import AuditStoreUnavailable

LIMITS: Final[dict[str, Any]] = {
    "serverSelectionTimeoutMS": 3_000,
    "connectTimeoutMS": 3_000,
    "socketTimeoutMS": 15_000,
    "waitQueueTimeoutMS": 3_000,
    "maxPoolSize": 8,
}

#: For one operation: longer than the driver's own limits together. What takes so long will never come.
DEADLINE_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 2.0
CLOSE_TRIES: Final = 3

#: BadValue, FailedToParse, TypeMismatch, BSONObjectTooLarge: no repetition cures these.
NEVER: Final = frozenset({2, 9, 14, 10334})
_MAX_INTEGER: Final = 2**63
_MAX_DEPTH: Final = 20

T = TypeVar("T")
Collection = AsyncCollection[dict[str, Any]]
Client = AsyncMongoClient[dict[str, Any]]

log = structlog.get_logger()


@contextmanager
def translated() -> Iterator[None]:
    """What the server's state explains is AuditStoreUnavailable; a value that it will never take passes as the defect it is."""
    try:
        yield
    except PyMongoError as error:
        if isinstance(error, OperationFailure) and error.code in NEVER:
            raise
        raise AuditStoreUnavailable("MongoDB does not answer.") from error


class MongoConnection:
    """``url`` as pymongo takes it; options in it win over LIMITS. ``deadline`` in seconds holds for one operation.

    Work that is cancelled while it waits for a server can leave the driver with a lock that nobody holds and nobody gives back:
    from then on each of its operations waits for ever, or ends in RuntimeError. Such a client is left to itself, and the next
    operation has a new one.
    """

    def __init__(self, url: str, database: str, *, deadline: float = DEADLINE_SECONDS) -> None:
        self._url = url
        self._database = database
        self._deadline = deadline
        self._client: Client | None = None
        self._left: set[asyncio.Task[Any]] = set()

    async def run(self, name: str, operation: Callable[[Collection], Awaitable[T]]) -> T:
        """``operation`` on the collection ``name``. Raises AuditStoreUnavailable, or what ``operation`` raises of its own.

        It ends in time whatever the driver does: one that waits for a lost lock does not always heed its cancellation.
        """
        client = self._opened()

        async def operate() -> T:
            with translated():
                return await operation(client[self._database][name])

        working = asyncio.create_task(operate())
        try:
            await asyncio.wait({working}, timeout=self._deadline)
        finally:
            if working.done():
                _seen(working)  # also by one that is cancelled this moment
            else:
                self._leave(working)
        if not working.done():
            self._abandon(client, "deadline")
            raise AuditStoreUnavailable("MongoDB did not answer in time.")
        try:
            return working.result()
        except RecursionError:
            raise  # of a value, not of the driver
        except RuntimeError as error:
            self._abandon(client, "driver")
            raise AuditStoreUnavailable("MongoDB does not answer.") from error

    async def check(self) -> None:
        """Raises AuditStoreUnavailable."""
        await self.run("audit_logs", lambda collection: collection.database.command("ping"))

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await _close(client)
        if self._left:
            await asyncio.wait(self._left, timeout=CLOSE_TRIES * CLOSE_SECONDS)

    def _opened(self) -> Client:
        if self._client is None:
            self._client = AsyncMongoClient(
                self._url,
                appname="dpj",
                tz_aware=True,
                # A repeated write is found by its unique id; servers without sessions refuse the driver's own retries.
                retryWrites=False,
                **_limits(self._url),
            )
        return self._client

    def _abandon(self, client: Client, why: str) -> None:
        if self._client is not client:
            return  # another operation has done so
        log.warning("mongodb_client_abandoned", reason=why)
        self._client = None
        self._keep(asyncio.create_task(_close(client)))

    def _leave(self, working: asyncio.Task[Any]) -> None:
        """Cancel it, and wait for nothing."""
        working.cancel()
        self._keep(working)

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._left.add(task)
        task.add_done_callback(self._left.discard)
        task.add_done_callback(_seen)


def _seen(task: asyncio.Task[Any]) -> None:
    """asyncio complains of an error that nobody looked at."""
    if not task.cancelled():
        task.exception()


async def _close(client: Client) -> None:
    """Give its connections back. Where that waits for a lost lock, so does work of the driver that no cancellation ends: it gets
    the lock, and then ends."""
    for _ in range(CLOSE_TRIES):
        with suppress(TimeoutError, RuntimeError, PyMongoError):
            async with asyncio.timeout(CLOSE_SECONDS):
                return await client.close()
        lock = client._topology._lock  # noqa: SLF001 - nobody else gives it back
        if lock.locked():
            lock.release()
    log.warning("mongodb_client_not_closed")
    return None


def _limits(url: str) -> dict[str, Any]:
    """LIMITS without those that ``url`` sets itself: pymongo would prefer the ones it is given beside it."""
    given = {name.lower() for name, _ in parse_qsl(urlsplit(url).query)}
    return {name: limit for name, limit in LIMITS.items() if name.lower() not in given}


def queryable(text: str | None) -> Any:
    """A JSON text as the value it means; the text itself where MongoDB could not hold that value."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if _fits(value) else text


def _fits(value: Any, depth: int = 0) -> bool:
    if depth > _MAX_DEPTH:
        return False
    if isinstance(value, dict):
        return all(_plain_name(name) and _fits(held, depth + 1) for name, held in value.items())
    if isinstance(value, list):
        # FerretDB refuses lists in lists, and what is refused would be tried again for ever.
        return all(not isinstance(held, list) and _fits(held, depth + 1) for held in value)
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, float):
        return value - value == 0.0  # neither infinite nor not-a-number
    return not isinstance(value, int) or -_MAX_INTEGER <= value < _MAX_INTEGER


def _plain_name(name: str) -> bool:
    return bool(name) and not name.startswith("$") and "." not in name and _is_text(name)


def _is_text(value: str) -> bool:
    """Half a surrogate pair, which JSON can escape and a PDF's title may hold, is no text in BSON."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False
