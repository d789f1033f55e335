"""Fills a database with as many documents as years of use would, by SQL alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import asyncpg

from storage.migrate import upgrade

#: Rows of one statement: what one commit may hold up.
STEP: Final = 50_000
#: As in the statements.
DOCUMENTS_PER_DOSSIER: Final = 5
#: As in the statements.
SMALL_TENANT: Final = "small"
STATEMENT_SECONDS: Final = 900.0
_PARTS: Final = {
    # Every id is made of its number, so that rows of different tables meet without a look-up.
    "id": "md5('document ' || n)::uuid",
    "dossier": "md5('dossier ' || n / 5)::uuid",
    "tenant": """CASE WHEN n < 10 THEN 'small' WHEN n / 5 % 10 < 6 THEN 'bench' ELSE 'tenant-' || n / 5 % 10 END""",
    # Three years, evenly, the last document an hour ago.
    "at": "now() - interval '1 hour' - ($3 - n) * (interval '3 years' / $3)",
    "numbers": "generate_series($1::bigint, $2::bigint - 1) AS n",
    "status": """
        CASE WHEN n % 1000 < 3 THEN 'QUARANTINED' WHEN n % 1000 < 5 THEN 'ARCHIVE_FAILED' WHEN n % 1000 < 35 THEN 'VERIFIED'
             WHEN n % 1000 < 75 THEN 'REJECTED' ELSE 'ARCHIVED' END""",
    "type": """(ARRAY['CNI', 'JUSTIFICATIF_DOMICILE', 'RIB', 'BULLETIN_SALAIRE', 'AVIS_IMPOSITION', 'CONTRAT', 'DIVERS'])
        [1 + n % 7]""",
}

_TEXTS: Final = (
    """
    INSERT INTO dossiers (id, tenant, numero_dossier, client_id, type_parcours, statut, date_creation, date_modification,
                          created_by)
    SELECT {dossier}, {tenant}, 'SEED-' || n, 'client-' || n, 'SEED', 'OPEN', {at}, {at}, 'seed'
    FROM {numbers} WHERE n % 5 = 0
    """,
    """
    INSERT INTO documents (id, tenant, dossier_id, nom_fichier, nom_original, type_document, mime_type, taille_fichier,
                           checksum_sha256, chemin_stockage, statut, deposant_id, created_at, updated_at, date_depot,
                           date_validation, langue, courriel_scelle, sequence, correlation_id, etag_objet, taille_objet,
                           cle_schema, cle_nom, cle_version, cle_enveloppee, archivage_prevu, duree_conservation_annees,
                           ged_id, chemin_ged, date_archivage)
    SELECT {id}, {tenant}, {dossier}, {id} || '.pdf', 'piece-' || n || '.pdf', {type}, 'application/pdf', 100000,
           repeat(md5(n::text), 2), 'seed/' || {id}, {status}, repeat('d', 64), {at}, {at}, {at}, {at}, 'fr',
           repeat('e', 160), 4, {id}, md5(n::text), 100097, 'vault-transit', 'dpj-documents', 1,
           'vault:v1:' || repeat('k', 80), true, 10, n::text, '/dpj/seed/' || n, {at}
    FROM {numbers}
    """,
    """
    INSERT INTO dossier_events (document_id, dossier_id, type, payload_json, auteur_id, horodatage)
    SELECT {id}, {dossier}, type, jsonb_build_object('from', 'STORED', 'to', type), 'system:seed', {at}
    FROM {numbers}, unnest(ARRAY['STORED', 'ARCHIVE_PLANNED', 'VERIFIED', 'VALIDATED', 'ARCHIVED']) AS type
    """,
    """
    INSERT INTO vignettes (document_id, role, chemin_stockage, mime_type, largeur, hauteur, taille, checksum_sha256,
                           etag_objet, taille_objet)
    SELECT {id}, 'thumbnail-' || box, 'seed/' || {id} || '/' || box, 'image/webp', box, box, box * 20,
           repeat(md5(n::text), 2), md5(n::text), box * 20 + 97
    FROM {numbers}, unnest(ARRAY[256, 1024]) AS box
    """,
    """
    INSERT INTO notifications (id, document_id, dossier_id, event_id, canal, template, langue, message_id, statut, tentative,
                               sent_at)
    SELECT md5(template || n)::uuid, {id}, {dossier}, md5(template || n)::uuid, 'EMAIL', template, 'fr',
           '<' || template || n || '@seed>', 'SENT', 1, {at}
    FROM {numbers}, unnest(ARRAY['received', 'archived']) AS template
    """,
    "INSERT INTO tenants (tenant, cree_par) SELECT DISTINCT {tenant}, 'seed' FROM {numbers} ON CONFLICT DO NOTHING",
    # Outbox and idempotency keys live for days, the inbox for two months: of three years' documents only the last have rows there.
    """
    INSERT INTO outbox (topic, key, body, headers, event_id, created_at, published_at)
    SELECT 'dpj.audit.recorded', convert_to(n::text, 'UTF8'), convert_to(repeat('b', 300), 'UTF8'),
           jsonb_build_object('event-id', {id}, 'correlation-id', {id}, 'traceparent', repeat('0', 55)), {id}, now(), now()
    FROM {numbers} WHERE n % 10 = 0
    """,
    """
    INSERT INTO inbox (consumer, event_id, document_key, state, owner, lease_until)
    SELECT consumer, {id}, n::text, 'DONE', {id}, now()
    FROM {numbers}, unnest(ARRAY['integrity', 'renditions', 'archiving', 'notification', 'audit']) AS consumer
    WHERE n % 10 = 0
    """,
    """
    INSERT INTO idempotency_keys (tenant, caller, key, document_id, object_key, metadata_fingerprint, content_sha256, done,
                                  response, lease_until)
    SELECT {tenant}, 'seed', n::text, {id}, 'seed/' || {id}, repeat('f', 64), repeat(md5(n::text), 2), true,
           json_build_object('id', {id}, 'size', 100000), now()
    FROM {numbers} WHERE n % 100 = 0
    """,
)
STATEMENTS: Final = tuple(text.format_map(_PARTS) for text in _TEXTS)


#: What slows single rows down and is made anew in one go afterwards: foreign keys, and indexes that serve no constraint.
_KEYS: Final = """
    SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS drop,
           format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) AS make
    FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace AND conparentid = 0
"""
_INDEXES: Final = """
    SELECT format('DROP INDEX %s', indexrelid::regclass) AS drop, pg_get_indexdef(indexrelid) AS make
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE relnamespace = 'public'::regnamespace AND NOT relispartition
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""


async def seeded(base: str, documents: int, report: Callable[[str], None]) -> str:
    """DSN of a database of its own on the server of ``base``, migrated, with ``documents`` documents; made if it is not there."""
    name = f"growth_{documents}"
    administration = await asyncpg.connect(base)
    try:
        if not await administration.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name):
            await administration.execute(f"CREATE DATABASE {name}")
    finally:
        await administration.close()
    dsn = f"{base.rpartition('/')[0]}/{name}"
    await upgrade(dsn)
    await _seed(dsn, documents, report)
    return dsn


async def _seed(dsn: str, documents: int, report: Callable[[str], None]) -> None:
    """``documents`` documents and what belongs to them, into migrated, empty tables; then the statistics of the planner.

    A database that has them already is left as it is.
    """
    connection = await asyncpg.connect(dsn)
    try:
        if await connection.fetchval("SELECT count(*) >= $1 FROM documents", documents):
            return
        await connection.execute("SET synchronous_commit = off")
        await connection.execute("SET maintenance_work_mem = '256MB'")
        aside = [*await connection.fetch(_KEYS), *await connection.fetch(_INDEXES)]
        for one in aside:
            await connection.execute(one["drop"])
        for first in range(0, documents, STEP):
            last = min(first + STEP, documents)
            for statement in STATEMENTS:
                await _run(connection, statement, first, last, documents)
            report(f"seeded {last:,} of {documents:,} documents")
        for one in reversed(aside):
            await connection.execute(one["make"], timeout=STATEMENT_SECONDS)
        await connection.execute("VACUUM (ANALYZE)", timeout=STATEMENT_SECONDS)
    finally:
        await connection.close()


def seeded_dossier(number: int) -> UUID:
    """The dossier of the seeded document ``number``."""
    digest = hashlib.md5(f"dossier {number // DOCUMENTS_PER_DOSSIER}".encode(), usedforsecurity=False)
    return UUID(bytes=digest.digest())


async def _run(connection: Any, statement: str, first: int, last: int, documents: int) -> None:
    values = (first, last, documents)
    await connection.execute(statement, *(values if "$3" in statement else values[:2]), timeout=STATEMENT_SECONDS)
