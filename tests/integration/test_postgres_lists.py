"""Lists over many rows: pages that new rows do not shift, and plans that read an index instead of the table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import asyncpg
import pytest

from domain.documents import Document
from domain.lifecycle import Status
from processors.documents.reading import DocumentFilter
from storage.postgres.database import Postgres, PostgresDatabase
from storage.postgres.delivery.outbox import PostgresOutboxReader
from storage.postgres.queries import OF_TRACE, PostgresQueries
from tests.support.builders import NOW, a_document, a_dossier, add_documents
from tests.support.explaining import Explaining

EVERY = frozenset(Status)
STORED = EVERY - {Status.PENDING, Status.ABANDONED}
After = tuple[datetime, UUID] | None


def tenants_of(names: str | None) -> frozenset[str] | None:
    """As their names stand in a text, apart by a comma."""
    return None if names is None else frozenset(names.split(","))


def newest_first(documents: Sequence[Document]) -> list[Document]:
    return sorted(documents, key=lambda document: (document.created_at, document.id), reverse=True)


async def test_pages_are_complete_while_rows_are_added(database: PostgresDatabase, postgres: Postgres) -> None:
    queries, dossier = PostgresQueries(postgres), a_dossier()
    # Five documents to a moment: the order within one is that of the ids.
    there = [a_document(dossier, created_at=NOW + timedelta(seconds=number // 5)) for number in range(23)]
    await add_documents(database, dossier, *there)
    found: list[Document] = []
    after: After = None
    while page := await queries.page(frozenset({"acme"}), DocumentFilter(statuses=EVERY), after, 4):
        found.extend(page)
        after = (page[-1].created_at, page[-1].id)
        async with database.transaction() as work:
            await work.documents.add(a_document(dossier, created_at=NOW + timedelta(days=1)))
    assert found == newest_first(there)


async def test_filters_and_tenants(database: PostgresDatabase, postgres: Postgres) -> None:
    queries = PostgresQueries(postgres)
    ours, other, theirs = a_dossier(), a_dossier(), a_dossier(tenant="globex")
    documents = [
        a_document(ours, Status.STORED),
        a_document(ours, Status.VERIFIED, type_code="RIB"),
        a_document(other, Status.VERIFIED),
        a_document(other, Status.PENDING),
        a_document(theirs, Status.VERIFIED),
    ]
    async with database.transaction() as work:
        for dossier in (ours, other, theirs):
            await work.dossiers.add(dossier)
        for document in documents:
            if document.status is Status.PENDING:
                await work.uploads.begin(document, 60)
            else:
                await work.documents.add(document)
    verified = frozenset({Status.VERIFIED})
    for tenant, filters, wanted in (
        (None, DocumentFilter(statuses=EVERY), [0, 1, 2, 3, 4]),
        ("acme", DocumentFilter(statuses=EVERY), [0, 1, 2, 3]),
        ("acme", DocumentFilter(statuses=STORED), [0, 1, 2]),
        ("acme", DocumentFilter(statuses=verified), [1, 2]),
        (None, DocumentFilter(statuses=verified), [1, 2, 4]),
        ("acme", DocumentFilter(statuses=verified, type_code="RIB"), [1]),
        ("acme", DocumentFilter(statuses=EVERY, dossier_id=ours.id), [0, 1]),
        ("globex", DocumentFilter(statuses=EVERY, dossier_id=ours.id), []),
        ("acme", DocumentFilter(statuses=verified, dossier_id=ours.id, type_code="CNI"), []),
        ("acme", DocumentFilter(statuses=frozenset()), []),
        ("acme,globex", DocumentFilter(statuses=verified), [1, 2, 4]),
        ("globex,initech", DocumentFilter(statuses=EVERY), [4]),
        ("acme,globex", DocumentFilter(statuses=verified, type_code="RIB"), [1]),
        ("acme", DocumentFilter(statuses=EVERY, type_code="\x00"), []),
        ("acme'--", DocumentFilter(statuses=EVERY, type_code="' OR true --"), []),
    ):
        found = await queries.page(tenants_of(tenant), filters, None, 50)
        assert found == newest_first([documents[place] for place in wanted])
    assert await queries.page(frozenset(), DocumentFilter(statuses=EVERY), None, 50) == []
    assert len(await queries.types()) == 9


# --- plans ------------------------------------------------------------------------------------------------------------

_DOSSIERS = """
    INSERT INTO dossiers (id, tenant, numero_dossier, client_id, type_parcours, statut, date_creation,
                          date_modification, created_by)
    SELECT gen_random_uuid(), 'tenant-' || n % 20, 'D-' || n, 'c', 'LOAN', 'OPEN',
           timestamptz '2026-01-01' + n * interval '1 second', now(), 'u'
    FROM generate_series(1, 20000) AS n
"""
_DOCUMENTS = """
    INSERT INTO documents (id, tenant, dossier_id, nom_fichier, nom_original, type_document, chemin_stockage, statut,
                           deposant_id, langue, courriel_scelle, correlation_id, created_at, updated_at, bail_expire_a,
                           taille_fichier, checksum_sha256, cle_enveloppee, etag_objet, taille_objet)
    SELECT gen_random_uuid(), d.tenant, d.id, 'n', 'o',
           (array['CNI', 'RIB', 'DIVERS'])[1 + n % 3], 'documents/' || d.id || '/' || n,
           CASE WHEN r % 1000 = 0 THEN 'QUARANTINED' WHEN r % 1000 = 1 THEN 'PENDING'
                WHEN r % 10 = 2 THEN 'VERIFIED' ELSE 'ARCHIVED' END,
           'u', 'fr', 's', gen_random_uuid(), d.date_creation + n * interval '1 hour', now(), now(), 1, 'a', 'k', 'e', 1
    FROM (SELECT *, row_number() OVER () AS r0 FROM dossiers) AS d, generate_series(1, 5) AS n,
         LATERAL (SELECT d.r0 * 5 + n AS r) AS numbered
"""
_OUTBOX = """
    INSERT INTO outbox (topic, key, body, headers, published_at)
    SELECT 't', 'k', 'b', '{}', CASE WHEN n <= 99500 THEN now() END FROM generate_series(1, 100000) AS n
"""


async def fill(connection: asyncpg.Connection[Any]) -> None:
    """100 000 documents of 20 tenants, 20 000 dossiers, 100 000 outbox rows of which 500 wait."""
    for statement in (_DOSSIERS, _DOCUMENTS, _OUTBOX, "ANALYZE"):
        await connection.execute(statement, timeout=600)


@pytest.fixture
def explaining(filled_connection: asyncpg.Connection[Any]) -> Explaining:
    """Plans over the filled database."""
    return Explaining(filled_connection)


async def test_lists_read_an_index_and_little_more_than_a_page(explaining: Explaining) -> None:
    queries = PostgresQueries(explaining)
    dossier = await explaining.connected.fetchval("SELECT id FROM dossiers LIMIT 1")
    middle = (datetime(2026, 1, 1, 4, tzinfo=UTC), UUID(int=2**127))
    verified = frozenset({Status.VERIFIED})
    for after in (None, middle):
        for tenant, filters, most_rows in (
            ("tenant-3", DocumentFilter(statuses=STORED), 200),
            ("tenant-3", DocumentFilter(statuses=verified), 200),
            ("tenant-3", DocumentFilter(statuses=STORED, type_code="RIB"), 200),
            ("tenant-3", DocumentFilter(statuses=STORED, dossier_id=dossier), 200),
            (None, DocumentFilter(statuses=STORED), 200),
            (None, DocumentFilter(statuses=verified), 200),
            ("tenant-3", DocumentFilter(statuses=frozenset({Status.QUARANTINED})), 200),
            ("tenant-none", DocumentFilter(statuses=STORED), 200),
            # A page of each, then the newest of those.
            ("tenant-3,tenant-4,tenant-none", DocumentFilter(statuses=STORED), 400),
            ("tenant-3,tenant-4", DocumentFilter(statuses=verified), 400),
            ("tenant-3,tenant-4", DocumentFilter(statuses=STORED, type_code="RIB"), 400),
            (None, DocumentFilter(statuses=STORED, type_code="CHEQUE_ANNULE"), 200),
        ):
            await queries.page(tenants_of(tenant), filters, after, 51)
            explaining.check(most_rows)


async def test_a_trace_leads_to_its_newest_documents_by_an_index_of_recorded_uploads_alone(
    explaining: Explaining,
) -> None:
    ours, trace = explaining.connected, "0af7651916cd43dd8448eb211c80319c"
    change = ours.transaction()
    await change.start()
    try:
        # One caller that goes on with a trace for ever, and two documents of another.
        await ours.execute(
            "UPDATE documents SET trace_depot = '\\x01' WHERE type_document = 'RIB' AND statut = 'ARCHIVED'"
        )
        await ours.execute(
            "UPDATE documents SET trace_depot = $1 WHERE id IN (SELECT id FROM documents LIMIT 2)", bytes.fromhex(trace)
        )
        await ours.execute("ANALYZE documents")
        queries = PostgresQueries(explaining)
        for sought, most_rows in ((trace, 2), ("01", OF_TRACE), ("ff" * 16, 0)):
            await queries.uploaded_in(sought)
            explaining.check(most_rows)
            assert {node.get("Index Name") for node in explaining.nodes} - {None} == {"documents_trace"}
    finally:
        await change.rollback()


async def test_no_list_is_planned_for_any_tenant(filled_dsn: str) -> None:
    """The server would after five times; such a plan walks the whole table for a tenant that has next to nothing in it."""
    postgres = Postgres(filled_dsn, connections=1)
    try:
        queries = PostgresQueries(postgres)
        for number in range(20):
            await queries.page(frozenset({f"tenant-{number % 20}"}), DocumentFilter(statuses=STORED), None, 51)
            async with PostgresDatabase(postgres, lambda _: b"").transaction() as work:
                await work.dossiers.page(f"tenant-{number % 20}", None, 51)
        async with postgres.connection() as connection:
            plans = await connection.fetch(
                """
                SELECT generic_plans, custom_plans FROM pg_prepared_statements
                WHERE statement LIKE 'SELECT * FROM documents %' OR statement LIKE 'SELECT * FROM dossiers %'
                """
            )
    finally:
        await postgres.aclose()
    assert [tuple(row) for row in plans] == [(0, 20), (0, 20)]


async def test_rows_that_wait_for_kafka_are_found_by_their_index(explaining: Explaining) -> None:
    reader = PostgresOutboxReader(cast("Any", explaining))
    await reader.fetch_unpublished(500)
    explaining.check(500)
