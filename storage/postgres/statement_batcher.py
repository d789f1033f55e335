"""One statement for several callers of a moment: executed once for each, in one transaction, with one round trip and one commit.

A commit costs the server more than the rows in it, so under load uploads share theirs. While one round of a statement is under way its
next callers gather; alone, a caller waits for nobody. No outcome depends on who shares: a round that the server refuses (one caller's
row is at fault, or a deadlock) is undone by it as a whole, and then run again caller by caller, each in a transaction of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from domain.errors import DatabaseUnavailable
from storage.postgres.connections import Connections

ROUND: Final = 32
WAITING: Final = 4096

_Call = tuple[Sequence[Any], "asyncio.Future[asyncpg.Record]"]


class Gathering:
    """For one event loop. Statements must give exactly one row for each execution, and be whole transactions in themselves."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._calls: dict[str, deque[_Call]] = {}
        self._rounds: set[asyncio.Task[None]] = set()

    async def row(self, statement: str, *values: Any) -> asyncpg.Record:
        """The row that ``statement`` gives for ``values``, committed. Raises DatabaseUnavailable or what the server says of it.

        A caller that is cancelled may find its statement executed all the same.
        """
        row: asyncio.Future[asyncpg.Record] = asyncio.get_running_loop().create_future()
        calls = self._calls.get(statement)
        if calls is None:
            calls = self._calls[statement] = deque()
            task = asyncio.create_task(self._run(statement, calls))
            self._rounds.add(task)
            task.add_done_callback(self._rounds.discard)
        elif len(calls) >= WAITING:
            raise DatabaseUnavailable("Too many calls wait for the database.")
        calls.append((values, row))
        return await row

    async def _run(self, statement: str, calls: deque[_Call]) -> None:
        try:
            while calls:
                gathered = [calls.popleft() for _ in range(min(ROUND, len(calls)))]
                await self._round(statement, [call for call in gathered if not call[1].done()])
        finally:
            del self._calls[statement]
            _fail(calls, DatabaseUnavailable("The database is closed."))

    async def _round(self, statement: str, calls: Sequence[_Call]) -> None:
        if len(calls) > 1:
            try:
                async with self._connections.connection() as connection:
                    rows = await connection.fetchmany(statement, [values for values, _ in calls])
            except (DatabaseUnavailable, asyncpg.PostgresError) as error:
                if not _undone(error):
                    _fail(calls, error)
                    return
            except BaseException as error:
                _fail(calls, DatabaseUnavailable("The database does not answer."))
                if not isinstance(error, Exception):
                    raise
                return
            else:
                for (_, waiting), row in zip(calls, rows, strict=True):
                    if not waiting.done():
                        waiting.set_result(row)
                return
        for call in calls:
            await self._alone(statement, call)

    async def _alone(self, statement: str, call: _Call) -> None:
        values, waiting = call
        try:
            async with self._connections.connection() as connection:
                row = await connection.fetchrow(statement, *values)
            if row is None:
                raise DatabaseUnavailable("The database gave no answer.")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's to hear
            _fail([call], error)
        except BaseException:
            _fail([call], DatabaseUnavailable("The database is closed."))
            raise
        else:
            if not waiting.done():
                waiting.set_result(row)


def _undone(error: Exception) -> bool:
    """Whether the server has certainly undone the round: it refused a row, or chose the transaction as a deadlock's victim."""
    cause = error.__cause__ if isinstance(error, DatabaseUnavailable) else error
    return not isinstance(error, DatabaseUnavailable) or isinstance(cause, asyncpg.TransactionRollbackError)


def _fail(calls: Sequence[_Call] | deque[_Call], error: Exception) -> None:
    for _, waiting in calls:
        if not waiting.done():
            waiting.set_exception(error)
