"""The inbox: which events each consumer has done, and who works on which now."""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import Any, Final
from uuid import UUID

import asyncpg

from domain.errors import ClaimLost
from storage.postgres_connections import Connections

MAX_DOCUMENT_KEY: Final = 128


class ClaimResult(Enum):
    """ACQUIRED: ours now. DONE: nothing to do any more. BUSY: another works on it, or on another event of its document."""

    ACQUIRED = "ACQUIRED"
    DONE = "DONE"
    BUSY = "BUSY"


class PostgresInboxMarks:
    """The end of a claim, inside the transaction of its effects; see ``processors.ports.Inbox``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def finish(self, consumer: str, event_id: UUID, owner: UUID, outcome: str) -> None:
        finished = await self._connection.fetchval(
            """
            UPDATE inbox SET state = $4, updated_at = now()
            WHERE consumer = $1 AND event_id = $2 AND owner = $3 AND state = 'CLAIMED' RETURNING 1
            """,
            consumer,
            event_id,
            owner,
            outcome,
        )
        if finished is None:
            raise ClaimLost

    async def reopen(self, consumer: str, event_id: UUID) -> str | None:
        state: str | None = await self._connection.fetchval(
            "SELECT state FROM inbox WHERE consumer = $1 AND event_id = $2 FOR UPDATE", consumer, event_id
        )
        if state == "DEAD":
            await self._connection.execute(
                "DELETE FROM inbox WHERE consumer = $1 AND event_id = $2", consumer, event_id
            )
        return state


class PostgresInbox:
    """Claims, each a transaction of its own. Every method raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def claim(
        self, consumer: str, event_id: UUID, document_key: str, owner: UUID, lease_seconds: float
    ) -> ClaimResult:
        document_key = column_text(document_key)
        async with self._postgres.connection() as connection:
            state = await self._take(connection, consumer, event_id, document_key, owner, lease_seconds)
            if state is None and await self._free_expired(connection, consumer, document_key):
                state = await self._take(connection, consumer, event_id, document_key, owner, lease_seconds)
        if state == "CLAIMED":
            return ClaimResult.ACQUIRED
        return ClaimResult.BUSY if state is None else ClaimResult.DONE

    async def renew(self, consumer: str, event_id: UUID, owner: UUID, lease_seconds: float) -> bool:
        """Whether the claim is still ours."""
        async with self._postgres.connection() as connection:
            renewed = await connection.fetchval(
                """
                UPDATE inbox SET lease_until = clock_timestamp() + make_interval(secs => $4)
                WHERE consumer = $1 AND event_id = $2 AND owner = $3 AND state = 'CLAIMED' RETURNING true
                """,
                consumer,
                event_id,
                owner,
                lease_seconds,
            )
        return bool(renewed)

    async def release(self, consumer: str, event_id: UUID, owner: UUID) -> None:
        """Give an unfinished claim back."""
        async with self._postgres.connection() as connection:
            await connection.execute(
                "DELETE FROM inbox WHERE consumer = $1 AND event_id = $2 AND owner = $3 AND state = 'CLAIMED'",
                consumer,
                event_id,
                owner,
            )

    @staticmethod
    async def _take(
        connection: Any, consumer: str, event_id: UUID, document_key: str, owner: UUID, lease_seconds: float
    ) -> str | None:
        """The event's state once the claim was tried: CLAIMED if by us; None if someone is in the way."""
        try:
            row = await connection.fetchrow(
                """
                INSERT INTO inbox AS held (consumer, event_id, document_key, state, owner, lease_until)
                VALUES ($1, $2, $3, 'CLAIMED', $4, clock_timestamp() + make_interval(secs => $5))
                ON CONFLICT (consumer, event_id) DO UPDATE
                    SET owner = excluded.owner, lease_until = excluded.lease_until, claims = held.claims + 1,
                        updated_at = now()
                    WHERE held.state = 'CLAIMED' AND (held.lease_until < clock_timestamp() OR held.owner = $4)
                RETURNING state
                """,
                consumer,
                event_id,
                document_key,
                owner,
                lease_seconds,
            )
        except asyncpg.UniqueViolationError:
            return None  # another event of the document is being worked on
        if row is not None:
            return str(row["state"])
        state = await connection.fetchval(
            "SELECT state FROM inbox WHERE consumer = $1 AND event_id = $2", consumer, event_id
        )
        return None if state in {None, "CLAIMED"} else str(state)

    @staticmethod
    async def _free_expired(connection: Any, consumer: str, document_key: str) -> bool:
        """Whether a claim on another event of the document had run out and is gone now."""
        freed = await connection.fetchval(
            """
            DELETE FROM inbox WHERE consumer = $1 AND document_key = $2 AND state = 'CLAIMED'
                AND lease_until < clock_timestamp() RETURNING true
            """,
            consumer,
            document_key,
        )
        return bool(freed)


def column_text(document_key: str) -> str:
    """The key as the column takes it: one of a stranger's event may be longer, or hold a NUL."""
    if len(document_key) <= MAX_DOCUMENT_KEY and "\0" not in document_key:
        return document_key
    return hashlib.sha256(document_key.encode()).hexdigest()
