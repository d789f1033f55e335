"""The index of dead letters (lettres_mortes): written with each letter, settled with its mark, asked by operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from domain.dead_letter_index import DeadLetterEntry, DeadLetterGroup, IndexedLetter
from domain.dead_letters import RecordPosition
from storage.postgres.connections import Connections

_ENTRY_COLUMNS: Final = (
    "consumer, event_id, tenant, document_id, code, error_class, origine_topic, origine_partition, origine_offset,"
    " tentatives, rejeux, rejoue_event_id"
)
#: The record that was given up names the letter.
_SAME: Final = "(consumer, event_id, origine_topic, origine_partition, origine_offset)"

#: A letter that is written again after PostgreSQL was restored is open again, wherever its first copy stands.
_ADD: Final = f"""
    WITH added AS (
        INSERT INTO outbox (topic, key, body, headers) VALUES ($1, $2, $3, $4::jsonb) RETURNING id
    ), told AS (SELECT pg_notify('dpj_outbox', '') FROM added)
    INSERT INTO lettres_mortes AS l ({_ENTRY_COLUMNS}, outbox_id)
    SELECT $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, added.id FROM added, told
    ON CONFLICT {_SAME} DO UPDATE SET
        ecrite_a = now(), outbox_id = excluded.outbox_id, code = excluded.code, error_class = excluded.error_class,
        tentatives = excluded.tentatives, tenant = coalesce(excluded.tenant, l.tenant), lettre_partition = NULL,
        lettre_offset = NULL, reglement = NULL, reglee_par = NULL, reglee_a = NULL
"""  # noqa: S608 - made of constants

#: A letter that the index does not have yet comes in settled: who fills it finds the row and leaves it.
_SETTLE: Final = f"""
    INSERT INTO lettres_mortes AS l (
        {_ENTRY_COLUMNS}, ecrite_a, lettre_partition, lettre_offset, reglement, reglee_par, reglee_a)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, to_timestamp($13::float8 / 1000), $14, $15, $16, $17, now())
    ON CONFLICT {_SAME} DO UPDATE SET
        reglement = excluded.reglement, reglee_par = excluded.reglee_par, reglee_a = excluded.reglee_a,
        lettre_partition = coalesce(l.lettre_partition, excluded.lettre_partition),
        lettre_offset = coalesce(l.lettre_offset, excluded.lettre_offset)
"""  # noqa: S608 - made of constants

#: Found in Kafka: settled if it has its mark; one that is known learns its place, and nothing else changes.
_FILL: Final = f"""
    INSERT INTO lettres_mortes AS l (
        {_ENTRY_COLUMNS}, ecrite_a, lettre_partition, lettre_offset, reglement, reglee_par, reglee_a)
    SELECT f.consumer, f.event_id, f.tenant, f.document_id, f.code, f.error_class, f.topic, f.partition, f.place,
           f.attempts, f.replays, f.redriven, to_timestamp(f.written_ms::float8 / 1000), f.letter_partition, f.letter_offset,
           m.act, m.actor, m.marked_at
    FROM unnest($1::text[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::int[], $9::bigint[],
                $10::int[], $11::int[], $12::uuid[], $13::text[], $14::int[], $15::bigint[], $16::bigint[])
         AS f (consumer, event_id, tenant, document_id, code, error_class, topic, partition, place, attempts, replays,
               redriven, letter_topic, letter_partition, letter_offset, written_ms)
    LEFT JOIN dead_letter_marks m ON m.topic = f.letter_topic AND m.partition = f.letter_partition
         AND m."offset" = f.letter_offset AND m.written_ms = f.written_ms
    ORDER BY f.letter_offset
    ON CONFLICT {_SAME} DO UPDATE SET
        lettre_partition = excluded.lettre_partition, lettre_offset = excluded.lettre_offset
    WHERE l.lettre_offset IS NULL
"""  # noqa: S608 - made of constants

_PLACE: Final = """
    UPDATE lettres_mortes l SET lettre_partition = o.published_partition, lettre_offset = o.published_offset
    FROM (SELECT numero, outbox_id FROM lettres_mortes WHERE lettre_offset IS NULL AND outbox_id IS NOT NULL
          ORDER BY outbox_id LIMIT $1) AS w
    JOIN outbox o ON o.id = w.outbox_id AND o.published_offset IS NOT NULL
    WHERE l.numero = w.numero
"""

#: ``came_back``: the same event, or the record without one that was redriven, was given up again after the redrive.
_LETTER: Final = """
    l.*, l.reglement = 'REDRIVEN' AND (
        EXISTS (SELECT FROM lettres_mortes c WHERE c.consumer = l.consumer AND c.event_id = l.event_id
                AND c.ecrite_a >= l.reglee_a AND c.numero <> l.numero)
        OR EXISTS (SELECT FROM lettres_mortes c WHERE c.consumer = l.consumer AND c.rejoue_event_id = l.event_id
                   AND c.ecrite_a >= l.reglee_a AND c.numero <> l.numero)) AS revenue
"""


async def add_letters(
    connection: asyncpg.Connection[Any],
    letters: Sequence[tuple[tuple[str, bytes | None, bytes | None, Mapping[str, str]], DeadLetterEntry]],
) -> None:
    """Each letter's outbox row (topic, key, body, headers) with its entry, one statement for both."""
    for row, entry in letters:
        await connection.execute(_ADD, *row, *_columns(entry))


class PostgresDeadLetterIndexRows:
    """The index inside a transaction; see ``processors.ports.operators.DeadLetterIndexRows``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def settle(self, entry: DeadLetterEntry, place: RecordPosition, act: str, actor: str) -> None:
        await self._connection.execute(
            _SETTLE, *_columns(entry), place.written_ms, place.partition, place.offset, act, actor
        )


class PostgresDeadLetterIndex:
    """The index as operators and the relay use it, outside transactions. Raises DatabaseUnavailable.

    ``tenants``: letters of these only, as a bound operator sees them; None: of all, and those whose tenant is not known.
    """

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def groups(
        self, *, tenants: Sequence[str] | None = None, since: datetime | None = None
    ) -> Sequence[DeadLetterGroup]:
        """Open letters by consumer, code and class of error. ``since``: from when on a letter is new; none is if it is None."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT consumer, code, error_class, count(*) AS count, min(ecrite_a) AS oldest, max(ecrite_a) AS newest,
                       count(*) FILTER (WHERE ecrite_a >= $2::timestamptz) AS new
                FROM lettres_mortes
                WHERE reglement IS NULL AND ($1::text[] IS NULL OR tenant = ANY($1))
                GROUP BY consumer, code, error_class ORDER BY consumer, code, error_class
                """,
                None if tenants is None else list(tenants),
                since,
            )
        return [DeadLetterGroup(**dict(row)) for row in rows]

    async def page(
        self,
        consumer: str,
        code: str,
        error_class: str,
        *,
        after: tuple[datetime, int] | None = None,
        limit: int = 100,
        tenants: Sequence[str] | None = None,
    ) -> Sequence[IndexedLetter]:
        """Open letters of one group, oldest first, behind (``made_at``, ``number``) of the last one that is known."""
        at, number = after or (None, 0)
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT l.*, false AS revenue FROM lettres_mortes l
                WHERE reglement IS NULL AND consumer = $1 AND code = $2 AND error_class = $3
                    AND (ecrite_a, numero) > (coalesce($4::timestamptz, '-infinity'), $5::bigint)
                    AND ($6::text[] IS NULL OR tenant = ANY($6))
                ORDER BY ecrite_a, numero LIMIT $7
                """,
                consumer,
                code,
                error_class,
                at,
                number,
                None if tenants is None else list(tenants),
                limit,
            )
        return [_letter(row) for row in rows]

    async def selected(
        self,
        consumer: str | None,
        code: str | None,
        error_class: str | None,
        *,
        limit: int,
        tenants: Sequence[str] | None = None,
    ) -> Sequence[int]:
        """Numbers of open letters, oldest first of each group; None: of any consumer, code or class."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT numero FROM lettres_mortes
                WHERE reglement IS NULL AND ($1::text IS NULL OR consumer = $1) AND ($2::text IS NULL OR code = $2)
                    AND ($3::text IS NULL OR error_class = $3) AND ($4::text[] IS NULL OR tenant = ANY($4))
                ORDER BY consumer, code, error_class, ecrite_a, numero LIMIT $5
                """,
                consumer,
                code,
                error_class,
                None if tenants is None else list(tenants),
                limit,
            )
        return [row["numero"] for row in rows]

    async def letters(self, numbers: Sequence[int], *, tenants: Sequence[str] | None = None) -> Sequence[IndexedLetter]:
        """Letters by their numbers, settled or not, in the order of the numbers; those that are there."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                f"""
                SELECT {_LETTER} FROM lettres_mortes l
                WHERE numero = ANY($1::bigint[]) AND ($2::text[] IS NULL OR tenant = ANY($2)) ORDER BY numero
                """,  # noqa: S608 - made of constants
                list(numbers),
                None if tenants is None else list(tenants),
            )
        return [_letter(row) for row in rows]

    async def of_document(self, document_id: UUID, limit: int = 100) -> Sequence[IndexedLetter]:
        """A document's letters, settled or not, oldest first."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                f"SELECT {_LETTER} FROM lettres_mortes l WHERE document_id = $1 ORDER BY ecrite_a, numero LIMIT $2",  # noqa: S608
                document_id,
                limit,
            )
        return [_letter(row) for row in rows]

    # --- the relay's part --------------------------------------------------------------------------------------------

    async def note_places(self, limit: int = 1_000) -> int:
        """Learn from the outbox where the relay put letters; how many were. Outbox rows of letters are kept for hours."""
        async with self._postgres.connection() as connection:
            return int((await connection.execute(_PLACE, limit)).split()[-1])

    async def read_up_to(self, topic: str) -> Mapping[int, int]:
        """Up to which offset the partitions of a topic of letters were read; see ``fill``."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch("SELECT partition, jusqu_a FROM lettres_mortes_lues WHERE topic = $1", topic)
        return {row["partition"]: row["jusqu_a"] for row in rows}

    async def fill(
        self, topic: str, partition: int, up_to: int, found: Sequence[tuple[DeadLetterEntry, RecordPosition]]
    ) -> int:
        """Take in letters that were found in Kafka, and that the partition is read up to the offset ``up_to``, in one transaction.

        Gives how many entries are new or learnt their place. Doing it twice changes nothing.
        """
        # One of each: a letter that the relay published twice stands there twice.
        first: dict[tuple[object, ...], tuple[DeadLetterEntry, RecordPosition]] = {}
        for entry, place in found:
            name = (entry.event_id, entry.origin_topic, entry.origin_partition, entry.origin_offset)
            first.setdefault(name, (entry, place))
        rows = [
            (*_columns(entry), place.topic, place.partition, place.offset, place.written_ms)
            for entry, place in first.values()
        ]
        count = 0
        async with self._postgres.connection() as connection, connection.transaction():
            if rows:
                count = int((await connection.execute(_FILL, *map(list, zip(*rows, strict=True)))).split()[-1])
            await connection.execute(
                """
                INSERT INTO lettres_mortes_lues (topic, partition, jusqu_a) VALUES ($1, $2, $3)
                ON CONFLICT (topic, partition) DO UPDATE SET jusqu_a = excluded.jusqu_a
                """,
                topic,
                partition,
                up_to,
            )
        return count


def _columns(entry: DeadLetterEntry) -> tuple[object, ...]:
    return (
        entry.consumer,
        entry.event_id,
        entry.tenant,
        entry.document_id,
        entry.code,
        entry.error_class,
        entry.origin_topic,
        entry.origin_partition,
        entry.origin_offset,
        entry.attempts,
        entry.replays,
        entry.redriven_event,
    )


def _letter(row: Any) -> IndexedLetter:
    return IndexedLetter(
        number=row["numero"],
        entry=DeadLetterEntry(
            consumer=row["consumer"],
            event_id=row["event_id"],
            tenant=row["tenant"],
            document_id=row["document_id"],
            code=row["code"],
            error_class=row["error_class"],
            origin_topic=row["origine_topic"],
            origin_partition=row["origine_partition"],
            origin_offset=row["origine_offset"],
            attempts=row["tentatives"],
            replays=row["rejeux"],
            redriven_event=row["rejoue_event_id"],
        ),
        made_at=row["ecrite_a"],
        partition=row["lettre_partition"],
        offset=row["lettre_offset"],
        settled=row["reglement"],
        settled_by=row["reglee_par"],
        settled_at=row["reglee_a"],
        came_back=bool(row["revenue"]),
    )
