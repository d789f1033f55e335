"""Published outbox rows against the inbox: which events are finished by all that must finish them, and which are still owed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from domain.errors import DatabaseTimeout, RecordDamaged
from domain.owed_events import LostEvent, OwedEvent
from storage.postgres.connections import Connections

#: A finished row stays so long, for who looks at what has just happened.
FINISHED_SECONDS: Final = 300.0
#: A record is in Kafka for so long at most before its row says where: the relay marks what Kafka confirmed within its session, or
#: publishes it again.
UNMARKED_SECONDS: Final = 60

#: Whether consumer ``r`` gave up the very record that a ``row`` of the outbox became. The letter itself is what tells, by the place of its
#: record: a record that can't be decoded names no event. A letter counts if
#:
#: * it was written here (``outbox_id``): what stands in Kafka's topics of letters may be a stranger's, and its headers a forgery;
#: * it is no older than the row's publication, but for the moment in which Kafka has a record and the relay has not marked its row: a
#:   topic that was made anew begins at offset 0 again;
#: * it names no other document than the row does;
#: * the record was not damaged on its way: then the row has what the record lacks, and is sent again.
#:
#: A redriven letter counts as well: what was redriven is a row of its own.
BURIED: Final = f"""(
    SELECT l.numero FROM lettres_mortes l
    WHERE l.origine_topic = {{row}}.topic AND l.origine_partition = {{row}}.published_partition
        AND l.origine_offset = {{row}}.published_offset AND l.consumer = r.consumer AND l.outbox_id IS NOT NULL
        AND l.ecrite_a > {{row}}.published_at - make_interval(secs => {UNMARKED_SECONDS})
        AND l.code <> '{RecordDamaged.code}'
        AND (l.document_id IS NULL OR convert_to(l.document_id::text, 'UTF8') = {{row}}.key) LIMIT 1)
"""  # noqa: S608 - made of constants

#: By id, whatever their state, so that a slice costs the same however many rows wait to be published. A row set aside and dropped by
#: an operator (``refused_at``) is owed to nobody. ``over``: nobody must finish it any more, and its time is over.
_SLICE: Final = f"""
    WITH slice AS MATERIALIZED (
        SELECT id, topic, key, event_id, consumer, created_at, published_at, published_partition, published_offset, re_emissions,
               refused_at, refused_code, event_id IS NOT NULL AND refused_at IS NULL AND topic = ANY($3::text[]) AS is_read
        FROM outbox WHERE {{which}} ORDER BY id LIMIT $2
    ), judged AS MATERIALIZED (
        SELECT slice.*, CASE WHEN is_read AND published_at IS NOT NULL THEN (
            SELECT array_agg(r.consumer ORDER BY r.consumer)
            FROM unnest($3::text[], $4::text[]) AS r (topic, consumer)
            WHERE r.topic = slice.topic AND (slice.consumer IS NULL OR slice.consumer = r.consumer) AND (
                SELECT i.state FROM inbox i
                WHERE i.consumer = r.consumer AND i.event_id = slice.event_id AND i.state <> 'CLAIMED') IS NULL
                AND {BURIED.format(row="slice")} IS NULL
        ) END AS owed
        FROM slice
    )
    SELECT id, topic, key, event_id, created_at, refused_at, refused_code, published_at, published_partition, published_offset, re_emissions, owed,
           published_at IS NOT NULL AS published,
           owed IS NULL
               AND published_at < now() - make_interval(secs => CASE WHEN is_read THEN $5::float8 ELSE $6::float8 END) AS over
    FROM judged ORDER BY id
"""  # noqa: S608 - made of constants
_FROM_ID: Final = _SLICE.format(which="id > $1")
_OF_KEY: Final = _SLICE.format(which="key = $1")
#: Lost rows that one statement marks.
NOTED_AT_ONCE: Final = 5_000
#: What one document has in the outbox, at most.
OF_DOCUMENT: Final = 1_000
#: So long, in seconds, a document's rows are looked for. There is no index on keys: it would cost each event 13 % more WAL, and more after
#: a checkpoint. So the outbox is read from end to end: usually the rows of minutes; a million rows took 0.4 to 0.8 s.
OF_DOCUMENT_SECONDS: Final = 2.0
#: Rows that a search for a trace reads at most.
OF_TRACE: Final = 200_000


@dataclass(frozen=True, slots=True)
class OutboxSlice:
    """Some rows of the outbox in the order of their ids. ``last``: the id of the last one, None after the end; ``finished``: ids of
    those that may go; ``owed``: those that somebody must still finish; ``published``: whether any was published."""

    last: int | None
    published: bool
    finished: tuple[int, ...]
    owed: tuple[OwedEvent, ...]


@dataclass(frozen=True, slots=True)
class DocumentOutbox:
    """A document's rows. ``unpublished``: topics and times of those that wait for the relay; ``refused``: topics, times and codes of those
    that Kafka refuses; ``owed``: see ``OutboxSlice``. ``unknown_at``: when the outbox was too long to be searched for them, else None."""

    unpublished: tuple[tuple[str, datetime], ...]
    refused: tuple[tuple[str, datetime, str], ...]
    owed: tuple[OwedEvent, ...]
    unknown_at: datetime | None = None


class PostgresOwedEvents:
    """See ``processors.reconcile.owed_events.OwedRows``. ``reads``: the consumers of each topic. Raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections, reads: Mapping[str, Sequence[str]], *, keep_hours: float) -> None:
        self._postgres = postgres
        pairs = [(topic, consumer) for topic, consumers in reads.items() for consumer in consumers]
        self._columns = [topic for topic, _ in pairs], [consumer for _, consumer in pairs]
        self._keep_seconds = keep_hours * 3600.0

    async def slice(self, after: int, limit: int) -> OutboxSlice:
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(_FROM_ID, after, limit, *self._columns, FINISHED_SECONDS, self._keep_seconds)
        return OutboxSlice(
            last=rows[-1]["id"] if rows else None,
            published=any(row["published"] for row in rows),
            finished=tuple(row["id"] for row in rows if row["over"]),
            owed=tuple(_owed(row) for row in rows if row["owed"]),
        )

    async def of_document(self, document_id: UUID) -> DocumentOutbox:
        """What of a document's events waits to be published, is refused, or is owed, oldest first. Unknown where the outbox is too long to
        be searched in ``OF_DOCUMENT_SECONDS``."""
        key = str(document_id).encode()
        try:
            async with self._postgres.connection() as connection, connection.transaction(readonly=True):
                await connection.execute(f"SET LOCAL statement_timeout = {int(OF_DOCUMENT_SECONDS * 1000)}")
                rows = await connection.fetch(
                    _OF_KEY, key, OF_DOCUMENT, *self._columns, FINISHED_SECONDS, self._keep_seconds
                )
        except DatabaseTimeout:
            return DocumentOutbox(unpublished=(), refused=(), owed=(), unknown_at=datetime.now(UTC))
        waiting = [row for row in rows if not row["published"]]
        return DocumentOutbox(
            unpublished=tuple((row["topic"], row["created_at"]) for row in waiting if row["refused_at"] is None),
            refused=tuple(
                (row["topic"], row["refused_at"], row["refused_code"])
                for row in waiting
                if row["refused_at"] is not None
            ),
            owed=tuple(_owed(row) for row in rows if row["owed"]),
        )

    async def keys_of_trace(self, trace_id: str) -> Sequence[str]:
        """Keys of rows, among the oldest ``OF_TRACE`` of the outbox, that were written in a trace (32 hexadecimal digits): the documents
        whose events are on their way, or were until a moment ago."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT DISTINCT key FROM (SELECT key, headers FROM outbox ORDER BY id LIMIT $2) AS first
                WHERE starts_with(headers->>'traceparent', '00-' || $1 || '-') AND key IS NOT NULL LIMIT 1000
                """,
                trace_id,
                OF_TRACE,
            )
        return [row["key"].decode("utf-8", "replace") for row in rows]

    async def note_lost(self, lost: Sequence[LostEvent]) -> None:
        """Have the rows say that they are lost to those consumers and wait for an operator, and all others that they are not."""
        row_ids = [one.event.row_id for one in lost]
        async with self._postgres.connection() as connection, connection.transaction():
            await connection.execute(
                """
                UPDATE outbox SET lost_to = NULL, lost_at = NULL WHERE lost_at IS NOT NULL AND id <> ALL($1::bigint[])
                """,
                row_ids,
            )
            for start in range(0, len(lost), NOTED_AT_ONCE):
                some = lost[start : start + NOTED_AT_ONCE]
                # Somebody may have had a row sent again since it was looked at.
                await connection.execute(
                    """
                    UPDATE outbox o SET lost_to = string_to_array(l.consumers, ' '), lost_at = coalesce(o.lost_at, now())
                    FROM unnest($1::bigint[], $2::text[], $3::int[]) AS l (id, consumers, re_emissions)
                    WHERE o.id = l.id AND o.published_at IS NOT NULL AND o.re_emissions = l.re_emissions
                        AND o.lost_to IS DISTINCT FROM string_to_array(l.consumers, ' ')::varchar[]
                    """,
                    [one.event.row_id for one in some],
                    [" ".join(one.consumers) for one in some],
                    [one.event.re_emissions for one in some],
                )

    async def remove(self, row_ids: Sequence[int]) -> None:
        async with self._postgres.connection() as connection:
            await connection.execute(
                "DELETE FROM outbox WHERE id = ANY($1::bigint[]) AND published_at IS NOT NULL", list(row_ids)
            )


class PostgresReEmissions:
    """See ``processors.ports.operators.ReEmissions``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def re_emit(self, row_ids: Sequence[int]) -> int:
        # Somebody else may have had the row sent again since it was looked at: it is unpublished then.
        status = await self._connection.execute(
            """
            UPDATE outbox SET published_at = NULL, published_partition = NULL, published_offset = NULL,
                              re_emissions = least(re_emissions, 32000) + 1, lost_to = NULL, lost_at = NULL
            WHERE id = ANY($1::bigint[]) AND published_at IS NOT NULL AND refused_at IS NULL
            """,
            list(row_ids),
        )
        await self._connection.execute("SELECT pg_notify('dpj_outbox', '')")
        return int(status.split()[-1])


def _owed(row: Any) -> OwedEvent:
    key: bytes | None = row["key"]
    return OwedEvent(
        row_id=row["id"],
        event_id=row["event_id"],
        topic=row["topic"],
        key="" if key is None else key.decode("utf-8", "replace"),
        consumers=tuple(row["owed"]),
        published_at=row["published_at"],
        partition=row["published_partition"],
        offset=row["published_offset"],
        re_emissions=row["re_emissions"],
    )
