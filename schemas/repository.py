"""The schemas of this repository as a registry, with the ids that it gives them itself (``schemas.fixed_ids``).

Nothing runs and nothing can be away; nobody but a commit can add a schema.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from domain.errors import SchemaMissing, SchemaRefused
from domain.events import EVENT_TYPES
from schemas.catalog import CURRENT, RELEASED, digest_of, schema_text, subject_of
from schemas.codec import EventCodec
from schemas.fixed_ids import IDS, FixedId, fixed_ids, texts_in


class RepositoryRegistry:
    """See ``schemas.registry.Registry``. ``ids`` lists what there is; ``texts`` are (subject, text) pairs."""

    def __init__(self, ids: Sequence[FixedId], texts: Sequence[tuple[str, str]]) -> None:
        by_digest = {(subject, digest_of(json.loads(text))): text for subject, text in texts}
        listed = {(one.subject, one.sha256): one.id for one in ids}
        self._ids = {key: schema_id for key, schema_id in listed.items() if key in by_digest}
        self._texts = {schema_id: by_digest[key] for key, schema_id in self._ids.items()}

    @classmethod
    def of_this_release(cls) -> RepositoryRegistry:
        """Raises ValueError if the installed list of ids is damaged."""
        return cls(fixed_ids((CURRENT / IDS).read_text("utf-8")), list(texts_in(CURRENT, RELEASED)))

    async def register(self, subject: str, schema: str) -> int:
        """The id that the schema has. Raises SchemaRefused if it has none: ids are given by a commit, not by a process."""
        try:
            return self._id_of(subject, schema)
        except SchemaMissing as error:
            raise SchemaRefused(error.detail) from None

    async def lookup(self, subject: str, schema: str) -> int:
        """The id under which exactly this schema is listed. Raises SchemaMissing."""
        return self._id_of(subject, schema)

    async def schema_by_id(self, schema_id: int) -> str:
        """The schema (JSON text) of an id. Raises SchemaMissing."""
        if schema_id not in self._texts:
            raise SchemaMissing
        return self._texts[schema_id]

    async def set_compatibility(self, subject: str) -> None:
        """Nothing to set: ``schemas.compatibility`` refuses a commit that breaks it."""

    async def close(self) -> None:
        """Nothing to close."""

    def codec(self) -> EventCodec:
        """A codec for this release's schemas. Raises SchemaMissing if one of them has no id."""
        ids = {one.TOPIC: self._id_of(subject_of(one), schema_text(one)) for one in EVENT_TYPES}
        return EventCodec(ids, self)

    def _id_of(self, subject: str, schema: str) -> int:
        found = self._ids.get((subject, digest_of(json.loads(schema))))
        if found is None:
            raise SchemaMissing(f"The repository has no id for this schema of {subject}; see schemas/avro/{IDS}.")
        return found
