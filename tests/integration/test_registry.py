"""The registry client against a real Schema Registry API, with subjects of the test's own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from domain.errors import EventUndecodable, RegistryUnavailable, SchemaMissing
from domain.events import EVENT_TYPES, DocumentErased
from schemas.catalog import schema_of, schema_text, subject_of
from schemas.codec import EventCodec
from schemas.registry import COMPATIBILITY, SchemaRegistry, load_codec, register_all

ERASED = DocumentErased(
    event_id=uuid4(),
    sequence=3,
    occurred_at=datetime(2026, 3, 1, 12, 30, 1, 250, tzinfo=UTC),
    correlation_id=uuid4(),
    tenant="t",
    actor="a",
    document_id=uuid4(),
    legal_basis_code="gdpr-17",
)


@pytest.fixture
async def registry(stack: Mapping[str, str]) -> AsyncIterator[SchemaRegistry]:
    async with SchemaRegistry(stack["DPJ_REGISTRY_URL"]) as client:
        yield client


async def test_a_registered_schema_is_found_by_text_and_by_id(registry: SchemaRegistry) -> None:
    subject = f"test.{uuid4().hex}-value"
    text = schema_text(DocumentErased)
    with pytest.raises(SchemaMissing):
        await registry.lookup(subject, text)
    schema_id = await registry.register(subject, text)
    assert await registry.register(subject, text) == schema_id
    assert await registry.lookup(subject, text) == schema_id
    assert json.loads(await registry.schema_by_id(schema_id)) == schema_of(DocumentErased)


async def test_an_id_that_was_never_given_out_is_missing(registry: SchemaRegistry) -> None:
    with pytest.raises(SchemaMissing):
        await registry.schema_by_id(2_000_000_000)


async def test_registering_everything_twice_gives_the_same_ids_and_sets_the_level(
    registry: SchemaRegistry, stack: Mapping[str, str]
) -> None:
    first = await register_all(registry)
    assert await register_all(registry) == first
    assert set(first) == {subject_of(event_type) for event_type in EVENT_TYPES}
    answer = await registry._call("GET", f"/config/{subject_of(DocumentErased)}", None)
    assert answer["compatibilityLevel"] == COMPATIBILITY


async def test_events_go_through_the_registered_schemas(registry: SchemaRegistry) -> None:
    await register_all(registry)
    codec = await load_codec(registry)
    assert await codec.decode(ERASED.TOPIC, codec.encode(ERASED)) == ERASED


async def test_an_event_of_another_release_is_read_with_its_writers_schema(registry: SchemaRegistry) -> None:
    ids = await register_all(registry)
    newer = json.loads(schema_text(DocumentErased))
    newer["fields"].insert(0, {"name": "added_later", "type": "string", "default": "x"})
    their_id = await registry.register(f"test.{uuid4().hex}-value", json.dumps(newer))
    by_topic = {event_type.TOPIC: ids[subject_of(event_type)] for event_type in EVENT_TYPES}
    ours = EventCodec(by_topic, registry)
    frame = ours.encode(ERASED)
    # Their record: their id, and the field they have before ours (Avro string of length 1: 0x02, then "x").
    theirs = b"\0" + their_id.to_bytes(4, "big") + b"\x02x" + frame[5:]
    assert await ours.decode(ERASED.TOPIC, theirs) == ERASED
    with pytest.raises(EventUndecodable):
        await ours.decode(ERASED.TOPIC, b"\0" + (2_000_000_000).to_bytes(4, "big") + frame[5:])


async def test_a_release_that_is_not_registered_says_what_to_do(registry: SchemaRegistry) -> None:
    class Empty(SchemaRegistry):
        async def lookup(self, subject: str, schema: str) -> int:
            return await super().lookup(f"absent.{uuid4().hex}-{subject}", schema)

    async with Empty(registry._url) as client:
        with pytest.raises(SchemaMissing, match="dpj schemas register"):
            await load_codec(client)


async def test_a_registry_that_is_away_is_transient() -> None:
    async with SchemaRegistry("http://127.0.0.1:9", deadline=1.0) as client:
        with pytest.raises(RegistryUnavailable):
            await client.schema_by_id(1)


async def test_another_server_is_not_a_registry(stack: Mapping[str, str]) -> None:
    """A 404 that is not the registry's own word must not pass for a missing schema: that would dead-letter events."""
    async with SchemaRegistry(stack["DPJ_GED_URL"]) as client:
        with pytest.raises(RegistryUnavailable):
            await client.schema_by_id(1)
