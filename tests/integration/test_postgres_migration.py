"""The relational schema: from nothing, again, by two at once."""

from __future__ import annotations

import asyncio
import json

import asyncpg
import pytest

from domain.errors import DatabaseUnavailable
from domain.refusals import TypeUnknown
from storage.migrate import latest_revision, upgrade
from storage.postgres.database import PostgresDatabase

MEGABYTE = 1024 * 1024


async def _rows(dsn: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()


async def test_migrates_an_empty_database_and_again_changes_nothing(empty_dsn: str) -> None:
    assert await upgrade(empty_dsn) == latest_revision()
    tables = (
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
    )
    before = await _rows(empty_dsn, tables)
    names = {row["table_name"] for row in before}
    assert {"documents", "dossiers", "etapes_parcours", "types_documents", "dossier_events", "notifications"} <= names
    assert {"outbox", "inbox", "idempotency_keys", "audit_heads", "audit_waiting", "audit_pending"} <= names
    assert "audit_chained" in names
    assert await upgrade(empty_dsn) == latest_revision()
    assert await _rows(empty_dsn, tables) == before
    assert [row[0] for row in await _rows(empty_dsn, "SELECT version_num FROM alembic_version")] == [latest_revision()]


async def test_processes_that_migrate_at_once_wait_for_each_other(empty_dsn: str) -> None:
    assert set(await asyncio.gather(*(upgrade(empty_dsn) for _ in range(3)))) == {latest_revision()}
    assert (await _rows(empty_dsn, "SELECT count(*) FROM types_documents"))[0][0] == 9


async def test_a_failed_migration_leaves_nothing(empty_dsn: str) -> None:
    await _rows(empty_dsn, "CREATE TABLE inbox (mine int)")
    with pytest.raises(Exception, match="inbox"):
        await upgrade(empty_dsn)
    tables = await _rows(empty_dsn, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    assert [row[0] for row in tables] == ["inbox"]


async def test_a_server_that_is_away_is_said_so() -> None:
    async with asyncio.timeout(15):
        with pytest.raises(DatabaseUnavailable):
            await upgrade("postgresql://dpj:none@127.0.0.1:1/dpj")


async def test_a_dsn_of_another_vendor_is_refused() -> None:
    with pytest.raises(ValueError, match="postgresql://"):
        await upgrade("mysql://127.0.0.1/dpj")


async def test_document_types_come_with_their_rules(database: PostgresDatabase) -> None:
    async with database.transaction() as work:
        identity = await work.types.get("CNI")
        contract = await work.types.get("CONTRAT")
        cheque = await work.types.get("CHEQUE_ANNULE")
        photo = await work.types.get("PHOTO")
        with pytest.raises(TypeUnknown):
            await work.types.get("cni")
    assert identity.label == "Carte nationale d'identité"
    assert {"application/pdf", "image/jpeg", "image/tiff"} <= identity.allowed_formats
    assert identity.max_size_bytes == 20 * MEGABYTE
    assert identity.metadata_template == {"numero": "string"}
    assert contract.allowed_formats == {"application/pdf"}
    assert contract.retention_years == 30
    assert (cheque.active, identity.active) == (False, True)
    assert (photo.archived, identity.archived) == (False, True)


async def test_texts_of_files_leave_the_facts_that_are_there(empty_dsn: str) -> None:
    await upgrade(empty_dsn, "0017")
    connection = await asyncpg.connect(empty_dsn)
    held: list[object] = [
        {"pages": 3, "producer": "Camille", "creator_tool": "Durand", "creation_date": "D:0612345678"},
        {"width": 4, "exif": {"make": "Camille", "model": "Durand", "iso": 200, "date_time_original": "x"}},
        "a text of Camille's that no jsonb held as it is",
        {"pages": 1},
    ]
    for facts in held:
        await connection.execute(
            "INSERT INTO metadonnees_etendues VALUES (gen_random_uuid(), 'acme', $1::text::jsonb)", json.dumps(facts)
        )
    await connection.close()
    await upgrade(empty_dsn)
    left = {row[0] for row in await _rows(empty_dsn, "SELECT metadonnees::text FROM metadonnees_etendues")}
    assert left == {'{"pages": 3}', '{"exif": {"iso": 200}, "width": 4}', "{}", '{"pages": 1}'}


async def test_tenants_that_had_a_key_are_created_from_the_start(empty_dsn: str) -> None:
    """Not those whose name stands in a dossier or an abandoned upload alone, nor the site's own."""
    await upgrade(empty_dsn, "0018")
    connection = await asyncpg.connect(empty_dsn)
    row = """
        WITH folder AS (
            INSERT INTO dossiers (id, tenant, numero_dossier, client_id, type_parcours, statut, date_creation,
                                  date_modification, created_by)
            VALUES (gen_random_uuid(), $1::varchar, 'D', 'c', 'LOAN', 'OPEN', now(), now(), 'u') RETURNING id)
        INSERT INTO documents (id, tenant, dossier_id, nom_fichier, nom_original, type_document, chemin_stockage, statut,
                               deposant_id, langue, courriel_scelle, correlation_id, created_at, updated_at,
                               taille_fichier, checksum_sha256, cle_schema, cle_nom, cle_version, cle_enveloppee,
                               etag_objet, taille_objet)
        SELECT gen_random_uuid(), $1::varchar, folder.id, 'n', 'o', 'CNI', 'x/' || $1, $2::varchar, 'u', 'fr', 's',
               gen_random_uuid(), now(), now(), 1, 'a', $3::text, $3::text, $4, $3::text, 'e', 1 FROM folder
    """
    for tenant, status, key, version in (
        ("stored", "STORED", "k", 1),
        ("erased", "ERASED", None, None),
        ("attempted", "ABANDONED", None, None),
        ("System", "STORED", "k", 1),
    ):
        await connection.execute(row, tenant, status, key, version)
    await connection.execute(
        "INSERT INTO keyring_canaries (scheme, key_name, key_version, ciphertext, tenant)"
        " VALUES ('s', 'k', 1, 'c', 'with-canary'), ('s', 'single', 1, 'c', NULL)"
    )
    await connection.close()
    await upgrade(empty_dsn)
    assert {one[0] for one in await _rows(empty_dsn, "SELECT tenant FROM tenants")} == {
        "stored",
        "erased",
        "with-canary",
    }
