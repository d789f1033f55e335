"""What of a document is stopped, in a real PostgreSQL: letters, given up, refused and lost rows; found by indexes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.consumers import readers
from domain.owed_events import LostEvent
from storage.postgres.delivery.stopped_steps import PostgresStoppedSteps
from tests.integration.test_postgres_owed_events import Site, site, uploaded
from tests.support.explaining import Explaining

__all__ = ["site"]

LETTER = {
    "dpj-code": "event_undecodable",
    "dpj-error-class": "EventUndecodable",
    "dpj-origin-topic": "dpj.document.uploaded",
    "dpj-origin-partition": "0",
}


@pytest.fixture
def document() -> UUID:
    return uuid4()


async def stopped(site: Site, *documents: UUID) -> list[tuple[str, str | None, bool]]:
    found = await PostgresStoppedSteps(site.postgres, readers()).of(documents)
    return sorted((one.step, one.code, one.settled) for steps in found.values() for one in steps)


async def letter(site: Site, document: UUID, offset: int, consumer: str = "integrity") -> None:
    headers = {**LETTER, "dpj-consumer": consumer, "dpj-origin-offset": str(offset)}
    async with site.database.transaction() as work:
        await work.outbox.add_dead_letter(consumer, str(document).encode(), b"v", headers)


async def test_open_letters_of_records_that_could_not_be_decoded(site: Site, document: UUID) -> None:
    for offset in (7, 8):
        await letter(site, document, offset)
    await letter(site, uuid4(), 9)
    assert await stopped(site, document) == [("integrity", "event_undecodable", False)]
    await site.sql("UPDATE lettres_mortes SET reglement = 'REDRIVEN', reglee_a = now() WHERE origine_offset = 7")
    assert await stopped(site, document) == [("integrity", "event_undecodable", False)]
    await site.sql("UPDATE lettres_mortes SET reglement = 'DISCARDED', reglee_a = now() WHERE origine_offset = 8")
    assert await stopped(site, document) == [("integrity", "event_undecodable", True)]
    await site.sql("UPDATE lettres_mortes SET reglement = 'REDRIVEN' WHERE origine_offset = 8")
    assert await stopped(site, document) == []


async def test_events_that_were_given_up_even_if_their_letter_is_gone(site: Site, document: UUID) -> None:
    await site.sql(
        "INSERT INTO inbox (consumer, event_id, document_key, state, owner, lease_until)"
        " VALUES ('notification', $1, $2, 'DEAD', $1, now())",
        uuid4(),
        str(document),
    )
    assert await stopped(site, document, uuid4()) == [("notification", None, False)]


async def test_a_row_that_kafka_refuses(site: Site, document: UUID) -> None:
    async with site.database.transaction() as work:
        await work.outbox.add(uploaded(document))
    assert await stopped(site, document) == []  # waits for the relay
    await site.sql("UPDATE outbox SET refused_at = now(), refused_code = 'MSG_SIZE_TOO_LARGE'")
    assert await stopped(site, document) == [("integrity", "event_refused", False)]


async def test_a_lost_event_until_it_is_sent_again_found_or_finished(site: Site, document: UUID) -> None:
    event = uploaded(document)
    await site.publish(event, uploaded())
    owed = [one for one in (await site.rows.slice(0, 10)).owed if one.key == str(document)]
    lost = LostEvent(owed[0], ("archiving", "integrity"))
    await site.rows.note_lost([lost])
    both: Sequence[Any] = [("archiving", "event_lost", False), ("integrity", "event_lost", False)]
    assert await stopped(site, document) == both
    (before,) = await site.sql("SELECT lost_at FROM outbox WHERE lost_at IS NOT NULL")
    await site.rows.note_lost([lost])
    assert await site.sql("SELECT lost_at FROM outbox WHERE lost_at IS NOT NULL") == [before]
    await site.finish(event.event_id, "integrity")  # by a record that was redriven
    assert await stopped(site, document) == both[:1]
    await site.rows.note_lost([])
    assert await stopped(site, document) == []
    await site.rows.note_lost([lost])
    async with site.database.transaction() as work:
        assert await work.re_emissions.re_emit([lost.event.row_id]) == 1
    assert await stopped(site, document) == []
    await site.mark()
    await site.rows.note_lost(
        [replace(lost, event=replace(lost.event, re_emissions=0))]
    )  # looked at before it was sent again
    assert await stopped(site, document) == []


async def test_it_reads_indexes_and_no_more_than_what_is_stopped(site: Site) -> None:
    async with site.postgres.connection() as connection:
        for statement in (
            """
            INSERT INTO outbox (topic, key, body, headers, event_id, published_at, refused_at, lost_at, lost_to)
            SELECT 'dpj.document.uploaded', gen_random_uuid()::text::bytea, '', '{}', gen_random_uuid(),
                   CASE WHEN n % 100 <> 1 THEN now() END, CASE WHEN n % 100 = 1 THEN now() END,
                   CASE WHEN n % 100 = 2 THEN now() END, CASE WHEN n % 100 = 2 THEN ARRAY['integrity'] END
            FROM generate_series(1, 20000) AS n
            """,
            """
            INSERT INTO inbox (consumer, event_id, document_key, owner, lease_until, state)
            SELECT 'integrity', gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), now(),
                   CASE WHEN n % 100 = 1 THEN 'DEAD' ELSE 'DONE' END
            FROM generate_series(1, 20000) AS n
            """,
            """
            INSERT INTO lettres_mortes (consumer, event_id, document_id, code, error_class, origine_topic,
                origine_partition, origine_offset, tentatives, rejeux)
            SELECT 'integrity', gen_random_uuid(), gen_random_uuid(), 'c', 'C', 't', 0, n, 1, 0
            FROM generate_series(1, 20000) AS n
            """,
            "ANALYZE",
        ):
            await connection.execute(statement)
        page = [uuid4() for _ in range(99)]
        page.append(await connection.fetchval("SELECT document_id FROM lettres_mortes LIMIT 1"))
        explaining = Explaining(connection)
        for documents in ([page[-1]], page):
            await PostgresStoppedSteps(explaining, readers()).of(documents)
            tables = [node for node in explaining.nodes if "Relation Name" in node]
            assert {node["Relation Name"] for node in tables} == {"outbox", "inbox", "lettres_mortes"}
            explaining.check(200)
