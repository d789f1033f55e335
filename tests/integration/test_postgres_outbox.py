"""The outbox: rows with their transaction or not at all, in a document's order, read by one leader."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from domain.errors import DatabaseUnavailable
from domain.events import DocumentQuarantined
from domain.shared.correlation import current_traceparent
from schemas.codec import EventCodec
from storage.postgres.connections import connect
from storage.postgres.database import Postgres, PostgresDatabase
from storage.postgres.delivery.outbox import PostgresOutboxReader, PostgresOutboxSource
from streams.outbox_relay import PlacedRow
from tests.support.builders import NOW, a_document, a_dossier, add_documents


def an_event(document_id: UUID, sequence: int = 1) -> DocumentQuarantined:
    """An event of a document."""
    return DocumentQuarantined(
        event_id=uuid4(),
        sequence=sequence,
        occurred_at=NOW,
        correlation_id=uuid4(),
        tenant="acme",
        actor="system",
        document_id=document_id,
        reason_code="integrity_mismatch",
    )


async def add(database: PostgresDatabase, *events: DocumentQuarantined) -> None:
    async with database.transaction() as work:
        for event in events:
            await work.outbox.add(event)


async def test_an_event_leaves_as_its_codec_wrote_it(
    database: PostgresDatabase, codec: EventCodec, reader: PostgresOutboxReader
) -> None:
    event = an_event(uuid4())
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    token = current_traceparent.set(trace)
    try:
        await add(database, event)
    finally:
        current_traceparent.reset(token)
    (row,) = await reader.fetch_unpublished(10)
    assert (row.topic, row.key, row.event_id) == (event.TOPIC, str(event.document_id).encode(), event.event_id)
    assert row.headers == {
        "schema": codec.encode(event).schema,
        "event-id": str(event.event_id),
        "correlation-id": str(event.correlation_id),
        "traceparent": trace,
    }
    assert row.body is not None
    assert await codec.decode(row.topic, row.body) == event


async def test_rows_of_one_transaction_keep_their_order(
    database: PostgresDatabase, reader: PostgresOutboxReader
) -> None:
    events = [an_event(uuid4(), number) for number in range(200)]
    await add(database, *events)
    rows = await reader.fetch_unpublished(1000)
    assert [row.event_id for row in rows] == [event.event_id for event in events]


async def test_a_rollback_leaves_nothing(database: PostgresDatabase, reader: PostgresOutboxReader) -> None:
    async def fails() -> None:
        async with database.transaction() as work:
            await work.outbox.add(an_event(uuid4()))
            raise KeyError

    with pytest.raises(KeyError):
        await fails()
    assert await reader.fetch_unpublished(10) == []


async def test_an_event_that_cannot_be_encoded_rolls_the_transaction_back(
    database: PostgresDatabase, reader: PostgresOutboxReader
) -> None:
    dossier = a_dossier()

    async def write() -> None:
        async with database.transaction() as work:
            await work.dossiers.add(dossier)
            await work.outbox.add(replace(an_event(uuid4()), occurred_at=NOW.replace(tzinfo=None)))

    with pytest.raises(ValueError, match="time zone"):
        await write()
    async with database.transaction() as work:
        assert await work.dossiers.page(None, None, 1) == []


async def test_ids_are_in_a_documents_order_whatever_commits_first(
    database: PostgresDatabase, codec: EventCodec, reader: PostgresOutboxReader
) -> None:
    dossier = a_dossier()
    documents = [a_document(dossier) for _ in range(3)]
    await add_documents(database, dossier, *documents)

    async def change(document_id: UUID, number: int) -> None:
        async with database.transaction() as work:
            document = await work.documents.lock(document_id)
            moved = replace(document, sequence=document.sequence + 2)
            await work.outbox.add(an_event(document_id, document.sequence + 1))
            await asyncio.sleep(0.003 * (number % 4))
            await work.documents.update(document, moved)
            await work.outbox.add(an_event(document_id, moved.sequence))

    await asyncio.gather(*(change(documents[number % 3].id, number) for number in range(30)))
    rows = await reader.fetch_unpublished(1000)
    assert len(rows) == 60
    sequences: dict[bytes | None, list[int]] = {}
    for row in rows:
        assert row.body is not None
        sequences.setdefault(row.key, []).append((await codec.decode(row.topic, row.body)).sequence)
    assert list(sequences.values()) == [list(range(2, 22))] * 3


async def test_dead_letters_keep_bytes_and_lack_of_bytes(
    database: PostgresDatabase, reader: PostgresOutboxReader
) -> None:
    async with database.transaction() as work:
        await work.outbox.add_dead_letter("archiving", None, None, {})
        await work.outbox.add_dead_letter("archiving", b"\x00\xff", b"\x00" * 100_000, {"dpj-code": "é\x00x"})
    empty, full = await reader.fetch_unpublished(10)
    assert (empty.key, empty.body, empty.headers, empty.event_id) == (None, None, {}, None)
    assert (full.key, full.body, full.headers) == (b"\x00\xff", b"\x00" * 100_000, {"dpj-code": "éx"})
    assert empty.topic == full.topic
    assert "archiving" in full.topic


async def test_a_commit_wakes_the_reader(database: PostgresDatabase, reader: PostgresOutboxReader) -> None:
    assert await reader.fetch_unpublished(10) == []
    waiting = asyncio.create_task(reader.wait(20))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    started = time.monotonic()
    await add(database, an_event(uuid4()))
    await waiting
    assert time.monotonic() - started < 2
    assert len(await reader.fetch_unpublished(10)) == 1


async def test_a_commit_between_reading_and_waiting_is_not_missed(
    database: PostgresDatabase, reader: PostgresOutboxReader
) -> None:
    assert await reader.fetch_unpublished(10) == []
    await add(database, an_event(uuid4()))
    await asyncio.sleep(0.1)
    async with asyncio.timeout(2):
        await reader.wait(20)


async def test_waiting_ends_without_any_writer(reader: PostgresOutboxReader) -> None:
    async with asyncio.timeout(2):
        await reader.wait(0.1)


def placed(*rows: Any) -> list[PlacedRow]:
    """As Kafka put them: each at the offset of its id."""
    return [PlacedRow(row.id, 3, row.id) for row in rows]


async def test_reading_and_marking_are_bounded(
    database: PostgresDatabase, reader: PostgresOutboxReader, postgres: Postgres
) -> None:
    await add(database, *(an_event(uuid4()) for _ in range(25)))
    first = await reader.fetch_unpublished(10)
    assert len(first) == 10
    await reader.mark_published(placed(*first))
    second = await reader.fetch_unpublished(100)
    assert len(second) == 15
    assert first[-1].id < second[0].id
    await reader.mark_published([])
    async with postgres.connection() as connection:
        rows = await connection.fetch("SELECT id, published_partition, published_offset FROM outbox WHERE id <= 10")
    assert {tuple(row) for row in rows} == {(row.id, 3, row.id) for row in first if row.id <= 10}


async def _end_leader(postgres: Postgres) -> None:
    async with postgres.connection() as connection:
        ended = await connection.fetchval(
            """
            SELECT count(pg_terminate_backend(pid)) FROM pg_locks
            WHERE locktype = 'advisory' AND granted AND database = (
                SELECT oid FROM pg_database WHERE datname = current_database())
            """
        )
    assert ended == 1


async def test_the_second_reader_leads_within_seconds_of_the_firsts_end(database_dsn: str, postgres: Postgres) -> None:
    source = PostgresOutboxSource(database_dsn)
    first, second = await source.open_reader(), await source.open_reader()
    try:
        assert [await first.lead(), await first.lead(), await second.lead(), await second.lead()] == [
            True,
            True,
            False,
            False,
        ]
        await _end_leader(postgres)
        async with asyncio.timeout(5):
            while not await second.lead():
                await asyncio.sleep(0.05)
        with pytest.raises(DatabaseUnavailable):
            await first.lead()
        for call in (first.fetch_unpublished(1), first.mark_published([PlacedRow(1, 0, 0)]), first.count_refused()):
            with pytest.raises(DatabaseUnavailable):
                await call
        async with asyncio.timeout(2):
            await first.wait(0.1)
        assert await second.lead()
    finally:
        await first.close()
        await second.close()


async def test_a_closed_reader_leads_no_more(database_dsn: str) -> None:
    source = PostgresOutboxSource(database_dsn)
    first, second = await source.open_reader(), await source.open_reader()
    assert await first.lead()
    await first.close()
    async with asyncio.timeout(5):
        while not await second.lead():
            await asyncio.sleep(0.05)
    await second.close()


async def test_leaders_of_two_databases_do_not_meet(database_dsn: str, empty_dsn: str) -> None:
    here, there = [await PostgresOutboxSource(dsn).open_reader() for dsn in (database_dsn, empty_dsn)]
    assert await here.lead()
    assert await there.lead()
    await here.close()
    await there.close()


async def test_a_reader_that_cannot_listen_leaves_no_session(
    database_dsn: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(*_: object) -> None:
        raise asyncpg.ConnectionDoesNotExistError

    monkeypatch.setattr(asyncpg.Connection, "add_listener", refuses)
    with pytest.raises(DatabaseUnavailable):
        await PostgresOutboxSource(database_dsn).open_reader()
    async with postgres.connection() as connection:
        async with asyncio.timeout(5):
            while await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ):
                await asyncio.sleep(0.05)


async def test_rows_of_topics_away_stay_with_what_follows_them_of_their_documents(
    database: PostgresDatabase, reader: PostgresOutboxReader, database_dsn: str
) -> None:
    first, second, third = uuid4(), uuid4(), uuid4()
    await add(database, an_event(first), an_event(second), an_event(third), an_event(first, 2), an_event(second, 2))
    rows = await reader.fetch_unpublished(10)
    connection = await connect(database_dsn)
    await connection.execute("UPDATE outbox SET topic = 'away' WHERE id = ANY($1::bigint[])", [rows[0].id, rows[4].id])
    await connection.close()
    found = await reader.fetch_unpublished(10, away=["away", "too"])
    assert [row.id for row in found] == [rows[1].id, rows[2].id]
    assert len(await reader.fetch_unpublished(10)) == 5
