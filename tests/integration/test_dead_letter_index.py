"""The index of dead letters on PostgreSQL: one row for each letter, in the letter's own transaction, whatever runs twice."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from domain.dead_letter_index import UNKNOWN, entry_of
from domain.dead_letters import REDRIVEN_EVENT, DeadLetter, RecordPosition
from domain.errors import BrokerUnavailable
from domain.events import DocumentValidated, dead_letter_topic
from domain.lifecycle import Status
from operations.kafka import dead_letter_index
from operations.kafka.dead_letter_index import fill_index
from operations.kafka.dead_letters import read_dead_letters_from
from operations.kafka.topics import TopicPlan, ensure_topics
from processors.operators.dead_letters import OperatorActions
from processors.operators.letter_reader import LetterReader
from schemas.codec import EventCodec
from storage.postgres.database import Postgres, PostgresDatabase
from storage.postgres.delivery.dead_letter_index import PostgresDeadLetterIndex
from storage.postgres.delivery.dead_letters import PostgresOperatorQueries
from storage.postgres.delivery.inbox import PostgresInbox
from storage.postgres.delivery.outbox import PostgresOutboxReader
from tests.integration.test_dead_letters import a_letter, validated
from tests.support.builders import FixedClock, a_document, a_dossier
from tests.support.database_backends import Rolled

TOPIC = dead_letter_topic("archiving")


@pytest.fixture
def index(postgres: Postgres) -> PostgresDeadLetterIndex:
    return PostgresDeadLetterIndex(postgres)


@pytest.fixture
def event() -> DocumentValidated:
    return validated(a_document(a_dossier(), Status.ARCHIVE_FAILED))


def headers_of(event: DocumentValidated, offset: int = 0, **headers: str) -> dict[str, str]:
    return {
        "dpj-consumer": "archiving",
        "dpj-code": "archive_refused",
        "dpj-error-class": "ArchiveRefused",
        "dpj-origin-topic": event.TOPIC,
        "dpj-origin-partition": "2",
        "dpj-origin-offset": str(offset),
        "dpj-attempts": "1",
        "dpj-event-id": str(event.event_id),
        **headers,
    }


async def write(
    database: PostgresDatabase, event: DocumentValidated, offset: int = 0, tenant: str | None = "acme", **headers: str
) -> None:
    async with database.transaction() as work:
        await work.outbox.add_dead_letter(
            "archiving", event.key.encode(), b"v", headers_of(event, offset, **headers), tenant
        )


async def count(postgres: Postgres, table: str) -> int:
    async with postgres.connection() as connection:
        found: int = await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - the test's own word
    return found


async def test_a_letter_and_its_entry_are_written_together_or_not_at_all(
    database: PostgresDatabase, postgres: Postgres, index: PostgresDeadLetterIndex, event: DocumentValidated
) -> None:
    async def rolled_back() -> None:
        async with database.transaction() as work:
            await work.outbox.add_dead_letter("archiving", event.key.encode(), b"v", headers_of(event), "acme")
            await work.outbox.flush()
            raise Rolled

    with pytest.raises(Rolled):
        await rolled_back()
    assert (await count(postgres, "outbox"), await count(postgres, "lettres_mortes")) == (0, 0)
    await write(database, event)
    (group,) = await index.groups(since=datetime(2000, 1, 1, tzinfo=UTC))
    assert (group.consumer, group.code, group.error_class) == ("archiving", "archive_refused", "ArchiveRefused")
    assert (group.count, group.new, group.oldest) == (1, 1, group.newest)
    (letter,) = await index.page("archiving", "archive_refused", "ArchiveRefused")
    assert letter.entry == entry_of("archiving", event.key.encode(), headers_of(event), tenant="acme")
    assert (letter.entry.document_id, letter.address, letter.settled) == (event.document_id, None, None)
    assert await index.of_document(event.document_id) == [letter]


async def test_the_place_of_a_letter_is_learnt_from_the_outbox(
    database: PostgresDatabase, postgres: Postgres, index: PostgresDeadLetterIndex, event: DocumentValidated
) -> None:
    await write(database, event)
    assert await index.note_places() == 0
    async with postgres.connection() as connection:
        await connection.execute(
            "UPDATE outbox SET published_at = now(), published_partition = 0, published_offset = 41"
        )
    assert (await index.note_places(), await index.note_places()) == (1, 0)
    (letter,) = await index.page("archiving", "archive_refused", "ArchiveRefused")
    assert letter.address == "archiving/0/41"


async def test_a_letter_written_again_after_a_restore_has_one_entry_that_is_open(
    database: PostgresDatabase, postgres: Postgres, index: PostgresDeadLetterIndex, event: DocumentValidated
) -> None:
    await write(database, event)
    async with postgres.connection() as connection:
        await connection.execute(
            "UPDATE lettres_mortes SET reglement = 'REDRIVEN', reglee_par = 'p', reglee_a = now(), lettre_partition = 0,"
            " lettre_offset = 3"
        )
    assert await index.groups() == []
    await write(database, event)
    (letter,) = await index.page("archiving", "archive_refused", "ArchiveRefused")
    assert (letter.settled, letter.settled_by, letter.address) == (None, None, None)
    assert (await count(postgres, "outbox"), await count(postgres, "lettres_mortes")) == (2, 1)


async def test_a_record_that_could_not_be_decoded_is_found_by_its_document(
    database: PostgresDatabase, postgres: Postgres, event: DocumentValidated
) -> None:
    """The inbox has it by its place: nobody knew whose it was."""
    operations, inbox, key = PostgresOperatorQueries(postgres), PostgresInbox(postgres), str(event.document_id)

    async def give_up(event: DocumentValidated, claimed_as: str) -> None:
        owner = uuid4()
        await inbox.claim("archiving", event.event_id, claimed_as, owner, 60)
        async with database.transaction() as work:
            await work.outbox.add_dead_letter("archiving", event.key.encode(), b"v", headers_of(event), "acme")
            await work.inbox.finish("archiving", event.event_id, owner, "DEAD")

    await give_up(event, f"{event.TOPIC}/2")
    (found,) = await operations.given_up_of(key)
    assert (found.consumer, found.event_id, found.code) == ("archiving", event.event_id, "archive_refused")
    assert await operations.given_up_of(str(uuid4())) == []
    assert await operations.given_up_of("no id") == []
    decoded = replace(event, event_id=uuid4())
    await give_up(decoded, key)
    assert [one.event_id for one in await operations.given_up_of(key)] == [event.event_id, decoded.event_id]
    async with postgres.connection() as connection:
        await connection.execute(
            "UPDATE lettres_mortes SET reglement = 'REDRIVEN', reglee_par = 'p', reglee_a = now() WHERE event_id = $1",
            event.event_id,
        )
    assert [one.event_id for one in await operations.given_up_of(key)] == [decoded.event_id]


async def test_the_mark_of_a_letter_settles_its_entry_in_one_transaction(
    database: PostgresDatabase, codec: EventCodec, index: PostgresDeadLetterIndex, reader: PostgresOutboxReader
) -> None:
    dossier = a_dossier()
    document = a_document(dossier, Status.ARCHIVE_FAILED, failure_code="archive_refused")
    async with database.transaction() as work:
        await work.dossiers.add(dossier)
        await work.documents.add(document)
    event = validated(document)
    await write(database, event)
    (known,) = await index.of_document(document.id)
    desk = OperatorActions(database, codec, FixedClock(), "p:operator")
    letter = replace(a_letter(event, codec, 7), headers=headers_of(event))
    assert (await desk.redrive(letter, apply=False)).outcome == "done"
    assert await index.letters([known.number]) == [known]
    assert (await desk.redrive(letter, apply=True)).outcome == "done"
    (settled,) = await index.letters([known.number])
    assert (settled.settled, settled.settled_by, settled.address) == ("REDRIVEN", "p:operator", "archiving/0/7")
    assert (await index.groups(), settled.came_back) == ([], False)
    # Its record, which stands elsewhere now, is given up again.
    await write(database, event, offset=9)
    again, (_, newer) = await index.letters([known.number]), await index.of_document(document.id)
    assert ([one.came_back for one in again], newer.settled, newer.came_back) == ([True], None, False)


async def test_a_letter_without_an_event_comes_back_by_the_event_id_of_its_redriven_record(
    database: PostgresDatabase, codec: EventCodec, index: PostgresDeadLetterIndex, event: DocumentValidated
) -> None:
    desk = OperatorActions(database, codec, FixedClock(), "p:operator")
    stranger = replace(a_letter(event, codec), value=b"no event", headers=headers_of(event))
    assert (await desk.redrive(stranger, apply=True, force=True)).outcome == "done"
    other = validated(a_document(a_dossier(), Status.VALIDATED))
    await write(database, other, 12, **{REDRIVEN_EVENT: str(event.event_id)})
    letters = await index.letters(range(10))
    assert [(one.entry.event_id, one.came_back) for one in letters] == [(event.event_id, True), (other.event_id, False)]


async def test_operators_that_are_bound_see_their_tenants_letters_alone(
    database: PostgresDatabase, index: PostgresDeadLetterIndex, event: DocumentValidated
) -> None:
    for offset, tenant in enumerate(("acme", "other", None)):
        await write(database, event, offset, tenant)
    (all_of_them,) = await index.groups()
    (of_acme,) = await index.groups(tenants=["acme"])
    assert (all_of_them.count, of_acme.count, await index.groups(tenants=[])) == (3, 1, [])
    name = "archiving", "archive_refused", "ArchiveRefused"
    letters = await index.page(*name)
    assert [one.entry.tenant for one in await index.page(*name, tenants=["acme"])] == ["acme"]
    assert len(await index.letters([one.number for one in letters], tenants=["other"])) == 1


async def test_pages_go_on_behind_the_last_letter(
    database: PostgresDatabase, index: PostgresDeadLetterIndex, event: DocumentValidated
) -> None:
    for offset in range(5):
        await write(database, event, offset)
    found, after = [], None
    while page := await index.page("archiving", "archive_refused", "ArchiveRefused", after=after, limit=2):
        found += [one.entry.origin_offset for one in page]
        after = page[-1].made_at, page[-1].number
    assert found == list(range(5))


# --- letters of an earlier release ---------------------------------------------------------------------------------


def reading(*letters: DeadLetter, fails_after: int | None = None) -> Callable[..., Generator[DeadLetter, None, None]]:
    """A topic with these letters; ``fails_after`` so many the broker is away."""

    def read(topic: str, begins: Mapping[int, int]) -> Generator[DeadLetter, None, None]:
        if topic != TOPIC:
            return
        for given, letter in enumerate(one for one in letters if one.place.offset >= begins.get(0, 0)):
            if given == fails_after:
                raise BrokerUnavailable("away")
            yield letter

    return read


async def test_letters_of_an_earlier_release_are_taken_in_once_and_settled_as_their_marks_say(
    database: PostgresDatabase,
    codec: EventCodec,
    index: PostgresDeadLetterIndex,
    postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dead_letter_index, "BATCH", 2)
    events = [validated(a_document(a_dossier(), Status.ARCHIVE_FAILED)) for _ in range(5)]
    letters = [
        replace(a_letter(event, codec, number), headers=headers_of(event, number))
        for number, event in enumerate(events)
    ]
    async with database.transaction() as work:
        await work.dead_letters.mark(letters[1].place, "DISCARDED", "p:before", "INC-1")
    await write(database, events[3], 3)  # this release wrote it, and the outbox row is gone
    decoder = LetterReader(codec)
    with pytest.raises(BrokerUnavailable):
        await fill_index(index, decoder, reading(*letters, fails_after=3))
    assert (await index.read_up_to(TOPIC), await count(postgres, "lettres_mortes")) == ({0: 2}, 3)
    assert await fill_index(index, decoder, reading(*letters)) == 3
    assert await fill_index(index, decoder, reading(*letters)) == 0
    assert await fill_index(index, decoder, reading(*letters, letters[4]), anew=True) == 0
    assert await count(postgres, "lettres_mortes") == 5
    open_ones = await index.page("archiving", "archive_refused", "ArchiveRefused")
    assert {one.address for one in open_ones} == {f"archiving/0/{number}" for number in (0, 2, 3, 4)}
    assert {one.entry.tenant for one in open_ones} == {events[0].tenant}
    (discarded,) = await index.of_document(events[1].document_id)
    assert (discarded.settled, discarded.settled_by) == ("DISCARDED", "p:before")


async def test_a_strangers_letter_is_named_by_its_own_place_and_its_texts_stay_outside(
    codec: EventCodec, index: PostgresDeadLetterIndex, postgres: Postgres
) -> None:
    place = RecordPosition(TOPIC, 0, 4, 1_700_000_000_000)
    headers = {"dpj-code": "Jean Dupont\n", "dpj-error-class": "j@example.org", "dpj-origin-topic": "Jean"}
    stranger = DeadLetter(place, b"Jean Dupont", b"?", {**headers, REDRIVEN_EVENT: "Jean"})
    assert await fill_index(index, LetterReader(codec), reading(stranger)) == 1
    ((consumer, code, error_class),) = {(g.consumer, g.code, g.error_class) for g in await index.groups()}
    assert (consumer, code, error_class) == ("archiving", UNKNOWN, UNKNOWN)
    async with postgres.connection() as connection:
        row = await connection.fetchrow("SELECT * FROM lettres_mortes")
    assert "Jean" not in repr(dict(row)) + repr(dict(row)["event_id"])
    assert (row["origine_topic"], row["origine_offset"]) == (TOPIC, 4)


def test_a_topic_is_read_from_where_it_was_left_and_anew_if_it_was_made_anew(stack: Mapping[str, str]) -> None:
    name, bootstrap = f"t{uuid4().hex[:12]}", stack["DPJ_KAFKA_BOOTSTRAP"]
    topic = dead_letter_topic(name)
    ensure_topics(bootstrap, [TopicPlan(name=topic, partitions=1, replication=1, retention_days=1)])
    producer = Producer({"bootstrap.servers": bootstrap})
    for number in range(4):
        producer.produce(topic, b"v%d" % number)
    producer.flush(10)

    def offsets(begins: Mapping[int, int]) -> Sequence[int]:
        with closing(read_dead_letters_from(bootstrap, topic, begins)) as letters:
            return [letter.place.offset for letter in letters]

    assert [offsets(begins) for begins in ({}, {0: 2}, {0: 4}, {0: 9})] == [[0, 1, 2, 3], [2, 3], [], [0, 1, 2, 3]]


# --- size ------------------------------------------------------------------------------------------------------------


async def test_ten_thousand_letters_are_grouped_and_paged_by_an_index(
    postgres: Postgres, index: PostgresDeadLetterIndex
) -> None:
    async with postgres.connection() as connection:
        await connection.execute(
            """
            INSERT INTO lettres_mortes (consumer, event_id, tenant, document_id, code, error_class, origine_topic,
                origine_partition, origine_offset, tentatives, rejeux, reglement, reglee_par, reglee_a)
            SELECT 'archiving', gen_random_uuid(), 'acme', gen_random_uuid(), 'code_' || n % 20, 'Broken', 'dpj.t', 0, n, 1, 0,
                   s.act, s.act, CASE WHEN s.act IS NOT NULL THEN now() END
            FROM generate_series(1, 30000) AS n, LATERAL (SELECT CASE WHEN n > 10000 THEN 'REDRIVEN' END AS act) s
            """
        )
    async with postgres.connection() as connection:
        await connection.execute("VACUUM ANALYZE lettres_mortes")
        plans = {
            name: "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN (ANALYZE) {statement}"))
            for name, statement in {
                "groups": "SELECT consumer, code, error_class, count(*), min(ecrite_a), max(ecrite_a) FROM lettres_mortes"
                " WHERE reglement IS NULL AND (NULL::text[] IS NULL OR tenant = ANY(NULL::text[]))"
                " GROUP BY consumer, code, error_class",
                "page": "SELECT * FROM lettres_mortes WHERE reglement IS NULL AND consumer = 'archiving'"
                " AND code = 'code_7' AND error_class = 'Broken' AND (ecrite_a, numero) > ('-infinity', 0)"
                " ORDER BY ecrite_a, numero LIMIT 100",
            }.items()
        }
    assert all("lettres_mortes_ouvertes" in plan and "Sort" not in plan for plan in plans.values()), plans
    assert all(_milliseconds(plan) < 50 for plan in plans.values()), plans
    groups = await index.groups(tenants=["acme"])
    assert (len(groups), {group.count for group in groups}) == (20, {500})


def _milliseconds(plan: str) -> float:
    """What the server says that the statement took: the test's machine may be busy."""
    (line,) = [line for line in plan.splitlines() if line.startswith("Execution Time")]
    return float(line.split()[2])
