"""A registry that gives other ids: what waits is sent with the ids of the day, and what is on its way is read all the same."""

from __future__ import annotations

import json
import struct

import pytest

from domain.errors import EventUndecodable, RegistryUnavailable, SchemaMissing
from domain.events import EVENT_TYPES, SCHEMA_HEADER, DocumentErased, DocumentUploaded
from schemas.catalog import fingerprint_of, known_schemas, schema_of, subject_of
from schemas.codec import EventCodec
from schemas.current_ids import CurrentSchemaIds
from tests.unit.test_codec import IDS, codec, sample


class Registry:
    """Ids from ``first`` on, in the order of the catalogue; ``lost``: subjects that it does not know."""

    def __init__(self, first: int) -> None:
        self.first, self.lost, self.away = first, set[str](), False

    async def lookup(self, subject: str, schema: str) -> int:
        if self.away:
            raise RegistryUnavailable
        if subject in self.lost:
            raise SchemaMissing
        found = list(known_schemas())
        return self.first + found.index(fingerprint_of(json.loads(schema)))

    async def schema_by_id(self, schema_id: int) -> str:
        raise SchemaMissing


HEADERS = {SCHEMA_HEADER: fingerprint_of(schema_of(DocumentUploaded))}


def id_in(body: bytes | None) -> int:
    assert body is not None
    magic, schema_id = struct.unpack_from(">BI", body)
    assert magic == 0
    return int(schema_id)


async def test_a_waiting_record_goes_with_the_id_of_the_day_and_is_else_the_same() -> None:
    registry = Registry(900)
    ids = CurrentSchemaIds(registry)
    body = codec().encode(sample(DocumentUploaded)).body
    assert ids.with_current_id(body, HEADERS) == body  # the registry was not asked yet
    assert not await ids.refresh()
    before = ids.with_current_id(body, HEADERS)
    registry.first = 40
    assert await ids.refresh()
    after = ids.with_current_id(body, HEADERS)
    assert id_in(after) == id_in(before) - 860
    assert after is not None
    assert after[5:] == body[5:]


@pytest.mark.parametrize(
    ("body", "headers"),
    [(None, HEADERS), (b"", HEADERS), (b"\x00abc", HEADERS), (b"\x01" + bytes(20), HEADERS), (bytes(20), {}),
     (bytes(20), {SCHEMA_HEADER: "0" * 16})],
)  # fmt: skip
async def test_what_is_no_record_of_ours_stays_as_it_is(body: bytes | None, headers: dict[str, str]) -> None:
    ids = CurrentSchemaIds(Registry(900))
    await ids.refresh()
    assert ids.with_current_id(body, headers) == body


async def test_a_registry_that_is_away_or_empty_changes_no_id() -> None:
    registry = Registry(900)
    ids = CurrentSchemaIds(registry)
    await ids.refresh()
    body = codec().encode(sample(DocumentUploaded)).body
    before = ids.with_current_id(body, HEADERS)
    registry.away = True
    with pytest.raises(RegistryUnavailable):
        await ids.refresh()
    registry.away, registry.lost = False, {subject_of(event_type) for event_type in EVENT_TYPES}
    assert not await ids.refresh()
    assert set(ids.missing) == {event_type.SCHEMA for event_type in EVENT_TYPES}
    assert ids.with_current_id(body, HEADERS) == before
    registry.lost = set()
    await ids.refresh()
    assert ids.missing == ()


async def test_an_event_whose_id_names_another_schema_now_is_read_by_its_fingerprint() -> None:
    event = sample(DocumentUploaded)
    encoded = codec().encode(event)
    turned = dict(zip(IDS, reversed(IDS.values()), strict=True))  # the registry that this codec asked gives other ids
    reader = EventCodec(turned, Registry(900))
    with pytest.raises(EventUndecodable):
        await reader.decode(event.TOPIC, encoded.body)
    assert await reader.decode(event.TOPIC, encoded.body, encoded.schema) == event


async def test_an_event_whose_id_the_registry_has_lost_is_read_by_its_fingerprint() -> None:
    event = sample(DocumentErased)
    encoded = codec().encode(event)
    reader = EventCodec({topic: number + 500 for topic, number in IDS.items()}, Registry(900))
    with pytest.raises(EventUndecodable):
        await reader.decode(event.TOPIC, encoded.body)
    assert await reader.decode(event.TOPIC, encoded.body, encoded.schema) == event


async def test_a_fingerprint_of_something_else_does_not_pass() -> None:
    encoded = codec().encode(sample(DocumentUploaded))
    with pytest.raises(EventUndecodable):
        await codec().decode(DocumentUploaded.TOPIC, encoded.body, fingerprint_of(schema_of(DocumentErased)))


def test_no_two_schemas_have_one_fingerprint() -> None:
    assert len(known_schemas()) >= len(EVENT_TYPES)
    assert {fingerprint_of(schema) for _, schema in known_schemas().values()} == set(known_schemas())
