"""The audit log in PostgreSQL, table ``audit_logs``: AUDIT_LOGS' column names beside the chained entry itself.

``entree`` holds an entry's canonical JSON and ``empreinte`` its SHA-256: they are the record. The other columns repeat it for queries.
``id`` is the event's id; (tenant, seq) is unique. The table takes rows and gives none up (``storage.migrations``, v0016).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from domain.audit_chain import ChainEntry, StoredEntry
from domain.errors import AuditConflict
from storage.postgres.audit.chain import tenants_in
from storage.postgres.connections import Connections
from storage.postgres.json_texts import kept_text, same_json, storable_json

PAGE: Final = 1_000
_COLUMNS: Final = {
    "id": "uuid",
    "tenant": "text",
    "seq": "bigint",
    "entity_type": "text",
    "entity_id": "text",
    "action": "text",
    "utilisateur_id": "text",
    "timestamp": "timestamptz",
    "ip_address": "text",
    "user_agent": "text",
    "details": "jsonb",
    "ancien_etat": "jsonb",
    "nouvel_etat": "jsonb",
    "correlation_id": "text",
    "entree": "bytea",
    "empreinte": "text",
}
_BEFORE_ALL: Final = -(2**63)
_JSON: Final = tuple(name for name, kind in _COLUMNS.items() if kind == "jsonb")
_NAMES: Final = ", ".join(f'"{name}"' for name in _COLUMNS)
#: A jsonb is read and compared as the text that the server has of it: a number is then exactly the one that is stored.
_SELECT: Final = "SELECT {} FROM audit_logs".format(  # noqa: S608 - nothing but names of columns
    ", ".join(f'"{name}"::text AS "{name}"' if kind == "jsonb" else f'"{name}"' for name, kind in _COLUMNS.items())
)
_INSERT: Final = """
    INSERT INTO audit_logs ({}) SELECT {} FROM unnest({}) AS entries ({}) ORDER BY tenant, seq
    ON CONFLICT DO NOTHING RETURNING id
""".format(  # noqa: S608 - nothing but names of columns
    _NAMES,
    ", ".join(f'"{name}"::jsonb' if kind == "jsonb" else f'"{name}"' for name, kind in _COLUMNS.items()),
    ", ".join(f"${n}::{'text' if kind == 'jsonb' else kind}[]" for n, kind in enumerate(_COLUMNS.values(), 1)),
    _NAMES,
)

Row = dict[str, Any]


class PostgresAuditStore:
    """See ``processors.ports.audit.AuditStore``, ``processors.audit.reading.EntriesOfEntity`` and ``operations.audit.verify.AuditReader``.
    Raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def add(self, entries: Sequence[ChainEntry]) -> None:
        """Keep ``entries``, all or none; those already there in the same bytes are fine. Raises AuditConflict for any other."""
        rows = [row_of(entry) for entry in entries]
        if not rows:
            return
        columns = [[row[name] for row in rows] for name in _COLUMNS]
        try:
            async with self._postgres.connection() as connection, connection.transaction():
                added = {row["id"] for row in await connection.fetch(_INSERT, *columns)}
                if len(added) < len(rows):
                    await _compare(connection, [entry for entry in entries if entry.event_id not in added])
        except asyncpg.DataError as error:
            raise AuditConflict("The audit log will never take one of these entries.") from error

    def entries(self, tenant: str, after: int, up_to: int) -> AsyncGenerator[StoredEntry, None]:
        """Entries numbered above ``after`` and not above ``up_to``, in order."""
        return self._pages("tenant = $3 AND seq <= $4", after, tenant, up_to)

    def of_entity(self, tenant: str, entity_id: str) -> AsyncGenerator[StoredEntry, None]:
        """Entries about one entity, in order."""
        wanted = "tenant = $3 AND left(entity_id, 64) = left($4, 64) AND entity_id = $4"  # as the index has it
        return self._pages(wanted, None, tenant, kept_text(entity_id))

    async def _pages(self, wanted: str, after: int | None, *values: Any) -> AsyncGenerator[StoredEntry, None]:
        """No connection is held while somebody works on an entry. ``after`` None: from the first on, whatever its number."""
        read = _BEFORE_ALL if after is None else after
        query = f"{_SELECT} WHERE {wanted} AND seq > $1 ORDER BY seq LIMIT $2"
        while True:
            async with self._postgres.connection() as connection:
                rows = await connection.fetch(query, read, PAGE, *values)
            for row in rows:
                yield stored_entry(row)
            if len(rows) < PAGE:
                return
            read = rows[-1]["seq"]

    async def outside(self, tenant: str, last: int) -> tuple[int, int] | None:
        """Lowest and highest number of what is filed under ``tenant`` but not as 1 to ``last``."""
        async with self._postgres.connection() as connection:
            row = await connection.fetchrow(
                """
                SELECT min(seq) AS lowest, max(seq) AS highest FROM audit_logs
                WHERE tenant = $1 AND (seq < 1 OR seq > $2)
                """,
                tenant,
                last,
            )
        return None if row is None or row["lowest"] is None else (row["lowest"], row["highest"])

    async def tenants(self) -> Sequence[str]:
        """Those with entries; one index look-up each, however many entries there are."""
        async with self._postgres.connection() as connection:
            return sorted(await tenants_in(connection, "audit_logs"))


async def _compare(connection: Any, entries: Sequence[ChainEntry]) -> None:
    """Some place is taken: by ourselves before a crash, by another writer of the same entries, or by what should not be there."""
    rows = await connection.fetch(f"{_SELECT} WHERE id = ANY($1::uuid[])", [entry.event_id for entry in entries])
    held = {row["id"]: stored_entry(row) for row in rows}
    if any(held.get(entry.event_id) != StoredEntry(entry, faithful=True) for entry in entries):
        raise AuditConflict("The audit log holds another entry in this place.")


def row_of(entry: ChainEntry) -> Row:
    """The row of an entry by column, jsonb as text. The same entry is always the same row."""
    said = entry.fields()
    return {
        "id": entry.event_id,
        "tenant": entry.tenant,
        "seq": entry.seq,
        "entity_type": kept_text(said["entity_type"]),
        "entity_id": kept_text(said["entity_id"]),
        "action": kept_text(said["action"]),
        "utilisateur_id": kept_text(said["actor"]),
        "timestamp": datetime.fromisoformat(said["at"]).astimezone(UTC),
        "ip_address": kept_text(said["ip_sealed"]),
        "user_agent": kept_text(said["user_agent_sealed"]),
        "details": storable_json(said["details"]),
        "ancien_etat": storable_json(said["old_state"]),
        "nouvel_etat": storable_json(said["new_state"]),
        "correlation_id": kept_text(said["correlation_id"]),
        "entree": entry.body,
        "empreinte": entry.hash,
    }


def stored_entry(row: Mapping[str, Any]) -> StoredEntry:
    """The entry that a row holds; not ``faithful`` if any of its columns is not what the entry makes it."""
    entry = ChainEntry(
        tenant=row["tenant"], seq=row["seq"], event_id=row["id"], body=row["entree"], hash=row["empreinte"]
    )
    try:
        expected = row_of(entry)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return StoredEntry(entry, faithful=False)
    plain = all(row[name] == value for name, value in expected.items() if name not in _JSON)
    return StoredEntry(entry, faithful=plain and all(same_json(row[name], expected[name]) for name in _JSON))
