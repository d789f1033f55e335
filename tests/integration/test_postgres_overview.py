"""What waits in a real PostgreSQL, and since when; its history; and what a look costs whatever the tables hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.consumers import CONSUMERS, readers
from domain.events import DocumentUploaded
from domain.lifecycle import Status
from domain.overview import MOST_COUNTED, OUTBOX, Count, Holder, StoredNumbers
from storage.postgres import overview as rows
from storage.postgres.connections import connect
from storage.postgres.database import Postgres, PostgresDatabase
from storage.postgres.overview import PostgresOverview
from tests.support.builders import NOW, a_document, a_dossier, add_documents
from tests.support.explaining import Explaining
from tests.support.inbox_rows import add_inbox_rows

UPLOADED = DocumentUploaded.TOPIC


class Site:
    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres
        self.overview = PostgresOverview(postgres, readers())

    async def sql(self, text: str, *values: Any) -> list[Any]:
        async with self.postgres.connection() as connection:
            return list(await connection.fetch(text, *values))

    async def row(self, key: object, *, minutes: float = 5.0, published: bool = True, **changes: Any) -> UUID:
        """An outbox row about ``key``, written so long ago; its event's id."""
        event_id = uuid4()
        base = {"topic": UPLOADED, "consumer": None, "refused": False}
        values = base | changes
        await self.sql(
            """
            INSERT INTO outbox (topic, key, body, headers, event_id, consumer, created_at, published_at,
                                published_partition, published_offset, refused_at, refused_code)
            SELECT $1, $2, 'b', '{}', $3, $4, now() - at, CASE WHEN $6 THEN now() - at END, 1, 7,
                   CASE WHEN $7 THEN now() END, CASE WHEN $7 THEN 'MSG_SIZE_TOO_LARGE' END
            FROM (SELECT make_interval(secs => $5 * 60.0) AS at) AS written
            """,
            values["topic"],
            str(key).encode(),
            event_id,
            values["consumer"],
            minutes,
            published,
            values["refused"],
        )
        return event_id

    async def inbox(self, event_id: UUID, state: str, *consumers: str) -> None:
        await add_inbox_rows(self.sql, event_id, state, *consumers)

    async def hold(self, key: object, event_id: UUID, *, waiting_for: str = "ged", noted: float = 1.0) -> None:
        await self.sql(
            """
            INSERT INTO held_events (consumer, event_id, document_key, topic, partition, "offset", code, waiting_for,
                                     attempts, held_since, noted_at)
            VALUES ('archiving', $1, $2, $3, 1, 7, $4, $5, 3, now() - interval '2 minutes',
                    now() - make_interval(secs => $6))
            """,
            event_id,
            str(key),
            UPLOADED,
            f"{waiting_for}_unavailable",
            waiting_for,
            noted,
        )


@pytest.fixture
def site(database: PostgresDatabase, postgres: Postgres) -> Site:
    return Site(postgres)


async def test_an_empty_database_has_nothing_waiting_and_says_so(site: Site) -> None:
    found = await site.overview.numbers()
    assert found.outbox is not None
    assert (found.outbox.waiting, found.outbox.oldest, found.outbox.refused) == (Count(0), None, Count(0))
    assert (found.held, found.unfinished, found.unfinished_whole) == ({}, (), True)
    assert {one.status: one.count for one in found.states or ()} == dict.fromkeys(
        (Status.PENDING, Status.STORED, Status.ERASING), Count(0)
    )
    assert (found.oldest_stored, found.restores, found.history, found.recorded) == ((), (), {}, None)
    assert found.checkpoints is not None
    assert (found.checkpoints.newest, found.checkpoints.overdue_since, found.checkpoints.uncovered) == (None, None, 0)


async def test_rows_that_wait_and_rows_that_kafka_refuses(site: Site) -> None:
    first, refused = uuid4(), uuid4()
    await site.row(first, minutes=30, published=False)
    await site.row(uuid4(), minutes=20, published=False, consumer="archiving")
    await site.row(refused, minutes=40, published=False, refused=True)
    found = await site.overview.numbers()
    assert found.outbox is not None
    assert (found.outbox.waiting, found.outbox.refused) == (Count(2), Count(1))
    assert found.outbox.oldest is not None
    assert abs((datetime.now(UTC) - found.outbox.oldest).total_seconds() - 1800) < 60
    assert found.unfinished is not None
    for_all = {one.consumer for one in found.unfinished if one.key == str(first)}
    assert for_all == set(readers()[UPLOADED])
    assert {one.holder for one in found.unfinished if one.key == str(first)} == {Holder.OUTBOX}
    assert {one.holder for one in found.unfinished if one.key == str(refused)} == {Holder.REFUSED}
    assert {one.code for one in found.unfinished if one.key == str(refused)} == {"MSG_SIZE_TOO_LARGE"}
    assert [one.consumer for one in found.unfinished if one.key not in {str(first), str(refused)}] == ["archiving"]


async def test_what_is_published_is_owed_by_those_that_have_not_finished_it(site: Site) -> None:
    event = await site.row("k")
    await site.inbox(event, "DONE", "integrity")
    await site.inbox(event, "DEAD", "notification")
    await site.inbox(event, "CLAIMED", "archiving")
    found = await site.overview.numbers()
    assert [(one.consumer, one.holder, one.partition, one.offset) for one in found.unfinished or ()] == [
        ("archiving", Holder.TOPIC, 1, 7)
    ]


async def test_what_a_consumer_buried_undecoded_it_is_owed_no_more(site: Site) -> None:
    key = uuid4()
    await site.row(key)
    await site.sql(
        """
        INSERT INTO lettres_mortes (consumer, event_id, document_id, code, error_class, origine_topic, origine_partition,
                                    origine_offset, tentatives, rejeux, outbox_id)
        SELECT consumer, $2, $1, 'event_undecodable', 'EventUndecodable', $3, 1, 7, 1, 0, 1
        FROM unnest(ARRAY['integrity', 'archiving']) AS consumer
        """,
        key,
        uuid4(),
        UPLOADED,
    )
    found = await site.overview.numbers()
    assert {(one.consumer, one.holder) for one in found.unfinished or ()} == {
        ("archiving", Holder.DEAD_LETTER),
        ("integrity", Holder.DEAD_LETTER),
        ("notification", Holder.TOPIC),
    }


async def test_a_held_event_is_told_as_held_and_counts_from_when_it_was_written(site: Site) -> None:
    key = uuid4()
    event = await site.row(key, minutes=60)
    await site.inbox(event, "DONE", "integrity", "notification")
    await site.hold(key, event)
    await site.hold("other", uuid4(), waiting_for="object_store")
    await site.hold("stale", uuid4(), noted=3600.0)
    found = await site.overview.numbers()
    assert {(one.waiting_for, one.count, one.attempts) for one in (found.held or {})["archiving"]} == {
        ("ged", 1, 3),
        ("object_store", 1, 3),
    }
    by_key = {one.key: one for one in found.unfinished or ()}
    assert set(by_key) == {str(key), "other"}
    held = by_key[str(key)]
    assert (held.holder, held.waiting_for, held.attempts) == (Holder.GED, "ged", 3)
    assert (held.since - held.written_at) > timedelta(minutes=50)
    assert by_key["other"].holder is Holder.HOLD


async def test_open_dead_letters_by_cause_and_the_oldest_of_each(site: Site) -> None:
    document = uuid4()
    for consumer, code, hours, settled, about in (
        ("archiving", "archive_refused", 5, None, document),
        ("archiving", "archive_refused", 1, None, uuid4()),
        ("archiving", "archive_refused", 9, "DISCARDED", uuid4()),
        ("archiving", "record_damaged", 2, None, None),
        ("audit", "archive_refused", 3, None, uuid4()),
    ):
        await site.sql(
            """
            INSERT INTO lettres_mortes (consumer, event_id, document_id, code, error_class, origine_topic,
                                        origine_partition, origine_offset, tentatives, rejeux, ecrite_a, reglement,
                                        reglee_par, reglee_a)
            SELECT $1, gen_random_uuid(), $2, $3, 'Error', $4, 0, 7, 3, 0, now() - make_interval(secs => $5 * 3600.0), $6::text,
                   'k1', CASE WHEN $6::text IS NOT NULL THEN now() END
            """,
            consumer,
            about,
            code,
            UPLOADED,
            float(hours),
            settled,
        )
    found = await site.overview.numbers(datetime.now(UTC) - timedelta(hours=2.5))
    assert {
        (consumer, group.code, group.count, group.new)
        for consumer, groups in (found.dead or {}).items()
        for group in groups
    } == {
        ("archiving", "archive_refused", 2, 1),
        ("archiving", "record_damaged", 1, 1),
        ("audit", "archive_refused", 1, 0),
    }
    oldest = next(one for one in found.unfinished or () if one.key == str(document))
    assert (oldest.holder, oldest.code, oldest.attempts) == (Holder.DEAD_LETTER, "archive_refused", 3)
    assert len(found.unfinished or ()) == 2
    unasked = (await site.overview.numbers()).dead or {}
    assert {group.new for groups in unasked.values() for group in groups} == {None}


async def test_the_oldest_of_each_state(site: Site, database: PostgresDatabase) -> None:
    dossier = a_dossier()
    old = a_document(dossier, created_at=NOW - timedelta(days=3), deposited_at=NOW - timedelta(days=2))
    new = a_document(dossier, created_at=NOW - timedelta(days=1))
    await add_documents(database, dossier, new, old, a_document(dossier, Status.VERIFIED))
    found = await site.overview.numbers()
    stored = next(one for one in found.states or () if one.status is Status.STORED)
    assert (stored.count, stored.oldest) == (Count(2), NOW - timedelta(days=2))
    assert [one.document_id for one in found.oldest_stored or ()] == [old.id, new.id]
    rows = await site.overview.documents([old.id, uuid4()])
    assert {one.deposited_at for one in rows.values()} == {NOW - timedelta(days=2)}


async def test_counting_ends(site: Site) -> None:
    await site.sql("INSERT INTO outbox (topic, headers) SELECT 't', '{}' FROM generate_series(1, 10002)")
    found = await site.overview.numbers()
    assert found.outbox is not None
    assert str(found.outbox.waiting) == "10,000+"
    assert not found.unfinished_whole


async def test_checkpoints_that_are_due(site: Site) -> None:
    await site.sql("INSERT INTO audit_heads VALUES ('a', 5, 'h', now()), ('b', 9, 'h', now()), ('c', 1, 'h', now())")
    await site.sql(
        """
        INSERT INTO audit_checkpoints (tenant, size, body, hash, taken_at, signature) VALUES
            ('a', 5, 'b', 'h', now() - interval '5 days', 's'), ('b', 4, 'b', 'h', now() - interval '2 hours', 's'),
            ('b', 9, 'b', 'h', now(), NULL)
        """
    )
    found = (await site.overview.numbers()).checkpoints
    assert found is not None
    # a is idle and covered; b has an unsigned one; c has none yet.
    assert found.uncovered == 2
    assert found.newest == found.overdue_since
    assert found.newest is not None
    assert abs((datetime.now(UTC) - found.newest).total_seconds() - 7200) < 60


async def test_a_lock_makes_its_part_unknown_and_no_other(site: Site, database_dsn: str) -> None:
    other = await connect(database_dsn)
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE releves, effacements IN ACCESS EXCLUSIVE MODE")
            await other.execute("LOCK TABLE held_events IN ACCESS EXCLUSIVE MODE")
            locked = PostgresOverview(_Impatient(site.postgres), readers())
            found: StoredNumbers = await locked.numbers()
    finally:
        await other.close()
    assert (found.history, found.erasures, found.held, found.unfinished) == (None, None, None, None)
    assert found.outbox is not None
    assert found.checkpoints is not None


class _Impatient:
    """Connections that wait for no lock."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        async with self._postgres.connection() as connection:
            await connection.execute("SET lock_timeout = 50")
            yield connection


# --- history ----------------------------------------------------------------------------------------------------------


async def test_the_history_has_a_row_a_minute_and_ends_after_a_week(site: Site) -> None:
    now = datetime.now(UTC)
    assert await site.overview.record(now - timedelta(days=8), {OUTBOX: (1, 1.0)})
    assert await site.overview.record(now - timedelta(minutes=90), {OUTBOX: (7, 7.0)})
    assert await site.overview.record(now, {OUTBOX: (3, 2.5), "audit": (None, None)})
    # A second watchdog, or the same one again within the minute.
    assert not await site.overview.record(now, {OUTBOX: (9, 9.0), "audit": (9, 9.0)})
    found = await site.overview.numbers()
    assert found.history is not None
    assert [(one.lag, one.behind_seconds) for one in found.history[OUTBOX]] == [(3, 2.5)]
    assert [(one.lag, one.behind_seconds) for one in found.history["audit"]] == [(None, None)]
    assert found.recorded == now.replace(second=0, microsecond=0)
    assert [row[0] for row in await site.sql("SELECT count(*) FROM releves")] == [3]


async def test_two_watchdogs_at_once_keep_one_row(site: Site) -> None:
    now = datetime.now(UTC)
    kept = await asyncio.gather(*(site.overview.record(now, {OUTBOX: (number, 0.0)}) for number in range(4)))
    assert sum(kept) == 1


# --- what a look costs ------------------------------------------------------------------------------------------------

_DOSSIER = """
    INSERT INTO dossiers (id, tenant, numero_dossier, client_id, type_parcours, statut, date_creation, date_modification,
                          created_by)
    VALUES (gen_random_uuid(), 'acme', 'D', 'c', 'LOAN', 'OPEN', now(), now(), 'u')
"""
#: A tenth is STORED: more than are ever counted.
_DOCUMENTS = """
    INSERT INTO documents (id, tenant, dossier_id, nom_fichier, nom_original, type_document, chemin_stockage, statut,
                           deposant_id, langue, courriel_scelle, correlation_id, created_at, updated_at, bail_expire_a,
                           taille_fichier, checksum_sha256, cle_enveloppee, etag_objet, taille_objet)
    SELECT md5('d' || n)::uuid, 'acme', d.id, 'n', 'o', 'CNI', 'documents/' || n,
           CASE WHEN n % 1000 = 1 THEN 'PENDING' WHEN n % 5 = 0 THEN 'STORED' ELSE 'ARCHIVED' END,
           'u', 'fr', 's', gen_random_uuid(), now() - n * interval '1 minute', now(), now(), 1, 'a', 'k', 'e', 1
    FROM dossiers AS d, generate_series(1, 100000) AS n
"""
_OUTBOX = """
    INSERT INTO outbox (topic, key, body, headers, event_id, published_at, published_partition, published_offset)
    SELECT 'dpj.document.uploaded', convert_to(md5('d' || n)::uuid::text, 'UTF8'), 'b', '{}', md5('e' || n)::uuid,
           CASE WHEN n <= 60000 THEN now() END, 0, n
    FROM generate_series(1, 100000) AS n
"""
_INBOX = """
    INSERT INTO inbox (consumer, event_id, document_key, state, owner, lease_until)
    SELECT consumer, md5('e' || n)::uuid, n::text, 'DONE', gen_random_uuid(), now()
    FROM generate_series(1, 60000) AS n, unnest(ARRAY['integrity', 'archiving', 'notification']) AS consumer
"""
_HISTORY = """
    INSERT INTO releves SELECT date_trunc('minute', now()) - n * interval '1 minute', lieu, n, n
    FROM generate_series(0, 10079) AS n, unnest(ARRAY['integrity', 'archiving', 'audit', 'outbox']) AS lieu
"""
_CHECKPOINTS = """
    INSERT INTO audit_checkpoints (tenant, size, body, hash, taken_at, signature)
    SELECT 't' || n % 20, n, 'b', 'h', now(), 's' FROM generate_series(1, 20000) AS n
"""
_HEADS = "INSERT INTO audit_heads SELECT 't' || n, 30000, 'h', now() FROM generate_series(0, 19) AS n"
_ERASURES = """
    INSERT INTO effacements (document_id, tenant, demandeur, motif_code, base_legale, conservation_jusqua, demande_a,
                             correlation_id, cle_schema, cle_nom, cle_version, vignettes, recu, cle_signature, acheve_a)
    SELECT id, 'acme', 'u', 'm', 'b', now(), now(), id, 's', 'n', 1, '{}', 'r', 'k', now()
    FROM documents WHERE statut = 'ARCHIVED' LIMIT 20000
"""
_LETTERS = """
    INSERT INTO lettres_mortes (consumer, event_id, document_id, code, error_class, origine_topic, origine_partition,
                                origine_offset, tentatives, rejeux)
    SELECT (ARRAY['archiving', 'audit'])[1 + n % 2], gen_random_uuid(), gen_random_uuid(), 'c' || n % 7, 'E', 't', 0, n, 1, 0
    FROM generate_series(1, 40000) AS n
"""
_FILL = (_DOSSIER, _DOCUMENTS, _OUTBOX, _INBOX, _HISTORY, _CHECKPOINTS, _HEADS, _ERASURES, _LETTERS, "VACUUM ANALYZE")

#: Tables that stay small whatever a site does: a tenant's, a restore's and a worker's lane's worth of rows.
SMALL = frozenset({"audit_heads", "restaurations", "held_events"})


async def test_a_look_reads_indexes_from_one_end_however_much_there_is(database_dsn: str) -> None:
    connection = await connect(database_dsn)
    columns = [list(column) for column in zip(*((t, c) for t, names in readers().items() for c in names), strict=True)]
    front = rows.FRONT_ROWS
    counted = MOST_COUNTED + 1
    ids = [UUID(int=number) for number in range(front)]
    try:
        for statement in ("SET statement_timeout = 0", *_FILL):
            await connection.execute(statement, timeout=600)
        looked = 0
        for query, values, most in (
            (rows._RECORDED, (), 10),
            (rows._OUTBOX, (counted,), counted),
            (rows._STATES, (counted,), 3 * counted),
            (rows._HELD, (300.0, front), front),
            (rows._WAITING_ROWS, (front,), 2 * front),
            (rows._OWED_ROWS, (front, *columns), 5 * front),
            (rows._STORED, (rows.STORED_ROWS,), rows.STORED_ROWS),
            (rows._DOCUMENTS, (ids,), front),
            (rows._CHECKPOINTS, (), 20),
            (rows._ERASURES, (counted,), counted),
            (rows._DEAD, (list(CONSUMERS), MOST_COUNTED, None), 2 * MOST_COUNTED),
            (rows._RESTORES, (), 10),
            (rows._HISTORY, (3600.0,), 4 * 61),
        ):
            explaining = Explaining(connection)
            await explaining.fetch(query, *values)
            for node in explaining.nodes:
                read = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node.get("Actual Loops", 1)
                assert read <= most, (query, node)
                assert node["Node Type"] != "Seq Scan" or node["Relation Name"] in SMALL, (query, node)
                looked += read if "Relation Name" in node else 0
    finally:
        await connection.close()
    # About half a microsecond a row: some 40 ms, once a minute, and only while all of this waits.
    assert looked < 80_000
