"""The ids that the registry has now for the schemas of our releases, and bodies that are written with them.

Events are encoded when they are written to the outbox, and may wait there while the registry is lost and comes back with other ids. The
relay gives each the id of today: it is the four bytes behind the first one (Confluent's wire format), and nothing else changes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, Protocol

from domain.errors import SchemaMissing
from domain.events import EVENT_TYPES, SCHEMA_HEADER
from schemas.catalog import fingerprint_of, known_schemas, schema_of, text_of

_HEADER: Final = struct.Struct(">BI")
_MAGIC: Final = 0


class Lookup(Protocol):
    async def lookup(self, subject: str, schema: str) -> int:
        """The id under which exactly this schema is registered. Raises SchemaMissing, RegistryUnavailable."""
        ...


class CurrentSchemaIds:
    """Ask ``refresh`` from time to time; until it was asked once, bodies stay as they are."""

    def __init__(self, registry: Lookup) -> None:
        self._registry = registry
        self._ids: dict[str, int] = {}
        #: Names of schemas of this release that the registry does not know.
        self.missing: tuple[str, ...] = ()

    async def refresh(self) -> bool:
        """Ask the registry for all ids; whether one is another than before. Raises RegistryUnavailable: then all stay as they were."""
        found: dict[str, int] = {}
        for fingerprint, (subject, schema) in known_schemas().items():
            try:
                found[fingerprint] = await self._registry.lookup(subject, text_of(schema))
            except SchemaMissing:
                continue  # of an earlier release, or lost: what was written with it keeps its id, and our readers go by the fingerprint
        ours = {fingerprint_of(schema_of(event_type)): event_type.SCHEMA for event_type in EVENT_TYPES}
        self.missing = tuple(sorted(name for fingerprint, name in ours.items() if fingerprint not in found))
        changed = any(self._ids[fingerprint] != new for fingerprint, new in found.items() if fingerprint in self._ids)
        self._ids |= found
        return changed

    def with_current_id(self, body: bytes | None, headers: Mapping[str, str]) -> bytes | None:
        """The body of a record with today's id, if its header names a schema that has one."""
        schema_id = self._ids.get(headers.get(SCHEMA_HEADER, ""))
        if schema_id is None or body is None or len(body) < _HEADER.size or body[0] != _MAGIC:
            return body
        return _HEADER.pack(_MAGIC, schema_id) + body[_HEADER.size :]
