"""The inbox: which events each consumer has done, and who works on which now."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final
from uuid import UUID

import asyncpg

from domain.errors import ClaimLost, DatabaseUnavailable, DPJError
from domain.shared import tracing
from domain.shared.micro_batcher import BatchItem, BatchPolicy, MicroBatcher
from storage.postgres.connections import Connections

MAX_DOCUMENT_KEY: Final = 128
#: One statement at a time, with so many claims at most.
ROUNDS: Final = BatchPolicy(size=256)

_ClaimKey = tuple[str, UUID, UUID]


class ClaimResult(Enum):
    """ACQUIRED: ours now. DONE: nothing to do any more. BUSY: another works on it, or on another event of its document."""

    ACQUIRED = "ACQUIRED"
    DONE = "DONE"
    BUSY = "BUSY"


class PostgresInboxMarks:
    """The end of a claim, inside the transaction of its effects; see ``processors.ports.events.Inbox``.

    Marks are held back until ``flush``, and then go out as one statement per outcome. It raises ClaimLost if any of the
    claims is no longer its owner's: the transaction must then roll back.
    """

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection
        self._marks: dict[tuple[str, str], list[tuple[UUID, UUID]]] = {}

    async def finish(self, consumer: str, event_id: UUID, owner: UUID, outcome: str) -> None:
        self._marks.setdefault((consumer, outcome), []).append((event_id, owner))

    async def reopen(self, consumer: str, event_id: UUID) -> str | None:
        state: str | None = await self._connection.fetchval(
            "SELECT state FROM inbox WHERE consumer = $1 AND event_id = $2 FOR UPDATE", consumer, event_id
        )
        if state == "DEAD":
            await self._connection.execute(
                "DELETE FROM inbox WHERE consumer = $1 AND event_id = $2", consumer, event_id
            )
        return state

    async def flush(self) -> None:
        """Write the marks, the last thing that the transaction does."""
        marks, self._marks = self._marks, {}
        for (consumer, outcome), claims in marks.items():
            status = await self._connection.execute(
                """
                UPDATE inbox SET state = $4, updated_at = now()
                FROM unnest($2::uuid[], $3::uuid[]) AS mine (event_id, owner)
                WHERE inbox.consumer = $1 AND inbox.event_id = mine.event_id AND inbox.owner = mine.owner
                    AND inbox.state = 'CLAIMED'
                """,
                consumer,
                [event_id for event_id, _ in claims],
                [owner for _, owner in claims],
                outcome,
            )
            if status != f"UPDATE {len(claims)}":
                raise ClaimLost


@dataclass(frozen=True, slots=True)
class _RequestedClaim:
    """A claim that is asked for."""

    consumer: str
    event_id: UUID
    document_key: str
    owner: UUID
    lease_seconds: float

    @property
    def key(self) -> _ClaimKey:
        return self.consumer, self.event_id, self.owner


class PostgresInbox:
    """Claims, in transactions of their own. Every method raises DatabaseUnavailable.

    Claims that are asked for at once, or while others are under way, go out together: one statement, one commit, for one
    of each document, as far as event and document are free. Each of the others is then tried alone.
    """

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres
        self._batcher: MicroBatcher[_RequestedClaim, ClaimResult | None] = MicroBatcher(self._claim_batch, ROUNDS)

    async def claim(
        self, consumer: str, event_id: UUID, document_key: str, owner: UUID, lease_seconds: float
    ) -> ClaimResult:
        wanted = _RequestedClaim(consumer, event_id, column_text(document_key), owner, lease_seconds)
        with tracing.call(DatabaseUnavailable.waiting_for, "claim"):
            answer = await self._batcher.submit(wanted)
        return answer or await self._claim_single(wanted)

    async def _claim_batch(self, batch: Sequence[BatchItem[_RequestedClaim, ClaimResult | None]]) -> None:
        answers = await self._claim_free([waiting.item for waiting in batch])
        for waiting in batch:
            if waiting.is_over:
                await self._release_unwanted(waiting.item)
            else:
                waiting.answer(answers.get(waiting.item.key))

    async def _claim_free(self, batch: Sequence[_RequestedClaim]) -> dict[_ClaimKey, ClaimResult]:
        """Claim what is free, say what is done already; answers by place, none where something stands in the way."""
        # One of each document, and in one order for all workers: a statement that holds a document's row and then waits
        # for another claim's event of that document would stand in a ring with it.
        one_each = {(wanted.consumer, wanted.document_key): wanted for wanted in reversed(batch)}
        batch = [wanted for _, wanted in sorted(one_each.items())]
        events = [wanted.consumer for wanted in batch], [wanted.event_id for wanted in batch]
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                INSERT INTO inbox (consumer, event_id, document_key, state, owner, lease_until)
                SELECT consumer, event_id, document_key, 'CLAIMED', owner,
                       clock_timestamp() + make_interval(secs => lease_seconds)
                FROM unnest($1::text[], $2::uuid[], $3::text[], $4::uuid[], $5::float8[]) WITH ORDINALITY
                     AS wanted (consumer, event_id, document_key, owner, lease_seconds, place)
                ORDER BY place
                ON CONFLICT DO NOTHING RETURNING consumer, event_id, owner
                """,
                *events,
                [wanted.document_key for wanted in batch],
                [wanted.owner for wanted in batch],
                [wanted.lease_seconds for wanted in batch],
            )
            answers = {(row["consumer"], row["event_id"], row["owner"]): ClaimResult.ACQUIRED for row in rows}
            if len(answers) == len(batch):
                return answers
            rows = await connection.fetch(
                """
                SELECT consumer, event_id FROM inbox
                WHERE state <> 'CLAIMED' AND (consumer, event_id) IN (SELECT * FROM unnest($1::text[], $2::uuid[]))
                """,
                *events,
            )
        done = {(row["consumer"], row["event_id"]) for row in rows}
        for wanted in batch:
            if wanted.key not in answers and (wanted.consumer, wanted.event_id) in done:
                answers[wanted.key] = ClaimResult.DONE
        return answers

    async def _claim_single(self, wanted: _RequestedClaim) -> ClaimResult:
        claim = (wanted.consumer, wanted.event_id, wanted.document_key, wanted.owner, wanted.lease_seconds)
        async with self._postgres.connection() as connection:
            state = await self._take(connection, *claim)
            if state is None and await self._free_expired(connection, wanted.consumer, wanted.document_key):
                state = await self._take(connection, *claim)
        if state == "CLAIMED":
            return ClaimResult.ACQUIRED
        return ClaimResult.BUSY if state is None else ClaimResult.DONE

    async def _release_unwanted(self, wanted: _RequestedClaim) -> None:
        """Who asked was cancelled meanwhile: what was claimed for them need not wait for its lease to end; best effort."""
        with suppress(DPJError):
            await self.release(wanted.consumer, wanted.event_id, wanted.owner)

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
        # DO NOTHING, with no index named, covers both ways to be in the way: the event's own row, and the claim on another event of
        # its document. A violated index would be caught just as well, but each one is an error in the server's log.
        state = await connection.fetchval(
            """
            WITH again AS (
                UPDATE inbox SET owner = $4, lease_until = clock_timestamp() + make_interval(secs => $5),
                    claims = claims + 1, updated_at = now()
                WHERE consumer = $1 AND event_id = $2 AND state = 'CLAIMED'
                    AND (lease_until < clock_timestamp() OR owner = $4)
                RETURNING state
            ), new AS (
                INSERT INTO inbox (consumer, event_id, document_key, state, owner, lease_until)
                SELECT $1, $2, $3, 'CLAIMED', $4, clock_timestamp() + make_interval(secs => $5)
                WHERE NOT EXISTS (SELECT FROM again)
                ON CONFLICT DO NOTHING RETURNING state
            )
            SELECT state FROM again UNION ALL SELECT state FROM new
            """,
            consumer,
            event_id,
            document_key,
            owner,
            lease_seconds,
        )
        if state is not None:
            return str(state)
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


class PostgresInboxStates:
    """What consumers have done, as operators ask for it. Raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def states(self, consumer: str, event_ids: Sequence[UUID]) -> Mapping[UUID, str]:
        """CLAIMED, DONE or DEAD, of those events that the consumer's inbox has."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                "SELECT event_id, state FROM inbox WHERE consumer = $1 AND event_id = ANY($2::uuid[])",
                consumer,
                list(event_ids),
            )
        return {row["event_id"]: row["state"] for row in rows}


def column_text(document_key: str) -> str:
    """The key as the column takes it: one of a stranger's event may be longer, or hold a NUL."""
    if len(document_key) <= MAX_DOCUMENT_KEY and "\0" not in document_key:
        return document_key
    return hashlib.sha256(document_key.encode()).hexdigest()
