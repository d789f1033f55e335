"""The outbox: events written with the transaction that caused them, and the relay's reading of them.

Rows get their ids under the lock of the document they are about, so a document's ids are in its order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

import asyncpg

from domain.dead_letter_index import DeadLetterEntry, entry_of
from domain.events import SCHEMA_HEADER, DocumentEvent, Event, dead_letter_topic
from domain.shared import tracing
from domain.shared.correlation import current_traceparent, new_traceparent
from domain.shared.waiting import pause
from storage.postgres.connections import APPLICATION_NAMES, connect, translated
from storage.postgres.delivery.dead_letter_index import add_letters

CHANNEL: Final = "dpj_outbox"
LEADER_LOCK: Final = 0x64706A_6F7574  # "dpjout"
LEAD_SECONDS: Final = 3.0

#: A leader that is frozen, or whose machine or network is gone, loses its session, and with it the lock, within 3 s: the
#: relay speaks at least every second, so the server may end a session that is silent for longer, whether the leader's
#: kernel still answers (``idle_session_timeout``), does not (keepalives), or takes no more data (``tcp_user_timeout``).
RELAY_SETTINGS: Final = {
    "application_name": APPLICATION_NAMES[1],
    "idle_session_timeout": "3000",
    "tcp_user_timeout": "3000",
    "tcp_keepalives_idle": "1",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "2",
    # A mark lost in the server's crash means that a row is published again, which consumers notice.
    "synchronous_commit": "off",
}

#: Rows in hand are passed over by id, and those of a key with a refused row before them wait; neither is many. That each
#: row is looked up by a subquery of its own keeps the planner from comparing every waiting row with every refused one.
_UNPUBLISHED: Final = """
    SELECT id, topic, key, body, headers, event_id, waiting_since FROM (
        SELECT o.*, sum(coalesce(octet_length(body), 0)::bigint + coalesce(octet_length(key), 0))
                    OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
        FROM (
            SELECT id, topic, key, body, headers, event_id,
                   CASE WHEN re_emissions = 0 THEN created_at END AS waiting_since
            FROM outbox
            WHERE published_at IS NULL AND refused_at IS NULL AND id <> ALL($3::bigint[]) AND (
                SELECT r.id FROM outbox r
                WHERE r.published_at IS NULL AND r.refused_at IS NOT NULL AND r.key = outbox.key AND r.id < outbox.id
                LIMIT 1) IS NULL {but}
            ORDER BY id LIMIT $1
        ) o
    ) rows
    WHERE before IS NULL OR before < $2 ORDER BY id
"""
_ALL_TOPICS: Final = _UNPUBLISHED.format(but="")
#: What waits for one of the topics $4, or behind what does.
_OTHER_TOPICS: Final = _UNPUBLISHED.format(
    but="""
            AND topic <> ALL($4::text[]) AND NOT EXISTS (
                SELECT FROM outbox w
                WHERE w.published_at IS NULL AND w.topic = ANY($4) AND w.key = outbox.key AND w.id < outbox.id)"""
)


class EncodedEvent(Protocol):
    """See ``schemas.codec.EncodedEvent``."""

    @property
    def body(self) -> bytes: ...

    @property
    def schema(self) -> str: ...


Encode = Callable[[Event], EncodedEvent]


#: Topic, key, body and headers of a letter.
_LetterRow = tuple[str, bytes | None, bytes | None, dict[str, str]]


def writable(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers as the column takes them: they may come from a stranger's record, and jsonb holds no NUL."""
    return {name.replace("\0", ""): text.replace("\0", "") for name, text in headers.items()}


class CreateSpans:
    """The *create* spans of a transaction's events: they end with it, and say what it failed of. Where nobody knows whether it was
    committed, what follows from its events still has its parent."""

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        self._spans: list[tracing.Span] = []

    def traceparent(self, event: Event) -> str:
        """What an event is carried with: the context of its own creation where the trace is recorded, else that of the work in hand."""
        current = current_traceparent.get()
        span = self._start(event, current) if tracing.is_on() else None
        return current or new_traceparent() if span is None else span.traceparent

    def _start(self, event: Event, current: str | None) -> tracing.Span | None:
        attributes = {
            "messaging.system": "kafka",
            "messaging.operation.name": "create",
            "messaging.operation.type": "create",
            "messaging.destination.name": event.TOPIC,
            "messaging.message.id": str(event.event_id),
            "messaging.message.conversation_id": str(event.correlation_id),
        }
        if isinstance(event, DocumentEvent):
            attributes["dpj.document_id"] = str(event.document_id)
        span = tracing.start(f"create {event.TOPIC}", tracing.SpanKind.PRODUCER, current, attributes=attributes)
        if span is not None:
            self._spans.append(span)
        return span

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        for span in self._spans:
            span.end(None if error is None else tracing.code_of(error))


class NewRows:
    """Rows to be, column by column: a statement takes each column as an array. ``spans`` are its caller's to end."""

    def __init__(self, encode: Encode, spans: CreateSpans) -> None:
        self._encode = encode
        self._spans = spans
        self._rows: list[tuple[str, bytes | None, bytes | None, dict[str, str], UUID | None, str | None]] = []

    def __bool__(self) -> bool:
        return bool(self._rows)

    def add(self, event: Event) -> None:
        """Encode an event, for the trace that we are in."""
        encoded = self._encode(event)
        headers = {
            SCHEMA_HEADER: encoded.schema,
            "event-id": str(event.event_id),
            "correlation-id": str(event.correlation_id),
            "traceparent": self._spans.traceparent(event),
        }
        self._rows.append((event.TOPIC, event.key.encode(), encoded.body, headers, event.event_id, None))

    def add_record(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, str],
        owed: tuple[UUID, str] | None = None,
    ) -> None:
        event_id, consumer = owed or (None, None)
        self._rows.append((topic, key, value, writable(headers), event_id, consumer))

    def columns(self) -> list[Sequence[Any]]:
        """Topics, keys, bodies, headers, event ids."""
        return self.all_columns()[:-1]

    def all_columns(self) -> list[Sequence[Any]]:
        """Those, and the single consumer of each."""
        return list(zip(*self._rows, strict=True))


class PostgresOutbox:
    """See ``processors.ports.events.Outbox``. Rows are held back until ``flush``, and then go out as one statement."""

    def __init__(self, connection: asyncpg.Connection[Any], encode: Encode) -> None:
        self._connection = connection
        self._encode = encode
        #: Around the transaction.
        self.spans = CreateSpans()
        self._rows = NewRows(encode, self.spans)
        self._letters: list[tuple[_LetterRow, DeadLetterEntry]] = []

    async def add(self, event: Event) -> None:
        self._rows.add(event)

    async def add_dead_letter(
        self,
        consumer: str,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, str],
        tenant: str | None = None,
    ) -> None:
        row = dead_letter_topic(consumer), key, value, writable(headers)
        self._letters.append((row, entry_of(consumer, key, headers, tenant=tenant)))

    async def add_record(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, str],
        owed: tuple[UUID, str] | None = None,
    ) -> None:
        self._rows.add_record(topic, key, value, headers, owed)

    async def flush(self) -> None:
        """Write the rows, in the order they were added, then the letters, and wake the relay when the transaction commits."""
        if self._rows:
            await self._flush_rows()
        letters, self._letters = self._letters, []
        if letters:
            await add_letters(self._connection, letters)

    async def _flush_rows(self) -> None:
        rows, self._rows = self._rows, NewRows(self._encode, self.spans)
        await self._connection.execute(
            """
            WITH added AS (
                INSERT INTO outbox (topic, key, body, headers, event_id, consumer)
                SELECT topic, key, body, headers, event_id, consumer
                FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::jsonb[], $5::uuid[], $6::text[]) WITH ORDINALITY
                     AS rows (topic, key, body, headers, event_id, consumer, place)
                ORDER BY place
                RETURNING 1
            )
            SELECT pg_notify('dpj_outbox', '') FROM (SELECT count(*) FROM added) AS done
            """,
            *rows.all_columns(),
        )


@dataclass(frozen=True, slots=True)
class PostgresOutboxRow:
    """See ``streams.in_flight_rows.OutboxRow``."""

    id: int
    topic: str
    key: bytes | None
    body: bytes | None = field(repr=False)
    headers: Mapping[str, str]
    event_id: UUID | None
    waiting_since: datetime | None


class PlacedRow(Protocol):
    """See ``streams.outbox_relay.PlacedRow``."""

    @property
    def id(self) -> int: ...

    @property
    def partition(self) -> int | None: ...

    @property
    def offset(self) -> int | None: ...


class PostgresOutboxReader:
    """The relay's own session. Its advisory lock is the leadership: it ends with the session, whatever ends that.

    Every method raises DatabaseUnavailable when the session is lost.
    """

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection
        self._leading = False
        self._woken = asyncio.Event()

    async def listen(self) -> None:
        """Be woken by writers."""
        with translated():
            await self._connection.add_listener(CHANNEL, self._wake)

    async def lead(self) -> bool:
        with translated():
            if self._leading:
                # The lock lives as long as its session: an answer proves both.
                return bool(await self._connection.fetchval("SELECT true", timeout=LEAD_SECONDS))
            self._leading = bool(
                await self._connection.fetchval("SELECT pg_try_advisory_lock($1)", LEADER_LOCK, timeout=LEAD_SECONDS)
            )
            return self._leading

    @property
    def woken(self) -> bool:
        """Whether a writer notified since the last fetch."""
        return self._woken.is_set()

    async def fetch_unpublished(
        self, limit: int, max_bytes: int = 4 << 20, known: Collection[int] = (), away: Collection[str] = ()
    ) -> Sequence[PostgresOutboxRow]:
        """The oldest rows to publish but those ``known`` and those of topics ``away``, with what follows them of their documents:
        at most ``limit``, and no more once ``max_bytes`` are passed."""
        self._woken.clear()
        with translated():
            if away:
                rows = await self._connection.fetch(_OTHER_TOPICS, limit, max_bytes, list(known), list(away))
            else:
                rows = await self._connection.fetch(_ALL_TOPICS, limit, max_bytes, list(known))
        return [PostgresOutboxRow(**dict(row)) for row in rows]

    async def mark_published(self, placed: Sequence[PlacedRow]) -> None:
        with translated():
            await self._connection.execute(
                """
                UPDATE outbox SET published_at = now(), published_partition = placed.partition, published_offset = placed.place
                FROM unnest($1::bigint[], $2::int[], $3::bigint[]) AS placed (id, partition, place)
                WHERE outbox.id = placed.id
                """,
                [row.id for row in placed],
                [row.partition for row in placed],
                [row.offset for row in placed],
            )

    async def wait(self, timeout: float) -> None:
        await pause(self._woken, timeout)

    async def refuse(self, row_id: int, code: str) -> None:
        """Set a row aside; the later ones of its key wait behind it."""
        with translated():
            await self._connection.execute(
                "UPDATE outbox SET refused_at = now(), refused_code = left($2, 64) WHERE id = $1 AND published_at IS NULL",
                row_id,
                code,
            )

    async def count_refused(self) -> int:
        with translated():
            count: int = await self._connection.fetchval(
                "SELECT count(*) FROM outbox WHERE published_at IS NULL AND refused_at IS NOT NULL"
            )
        return count

    async def close(self) -> None:
        with translated():
            await self._connection.close(timeout=2)

    def _wake(self, *_: object) -> None:
        self._woken.set()


class PostgresOutboxSource:
    """Opens sessions for the relay."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def open_reader(self) -> PostgresOutboxReader:
        """Raises DatabaseUnavailable."""
        connection = await connect(self._dsn, RELAY_SETTINGS)
        reader = PostgresOutboxReader(connection)
        try:
            await reader.listen()
        except BaseException:
            connection.terminate()
            raise
        return reader
