"""Marks of dead letters, and events held by workers: what operators look at and what they order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from domain.dead_letters import GivenUpEvent, HeldEvent, HeldEventStatus, OperatorMark, RecordPosition
from domain.shared.ids import uuid_or_none
from storage.postgres.connections import Connections
from storage.postgres.delivery.inbox import column_text

#: A worker notes what it holds after every try that failed; what was not noted for so long is held no more.
FRESH_SECONDS: Final = 300.0
#: What is held now; $1: ``FRESH_SECONDS``. What its consumer has finished meanwhile is held no more, though its row stays a while.
HELD_NOW: Final = """
    FROM held_events h
    WHERE noted_at > now() - make_interval(secs => $1) AND NOT EXISTS (
        SELECT FROM inbox i WHERE i.consumer = h.consumer AND i.event_id = h.event_id AND i.state <> 'CLAIMED')
"""


class PostgresDeadLetterMarks:
    """See ``processors.ports.operators.DeadLetterMarks``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def mark(self, place: RecordPosition, act: str, actor: str, reason: str | None) -> bool:
        # Waits for another operator's transaction on the same letter, and then finds its mark.
        marked = await self._connection.fetchval(
            """
            INSERT INTO dead_letter_marks (topic, partition, "offset", written_ms, act, actor, reason)
            VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING true
            """,
            place.topic,
            place.partition,
            place.offset,
            place.written_ms,
            act,
            actor,
            reason,
        )
        return bool(marked)


class PostgresGiveUpOrders:
    """See ``processors.ports.operators.GiveUpOrders``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def give_up(self, consumer: str, event_id: UUID, actor: str, reason: str) -> HeldEvent | None:
        row = await self._connection.fetchrow(
            """
            UPDATE held_events SET given_up_at = now(), given_up_by = $3, given_up_reason = $4
            WHERE consumer = $1 AND event_id = $2 AND given_up_at IS NULL RETURNING *
            """,
            consumer,
            event_id,
            actor,
            reason,
        )
        return None if row is None else _event(row)

    async def withdraw(self, consumer: str, event_id: UUID) -> None:
        await self._connection.execute(
            "DELETE FROM held_events WHERE consumer = $1 AND event_id = $2", consumer, event_id
        )


class PostgresOperatorQueries:
    """What operators ask, outside transactions. Raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def marks(self, places: Sequence[RecordPosition]) -> Mapping[RecordPosition, OperatorMark]:
        """Of these letters, those that have a mark."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT m.* FROM dead_letter_marks m
                JOIN unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[]) AS p (topic, partition, place, written_ms)
                  ON m.topic = p.topic AND m.partition = p.partition AND m."offset" = p.place
                     AND m.written_ms = p.written_ms
                """,
                [place.topic for place in places],
                [place.partition for place in places],
                [place.offset for place in places],
                [place.written_ms for place in places],
            )
        return {
            RecordPosition(row["topic"], row["partition"], row["offset"], row["written_ms"]): OperatorMark(
                row["act"], row["actor"], row["reason"], row["marked_at"]
            )
            for row in rows
        }

    async def held(
        self, limit: int, *, consumers: Sequence[str] = (), waiting_for: str | None = None, code: str | None = None
    ) -> Sequence[HeldEventStatus]:
        """What workers hold now, longest held first: of ``consumers`` (none: of all), for that dependency, with that code."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                f"""
                SELECT h.* {HELD_NOW}
                    AND ($3::text[] = '{{}}' OR consumer = ANY($3)) AND ($4::text IS NULL OR waiting_for = $4)
                    AND ($5::text IS NULL OR code = $5)
                ORDER BY held_since, event_id LIMIT $2
                """,
                FRESH_SECONDS,
                limit,
                list(consumers),
                waiting_for,
                code,
            )
        return [_status(row) for row in rows]

    async def held_of(self, document_key: str) -> Sequence[HeldEventStatus]:
        """What workers hold now of one document, longest held first."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                f"SELECT h.* {HELD_NOW} AND document_key = $2 ORDER BY held_since, event_id",
                FRESH_SECONDS,
                document_key,
            )
        return [_status(row) for row in rows]

    async def given_up_of(self, document_key: str) -> Sequence[GivenUpEvent]:
        """What consumers gave up of one document and nobody gave them again or discarded, oldest first; also records that could not be
        decoded, which the inbox has by their place and not by their document."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT i.consumer, i.event_id, i.updated_at, l.code, l.tentatives, l.lettre_partition, l.lettre_offset
                FROM inbox i LEFT JOIN LATERAL (
                    SELECT * FROM lettres_mortes
                    WHERE consumer = i.consumer AND event_id = i.event_id ORDER BY ecrite_a DESC LIMIT 1) AS l ON true
                WHERE i.document_key = $1 AND i.state = 'DEAD' AND l.reglement IS DISTINCT FROM 'DISCARDED'
                UNION ALL
                SELECT consumer, event_id, ecrite_a, code, tentatives, lettre_partition, lettre_offset
                FROM lettres_mortes l
                WHERE document_id = $2 AND reglement IS NULL AND NOT EXISTS (
                    SELECT FROM inbox WHERE consumer = l.consumer AND event_id = l.event_id AND document_key = $1)
                ORDER BY updated_at, event_id
                """,
                document_key,
                uuid_or_none(document_key),
            )
        return [
            GivenUpEvent(
                consumer=row["consumer"],
                event_id=row["event_id"],
                at=row["updated_at"],
                code=row["code"],
                tries=row["tentatives"],
                address=None
                if row["lettre_offset"] is None
                else f"{row['consumer']}/{row['lettre_partition']}/{row['lettre_offset']}",
            )
            for row in rows
        ]


def _status(row: Mapping[str, Any]) -> HeldEventStatus:
    return HeldEventStatus(
        event=_event(row),
        since=row["held_since"],
        noted_at=row["noted_at"],
        given_up_by=row["given_up_by"],
        given_up_reason=row["given_up_reason"],
    )


class PostgresHeldEventList:
    """See ``streams.held_events.HeldEventList``. Raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def note(self, held: HeldEvent) -> bool:
        async with self._postgres.connection() as connection:
            ordered = await connection.fetchval(
                """
                INSERT INTO held_events AS h (
                    consumer, event_id, document_key, tenant, topic, partition, "offset", code, waiting_for, attempts)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
                ON CONFLICT (consumer, event_id) DO UPDATE SET
                    code = excluded.code, waiting_for = excluded.waiting_for, attempts = excluded.attempts,
                    partition = excluded.partition, "offset" = excluded."offset", noted_at = now()
                RETURNING given_up_at IS NOT NULL
                """,
                held.consumer,
                held.event_id,
                column_text(held.document_key),
                held.tenant,
                held.topic,
                held.partition,
                held.offset,
                held.code,
                held.waiting_for,
                held.attempts,
            )
        return bool(ordered)

    async def forget(self, consumer: str, event_id: UUID) -> None:
        async with self._postgres.connection() as connection:
            await connection.execute(
                "DELETE FROM held_events WHERE consumer = $1 AND event_id = $2", consumer, event_id
            )


def _event(row: Any) -> HeldEvent:
    return HeldEvent(
        consumer=row["consumer"],
        event_id=row["event_id"],
        document_key=row["document_key"],
        tenant=row["tenant"],
        topic=row["topic"],
        partition=row["partition"],
        offset=row["offset"],
        code=row["code"],
        waiting_for=row["waiting_for"],
        attempts=row["attempts"],
    )
