"""Events to bytes and back, in Confluent's wire format: 0x00, the writer's schema id (u32, big endian), the Avro body.

A record of ours also has the writer's schema's fingerprint in a header: a registry that was lost and gives other ids strands no event.

Source: https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
An event is read with the schema its writer used, resolved to ours: that is what lets releases differ between the two.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields
from io import BytesIO
from typing import Any, Final, Protocol

from fastavro import parse_schema, schemaless_reader, schemaless_writer

from domain.errors import EventUndecodable, SchemaMissing
from domain.events import EVENT_TYPES, TOPICS, Event
from schemas.catalog import fingerprint_of, known_schemas, schema_of

#: Below Kafka's default limit of 1 MB for a record, so that what was encoded can always be sent.
MAX_EVENT_BYTES: Final = 512 * 1024
#: Other writers' schemas kept; far more than there are versions. Beyond it the oldest goes.
MAX_CACHED_SCHEMAS: Final = 1024

_MAGIC: Final = 0
_HEADER: Final = struct.Struct(">BI")


class SchemaSource(Protocol):
    """Where a writer's schema comes from. Raises RegistryUnavailable, or SchemaMissing if there is no such id."""

    async def schema_by_id(self, schema_id: int) -> str: ...


@dataclass(frozen=True, slots=True)
class EncodedEvent:
    """``body`` in the wire format; ``schema``: the fingerprint of the schema that it was written with."""

    body: bytes
    schema: str


class EventCodec:
    """Encodes with this release's schemas, decodes whatever a registered schema wrote.

    ``ids`` maps each topic to the registry's id of this release's schema. The methods may be called from one event loop.
    """

    def __init__(self, ids: Mapping[str, int], source: SchemaSource) -> None:
        self._source = source
        self._readers: dict[str, Any] = {}
        self._headers: dict[str, bytes] = {}
        self._fingerprints: dict[str, str] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._ours: dict[int, Any] = {}
        self._released: dict[str | None, Any] = {}
        self._fetched: dict[int, Any] = {}
        self._fetching = asyncio.Lock()
        for event_type in EVENT_TYPES:
            topic, schema_id = event_type.TOPIC, ids[event_type.TOPIC]
            parsed = parse_schema(schema_of(event_type))
            self._readers[topic] = parsed
            self._fingerprints[topic] = fingerprint_of(schema_of(event_type))
            self._ours[schema_id] = self._released[self._fingerprints[topic]] = parsed
            self._headers[topic] = _HEADER.pack(_MAGIC, schema_id)
            self._names[topic] = tuple(field.name for field in fields(event_type))

    def encode(self, event: Event) -> EncodedEvent:
        """Raises ValueError if the event is not one that the schema can hold or is larger than MAX_EVENT_BYTES."""
        topic = event.TOPIC
        if event.occurred_at.tzinfo is None:
            raise ValueError("occurred_at needs a time zone")
        body = BytesIO()
        body.write(self._headers[topic])
        schemaless_writer(body, self._readers[topic], {name: getattr(event, name) for name in self._names[topic]})
        if body.tell() > MAX_EVENT_BYTES:
            raise ValueError(f"{event.SCHEMA} is larger than {MAX_EVENT_BYTES} bytes")
        return EncodedEvent(body.getvalue(), self._fingerprints[topic])

    async def decode(self, topic: str, value: bytes, schema: str | None = None) -> Event:
        """The event in a record of ``topic``. ``schema``: the fingerprint in its header; one that no release of ours had is no help, and
        then the id in the record counts.

        Raises EventUndecodable (these bytes will never be an event) or RegistryUnavailable (their schema can't be had now).
        """
        event_type = TOPICS.get(topic)
        if event_type is None:
            raise EventUndecodable("The topic is not one of ours.")
        if not _HEADER.size < len(value) <= MAX_EVENT_BYTES:
            raise EventUndecodable("The record is too short or too large to be an event.")
        magic, schema_id = _HEADER.unpack_from(value)
        if magic != _MAGIC:
            raise EventUndecodable("The record does not start with the magic byte.")
        writer = self._known(schema) or self._ours.get(schema_id)
        writer = writer or self._fetched.get(schema_id) or await self._fetch(schema_id)
        reader = self._readers[topic]
        if writer["name"] != reader["name"]:
            raise EventUndecodable("The record was written with the schema of something else.")
        return _build(event_type, _read(value, writer, reader))

    def _known(self, fingerprint: str | None) -> Any:
        if fingerprint not in self._released:
            known = known_schemas().get(fingerprint or "")
            if known is None:
                return None
            self._released[fingerprint] = parse_schema(known[1])
        return self._released[fingerprint]

    async def _fetch(self, schema_id: int) -> Any:
        async with self._fetching:
            if schema_id in self._fetched:
                return self._fetched[schema_id]
            try:
                text = await self._source.schema_by_id(schema_id)
            except SchemaMissing as error:
                raise EventUndecodable("The registry knows no schema of this id.") from error
            if len(self._fetched) >= MAX_CACHED_SCHEMAS:
                del self._fetched[next(iter(self._fetched))]
            self._fetched[schema_id] = parsed = _parse(text)
            return parsed


def _parse(text: str) -> Any:
    try:
        parsed = parse_schema(json.loads(text))
    except Exception as error:  # whatever is wrong with a stranger's schema, it writes no event of ours
        raise EventUndecodable("The writer's schema is not valid Avro.") from error
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        raise EventUndecodable("The writer's schema is not a record.")
    return parsed


def _read(value: bytes, writer: Any, reader: Any) -> Any:
    body = BytesIO(value)
    body.seek(_HEADER.size)
    try:
        record = schemaless_reader(body, writer, None if writer is reader else reader)
    except Exception as error:  # damaged bytes make fastavro fail in many classes, all meaning the same
        raise EventUndecodable("The body does not follow its schema.") from error
    if body.tell() != len(value):
        raise EventUndecodable("The record has bytes after its body.")
    return record


def _build(event_type: type[Event], record: Any) -> Event:
    try:
        return event_type(**record)
    except TypeError as error:
        raise EventUndecodable("The record lacks fields of its event.") from error
