"""Replaying a window: Kafka's records by time and key, PostgreSQL's inbox, and an item that is done once whatever dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from uuid import UUID, uuid4

import pytest
from confluent_kafka import Producer

from domain.act_notes import note
from domain.batches import Act, ActRequest, BatchState
from domain.dead_letters import REDRIVEN_FOR, DeadLetter
from domain.events import DocumentValidated, Event
from domain.lifecycle import Status
from domain.owed_events import PartitionProgress, Progress
from domain.refusals import ParameterInvalid
from operations.kafka.dead_letters import read_dead_letters_at
from operations.kafka.replay_window import scan_window
from operations.kafka.topics import TopicPlan, ensure_topics
from processors.operators import batches as under_test
from processors.operators import letter_reader
from processors.operators import replay as replaying
from processors.operators.batches import Batches, BatchRunner, Confirmation, Operator
from processors.operators.dead_letters import OperatorActions
from processors.operators.replay import Replay, WindowRecord
from schemas.codec import EventCodec
from storage.postgres.batches import PostgresBatchQueries
from storage.postgres.database import Postgres, PostgresDatabase
from storage.postgres.delivery.dead_letter_index import PostgresDeadLetterIndex
from storage.postgres.delivery.inbox import PostgresInbox, PostgresInboxStates
from tests.integration.test_dead_letters import validated
from tests.support.builders import FixedClock, a_document, a_dossier

BEGIN = int(time.time() * 1000) - 3_600_000
WHO = Operator(actor="p:alice")


@pytest.fixture
def topic(stack: Mapping[str, str]) -> str:
    plan = TopicPlan(name=f"test.replay.{uuid4().hex}", partitions=2, replication=1, retention_days=1)
    ensure_topics(stack["DPJ_KAFKA_BOOTSTRAP"], [plan])
    return plan.name


def at(minutes: int) -> datetime:
    return datetime.fromtimestamp(BEGIN / 1000 + minutes * 60, UTC)


def produce(stack: Mapping[str, str], topic: str, *records: tuple[int, int, str, bytes, dict[str, str]]) -> None:
    """Records as partition, minute, key, value, headers."""
    producer = Producer({"bootstrap.servers": stack["DPJ_KAFKA_BOOTSTRAP"]})
    for partition, minute, key, value, headers in records:
        when = BEGIN + minute * 60_000
        producer.produce(topic, value, key, partition=partition, timestamp=when, headers=list(headers.items()))
    assert producer.flush(20) == 0


def test_a_window_is_scanned_by_time_and_key_and_is_bounded(stack: Mapping[str, str], topic: str) -> None:
    ids = [str(uuid4()) for _ in range(4)]
    produce(
        stack,
        topic,
        (0, 0, "a", b"v", {"event-id": ids[0]}),
        (0, 10, "b", b"v", {"event-id": ids[1]}),
        (1, 20, "a", b"v", {"event-id": ids[2], REDRIVEN_FOR: "audit"}),
        (1, 30, "a", b"v", {}),
    )
    scan = partial(scan_window, stack["DPJ_KAFKA_BOOTSTRAP"], [topic])

    def found(*window: datetime | None, key: str | None = None) -> list[tuple[int, int, str | None]]:
        (since, until) = window
        records = scan(since, until, key)
        return [(one.partition, one.offset, one.event_id and str(one.event_id)) for one in records]

    assert found(None, None) == [(0, 0, ids[0]), (0, 1, ids[1]), (1, 0, ids[2]), (1, 1, None)]
    assert found(at(10), at(30)) == [(0, 1, ids[1]), (1, 0, ids[2])]
    assert found(at(1), None, key="a") == [(1, 0, ids[2]), (1, 1, None)]
    assert found(at(31), None) == []
    assert [one.redriven_for for one in scan(at(20), at(21), None)] == ["audit"]
    with pytest.raises(ParameterInvalid):
        scan(None, None, None, most=3)


async def test_what_the_inbox_does_not_know_is_sent_once_whatever_dies(
    stack: Mapping[str, str],
    topic: str,
    database: PostgresDatabase,
    postgres: Postgres,
    codec: EventCodec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dossier = a_dossier()
    documents = [a_document(dossier, Status.VALIDATED) for _ in range(3)]
    events = [validated(document) for document in documents]
    monkeypatch.setattr(replaying, "topics_of", lambda _: (topic,))
    monkeypatch.setattr(letter_reader, "TOPICS", {topic: None})
    owner = uuid4()
    await PostgresInbox(postgres).claim("archiving", events[0].event_id, events[0].key, owner, 60)
    async with database.transaction() as work:
        await work.dossiers.add(dossier)
        for document in documents:
            await work.documents.add(document)
        await work.inbox.finish("archiving", events[0].event_id, owner, "DONE")
    encoded = [codec.encode(event) for event in events]
    produce(
        stack,
        topic,
        *(
            (0, number, event.key, one.body, {"event-id": str(event.event_id), "schema": one.schema})
            for number, (event, one) in enumerate(zip(events, encoded, strict=True))
        ),
    )
    batches, runner = a_desk(stack, topic, database, postgres, codec)
    request = ActRequest(act=Act.REPLAY, consumer="archiving", since=at(0))
    plan = await batches.plan(WHO, request)
    assert plan.left_out == {note("dropped_as_done", consumer="archiving"): 1}
    assert [UUID(one.name.rsplit("/", 1)[1]) for one in plan.items] == [one.event_id for one in events[1:]]
    batch = await batches.confirm(WHO, request, Confirmation(plan_hash=plan.hash, reason="INC-1"))

    def dies(point: str) -> None:
        if point == "batch.item":
            raise ConnectionError(point)

    with monkeypatch.context() as patched:
        patched.setattr(under_test, "reach", dies)
        await asyncio.gather(*(runner.run_once() for _ in range(2)), return_exceptions=True)
    assert await sent(postgres, topic) == []  # rolled back with its result
    async with postgres.connection() as connection:
        await connection.execute("UPDATE lots_lignes SET resultat = NULL")
        await connection.execute("UPDATE lots SET etat = 'RUNNING', arret = NULL")
    await asyncio.gather(*(runner.run_once() for _ in range(3)))
    while await runner.run_once():
        pass
    assert (await batches.get(WHO, batch.id)).state is BatchState.DONE
    assert sorted(await sent(postgres, topic)) == sorted((str(one.event_id), "archiving") for one in events[1:])


class AsValidated:
    """Reads the records of the test's own topic."""

    def __init__(self, codec: EventCodec) -> None:
        self._codec = codec

    async def decode(self, topic: str, value: bytes, schema: str | None = None) -> Event:
        assert topic.startswith("test.")
        return await self._codec.decode(DocumentValidated.TOPIC, value, schema)


async def sent(postgres: Postgres, topic: str) -> list[tuple[str, str]]:
    """Event and consumer of what waits in the outbox."""
    async with postgres.connection() as connection:
        rows = await connection.fetch("SELECT event_id, consumer, headers FROM outbox WHERE topic = $1", topic)
    assert all(row["headers"][REDRIVEN_FOR] == row["consumer"] for row in rows)
    return [(str(row["event_id"]), row["consumer"]) for row in rows]


def a_desk(
    stack: Mapping[str, str], topic: str, database: PostgresDatabase, postgres: Postgres, codec: EventCodec
) -> tuple[Batches, BatchRunner]:
    bootstrap = stack["DPJ_KAFKA_BOOTSTRAP"]

    async def progress() -> Progress:
        return {("archiving", topic, number): PartitionProgress(0, 10, 10) for number in (0, 1)}

    async def scan(
        topics: Sequence[str], since: datetime | None, until: datetime | None, key: str | None
    ) -> Sequence[WindowRecord]:
        return await asyncio.to_thread(scan_window, bootstrap, topics, since, until, key)

    async def read(name: str, places: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], DeadLetter]:
        return await asyncio.to_thread(read_dead_letters_at, bootstrap, name, places)

    def actions(actor: str) -> OperatorActions:
        return OperatorActions(database, AsValidated(codec), clock, actor)

    clock = FixedClock()
    queries, index = PostgresBatchQueries(postgres), PostgresDeadLetterIndex(postgres)
    kinds = {Act.REPLAY: Replay(progress, scan, read, PostgresInboxStates(postgres))}
    return Batches(database, queries, kinds, index, actions, clock), BatchRunner(
        database, queries, kinds, index, actions
    )
