"""Published rows against the inbox, in a real PostgreSQL: who must still finish what, what may go, what is sent again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.consumers import readers
from domain.dead_letter_index import entry_of
from domain.dead_letters import RecordPosition
from domain.events import DocumentErased, DocumentQuarantined, DocumentUploaded, Event
from storage.postgres.connections import connect
from storage.postgres.database import Postgres, PostgresDatabase
from storage.postgres.delivery import owed_events
from storage.postgres.delivery.dead_letter_index import PostgresDeadLetterIndex
from storage.postgres.delivery.outbox import PostgresOutboxReader
from storage.postgres.delivery.owed_events import PostgresOwedEvents
from streams.outbox_relay import PlacedRow
from tests.support.builders import NOW
from tests.support.explaining import Explaining
from tests.support.inbox_rows import add_inbox_rows

KEEP_HOURS = 24.0


def common(document_id: UUID) -> dict[str, Any]:
    return {
        "event_id": uuid4(),
        "sequence": 1,
        "occurred_at": NOW,
        "correlation_id": uuid4(),
        "tenant": "acme",
        "actor": "system",
        "document_id": document_id,
    }


def uploaded(document_id: UUID | None = None) -> DocumentUploaded:
    return DocumentUploaded(
        **common(document_id or uuid4()),
        object_key="documents/00/0",
        size=1,
        mime_type="application/pdf",
        sha256="0" * 64,
        type_code="CNI",
        dossier_ref="d",
    )


class Site:
    """The outbox and the inbox of one database."""

    def __init__(self, database: PostgresDatabase, postgres: Postgres, dsn: str) -> None:
        self.database, self.postgres, self.dsn = database, postgres, dsn
        self.rows = PostgresOwedEvents(postgres, readers(), keep_hours=KEEP_HOURS)

    async def publish(self, *events: Event) -> dict[UUID | None, int]:
        """Their row ids by event id."""
        async with self.database.transaction() as work:
            for event in events:
                await work.outbox.add(event)
        return await self.mark()

    async def mark(self) -> dict[UUID | None, int]:
        reader = PostgresOutboxReader(await connect(self.dsn))
        try:
            rows = await reader.fetch_unpublished(100)
            await reader.mark_published([PlacedRow(row.id, 3, 1000 + row.id) for row in rows])
            return {row.event_id: row.id for row in rows}
        finally:
            await reader.close()

    async def sql(self, text: str, *values: Any) -> list[Any]:
        async with self.postgres.connection() as connection:
            return list(await connection.fetch(text, *values))

    async def finish(self, event_id: UUID, *consumers: str, state: str = "DONE") -> None:
        await add_inbox_rows(self.sql, event_id, state, *consumers)

    async def age(self, hours: float, *row_ids: int) -> None:
        await self.sql(
            "UPDATE outbox SET published_at = now() - make_interval(secs => $1 * 3600.0) WHERE id = ANY($2::bigint[])",
            hours,
            list(row_ids),
        )

    async def finished(self) -> Sequence[int]:
        return (await self.rows.slice(0, 1000)).finished


@pytest.fixture
def site(database: PostgresDatabase, postgres: Postgres, database_dsn: str) -> Site:
    return Site(database, postgres, database_dsn)


async def test_an_event_is_owed_to_each_that_handles_it_until_it_is_done_or_given_up(site: Site) -> None:
    event = uploaded()
    row = (await site.publish(event))[event.event_id]
    (owed,) = (await site.rows.slice(0, 10)).owed
    assert (owed.row_id, owed.event_id, owed.topic, owed.key) == (row, event.event_id, event.TOPIC, event.key)
    assert owed.consumers == ("archiving", "integrity", "notification")
    assert (owed.partition, owed.offset, owed.re_emissions) == (3, 1000 + row, 0)
    await site.finish(event.event_id, "integrity")
    await site.finish(event.event_id, "notification", state="DEAD")
    await site.finish(event.event_id, "archiving", state="CLAIMED")
    (owed,) = (await site.rows.slice(0, 10)).owed
    assert owed.consumers == ("archiving",)
    await site.sql("UPDATE inbox SET state = 'DONE' WHERE consumer = 'archiving'")
    assert (await site.rows.slice(0, 10)).owed == ()


async def test_what_waits_to_be_published_is_not_looked_at(site: Site) -> None:
    async with site.database.transaction() as work:
        await work.outbox.add(uploaded())
    found = await site.rows.slice(0, 10)
    assert (found.published, found.owed, found.finished) == (False, (), ())
    assert found.last is not None
    assert (await site.rows.slice(found.last, 10)).last is None


async def test_a_row_stays_until_all_have_finished_it_however_old_it_is(site: Site) -> None:
    held, done = uploaded(), uploaded()
    rows = await site.publish(held, done)
    await site.finish(held.event_id, "integrity", "archiving")
    await site.finish(done.event_id, "integrity", "archiving", "notification")
    assert await site.finished() == ()  # for those who look at what has just happened
    await site.age(1, *rows.values())
    assert await site.finished() == (rows[done.event_id],)
    await site.age(24 * 365, *rows.values())
    await site.rows.remove(await site.finished())
    assert [row["id"] for row in await site.sql("SELECT id FROM outbox")] == [rows[held.event_id]]


async def test_what_nobody_consumes_goes_when_its_time_is_over(site: Site) -> None:
    erased = DocumentErased(**common(uuid4()), legal_basis_code="GDPR_17_1_B")
    async with site.database.transaction() as work:
        await work.outbox.add(erased)
        await work.outbox.add_dead_letter("integrity", b"k", b"v", {"dpj-code": "x"})
    rows = await site.mark()
    assert (await site.rows.slice(0, 10)).owed == ()
    await site.age(KEEP_HOURS - 1, *rows.values())
    assert await site.finished() == ()
    await site.age(KEEP_HOURS + 1, *rows.values())
    assert sorted(await site.finished()) == sorted(rows.values())


async def test_a_row_that_an_operator_dropped_is_owed_to_nobody(site: Site) -> None:
    event = uploaded()
    rows = await site.publish(event)
    await site.sql("UPDATE outbox SET refused_at = now()")
    assert (await site.rows.slice(0, 10)).owed == ()
    await site.age(KEEP_HOURS + 1, *rows.values())
    assert await site.finished() == tuple(rows.values())


async def test_a_redriven_record_is_owed_to_the_one_that_gave_it_up(site: Site) -> None:
    event_id = uuid4()
    async with site.database.transaction() as work:
        await work.outbox.add_record(
            DocumentUploaded.TOPIC, b"k", b"v", {"event-id": str(event_id)}, owed=(event_id, "notification")
        )
    rows = await site.mark()
    assert rows == {event_id: rows[event_id]}
    (owed,) = (await site.rows.slice(0, 10)).owed
    assert owed.consumers == ("notification",)
    await site.finish(event_id, "notification")
    assert (await site.rows.slice(0, 10)).owed == ()


async def test_what_is_sent_again_waits_for_the_relay_once(site: Site) -> None:
    event = uploaded()
    row = (await site.publish(event))[event.event_id]
    for times, count in ((1, 1), (1, 0)):  # the second finds it waiting
        async with site.database.transaction() as work:
            assert await work.re_emissions.re_emit([row]) == count
        (found,) = await site.sql(
            "SELECT published_at, published_partition, published_offset, re_emissions FROM outbox"
        )
        assert tuple(found) == (None, None, None, times)
    assert await site.mark() == {event.event_id: row}
    (owed,) = (await site.rows.slice(0, 10)).owed
    assert owed.re_emissions == 1


async def test_what_a_rollback_takes_back_is_not_sent_again(site: Site) -> None:
    event = uploaded()
    row = (await site.publish(event))[event.event_id]

    async def fail() -> None:
        async with site.database.transaction() as work:
            await work.re_emissions.re_emit([row])
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert len((await site.rows.slice(0, 10)).owed) == 1


async def test_a_row_that_waits_again_is_not_removed(site: Site) -> None:
    event = uploaded()
    row = (await site.publish(event))[event.event_id]
    async with site.database.transaction() as work:
        await work.re_emissions.re_emit([row])
    await site.rows.remove([row])
    assert len(await site.sql("SELECT id FROM outbox")) == 1


async def test_what_a_document_is_still_owed(site: Site) -> None:
    document_id = uuid4()
    mine = DocumentQuarantined(**common(document_id), reason_code="integrity_mismatch")
    await site.publish(uploaded(document_id), uploaded())
    async with site.database.transaction() as work:
        await work.outbox.add(mine)
    found = await site.rows.of_document(document_id)
    assert [owed.topic for owed in found.owed] == ["dpj.document.uploaded"]
    assert [topic for topic, _ in found.unpublished] == ["dpj.document.quarantined"]


async def test_an_outbox_that_takes_too_long_to_be_searched_leaves_it_unknown(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = uploaded()
    await site.publish(event)
    monkeypatch.setattr(owed_events, "OF_DOCUMENT_SECONDS", 0.1)
    async with site.postgres.connection() as connection, connection.transaction():
        await connection.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
        found = await site.rows.of_document(event.document_id)
    assert found.unknown_at is not None
    assert found.owed == ()
    monkeypatch.undo()
    found = await site.rows.of_document(event.document_id)
    assert found.unknown_at is None
    assert len(found.owed) == 1
    async with site.postgres.connection() as connection:  # other statements have their time as before
        assert await connection.fetchval("SHOW statement_timeout") != "100ms"


async def bury(
    site: Site, document_id: UUID | None, offset: int, *consumers: str, code: str = "event_undecodable"
) -> None:
    """Letters of consumers about a record that they could not decode: they name its place, and no event."""
    for consumer in consumers:
        headers = {
            "dpj-consumer": consumer,
            "dpj-code": code,
            "dpj-error-class": "EventUndecodable",
            "dpj-origin-topic": DocumentUploaded.TOPIC,
            "dpj-origin-partition": "3",
            "dpj-origin-offset": str(offset),
        }
        key = None if document_id is None else str(document_id).encode()
        async with site.database.transaction() as work:
            await work.outbox.add_dead_letter(consumer, key, b"v", headers)


async def owed_to(site: Site) -> list[tuple[str, ...]]:
    return [one.consumers for one in (await site.rows.slice(0, 1000)).owed]


async def test_who_buried_an_events_record_is_owed_it_no_more(site: Site) -> None:
    event = uploaded()
    row = (await site.publish(event))[event.event_id]
    await bury(site, event.document_id, 1000 + row, "integrity")
    assert await owed_to(site) == [("archiving", "notification")]
    assert [one.consumers for one in (await site.rows.of_document(event.document_id)).owed] == await owed_to(site)
    await bury(site, event.document_id, 1000 + row, "archiving", "notification")
    await bury(site, None, 1000 + row + 1, "integrity")
    assert await owed_to(site) == []
    await site.age(1, row)
    assert row in await site.finished()


async def test_a_letter_that_is_written_before_the_relay_marks_the_row_counts_once_it_has(site: Site) -> None:
    event = uploaded()
    async with site.database.transaction() as work:
        await work.outbox.add(event)
    (waiting,) = await site.sql("SELECT id FROM outbox")
    await bury(site, event.document_id, 1000 + waiting["id"], "integrity", "archiving", "notification")
    await site.mark()
    assert await owed_to(site) == []


async def test_what_is_published_at_another_place_is_owed_again(site: Site) -> None:
    """A relay that dies before it marks a row publishes it again; a person has an event sent again."""
    event = uploaded()
    row = (await site.publish(event))[event.event_id]
    await bury(site, event.document_id, 1000 + row, "integrity", "archiving", "notification")
    await site.sql("UPDATE outbox SET published_offset = published_offset + 1 WHERE id = $1", row)
    assert await owed_to(site) == [("archiving", "integrity", "notification")]


@pytest.mark.parametrize("settled", ["REDRIVEN", "DISCARDED"])
async def test_a_settled_letter_leaves_its_record_buried(site: Site, settled: str) -> None:
    event = uploaded()
    row = (await site.publish(event))[event.event_id]
    await bury(site, event.document_id, 1000 + row, "integrity", "archiving", "notification")
    await site.sql("UPDATE lettres_mortes SET reglement = $1, reglee_a = now()", settled)
    assert await owed_to(site) == []


async def test_a_damaged_records_event_is_sent_again_because_the_outbox_has_it_whole(site: Site) -> None:
    event = uploaded()
    row = (await site.publish(event))[event.event_id]
    await bury(site, event.document_id, 1000 + row, "integrity", code="record_damaged")
    assert await owed_to(site) == [("archiving", "integrity", "notification")]


async def test_letters_that_prove_nothing_bury_nothing(site: Site) -> None:
    event = uploaded()
    row = (await site.publish(event))[event.event_id]
    all_three = [("archiving", "integrity", "notification")]
    await bury(site, uuid4(), 1000 + row, "integrity")  # of another document
    assert await owed_to(site) == all_three
    await site.sql("DELETE FROM lettres_mortes")
    await bury(site, event.document_id, 1000 + row, "integrity")
    await site.sql("UPDATE lettres_mortes SET outbox_id = NULL")  # found in Kafka: anybody may have put it there
    assert await owed_to(site) == all_three
    await site.sql("UPDATE lettres_mortes SET outbox_id = 1, ecrite_a = now() - interval '5 minutes'")
    assert await owed_to(site) == all_three  # of the record that stood there before the topic was made anew
    await site.sql("UPDATE lettres_mortes SET ecrite_a = now()")
    assert await owed_to(site) == [("archiving", "notification")]


async def test_a_strangers_letter_with_forged_headers_buries_nothing(site: Site) -> None:
    event = uploaded()
    row = (await site.publish(event))[event.event_id]
    headers = {
        "dpj-code": "event_undecodable",
        "dpj-origin-topic": DocumentUploaded.TOPIC,
        "dpj-origin-partition": "3",
        "dpj-origin-offset": str(1000 + row),
    }
    forged = entry_of("integrity", str(event.document_id).encode(), headers)
    place = RecordPosition("dpj.dlq.integrity", 0, 0, 1_800_000_000_000)
    index = PostgresDeadLetterIndex(site.postgres)
    assert await index.fill("dpj.dlq.integrity", 0, 1, [(forged, place)]) == 1
    assert await owed_to(site) == [("archiving", "integrity", "notification")]


async def test_letters_are_looked_up_by_the_index_on_their_records(site: Site) -> None:
    event = uploaded()
    row = (await site.publish(event))[event.event_id]
    await bury(site, event.document_id, 1000 + row, "integrity")
    await site.sql(
        """
        INSERT INTO lettres_mortes (consumer, event_id, code, error_class, origine_topic, origine_partition, origine_offset,
                                    tentatives, rejeux, outbox_id)
        SELECT 'integrity', gen_random_uuid(), 'event_undecodable', 'x', $1, 3, 100000 + n, 1, 0, n
        FROM generate_series(1, 20000) AS n
        """,
        DocumentUploaded.TOPIC,
    )
    await site.sql("ANALYZE lettres_mortes")
    async with site.postgres.connection() as connection:
        explaining = Explaining(connection)
        await PostgresOwedEvents(explaining, readers(), keep_hours=KEEP_HOURS).slice(0, 100)
    (letters,) = [node for node in explaining.nodes if node.get("Relation Name") == "lettres_mortes"]
    assert letters["Index Name"] == "lettres_mortes_origine"
    assert letters["Actual Rows"] <= 1
