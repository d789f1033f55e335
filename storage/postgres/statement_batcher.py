"""One statement for several callers of a moment: executed once for each, in one transaction, with one round trip and one commit.

A commit costs the server more than the rows in it, so under load uploads share theirs. While one round of a statement is under way its
next callers wait for the next round; alone, a caller waits for nobody. No outcome depends on who shares: a round that the server refuses (one caller's
row is at fault, or a deadlock) is undone by it as a whole, and then run again caller by caller, each in a transaction of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import asyncpg

from domain.errors import DatabaseUnavailable
from domain.shared import tracing
from domain.shared.micro_batcher import (
    BatcherClosed,
    BatchItem,
    BatchPolicy,
    DeadlineExceeded,
    MicroBatcher,
    QueueFull,
    fail_all,
)
from storage.postgres.connections import Connections

ROUNDS: Final = BatchPolicy(size=32, waiting=4096)

_Calls = Sequence[BatchItem[Sequence[Any], asyncpg.Record]]


class StatementBatcher:
    """For one event loop. Statements must give exactly one row for each execution, and be whole transactions in themselves."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._batchers: dict[str, MicroBatcher[Sequence[Any], asyncpg.Record]] = {}

    async def fetch_row(self, statement: str, *values: Any) -> asyncpg.Record:
        """The row that ``statement`` gives for ``values``, committed. Raises DatabaseUnavailable or what the server says of it.

        A caller that is cancelled may find its statement executed all the same.
        """
        batcher = self._batchers.get(statement)
        if batcher is None:
            batcher = MicroBatcher(partial(self._run_batch, statement), ROUNDS, _unanswered)
            self._batchers[statement] = batcher
        with tracing.call(DatabaseUnavailable.waiting_for, "statement"):
            return await batcher.submit(values)

    async def _run_batch(self, statement: str, calls: _Calls) -> None:
        if len(calls) > 1:
            try:
                async with self._connections.connection() as connection:
                    rows = await connection.fetchmany(statement, [call.item for call in calls])
            except (DatabaseUnavailable, asyncpg.PostgresError) as error:
                if not _is_rolled_back(error):
                    raise
            except Exception:  # noqa: BLE001 - a defect of the driver's is no verdict on anybody's row
                raise DatabaseUnavailable("The database does not answer.") from None
            else:
                for call, row in zip(calls, rows, strict=True):
                    call.answer(row)
                return
        for call in calls:
            await self._run_single(statement, call)

    async def _run_single(self, statement: str, call: BatchItem[Sequence[Any], asyncpg.Record]) -> None:
        try:
            async with self._connections.connection() as connection:
                row = await connection.fetchrow(statement, *call.item)
            if row is None:
                raise DatabaseUnavailable("The database gave no answer.")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's to hear
            fail_all([call], error)
        else:
            call.answer(row)


def _unanswered(ended: QueueFull | DeadlineExceeded | BatcherClosed) -> DatabaseUnavailable:
    full = isinstance(ended, QueueFull)
    return DatabaseUnavailable("Too many calls wait for the database." if full else "The database is closed.")


def _is_rolled_back(error: Exception) -> bool:
    """Whether the server has certainly undone the round: it refused a row, found one locked, or chose the transaction as a
    deadlock's victim."""
    cause = error.__cause__ if isinstance(error, DatabaseUnavailable) else error
    return not isinstance(error, DatabaseUnavailable) or isinstance(
        cause, asyncpg.TransactionRollbackError | asyncpg.LockNotAvailableError
    )
