"""An upload's two transactions, each one statement: the server does in one round trip what would otherwise take eight.

A single statement is a transaction of its own, as whole as BEGIN and COMMIT would make it, and holds its locks for as long as it
runs and no longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Protocol
from uuid import UUID

import asyncpg

from domain.documents import Document, TimelineEntry
from domain.events import Event
from domain.records import IdempotencyRecord, UploadReferences
from domain.refusals import TypeUnknown, UploadSuperseded
from storage.postgres.connections import Connections
from storage.postgres.delivery.outbox import CreateSpans, Encode, NewRows
from storage.postgres.documents import document_columns
from storage.postgres.dossiers import type_of
from storage.postgres.keys.wrapped_keys import translated_retirement
from storage.postgres.statement_batcher import StatementBatcher

Scope = tuple[str, str, str]


class TransitionToWrite(Protocol):
    """See ``processors.ports.documents.Transition``."""

    @property
    def old(self) -> Document: ...
    @property
    def new(self) -> Document: ...
    @property
    def entry(self) -> TimelineEntry: ...
    @property
    def events(self) -> tuple[Event, ...]: ...


_SURROUNDINGS: Final = """
    SELECT types.*, dossiers.id IS NOT NULL AS dossier_connu, etapes.documents_obligatoires AS obligatoires,
           parents.numero_version AS version_parente
    FROM (SELECT 1) AS always
    LEFT JOIN types_documents AS types ON types.code_type = $1
    LEFT JOIN dossiers ON dossiers.id = $2 AND dossiers.tenant = $3
    LEFT JOIN etapes_parcours AS etapes ON etapes.id = $4 AND etapes.dossier_id = dossiers.id
    LEFT JOIN documents AS parents
        ON parents.id = $5 AND parents.dossier_id = dossiers.id AND parents.tenant = $3
        AND parents.statut NOT IN ('PENDING', 'ABANDONED')
"""


class PostgresUploadRecords:
    """See ``processors.ports.uploads.UploadRecords``. The server's clock alone decides whether a lease has run out."""

    def __init__(self, connections: Connections, encode: Encode) -> None:
        self._batcher = StatementBatcher(connections)
        self._encode = encode

    async def references(
        self, tenant: str, type_code: str, dossier_id: UUID, step_id: UUID | None, parent_id: UUID | None
    ) -> UploadReferences:
        row: Any = await self._batcher.fetch_row(_SURROUNDINGS, type_code, dossier_id, tenant, step_id, parent_id)
        if row["code_type"] is None:
            raise TypeUnknown
        mandatory = row["obligatoires"]
        return UploadReferences(
            rule=type_of(row),
            dossier_known=row["dossier_connu"],
            mandatory_documents=None if mandatory is None else frozenset(mandatory),
            parent_version=row["version_parente"],
        )

    async def begin(
        self, document: Document, scope: Scope | None, claim: IdempotencyRecord, lease_seconds: float
    ) -> bool:
        columns = {name: value for name, value in document_columns(document).items() if value is not None}
        values = [lease_seconds, *columns.values()]
        if scope is not None:
            values += [*scope, claim.document_id, claim.object_key, claim.metadata_fingerprint, claim.clear_key]
        with translated_retirement():
            row = await self._batcher.fetch_row(_beginning(tuple(columns), claims=scope is not None), *values)
        return bool(row["begun"])

    async def complete(self, change: TransitionToWrite, scope: Scope | None, response: Mapping[str, Any]) -> None:
        old, new, entry = change.old, change.new, change.entry
        before, after = document_columns(old), document_columns(new)
        changed = {name: value for name, value in after.items() if value != before[name]}
        spans = CreateSpans()
        rows = NewRows(self._encode, spans)
        for event in change.events:
            rows.add(event)
        values = [old.id, old.object_key, *rows.columns(), entry.type, dict(entry.details), entry.actor, entry.at]
        if scope is not None:
            values += [*scope, new.sha256, dict(response)]
        if new.subject_key is not None:
            values.append(new.subject_key)
        values += changed.values()
        statement = _completion(tuple(changed), completes=scope is not None, seals=new.subject_key is not None)
        with spans:
            try:
                with translated_retirement():
                    row = await self._batcher.fetch_row(statement, *values)
            except asyncpg.DivisionByZeroError:
                raise UploadSuperseded from None
            if not row["moved"]:
                raise UploadSuperseded


@lru_cache(maxsize=64)
def _beginning(columns: tuple[str, ...], *, claims: bool) -> str:
    """$1 the lease's seconds, then the columns' values, then tenant, caller, key, document, object and fingerprint of the claim, and
    its clear key, which a row of a release before may have."""
    places = [f"${place}" for place in range(2, len(columns) + 2)]
    lease = "clock_timestamp() + make_interval(secs => $1)"
    insert = f"INSERT INTO documents (bail_expire_a, {', '.join(columns)})"
    if not claims:
        return f"{insert} VALUES ({lease}, {', '.join(places)}) RETURNING 1 AS begun"
    first = len(columns) + 2
    keyed = ", ".join(f"${place}" for place in range(first, first + 6))
    # The row refers to nothing of the claim, but is only made where there is one.
    return f"""
        WITH claimed AS (
            INSERT INTO idempotency_keys
                (tenant, caller, key, document_id, object_key, metadata_fingerprint, lease_until)
            SELECT {keyed}, {lease}
            WHERE NOT EXISTS (
                SELECT FROM idempotency_keys WHERE tenant = ${first}::varchar AND caller = ${first + 1}::varchar AND key = ${first + 6}
            )
            ON CONFLICT DO NOTHING RETURNING 1
        ), added AS (
            {insert}
            SELECT {lease}, {", ".join(places)} FROM claimed
            RETURNING 1
        )
        SELECT count(*) AS begun FROM added
    """  # noqa: S608


@lru_cache(maxsize=64)
def _completion(columns: tuple[str, ...], *, completes: bool, seals: bool) -> str:
    """$1 the document, $2 its object, $3-$7 the outbox rows, $8-$11 the timeline entry, then, with a key, its scope, SHA-256 and
    answer, then, if it ``seals``, the key of the document's subject, then the columns' values."""
    first = 17 if completes else 12
    sealed = ""
    if seals:
        sealed = f""", sealed AS (
            INSERT INTO cles_sujets (sujet, tenant, cle_enveloppee) SELECT id, tenant, ${first} FROM moved
        )"""  # noqa: S608
        first += 1
    assignments = ", ".join(f"{name} = ${place}" for place, name in enumerate(columns, first))
    # A key that is lost fails the statement as a whole: the row must not be STORED without its key's answer.
    keyed, whole = "", "(SELECT count(*) FROM moved)"
    if completes:
        keyed = """, keyed AS (
            UPDATE idempotency_keys SET done = true, content_sha256 = $15, response = $16
            FROM moved
            WHERE idempotency_keys.tenant = $12 AND caller = $13 AND key = $14 AND object_key = $2 AND NOT done
            RETURNING 1
        )"""
        whole = f"CASE {whole} WHEN 0 THEN 0 ELSE 1 / (SELECT count(*) FROM keyed) END"  # noqa: S608
    return f"""
        WITH moved AS (
            UPDATE documents SET {assignments}
            WHERE id = $1 AND chemin_stockage = $2 AND statut = 'PENDING' AND bail_expire_a > clock_timestamp()
            RETURNING id, tenant, dossier_id
        ), entered AS (
            INSERT INTO dossier_events (document_id, dossier_id, type, payload_json, auteur_id, horodatage)
            SELECT id, dossier_id, $8, $9, $10, $11 FROM moved
        ), added AS (
            INSERT INTO outbox (topic, key, body, headers, event_id)
            SELECT rows.* FROM moved, LATERAL (
                SELECT topic, key, body, headers, event_id
                FROM unnest($3::text[], $4::bytea[], $5::bytea[], $6::jsonb[], $7::uuid[]) WITH ORDINALITY
                     AS listed (topic, key, body, headers, event_id, place)
                ORDER BY place
            ) AS rows
            RETURNING 1
        ){keyed}{sealed}
        SELECT {whole} AS moved FROM (SELECT count(*) FROM added) AS done, pg_notify('dpj_outbox', '')
    """  # noqa: S608
