"""The wire form of events: what goes in comes out, and nothing but an event comes out."""

import asyncio
import json
import struct
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import EventUndecodable, RegistryUnavailable, SchemaMissing
from domain.events import EVENT_TYPES, TOPICS, AuditRecorded, DocumentUploaded, Event
from schemas.catalog import CURRENT, schema_of, schema_text, subject_of
from schemas.codec import MAX_CACHED_SCHEMAS, MAX_EVENT_BYTES, EventCodec

IDS = {event_type.TOPIC: 100 + number for number, event_type in enumerate(EVENT_TYPES)}
SAMPLES: Mapping[type, Any] = {
    UUID: UUID("0190d2a4-0000-7000-8000-000000000001"),
    datetime: datetime(2025, 3, 1, 12, 30, 15, 123456, tzinfo=UTC),
    int: 5_000_000_000,
    str: "é text",
}


class FakeRegistry:
    def __init__(self, schemas: Mapping[int, str] | None = None) -> None:
        self.schemas = dict(schemas or {})
        self.calls = 0
        self.away = False

    async def schema_by_id(self, schema_id: int) -> str:
        self.calls += 1
        await asyncio.sleep(0)
        if self.away:
            raise RegistryUnavailable
        if schema_id not in self.schemas:
            raise SchemaMissing
        return self.schemas[schema_id]


def sample(event_type: type[Event]) -> Event:
    hints = {"event_id": UUID, "correlation_id": UUID, "document_id": UUID, "occurred_at": datetime}
    sizes = {"sequence", "size"}
    values: dict[str, Any] = {}
    for field in fields(event_type):
        kind: type = hints.get(field.name, int if field.name in sizes else str)
        values[field.name] = SAMPLES[kind]
    if "retention_years" in values:
        values["retention_years"] = 10
    return event_type(**values)


def codec(registry: FakeRegistry | None = None) -> EventCodec:
    return EventCodec(IDS, registry or FakeRegistry())


def written_with(schema: Any, record: Mapping[str, Any], schema_id: int) -> bytes:
    from io import BytesIO

    body = BytesIO()
    body.write(struct.pack(">BI", 0, schema_id))
    schemaless_writer(body, parse_schema(schema), dict(record))
    return body.getvalue()


def uploaded_fields() -> dict[str, Any]:
    event = sample(DocumentUploaded)
    return {field.name: getattr(event, field.name) for field in fields(DocumentUploaded)}


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_schema_has_exactly_the_fields_of_its_event_each_explained(event_type: type[Event]) -> None:
    schema = schema_of(event_type)
    assert {field["name"] for field in schema["fields"]} == {field.name for field in fields(event_type)}
    assert all(field["doc"] for field in schema["fields"])
    assert schema["doc"]
    assert f"{schema['namespace']}.{schema['name']}" == (
        "dpj.audit.AuditRecorded" if event_type is AuditRecorded else f"dpj.document.{event_type.__name__}"
    )
    assert subject_of(event_type) == f"{event_type.TOPIC}-value"


def test_there_is_a_schema_file_for_every_event_and_no_other() -> None:
    assert {path.stem for path in CURRENT.glob("*.avsc")} == {event_type.SCHEMA for event_type in EVENT_TYPES}


@pytest.mark.parametrize("event_type", EVENT_TYPES)
async def test_an_event_survives_the_round_trip_in_the_confluent_form(event_type: type[Event]) -> None:
    event = sample(event_type)
    data = codec().encode(event).body
    assert data[0] == 0
    assert int.from_bytes(data[1:5], "big") == IDS[event_type.TOPIC]
    assert await codec().decode(event_type.TOPIC, data) == event


async def test_absent_audit_fields_stay_absent() -> None:
    event = replace(sample(AuditRecorded), old_state=None, ip_sealed=None)
    assert await codec().decode(AuditRecorded.TOPIC, codec().encode(event).body) == event


async def test_writers_schema_is_fetched_once_and_resolved_to_ours() -> None:
    newer = json.loads(schema_text(DocumentUploaded))
    newer["fields"].append({"name": "added_later", "type": "string", "default": ""})
    data = written_with(newer, {**uploaded_fields(), "added_later": "x"}, 777)
    registry = FakeRegistry({777: json.dumps(newer)})
    ours = codec(registry)
    events = await asyncio.gather(*(ours.decode(DocumentUploaded.TOPIC, data) for _ in range(5)))
    assert events == [sample(DocumentUploaded)] * 5
    assert registry.calls == 1


async def test_the_cache_of_writers_schemas_is_bounded() -> None:
    text = schema_text(DocumentUploaded)
    registry = FakeRegistry(dict.fromkeys(range(1000, 1000 + MAX_CACHED_SCHEMAS + 1), text))
    ours = codec(registry)
    for schema_id in registry.schemas:
        await ours.decode(DocumentUploaded.TOPIC, written_with(json.loads(text), uploaded_fields(), schema_id))
    assert registry.calls == MAX_CACHED_SCHEMAS + 1
    await ours.decode(DocumentUploaded.TOPIC, written_with(json.loads(text), uploaded_fields(), 1000))
    assert registry.calls == MAX_CACHED_SCHEMAS + 2


async def test_registry_away_is_transient_and_remembered_by_nobody() -> None:
    registry = FakeRegistry({777: schema_text(DocumentUploaded)})
    registry.away = True
    ours = codec(registry)
    data = written_with(schema_of(DocumentUploaded), uploaded_fields(), 777)
    with pytest.raises(RegistryUnavailable):
        await ours.decode(DocumentUploaded.TOPIC, data)
    registry.away = False
    assert await ours.decode(DocumentUploaded.TOPIC, data) == sample(DocumentUploaded)


async def test_unknown_schema_id_is_undecodable() -> None:
    with pytest.raises(EventUndecodable):
        await codec().decode(DocumentUploaded.TOPIC, struct.pack(">BI", 0, 999) + b"body")


@pytest.mark.parametrize("schema", ["{", '"string"', '{"type": "record", "name": "X"}', "[]", '{"type": "unheard-of"}'])
async def test_a_strange_writers_schema_is_undecodable(schema: str) -> None:
    with pytest.raises(EventUndecodable):
        await codec(FakeRegistry({9: schema})).decode(DocumentUploaded.TOPIC, struct.pack(">BI", 0, 9) + b"body")


async def test_a_writer_that_lacks_a_field_is_undecodable() -> None:
    older = json.loads(schema_text(DocumentUploaded))
    older["fields"] = [field for field in older["fields"] if field["name"] != "sha256"]
    registry = FakeRegistry({9: json.dumps(older)})
    with pytest.raises(EventUndecodable):
        await codec(registry).decode(DocumentUploaded.TOPIC, written_with(older, uploaded_fields(), 9))


@pytest.mark.parametrize("damage", ["empty", "header only", "magic", "truncated", "trailing", "too large"])
async def test_damaged_records_are_undecodable(damage: str) -> None:
    good = codec().encode(sample(DocumentUploaded)).body
    bad = {
        "empty": b"",
        "header only": good[:5],
        "magic": b"\x01" + good[1:],
        "truncated": good[:-1],
        "trailing": good + b"\x00",
        "too large": good + bytes(MAX_EVENT_BYTES),
    }[damage]
    with pytest.raises(EventUndecodable):
        await codec().decode(DocumentUploaded.TOPIC, bad)


async def test_another_topics_event_or_topic_is_undecodable() -> None:
    data = codec().encode(sample(AuditRecorded)).body
    with pytest.raises(EventUndecodable):
        await codec().decode(DocumentUploaded.TOPIC, data)
    with pytest.raises(EventUndecodable):
        await codec().decode("not.ours", data)


def test_what_can_not_be_an_event_is_not_encoded() -> None:
    event = sample(DocumentUploaded)
    with pytest.raises(ValueError, match="time zone"):
        codec().encode(replace(event, occurred_at=datetime(2025, 3, 1)))  # noqa: DTZ001 - the naive time is the point
    with pytest.raises(ValueError, match="larger"):
        codec().encode(replace(event, tenant="x" * MAX_EVENT_BYTES))


@given(body=st.binary(max_size=400), topic=st.sampled_from(sorted(TOPICS)))
def test_no_bytes_make_decoding_fail_in_any_other_way(body: bytes, topic: str) -> None:
    data = struct.pack(">BI", 0, IDS[topic]) + body
    ours = codec()

    async def decode() -> Event | None:
        try:
            return await ours.decode(topic, data)
        except EventUndecodable:
            return None

    event = asyncio.run(decode())
    if event is not None:
        assert type(event) is TOPICS[topic]
        assert isinstance(event.event_id, UUID)


def test_schema_text_does_not_depend_on_the_files_layout() -> None:
    assert schema_text(DocumentUploaded) == json.dumps(
        json.loads((CURRENT / "DocumentUploaded.avsc").read_text()), separators=(",", ":"), ensure_ascii=False
    )
