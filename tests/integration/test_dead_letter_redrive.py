"""Held, given up by an operator, listed, redriven, archived: the whole circle on PostgreSQL; and the commands on real servers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from domain.documents import Document
from domain.errors import GedUnavailable
from domain.events import DocumentValidated, dead_letter_topic
from domain.lifecycle import Status
from operations.kafka.topics import TopicPlan, ensure_topics
from processors.events.archive_copies import ArchivedCopy
from processors.events.archiving import ArchivingProcessor
from processors.operators.dead_letters import OperatorActions
from schemas.codec import EventCodec
from schemas.registry import SchemaRegistry, load_codec
from storage.postgres.database import Postgres, PostgresDatabase
from storage.postgres.delivery.dead_letters import PostgresHeldEventList, PostgresOperatorQueries
from storage.postgres.delivery.inbox import PostgresInbox
from storage.postgres.delivery.outbox import PostgresOutboxReader, PostgresOutboxRow
from streams.delivery import Delivery, Policy
from streams.lanes import Partition, Record
from tests.integration.test_dead_letters import a_letter, validated
from tests.support.builders import FixedClock, a_document, a_dossier, add_documents
from tests.support.fakes_streams import RecordingFlow, RecordingMetrics

REPOSITORY = Path(__file__).resolve().parents[2]


class Ged:
    """Answers as one that is away until it is mended."""

    broken = True

    async def put(self, document: Document, years: int) -> ArchivedCopy:
        if self.broken:
            raise GedUnavailable
        return ArchivedCopy("ged-1", f"/dpj/{document.id}")


@pytest.fixture
async def document(database: PostgresDatabase) -> Document:
    dossier = a_dossier()
    document = a_document(dossier, Status.VALIDATED)
    await add_documents(database, dossier, document)
    return document


async def _of_topic(reader: PostgresOutboxReader, topic: str) -> PostgresOutboxRow:
    (row,) = [row for row in await reader.fetch_unpublished(100) if row.topic == topic]
    return row


async def test_an_event_that_holds_is_given_up_and_redriven_once_its_cause_is_mended(
    document: Document,
    database: PostgresDatabase,
    postgres: Postgres,
    codec: EventCodec,
    reader: PostgresOutboxReader,
) -> None:
    ged, metrics, event = Ged(), RecordingMetrics(), validated(document)
    copies: Any = ged
    desk = OperatorActions(database, codec, FixedClock(), "p:operator")

    async def committed(_: Mapping[Partition, int]) -> bool:
        return True

    delivery = Delivery(
        ArchivingProcessor(database, copies, FixedClock()),
        decode=codec.decode,
        inbox=PostgresInbox(postgres),
        database=database,
        commit_offsets=committed,
        flow=RecordingFlow(),
        metrics=metrics,
        policy=Policy(retry_base=0.01, retry_cap=0.05, note_interval=0.05),
        held=PostgresHeldEventList(postgres),
    )

    async def outcomes(count: int) -> None:
        async with asyncio.timeout(20):
            while len(metrics.outcomes) < count:
                await asyncio.sleep(0.01)

    place, key = Partition(event.TOPIC, 0), event.key.encode()
    delivery.accept(Record(place, 0, key, codec.encode(event).body, {}, time.time()))
    async with asyncio.timeout(20):
        while not (held := await PostgresOperatorQueries(postgres).held(10)):
            await asyncio.sleep(0.02)
    assert [(one.event.event_id, one.event.code) for one in held] == [(event.event_id, "ged_unavailable")]
    assert metrics.outcomes == []

    assert (await desk.give_up("archiving", event.event_id, "INC-9", apply=True)).outcome == "done"
    await outcomes(1)
    assert metrics.outcomes == [("dead_letter", "given_up_by_operator")]
    assert await PostgresOperatorQueries(postgres).held(10) == []
    async with database.transaction() as work:
        failed = await work.documents.get(document.id)
    assert (failed.status, failed.failure_code) == (Status.ARCHIVE_FAILED, "given_up_by_operator")

    ged.broken = False
    row = await _of_topic(reader, "dpj.dlq.archiving")
    letter = a_letter(event, codec, **row.headers)
    assert (row.key, row.body) == (letter.key, letter.value)
    assert (await desk.redrive(letter, apply=True)).outcome == "done"
    again = await _of_topic(reader, event.TOPIC)
    delivery.accept(Record(place, 1, again.key, again.body, again.headers, time.time()))
    await outcomes(2)
    assert metrics.outcomes[1] == ("done", "none")
    async with database.transaction() as work:
        assert (await work.documents.get(document.id)).status is Status.ARCHIVED
    await delivery.revoke()


# --- the commands ----------------------------------------------------------------------------------------------------

Run = Callable[..., tuple[int, Any]]


@pytest.fixture
def dpj(stack: Mapping[str, str], database_dsn: str) -> Run:
    """Exit status and answer of `dpj ... --json` on the stack's servers, with the test's own database."""
    settings = {**stack, "DPJ_POSTGRES_DSN": database_dsn, "DPJ_SETTINGS": os.devnull}

    def run(*words: str, as_json: bool = True) -> tuple[int, Any]:
        done = subprocess.run(
            [sys.executable, "-c", "import sys; from runtime.cli.main import main; sys.exit(main())", *words,
             *(["--json"] if as_json else [])],
            env={**os.environ, **settings}, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout) if as_json else done.stdout

    return run


@pytest.fixture
async def real_codec(stack: Mapping[str, str]) -> EventCodec:
    """The stack's own schema ids."""
    async with SchemaRegistry(stack["DPJ_REGISTRY_URL"]) as registry:
        return await load_codec(registry)


@pytest.fixture
def consumer(stack: Mapping[str, str]) -> Iterator[str]:
    """A consumer of the test's own, with a topic of dead letters."""
    bootstrap, name = stack["DPJ_KAFKA_BOOTSTRAP"], f"test-{uuid4().hex}"
    plan = TopicPlan(name=dead_letter_topic(name), partitions=1, replication=1, retention_days=1)
    ensure_topics(bootstrap, [plan])
    yield name
    admin = AdminClient({"bootstrap.servers": bootstrap})
    (deleted,) = admin.delete_topics([plan.name]).values()
    deleted.result(20)


def _write(bootstrap: str, consumer: str, event: DocumentValidated, codec: EventCodec) -> None:
    letter = a_letter(event, codec, **{"dpj-consumer": consumer})
    producer = Producer({"bootstrap.servers": bootstrap})
    headers = [(name, text.encode()) for name, text in letter.headers.items()]
    producer.produce(dead_letter_topic(consumer), letter.value, key=letter.key, headers=headers)
    assert producer.flush(20) == 0


async def test_the_commands_show_redrive_and_discard(
    stack: Mapping[str, str],
    document: Document,
    real_codec: EventCodec,
    consumer: str,
    dpj: Run,
    reader: PostgresOutboxReader,
) -> None:
    event = validated(document)
    for _ in range(2):
        _write(stack["DPJ_KAFKA_BOOTSTRAP"], consumer, event, real_codec)
    first, second = f"{consumer}/0/0", f"{consumer}/0/1"

    status, shown = await asyncio.to_thread(dpj, "dlq", "show", first)
    assert (status, shown["address"], shown["handled"]) == (0, first, None)
    assert shown["event"]["document_id"] == str(document.id)
    assert shown["headers"]["dpj-code"] == "archive_refused"

    status, told = await asyncio.to_thread(dpj, "dlq", "redrive", first)
    assert (status, told["apply"], told["done"]) == (0, False, 1)
    assert await reader.fetch_unpublished(10) == []
    status, told = await asyncio.to_thread(dpj, "dlq", "redrive", first, "--apply")
    assert (status, told["done"], told["refused"]) == (0, 1, 0)
    assert {row.topic for row in await reader.fetch_unpublished(10)} == {event.TOPIC, "dpj.audit.recorded"}
    status, told = await asyncio.to_thread(dpj, "dlq", "redrive", first, "--apply")
    assert (status, told["done"], told["handled"]) == (0, 0, 1)

    status, told = await asyncio.to_thread(dpj, "dlq", "discard", second, "--reason", "Jean Dupont asked", "--apply")
    assert (status, told["error"]["code"]) == (1, "reason_invalid")
    status, told = await asyncio.to_thread(dpj, "dlq", "discard", second, "--reason", "INC-1", "--apply")
    assert (status, told["done"]) == (0, 1)
    status, shown = await asyncio.to_thread(dpj, "dlq", "show", second)
    assert (shown["handled"]["act"], shown["handled"]["reason"]) == ("DISCARDED", "INC-1")

    status, told = await asyncio.to_thread(dpj, "dlq", "show", f"{consumer}/0/9")
    assert (status, told["error"]["code"]) == (1, "letter_missing")
    status, told = await asyncio.to_thread(dpj, "dlq", "redrive")
    assert (status, told["error"]["code"]) == (1, "which")


async def test_the_lists_answer_people_and_programs(dpj: Run) -> None:
    nobody = ("--event", str(uuid4()))
    status, found = await asyncio.to_thread(dpj, "dlq", "list", "--since", "1h", *nobody)
    assert (status, found) == (0, {"letters": [], "more": False})
    for words, text in (
        (("dlq", "list", *nobody), "No dead letters.\n"),
        (("dlq", "held"), "No event is held.\n"),
        (("outbox", "refused"), "Kafka refuses no row.\n"),
    ):
        assert await asyncio.to_thread(lambda words=words: dpj(*words, as_json=False)) == (0, text)
    for words in (("dlq", "give-up", "--consumer", "audit", "--event", str(uuid4()), "--reason", "x"),
                  ("outbox", "retry", "1"), ("outbox", "drop", "1", "--reason", "x")):  # fmt: skip
        status, told = await asyncio.to_thread(dpj, *words)
        assert (status, told["refused"]) == (1, 1)
