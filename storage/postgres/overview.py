"""How much waits in PostgreSQL, and since when: one look at bounded cost, and its figures kept for a week.

Every statement reads an index from one end, and ends after so many rows whatever the table holds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from domain.consumers import CONSUMERS
from domain.errors import DatabaseUnavailable
from domain.lifecycle import Status
from domain.overview import (
    MOST_COUNTED,
    CheckpointsOverview,
    Count,
    DeadGroup,
    DocumentRow,
    ErasuresOverview,
    HeldGroup,
    Holder,
    OutboxOverview,
    RestoreOverview,
    Sample,
    StateOverview,
    StoredNumbers,
    UnfinishedEvent,
)
from storage.postgres.connections import Connections
from storage.postgres.delivery.dead_letters import FRESH_SECONDS, HELD_NOW
from storage.postgres.delivery.owed_events import BURIED
from storage.postgres.pauses import PostgresPauseQueries

_T = TypeVar("_T")

#: Rows of the outbox that are looked at one by one, of those that wait and of those that were published.
FRONT_ROWS: Final = 300
#: Held events that are looked at one by one, longest held first; groups count all of them.
HELD_ROWS: Final = 300
#: Of the documents that wait for their verification, so many of the oldest are named.
STORED_ROWS: Final = 20
HISTORY_SECONDS: Final = 3600.0
KEEP_SECONDS: Final = 7 * 86_400.0

_OUTBOX: Final = """
    SELECT
        (SELECT count(*) FROM (
            SELECT FROM outbox WHERE published_at IS NULL AND refused_at IS NULL LIMIT $1) AS w) AS waiting,
        (SELECT created_at FROM outbox WHERE published_at IS NULL AND refused_at IS NULL ORDER BY id LIMIT 1) AS oldest,
        r.refused, r.since
    FROM (SELECT count(*) AS refused, min(refused_at) AS since FROM (
        SELECT refused_at FROM outbox WHERE published_at IS NULL AND refused_at IS NOT NULL LIMIT $1) AS f) AS r
"""
#: An upload counts from its beginning: it is no deposit yet. What is being erased counts from its order.
_STATES: Final = """
    SELECT s.statut,
        (SELECT count(*) FROM (SELECT FROM documents d WHERE d.statut = s.statut LIMIT $1) AS c) AS counted,
        CASE s.statut WHEN 'ERASING' THEN (
            SELECT min(demande_a) FROM (
                SELECT demande_a FROM effacements WHERE acheve_a IS NULL LIMIT $1) AS e)
        ELSE (
            SELECT coalesce(d.date_depot, d.created_at) FROM documents d
            WHERE d.statut = s.statut ORDER BY d.created_at, d.id LIMIT 1) END AS oldest
    FROM (VALUES ('PENDING'), ('STORED'), ('ERASING')) AS s (statut)
"""
#: Whether an event is still held is asked of the inbox once, for the groups, which come first (``held``: how many of each), and for what
#: was held longest.
_HELD: Final = f"""
    WITH now_held AS MATERIALIZED (
        SELECT consumer, waiting_for, code, attempts, held_since, event_id, document_key, topic, partition, "offset", given_up_at
        {HELD_NOW}
    )
    (SELECT count(*) AS held, consumer, waiting_for, code, max(attempts) AS attempts, min(held_since) AS held_since,
            NULL::uuid AS event_id, NULL AS document_key, NULL AS topic, NULL::int AS partition, NULL::bigint AS "offset",
            NULL::timestamptz AS given_up_at
     FROM now_held GROUP BY consumer, waiting_for, code ORDER BY min(held_since))
    UNION ALL
    (SELECT NULL, now_held.* FROM now_held ORDER BY held_since, event_id LIMIT $2)
"""  # noqa: S608 - made of constants
_WAITING_ROWS: Final = """
    SELECT topic, key, event_id, consumer, created_at, refused_at, refused_code FROM (
        SELECT * FROM (
            SELECT * FROM outbox WHERE published_at IS NULL AND refused_at IS NULL ORDER BY id LIMIT $1) AS waiting
        UNION ALL
        SELECT * FROM (
            SELECT * FROM outbox WHERE published_at IS NULL AND refused_at IS NOT NULL LIMIT $1) AS refused
    ) AS front
"""
#: Of the published rows with the lowest ids those that are owed, and how many were looked at, in one row at least. What is finished is
#: removed within minutes, so what is old here is owed.
_OWED_ROWS: Final = f"""
    WITH front AS MATERIALIZED (
        SELECT id, topic, key, event_id, consumer, created_at, published_at, published_partition, published_offset FROM outbox
        WHERE published_at IS NOT NULL AND refused_at IS NULL AND event_id IS NOT NULL AND topic = ANY($2::text[])
        ORDER BY id LIMIT $1
    )
    SELECT looked.rows, owed.* FROM (SELECT count(*) AS rows FROM front) AS looked LEFT JOIN (
        SELECT front.id, front.topic, front.key, front.event_id, r.consumer, front.created_at, front.published_at,
               front.published_partition, front.published_offset
        FROM front JOIN unnest($2::text[], $3::text[]) AS r (topic, consumer)
            ON r.topic = front.topic AND (front.consumer IS NULL OR front.consumer = r.consumer)
        WHERE (
            SELECT i.state FROM inbox i
            WHERE i.consumer = r.consumer AND i.event_id = front.event_id AND i.state <> 'CLAIMED') IS NULL
            AND {BURIED.format(row="front")} IS NULL
    ) AS owed ON true
    ORDER BY owed.id, owed.consumer
"""  # noqa: S608 - made of constants
#: Of each consumer's open letters so many at most, by the index alone; then the oldest of each group.
_DEAD: Final = """
    SELECT g.*, l.* FROM (
        SELECT consumer, code, error_class, count(*) AS count, max(ecrite_a) AS newest,
               count(*) FILTER (WHERE ecrite_a > $3::timestamptz) AS new
        FROM unnest($1::text[]) AS c (name), LATERAL (
            SELECT consumer, code, error_class, ecrite_a FROM lettres_mortes
            WHERE reglement IS NULL AND consumer = c.name
            ORDER BY consumer, code, error_class, ecrite_a, numero LIMIT $2) AS open
        GROUP BY consumer, code, error_class
    ) AS g, LATERAL (
        SELECT event_id, document_id, origine_topic, tentatives, ecrite_a FROM lettres_mortes
        WHERE reglement IS NULL AND (consumer, code, error_class) = (g.consumer, g.code, g.error_class)
        ORDER BY ecrite_a, numero LIMIT 1) AS l
    ORDER BY g.consumer, g.code, g.error_class
"""
_DOCUMENT: Final = "id, tenant, statut, coalesce(date_depot, created_at) AS deposited_at, date_validation AS decided_at"
_STORED: Final = f"""
    SELECT {_DOCUMENT} FROM documents WHERE statut = 'STORED' ORDER BY created_at, id LIMIT $1
"""  # noqa: S608
_DOCUMENTS: Final = f"SELECT {_DOCUMENT} FROM documents WHERE id = ANY($1::uuid[])"  # noqa: S608
#: ``uncovered``: leaves behind a tree's size wait for a checkpoint, as do entries of a tenant that has no tree yet.
_CHECKPOINTS: Final = """
    SELECT max(c.taken_at) AS newest, count(*) FILTER (WHERE open.since IS NOT NULL) AS uncovered,
           min(coalesce(c.taken_at, open.since)) FILTER (WHERE open.since IS NOT NULL) AS overdue_since
    FROM audit_heads h
    LEFT JOIN LATERAL (
        SELECT size, taken_at FROM audit_checkpoints
        WHERE tenant = h.tenant AND signature IS NOT NULL ORDER BY size DESC LIMIT 1) AS c ON true
    LEFT JOIN LATERAL (
        SELECT h.updated_at AS since WHERE h.seq > coalesce(c.size, 0)) AS open ON true
"""
_ERASURES: Final = """
    SELECT count(*) AS counted, min(demande_a) AS oldest FROM (
        SELECT demande_a FROM effacements WHERE acheve_a IS NULL LIMIT $1) AS e
"""
_RESTORES: Final = "SELECT magasin, ouverte_a FROM restaurations WHERE fermee_a IS NULL ORDER BY numero"
_HISTORY: Final = """
    SELECT minute, lieu, en_attente, retard_secondes FROM releves
    WHERE minute > now() - make_interval(secs => $1) ORDER BY minute, lieu
"""
_RECORDED: Final = "SELECT max(minute) FROM releves"


class PostgresOverview:
    """See ``operations.overview.look.Stores``. ``reads``: the consumers of each topic."""

    def __init__(self, postgres: Connections, reads: Mapping[str, Sequence[str]]) -> None:
        self._postgres = postgres
        pairs = [(topic, consumer) for topic, consumers in reads.items() for consumer in consumers]
        self._columns = [topic for topic, _ in pairs], [consumer for _, consumer in pairs]

    async def numbers(self, new_since: datetime | None = None) -> StoredNumbers:
        """What waits. A part is None if its own statement failed, for example behind a lock. Raises DatabaseUnavailable.

        ``new_since``: dead letters written after it are new; None: which are is not asked.
        """
        owed = await self._part(self._owed)
        held = await self._part(self._held)
        waiting = await self._part(self._waiting)
        dead = await self._part(lambda: self._dead(new_since))
        unfinished, whole = None, False
        if owed is not None and held is not None and waiting is not None:
            holding = {(one.consumer, one.event_id): one for one in held[1]}
            events = []
            for one in owed[0]:
                hold = holding.pop((one.consumer, one.event_id), None)
                events.append(one if hold is None else replace(hold, written_at=one.written_at))
            unfinished = (*waiting[0], *events, *holding.values(), *(() if dead is None else dead[1]))
            whole = owed[1] and waiting[1]
        return StoredNumbers(
            outbox=await self._part(self.outbox),
            states=await self._part(self._states),
            held=None if held is None else held[0],
            dead=None if dead is None else dead[0],
            unfinished=unfinished,
            unfinished_whole=whole,
            oldest_stored=await self._part(self._oldest_stored),
            checkpoints=await self._part(self._checkpoints),
            erasures=await self._part(self._erasures),
            restores=await self._part(self._restores),
            history=await self._part(self._history),
            recorded=await self._part(self._recorded),
            paused=await self._part(PostgresPauseQueries(self._postgres).paused),
        )

    async def documents(self, ids: Sequence[UUID]) -> Mapping[UUID, DocumentRow]:
        """Those of ``ids`` that are there. Raises DatabaseUnavailable."""
        return {row["id"]: _document(row) for row in await self._fetch(_DOCUMENTS, list(ids))}

    async def record(self, at: datetime, samples: Mapping[str, tuple[int | None, float | None]]) -> bool:
        """Keep a minute's figures, and remove those older than a week. ``samples``: what waits, and for how many seconds, by consumer
        and ``domain.overview.OUTBOX``. False if somebody kept this minute's. Raises DatabaseUnavailable."""
        minute = at.replace(second=0, microsecond=0)
        places = list(samples)
        async with self._postgres.connection() as connection:
            status = await connection.execute(
                """
                INSERT INTO releves (minute, lieu, en_attente, retard_secondes)
                SELECT $1, place, waiting, behind
                FROM unnest($2::text[], $3::bigint[], $4::float8[]) AS figures (place, waiting, behind)
                ON CONFLICT DO NOTHING
                """,
                minute,
                places,
                [samples[place][0] for place in places],
                [samples[place][1] for place in places],
            )
            await connection.execute(
                "DELETE FROM releves WHERE minute < $1::timestamptz - make_interval(secs => $2)", minute, KEEP_SECONDS
            )
        return int(status.split()[-1]) > 0

    async def _part(self, read: Callable[[], Awaitable[_T]]) -> _T | None:
        try:
            return await read()
        except DatabaseUnavailable as error:
            if error.outage:
                raise  # nor would the next one be answered
            return None

    async def _fetch(self, query: str, *values: Any) -> list[Any]:
        async with self._postgres.connection() as connection:
            return list(await connection.fetch(query, *values))

    async def _recorded(self) -> datetime | None:
        at: datetime | None = (await self._fetch(_RECORDED))[0][0]
        return at

    async def outbox(self) -> OutboxOverview:
        """What waits for the relay. Raises DatabaseUnavailable."""
        (row,) = await self._fetch(_OUTBOX, MOST_COUNTED + 1)
        return OutboxOverview(
            waiting=Count.of(row["waiting"]),
            oldest=row["oldest"],
            refused=Count.of(row["refused"]),
            refused_since=row["since"],
        )

    async def _states(self) -> tuple[StateOverview, ...]:
        return tuple(
            StateOverview(status=Status(row["statut"]), count=Count.of(row["counted"]), oldest=row["oldest"])
            for row in await self._fetch(_STATES, MOST_COUNTED + 1)
        )

    async def _held(self) -> tuple[dict[str, tuple[HeldGroup, ...]], tuple[UnfinishedEvent, ...]]:
        rows = await self._fetch(_HELD, FRESH_SECONDS, HELD_ROWS)
        groups: dict[str, list[HeldGroup]] = {}
        for row in rows:
            if row["held"] is not None:
                groups.setdefault(row["consumer"], []).append(
                    HeldGroup(
                        waiting_for=row["waiting_for"],
                        code=row["code"],
                        count=row["held"],
                        since=row["held_since"],
                        attempts=row["attempts"],
                    )
                )
        events = tuple(
            UnfinishedEvent(
                key=row["document_key"],
                topic=row["topic"],
                consumer=row["consumer"],
                event_id=row["event_id"],
                holder=Holder.GED if row["waiting_for"] == Holder.GED.value else Holder.HOLD,
                written_at=row["held_since"],
                since=row["held_since"],
                waiting_for=row["waiting_for"],
                code=row["code"],
                attempts=row["attempts"],
                giving_up=row["given_up_at"] is not None,
                partition=row["partition"],
                offset=row["offset"],
            )
            for row in rows
            if row["held"] is None
        )
        return {consumer: tuple(found) for consumer, found in groups.items()}, events

    async def _dead(
        self, new_since: datetime | None
    ) -> tuple[dict[str, tuple[DeadGroup, ...]], tuple[UnfinishedEvent, ...]]:
        """Open letters by cause, and the oldest of each. Of each consumer ``MOST_COUNTED`` are counted."""
        rows = await self._fetch(_DEAD, list(CONSUMERS), MOST_COUNTED, new_since)
        groups: dict[str, list[DeadGroup]] = {}
        for row in rows:
            groups.setdefault(row["consumer"], []).append(
                DeadGroup(
                    code=row["code"],
                    error_class=row["error_class"],
                    count=row["count"],
                    newest=row["newest"],
                    new=None if new_since is None else row["new"],
                )
            )
        oldest = tuple(
            UnfinishedEvent(
                key=str(row["document_id"]),
                topic=row["origine_topic"],
                consumer=row["consumer"],
                event_id=row["event_id"],
                holder=Holder.DEAD_LETTER,
                written_at=row["ecrite_a"],
                since=row["ecrite_a"],
                code=row["code"],
                attempts=row["tentatives"],
            )
            for row in rows
            if row["document_id"] is not None
        )
        return {consumer: tuple(found) for consumer, found in groups.items()}, oldest

    async def _waiting(self) -> tuple[tuple[UnfinishedEvent, ...], bool]:
        """What the relay has to publish, and whether that is all. A row without a single consumer is for all that read its topic."""
        rows = await self._fetch(_WAITING_ROWS, FRONT_ROWS)
        readers: dict[str, list[str]] = {}
        for topic, consumer in zip(*self._columns, strict=True):
            readers.setdefault(topic, []).append(consumer)
        events: list[UnfinishedEvent] = []
        for row in rows:
            key, topic, event_id, single = _key(row), row["topic"], row["event_id"], row["consumer"]
            written, refused, code = row["created_at"], row["refused_at"], row["refused_code"]
            events += [
                UnfinishedEvent(
                    key=key,
                    topic=topic,
                    consumer=consumer,
                    event_id=event_id,
                    holder=Holder.OUTBOX if refused is None else Holder.REFUSED,
                    written_at=written,
                    since=refused or written,
                    code=code,
                )
                for consumer in ([single] if single else readers.get(topic, ()))
            ]
        return tuple(events), len(rows) < FRONT_ROWS

    async def _owed(self) -> tuple[tuple[UnfinishedEvent, ...], bool]:
        """What is published and not finished, and whether that is all."""
        rows = await self._fetch(_OWED_ROWS, FRONT_ROWS, *self._columns)
        events = tuple(
            UnfinishedEvent(
                key=_key(row),
                topic=row["topic"],
                consumer=row["consumer"],
                event_id=row["event_id"],
                holder=Holder.TOPIC,
                written_at=row["created_at"],
                since=row["published_at"],
                partition=row["published_partition"],
                offset=row["published_offset"],
            )
            for row in rows
            if row["id"] is not None
        )
        return events, rows[0]["rows"] < FRONT_ROWS

    async def _oldest_stored(self) -> tuple[DocumentRow, ...]:
        return tuple(map(_document, await self._fetch(_STORED, STORED_ROWS)))

    async def _checkpoints(self) -> CheckpointsOverview:
        (row,) = await self._fetch(_CHECKPOINTS)
        return CheckpointsOverview(newest=row["newest"], overdue_since=row["overdue_since"], uncovered=row["uncovered"])

    async def _erasures(self) -> ErasuresOverview:
        (row,) = await self._fetch(_ERASURES, MOST_COUNTED + 1)
        return ErasuresOverview(waiting=Count.of(row["counted"]), oldest=row["oldest"])

    async def _restores(self) -> tuple[RestoreOverview, ...]:
        return tuple(
            RestoreOverview(store=row["magasin"], since=row["ouverte_a"]) for row in await self._fetch(_RESTORES)
        )

    async def _history(self) -> dict[str, tuple[Sample, ...]]:
        found: dict[str, list[Sample]] = {}
        for row in await self._fetch(_HISTORY, HISTORY_SECONDS):
            sample = Sample(at=row["minute"], lag=row["en_attente"], behind_seconds=row["retard_secondes"])
            found.setdefault(row["lieu"], []).append(sample)
        return {place: tuple(samples) for place, samples in found.items()}


def _document(row: Any) -> DocumentRow:
    return DocumentRow(
        document_id=row["id"],
        tenant=row["tenant"],
        status=Status(row["statut"]),
        deposited_at=row["deposited_at"],
        decided_at=row["decided_at"],
    )


def _key(row: Any) -> str:
    key: bytes | None = row["key"]
    return "" if key is None else key.decode("utf-8", "replace")
