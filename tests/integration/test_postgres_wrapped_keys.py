"""Acts on keys find their rows by the index made for them: what they cost does not grow with the table."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import uuid4

import asyncpg
import pytest

from domain.key_encryption_keys import KeyState, KeyUse
from domain.keys import WrappedKey
from domain.refusals import KeyVersionInUse
from storage.postgres.database import Postgres
from storage.postgres.keys.wrapped_keys import PostgresWrappedKeys

ROWS = 60_000
#: Of every 1,000 documents one is under version 1, nine under version 2. Texts are as long as real ones: how wide a row is
#: decides whether an index is worth its while.
_DOSSIER = """
    INSERT INTO dossiers (id, tenant, numero_dossier, client_id, type_parcours, statut, date_creation, date_modification,
                          created_by)
    VALUES ($1, 'acme', 'D', 'c', 'LOAN', 'OPEN', now(), now(), 'u')
"""
_DOCUMENTS = """
    INSERT INTO documents (id, tenant, dossier_id, nom_fichier, nom_original, type_document, chemin_stockage, statut,
                           deposant_id, langue, courriel_scelle, correlation_id, created_at, updated_at,
                           taille_fichier, checksum_sha256, etag_objet, taille_objet,
                           cle_schema, cle_nom, cle_version, cle_enveloppee)
    SELECT gen_random_uuid(), 'acme', $1, gen_random_uuid() || '.pdf', 'releve-de-compte-' || n || '.pdf', 'CNI',
           'documents/00/' || gen_random_uuid() || '/' || md5(n::text), 'ARCHIVED', md5('u'), 'fr',
           'p1.00000000.' || repeat(md5(n::text), 3), gen_random_uuid(), now(), now(), 1, repeat(md5(n::text), 2), md5('e'), 1,
           'vault-transit', 'dpj-tenant-acme',
           CASE WHEN n % 1000 = 0 THEN 1 WHEN n % 1000 < 10 THEN 2 ELSE 3 END, 'vault:v1:' || repeat(md5(n::text), 3)
    FROM generate_series(1, $2::bigint) AS n
"""


class _Explaining:
    """Stands for the connections: runs each query and keeps its plan, with what each step really read."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection
        self.nodes: list[dict[str, Any]] = []

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        yield self

    def transaction(self) -> Any:
        return self._connection.transaction()

    async def execute(self, query: str, *values: Any) -> str:
        return cast("str", await self._connection.execute(query, *values))

    async def fetch(self, query: str, *values: Any) -> list[Any]:
        await self._explain(query, values)
        return list(await self._connection.fetch(query, *values))

    async def fetchrow(self, query: str, *values: Any) -> Any:
        await self._explain(query, values)
        return await self._connection.fetchrow(query, *values)

    async def _explain(self, query: str, values: tuple[Any, ...]) -> None:
        text = await self._connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", *values)
        (plan,) = json.loads(text) if isinstance(text, str) else text
        waiting = [plan["Plan"]]
        while waiting:
            node = waiting.pop()
            self.nodes.append(node)
            waiting += node.get("Plans", [])

    def read(self) -> dict[str, int]:
        """Rows that scans read, those they dropped included, by index or kind of scan."""
        found: dict[str, int] = {}
        for node in self.nodes:
            if "Scan" in node["Node Type"]:
                rows = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
                name = node.get("Index Name", node["Node Type"])
                found[name] = found.get(name, 0) + int(rows)
        return found


async def fill_with_documents(connection: asyncpg.Connection[Any], documents: str) -> None:
    """``ROWS`` documents of one dossier, by a statement that takes the dossier and their number."""
    dossier = uuid4()
    await connection.execute(_DOSSIER, dossier)
    await connection.execute(documents, dossier, ROWS, timeout=300)  # a busy machine takes its time
    await connection.execute("VACUUM ANALYZE documents", timeout=300)


async def fill(connection: asyncpg.Connection[Any]) -> None:
    await fill_with_documents(connection, _DOCUMENTS)


@pytest.fixture
def database_dsn(filled_dsn: str) -> str:
    return filled_dsn


@pytest.fixture
def explaining(filled_connection: asyncpg.Connection[Any]) -> _Explaining:
    return _Explaining(filled_connection)


async def test_a_page_reads_its_rows_and_no_others(explaining: _Explaining) -> None:
    wrapped = PostgresWrappedKeys(explaining)
    page = await wrapped.page(KeyUse("vault-transit", "dpj-tenant-acme", 2, "acme", 0), None, 100)
    assert len(page) == 100
    assert explaining.read() == {"documents_cles": 100}
    explaining.nodes.clear()
    after = page[-1].document_id
    page = await wrapped.page(KeyUse("vault-transit", "dpj-tenant-acme", 2, "acme", 0), after, 100)
    assert len(page) == 100
    assert min(kept.document_id for kept in page) > after
    assert explaining.read() == {"documents_cles": 100}


async def test_counting_reads_the_index_alone(explaining: _Explaining) -> None:
    uses = await PostgresWrappedKeys(explaining).uses()
    assert [(use.version, use.documents) for use in uses] == [
        (1, ROWS // 1000),
        (2, 9 * ROWS // 1000),
        (3, 990 * ROWS // 1000),
    ]
    assert "Index Only Scan" in {node["Node Type"] for node in explaining.nodes}
    assert set(explaining.read()) == {"documents_cles"}
    assert await PostgresWrappedKeys(explaining).uses("vault-transit", ["dpj-tenant-acme"]) == uses
    assert await PostgresWrappedKeys(explaining).uses("vault-transit", ["dpj-tenant-other"]) == []


async def test_what_a_retirement_looks_at_under_its_lock_is_one_place_of_the_index(explaining: _Explaining) -> None:
    key = KeyState("acme", "vault-transit", "dpj-tenant-acme", {}, 3, 1)
    with pytest.raises(KeyVersionInUse):
        await PostgresWrappedKeys(explaining).retire(key, 3, None)
    assert sum(explaining.read().values()) <= 2 + len(explaining.nodes)
    assert "Seq Scan" not in {
        node["Node Type"] for node in explaining.nodes if node.get("Relation Name") == "documents"
    }


async def test_a_batch_is_replaced_by_primary_key(explaining: _Explaining, postgres: Postgres) -> None:
    wrapped = PostgresWrappedKeys(postgres)
    page = await PostgresWrappedKeys(explaining).page(
        KeyUse("vault-transit", "dpj-tenant-acme", 1, "acme", 0), None, 50
    )
    new = WrappedKey("vault-transit", "dpj-tenant-acme", 3, "vault:v3:new")
    assert await wrapped.replace([(kept, new) for kept in page]) == 50
    assert await wrapped.replace([(kept, new) for kept in page]) == 0
