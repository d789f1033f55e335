"""The relational state, in memory and on a PostgreSQL database of the test's own."""

from __future__ import annotations

import pytest

from storage.postgres.delivery.inbox import PostgresInbox
from storage.postgres.queries import PostgresQueries
from tests.integration.conftest import codec, database, database_dsn, migrated_template, postgres, server_dsn
from tests.support.builders import a_dossier, a_type
from tests.support.database_backends import DatabaseBackend
from tests.support.memory import MemoryDatabase, MemoryInbox

__all__ = ["codec", "database", "database_dsn", "migrated_template", "postgres", "server_dsn"]


@pytest.fixture(params=["memory", "postgres"])
def bare_site(request: pytest.FixtureRequest) -> DatabaseBackend:
    """Without the dossier."""
    dossier = a_dossier()
    if request.param == "memory":
        memory = MemoryDatabase()
        memory.put(a_type("CNI"), a_type("RIB"))
        return DatabaseBackend(memory, memory, MemoryInbox(memory), memory, None, dossier)
    postgres = request.getfixturevalue("postgres")
    database = request.getfixturevalue("database")
    return DatabaseBackend(database, PostgresQueries(postgres), PostgresInbox(postgres), None, postgres, dossier)


@pytest.fixture
async def site(bare_site: DatabaseBackend) -> DatabaseBackend:
    async with bare_site.database.transaction() as work:
        await work.dossiers.add(bare_site.dossier)
    return bare_site
