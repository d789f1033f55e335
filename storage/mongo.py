"""A connection to MongoDB, made when it is first used. Whatever keeps it from serving is AuditStoreUnavailable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

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

#: BadValue, FailedToParse, TypeMismatch, BSONObjectTooLarge: no repetition cures these.
NEVER: Final = frozenset({2, 9, 14, 10334})
_MAX_INTEGER: Final = 2**63
_MAX_DEPTH: Final = 20


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
    """``url`` as pymongo takes it; options in it win over LIMITS."""

    def __init__(self, url: str, database: str) -> None:
        self._url = url
        self._database = database
        self._client: AsyncMongoClient[dict[str, Any]] | None = None

    def collection(self, name: str) -> AsyncCollection[dict[str, Any]]:
        """A collection; opens nothing before its first use."""
        if self._client is None:
            self._client = AsyncMongoClient(
                self._url,
                appname="dpj",
                tz_aware=True,
                # A repeated write is found by its unique id; servers without sessions refuse the driver's own retries.
                retryWrites=False,
                **_limits(self._url),
            )
        return self._client[self._database][name]

    async def check(self) -> None:
        """Raises AuditStoreUnavailable."""
        with translated():
            await self.collection("audit_logs").database.command("ping")

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None


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
