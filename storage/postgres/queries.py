"""Reads for lists and for operators, outside any transaction of a use case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

from domain.documents import Document, DocumentType
from domain.lifecycle import Status
from domain.personal_texts import PersonalField
from storage.postgres.connections import Connections
from storage.postgres.documents import document_of
from storage.postgres.dossiers import type_of


class QueryFilter(Protocol):
    """See ``processors.documents.reading.DocumentFilter``."""

    @property
    def statuses(self) -> frozenset[Status]: ...
    @property
    def dossier_id(self) -> UUID | None: ...
    @property
    def type_code(self) -> str | None: ...
    @property
    def failure_code(self) -> str | None: ...
    @property
    def before(self) -> datetime | None: ...
    @property
    def ids(self) -> tuple[UUID, ...] | None: ...
    @property
    def indexes(self) -> Mapping[PersonalField, tuple[bytes, ...]]: ...


#: What a look-up is kept in.
_INDEXES: Final = {PersonalField.FILE_NAME: "nom_original_index", PersonalField.EMAIL: "courriel_index"}


#: A caller may go on with one trace for ever: of its uploads so many of the newest.
OF_TRACE: Final = 1_000


class PostgresQueries:
    """See ``processors.documents.reading.DocumentQueries``. Every method raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def uploaded_in(self, trace_id: str) -> Sequence[UUID]:
        """Documents whose upload was recorded in a trace (32 hexadecimal digits), the newest ``OF_TRACE``. Raises ValueError for other digits."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                "SELECT id FROM documents WHERE trace_depot = $1 ORDER BY created_at DESC LIMIT $2",
                bytes.fromhex(trace_id),
                OF_TRACE,
            )
        return [row["id"] for row in rows]

    async def page(
        self, tenants: frozenset[str] | None, filters: QueryFilter, after: tuple[datetime, UUID] | None, limit: int
    ) -> Sequence[Document]:
        if "\0" in (filters.type_code or "") + (filters.failure_code or ""):
            return []  # no text of PostgreSQL holds a NUL
        # Only the conditions that hold are in the statement: each shape gets a plan, and an index, of its own.
        statuses: list[str] = sorted(status.value for status in filters.statuses)
        if tenants is not None and not tenants:
            return []
        several = tenants is not None and len(tenants) > 1
        tenant = None if tenants is None or several else next(iter(tenants))
        conditions: list[str] = []
        values: list[Any] = []
        for condition, value in (
            ("statut = {}", statuses[0]) if len(statuses) == 1 else ("statut = ANY({})", statuses),
            ("tenant = {}", tenant),
            ("dossier_id = {}", filters.dossier_id),
            ("type_document = {}", filters.type_code),
            ("code_echec = {}", filters.failure_code),
            ("created_at < {}", filters.before),
            ("id = ANY({})", None if filters.ids is None else (list(filters.ids),)),
            *_looked_up(filters.indexes),
            ("(created_at, id) < ({}, {})", after),
        ):
            if value is None:
                continue
            parts: list[Any] = list(value) if isinstance(value, tuple) else [value]
            places = [f"${len(values) + place}" for place in range(1, len(parts) + 1)]
            conditions.append(condition.format(*places))
            values.extend(parts)
        order = f"ORDER BY created_at DESC, id DESC LIMIT {int(limit)}"
        query = f"SELECT * FROM documents WHERE {' AND '.join(conditions)}"  # noqa: S608 - fixed texts and places only
        if several:
            # Each tenant's newest, planned for that tenant, then the newest of those: nobody's documents are read beyond a page.
            first = len(values) + 1
            values.extend(sorted(tenants or ()))
            each = [f"({query} AND tenant = ${place} {order})" for place in range(first, len(values) + 1)]
            query = f"SELECT * FROM ({' UNION ALL '.join(each)}) AS trouves"  # noqa: S608 - likewise
        query = f"{query} {order}"
        async with self._postgres.connection() as connection, connection.transaction(readonly=True):
            # A plan for any tenant or type would walk the whole table for one that has next to nothing in it.
            await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
            return [document_of(row) for row in await connection.fetch(query, *values)]

    async def types(self) -> Sequence[DocumentType]:
        async with self._postgres.connection() as connection:
            rows = await connection.fetch("SELECT * FROM types_documents ORDER BY code_type")
        return [type_of(row) for row in rows]


def _looked_up(indexes: Mapping[PersonalField, tuple[bytes, ...]]) -> Iterator[tuple[str, Any]]:
    """As for states: one value is compared by itself, which gives the index's order, several are a list."""
    for field, values in indexes.items():
        column = _INDEXES[field]
        yield (f"{column} = {{}}", values[0]) if len(values) == 1 else (f"{column} = ANY({{}})", list(values))
