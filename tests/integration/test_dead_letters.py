"""An operator's acts on real servers: letters in Kafka, marks and events in PostgreSQL, records back to their topic."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from domain.dead_letters import REDRIVEN_FOR, REPLAYS, DeadLetter, HeldEvent, RecordPosition
from domain.documents import Document
from domain.errors import BrokerUnavailable
from domain.events import DocumentValidated, dead_letter_topic
from domain.lifecycle import Status
from operations.kafka.dead_letters import DeadLetterFilter, read_dead_letter, read_dead_letters
from operations.kafka.topics import TopicPlan, ensure_topics
from processors.operators.dead_letters import OperatorActions
from schemas.codec import EventCodec
from storage.postgres.database import Postgres, PostgresDatabase
from storage.postgres.delivery.dead_letters import PostgresHeldEventList, PostgresOperatorQueries
from storage.postgres.delivery.inbox import PostgresInbox
from storage.postgres.delivery.outbox import PostgresOutboxReader, PostgresOutboxRow
from storage.postgres.delivery.refused_rows import PostgresRefusedRowQueries
from tests.support.builders import NOW, FixedClock, a_document, a_dossier
from tests.support.raw_records import RawRecord, batch_bytes, produce


def validated(document: Document) -> DocumentValidated:
    return DocumentValidated(
        event_id=uuid4(),
        sequence=3,
        occurred_at=NOW,
        correlation_id=uuid4(),
        tenant=document.tenant,
        actor="p:validator",
        document_id=document.id,
        validator="p:validator",
        comment_code="NONE",
    )


def a_letter(event: DocumentValidated, codec: EventCodec, offset: int = 0, **headers: str) -> DeadLetter:
    return DeadLetter(
        RecordPosition("dpj.dlq.archiving", 0, offset, 1_700_000_000_000),
        event.key.encode(),
        codec.encode(event).body,
        {
            "dpj-consumer": "archiving",
            "dpj-code": "archive_refused",
            "dpj-origin-topic": event.TOPIC,
            "dpj-event-id": str(event.event_id),
            "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
            **headers,
        },
    )


@pytest.fixture
async def failed(database: PostgresDatabase, postgres: Postgres) -> tuple[Document, DocumentValidated]:
    """A document that archiving gave up, and the event that it gave up."""
    dossier = a_dossier()
    document = a_document(dossier, Status.ARCHIVE_FAILED, failure_code="archive_refused")
    event = validated(document)
    owner = uuid4()
    await PostgresInbox(postgres).claim("archiving", event.event_id, event.key, owner, 60)
    async with database.transaction() as work:
        await work.dossiers.add(dossier)
        await work.documents.add(document)
        await work.inbox.finish("archiving", event.event_id, owner, "DEAD")
    return document, event


@pytest.fixture
def desk(database: PostgresDatabase, codec: EventCodec) -> OperatorActions:
    return OperatorActions(database, codec, FixedClock(), "p:operator")


async def status(database: PostgresDatabase, document: Document) -> Status:
    async with database.transaction() as work:
        return (await work.documents.get(document.id)).status


async def claim(postgres: Postgres, event: UUID, key: str) -> str:
    return (await PostgresInbox(postgres).claim("archiving", event, key, uuid4(), 60)).name


async def unpublished(reader: PostgresOutboxReader, topic: str) -> list[PostgresOutboxRow]:
    return [row for row in await reader.fetch_unpublished(100) if row.topic == topic]


async def test_a_redrive_is_one_transaction_of_inbox_state_record_audit_line_and_mark(
    failed: tuple[Document, DocumentValidated],
    desk: OperatorActions,
    codec: EventCodec,
    database: PostgresDatabase,
    postgres: Postgres,
    reader: PostgresOutboxReader,
) -> None:
    document, event = failed
    letter = a_letter(event, codec)
    dry = await desk.redrive(letter, apply=False)
    assert (dry.outcome, dry.note) == ("done", "its document: ARCHIVE_FAILED -> VALIDATED")
    assert await status(database, document) is Status.ARCHIVE_FAILED
    assert await reader.fetch_unpublished(10) == []
    assert await claim(postgres, event.event_id, event.key) == "DONE"

    assert await desk.redrive(letter, apply=True) == dry
    assert await status(database, document) is Status.VALIDATED
    (record,) = await unpublished(reader, event.TOPIC)
    assert (record.key, record.body) == (letter.key, letter.value)
    assert record.headers == {
        "event-id": str(event.event_id),
        "traceparent": letter.headers["traceparent"],
        REPLAYS: "1",
        REDRIVEN_FOR: "archiving",
    }
    lines = [await codec.decode(row.topic, row.body or b"") for row in await unpublished(reader, "dpj.audit.recorded")]
    assert [line.action for line in lines] == ["document.validated", "dead_letter.redriven"]  # type: ignore[attr-defined]
    assert {line.actor for line in lines} == {"p:operator"}
    assert await claim(postgres, event.event_id, event.key) == "ACQUIRED"
    marks = await PostgresOperatorQueries(postgres).marks([letter.place])
    assert marks[letter.place].act == "REDRIVEN"


async def test_twice_or_by_two_operators_it_happens_once(
    failed: tuple[Document, DocumentValidated], desk: OperatorActions, codec: EventCodec, reader: PostgresOutboxReader
) -> None:
    _, event = failed
    letter = a_letter(event, codec)
    results = await asyncio.gather(*(desk.redrive(letter, apply=True) for _ in range(5)))
    assert sorted(result.outcome for result in results) == ["done", *["handled"] * 4]
    assert (await desk.discard(letter, "late", apply=True)).outcome == "handled"
    assert len(await unpublished(reader, event.TOPIC)) == 1


async def test_an_operator_killed_in_the_middle_leaves_nothing(
    failed: tuple[Document, DocumentValidated],
    desk: OperatorActions,
    codec: EventCodec,
    database: PostgresDatabase,
    postgres: Postgres,
    reader: PostgresOutboxReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document, event = failed
    letter = a_letter(event, codec)

    async def dies(*_: object) -> None:
        async with postgres.connection() as connection:
            await connection.execute(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND state = 'idle in transaction'"""
            )

    with monkeypatch.context() as patched:
        patched.setattr(OperatorActions, "_audit", dies)
        with pytest.raises(Exception, match="database does not answer"):
            await desk.redrive(letter, apply=True)
    assert await status(database, document) is Status.ARCHIVE_FAILED
    assert await PostgresOperatorQueries(postgres).marks([letter.place]) == {}
    assert (await desk.redrive(letter, apply=True)).outcome == "done"
    assert len(await unpublished(reader, event.TOPIC)) == 1


async def test_a_mark_is_of_one_letter_not_of_a_place_that_is_used_again(
    failed: tuple[Document, DocumentValidated], desk: OperatorActions, codec: EventCodec, postgres: Postgres
) -> None:
    _, event = failed
    letter = a_letter(event, codec)
    assert (await desk.discard(letter, "INC-1", apply=True)).outcome == "done"
    other = RecordPosition(letter.place.topic, letter.place.partition, letter.place.offset, letter.place.written_ms + 1)
    marks = await PostgresOperatorQueries(postgres).marks([other, letter.place])
    assert [(place, mark.reason, mark.actor) for place, mark in marks.items()] == [
        (letter.place, "INC-1", "p:operator")
    ]


async def test_held_events_are_listed_ordered_and_forgotten(
    desk: OperatorActions, postgres: Postgres, reader: PostgresOutboxReader
) -> None:
    held, operations = PostgresHeldEventList(postgres), PostgresOperatorQueries(postgres)
    event = HeldEvent(
        consumer="archiving",
        event_id=uuid4(),
        document_key=str(uuid4()),
        tenant="acme",
        topic="dpj.document.validated",
        partition=2,
        offset=17,
        code="ged_unavailable",
        waiting_for="ged",
        attempts=4,
    )
    assert (await desk.give_up("archiving", event.event_id, "INC-1", apply=True)).outcome == "refused"
    assert not await held.note(event)
    (listed,) = await operations.held(10)
    assert (listed.event, listed.given_up_reason) == (event, None)
    assert (await desk.give_up("archiving", event.event_id, "INC-1", apply=False)).outcome == "done"
    assert not await held.note(event)
    assert (await desk.give_up("archiving", event.event_id, "INC-1", apply=True)).outcome == "done"
    assert (await desk.give_up("archiving", event.event_id, "INC-1", apply=True)).outcome == "refused"
    assert await held.note(event)
    (listed,) = await operations.held(10)
    assert (listed.given_up_by, listed.given_up_reason) == ("p:operator", "INC-1")
    assert len(await unpublished(reader, "dpj.audit.recorded")) == 1
    await held.forget("archiving", event.event_id)
    assert await operations.held(10) == []


async def test_what_is_finished_or_no_longer_noted_is_not_held(postgres: Postgres, database: PostgresDatabase) -> None:
    held, operations = PostgresHeldEventList(postgres), PostgresOperatorQueries(postgres)
    events = [
        HeldEvent(
            consumer="c", event_id=uuid4(), document_key="d\0" + "x" * 200, tenant=None, topic="t", partition=0, offset=1,
            code="x", waiting_for="y", attempts=1,
        )
        for _ in range(3)
    ]  # fmt: skip
    for event in events:
        await held.note(event)
    owner = uuid4()
    await PostgresInbox(postgres).claim("c", events[0].event_id, "d", owner, 60)
    async with database.transaction() as work:
        await work.inbox.finish("c", events[0].event_id, owner, "DONE")
    async with postgres.connection() as connection:
        await connection.execute(
            "UPDATE held_events SET noted_at = now() - interval '1 hour' WHERE event_id = $1", events[1].event_id
        )
    assert [one.event.event_id for one in await operations.held(10)] == [events[2].event_id]


async def test_refused_rows_hold_back_their_document_until_they_are_settled(
    desk: OperatorActions, database: PostgresDatabase, postgres: Postgres, reader: PostgresOutboxReader
) -> None:
    key = str(uuid4())
    async with database.transaction() as work:
        for size in (1, 5_000, 2, 3):
            await work.outbox.add_record("t", key.encode(), b"x" * size, {})
        await work.outbox.add_record("t", b"other", b"y", {})
        await work.outbox.add_record("t", None, b"z", {})
    first, bad, *_ = await reader.fetch_unpublished(10)
    await reader.refuse(bad.id, "MSG_SIZE_TOO_LARGE")
    assert await reader.count_refused() == 1
    assert [row.body for row in await reader.fetch_unpublished(10)] == [b"x", b"y", b"z"]
    (row,) = await PostgresRefusedRowQueries(postgres).refused(10)
    assert (row.id, row.key, row.size, row.code, row.waiting) == (bad.id, key, 5_000, "MSG_SIZE_TOO_LARGE", 2)

    assert (await desk.retry_refused(bad.id, apply=False)).outcome == "done"
    assert await reader.count_refused() == 1
    assert (await desk.retry_refused(bad.id, apply=True)).outcome == "done"
    assert (await desk.retry_refused(bad.id, apply=True)).outcome == "refused"
    assert [len(row.body or b"") for row in await reader.fetch_unpublished(10) if row.topic == "t"] == [
        1, 5_000, 2, 3, 1, 1,
    ]  # fmt: skip
    await reader.refuse(bad.id, "MSG_SIZE_TOO_LARGE")
    assert (await desk.drop_refused(bad.id, "INC-7", apply=True)).outcome == "done"
    assert (await desk.drop_refused(bad.id, "INC-7", apply=True)).outcome == "refused"
    assert [len(row.body or b"") for row in await reader.fetch_unpublished(10) if row.topic == "t"] == [1, 2, 3, 1, 1]
    assert await PostgresRefusedRowQueries(postgres).refused(10) == []
    assert first.id < bad.id


# --- letters in Kafka ------------------------------------------------------------------------------------------------


@pytest.fixture
def consumer(stack: Mapping[str, str]) -> Iterator[str]:
    """Name of a consumer whose dead-letter topic is the test's own, with two partitions."""
    name = f"test-{uuid4().hex}"
    plan = TopicPlan(name=dead_letter_topic(name), partitions=2, replication=1, retention_days=1)
    bootstrap = stack["DPJ_KAFKA_BOOTSTRAP"]
    ensure_topics(bootstrap, [plan])
    yield name
    admin = AdminClient({"bootstrap.servers": bootstrap})
    (deleted,) = admin.delete_topics([plan.name]).values()
    deleted.result(20)


def send(bootstrap: str, consumer: str, count: int, *, partition: int = 0, age: float = 0.0, size: int = 10) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    stamp = int((time.time() - age) * 1000)
    for number in range(count):
        headers = [
            ("dpj-consumer", consumer.encode()),
            ("dpj-code", b"even" if number % 2 == 0 else b"odd"),
            ("dpj-error-class", b"E"),
            ("dpj-event-id", str(UUID(int=number)).encode()),
            ("dpj-origin-topic", b"dpj.document.validated"),
        ]
        producer.produce(
            dead_letter_topic(consumer), b"x" * size, key=b"d%d" % number, headers=headers, partition=partition,
            timestamp=stamp,
        )  # fmt: skip
        producer.poll(0)
    assert producer.flush(20) == 0


def test_letters_are_read_from_all_partitions_and_filtered(stack: Mapping[str, str], consumer: str) -> None:
    bootstrap = stack["DPJ_KAFKA_BOOTSTRAP"]
    assert list(read_dead_letters(bootstrap, DeadLetterFilter(consumers=(consumer,)))) == []
    send(bootstrap, consumer, 4, age=7200)
    send(bootstrap, consumer, 3, partition=1)

    def found(**wanted: object) -> list[tuple[int, int]]:
        asked = DeadLetterFilter(consumers=(consumer,), **wanted)  # type: ignore[arg-type]
        return [(letter.place.partition, letter.place.offset) for letter in read_dead_letters(bootstrap, asked)]

    hour_ago = int((datetime.now(UTC).timestamp() - 3600) * 1000)
    assert found() == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)]
    assert found(code="odd") == [(0, 1), (0, 3), (1, 1)]
    assert found(since=hour_ago) == [(1, 0), (1, 1), (1, 2)]
    assert found(until=hour_ago) == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert found(document="d2") == [(0, 2), (1, 2)]
    assert found(event=str(UUID(int=3))) == [(0, 3)]
    assert found(error_class="E", topic="dpj.document.validated", code="even", since=hour_ago) == [(1, 0), (1, 2)]
    assert found(topic="other") == []


def test_one_letter_by_its_address(stack: Mapping[str, str], consumer: str) -> None:
    bootstrap = stack["DPJ_KAFKA_BOOTSTRAP"]
    send(bootstrap, consumer, 3)
    topic = dead_letter_topic(consumer)
    letter = read_dead_letter(bootstrap, topic, 0, 1)
    assert letter is not None
    assert (letter.place.address, letter.entity_id, letter.code) == (f"{consumer}/0/1", "d1", "odd")
    assert [read_dead_letter(bootstrap, *place) for place in ((topic, 0, 3), (topic, 2, 0), ("dpj.dlq.none", 0, 0))] == [
        None, None, None,
    ]  # fmt: skip


def test_a_strangers_letter_with_a_header_name_that_is_no_text_hides_no_other(
    stack: Mapping[str, str], consumer: str
) -> None:
    topic, bootstrap = dead_letter_topic(consumer), stack["DPJ_KAFKA_BOOTSTRAP"]
    hostile = [RawRecord(b"key", b"value", ((b"\xff", b"v"), (b"dpj-code", b"c")))] * 100
    other = RawRecord(b"other", b"value", ((b"dpj-code", b"c"),))
    asyncio.run(produce(bootstrap, topic, 0, batch_bytes([*hostile, other])))
    found = read_dead_letters(bootstrap, DeadLetterFilter(consumers=(consumer,)))
    written = [(letter.key, dict(letter.headers)) for letter in found]
    assert written == [(b"key", {})] * 100 + [(b"other", {"dpj-code": "c"})]


def test_reading_goes_on_after_a_long_pause_of_its_reader(stack: Mapping[str, str], consumer: str) -> None:
    bootstrap = stack["DPJ_KAFKA_BOOTSTRAP"]
    send(bootstrap, consumer, 3)
    reading = read_dead_letters(bootstrap, DeadLetterFilter(consumers=(consumer,)), deadline=5.0)
    next(reading)
    time.sleep(6)
    assert len(list(reading)) == 2


def test_a_broker_that_is_away_is_said_so() -> None:
    with pytest.raises(BrokerUnavailable):
        list(read_dead_letters("127.0.0.1:9", DeadLetterFilter(), deadline=1.0))


def test_a_large_topic_is_read_in_bounded_memory(stack: Mapping[str, str], consumer: str) -> None:
    bootstrap = stack["DPJ_KAFKA_BOOTSTRAP"]
    send(bootstrap, consumer, 150, size=800_000)  # 120 MB

    def resident() -> float:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * 4096 / 1e6

    before = most = resident()
    count = 0
    for _ in read_dead_letters(bootstrap, DeadLetterFilter(consumers=(consumer,))):
        count += 1
        most = max(most, resident())
    assert count == 150
    assert most - before < 64
