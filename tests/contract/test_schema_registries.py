"""A real Schema Registry API and the schemas of the repository: the same answers, and the same events on the wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from domain.errors import EventUndecodable, RegistryUnavailable, SchemaMissing, SchemaRefused
from domain.events import EVENT_TYPES, DocumentErased
from schemas.catalog import digest_of, schema_of, schema_text, subject_of
from schemas.codec import EventCodec
from schemas.fixed_ids import FixedId
from schemas.registry import COMPATIBILITY, Registry, RegistryCodec, SchemaRegistry, load_codec, register_all
from schemas.repository import RepositoryRegistry

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
THIS_RELEASE = [(subject_of(event_type), schema_text(event_type)) for event_type in EVENT_TYPES]

Holding = Callable[[Sequence[tuple[str, str]]], Awaitable[Registry]]


def a_subject() -> str:
    return f"test.{uuid4().hex}-value"


def another(schema: str, **changes: Any) -> str:
    return json.dumps({**json.loads(schema), **changes})


@pytest.fixture(params=["server", "repository"])
async def holding(request: pytest.FixtureRequest, stack: Mapping[str, str]) -> AsyncIterator[Holding]:
    """Makes a registry that holds (subject, schema) pairs, in this order, and perhaps others."""
    made: list[Registry] = []

    async def server(pairs: Sequence[tuple[str, str]]) -> Registry:
        registry = SchemaRegistry(stack["DPJ_REGISTRY_URL"])
        made.append(registry)
        for subject, schema in pairs:
            await registry.register(subject, schema)
        return registry

    async def repository(pairs: Sequence[tuple[str, str]]) -> Registry:
        ids = [
            FixedId(number, subject, [one for one, _ in pairs[:number]].count(subject), digest_of(json.loads(schema)))
            for number, (subject, schema) in enumerate(pairs, 1)
        ]
        made.append(RepositoryRegistry(ids, pairs))
        return made[-1]

    yield server if request.param == "server" else repository
    for registry in made:
        await registry.close()


async def test_a_schema_that_is_there_is_found_by_text_and_by_id(holding: Holding) -> None:
    subject, text = a_subject(), schema_text(DocumentErased)
    registry = await holding([(subject, text)])
    schema_id = await registry.lookup(subject, text)
    assert await registry.register(subject, text) == schema_id
    assert await registry.lookup(subject, text) == schema_id
    assert json.loads(await registry.schema_by_id(schema_id)) == schema_of(DocumentErased)


async def test_what_is_not_there_is_missing(holding: Holding) -> None:
    text = schema_text(DocumentErased)
    registry = await holding([(a_subject(), text)])
    with pytest.raises(SchemaMissing):
        await registry.lookup(a_subject(), text)
    with pytest.raises(SchemaMissing):
        await registry.schema_by_id(2_000_000_000)


async def test_versions_of_a_subject_have_ids_of_their_own(holding: Holding) -> None:
    subject, old = a_subject(), schema_text(DocumentErased)
    new = another(old, doc="later")
    registry = await holding([(subject, old), (subject, new)])
    first, second = await registry.lookup(subject, old), await registry.lookup(subject, new)
    assert first != second
    assert json.loads(await registry.schema_by_id(first)) == json.loads(old)
    assert json.loads(await registry.schema_by_id(second)) == json.loads(new)


async def test_registering_everything_twice_gives_the_same_ids(holding: Holding) -> None:
    registry = await holding(THIS_RELEASE)
    first = await register_all(registry)
    assert await register_all(registry) == first
    assert set(first) == {subject_of(event_type) for event_type in EVENT_TYPES}
    assert len(set(first.values())) == len(first)


async def test_events_go_through_the_registered_schemas(holding: Holding) -> None:
    registry = await holding(THIS_RELEASE)
    for codec in (await load_codec(registry), RegistryCodec(registry)):
        if isinstance(codec, RegistryCodec):
            with pytest.raises(RegistryUnavailable):
                codec.encode(ERASED)
            await codec.check()
        frame = codec.encode(ERASED).body
        schema_id = await registry.lookup(subject_of(DocumentErased), schema_text(DocumentErased))
        assert frame[:5] == b"\0" + schema_id.to_bytes(4, "big")
        assert await codec.decode(ERASED.TOPIC, frame) == ERASED


async def test_an_event_of_another_release_is_read_with_its_writers_schema(holding: Holding) -> None:
    newer = json.loads(schema_text(DocumentErased))
    newer["fields"].insert(0, {"name": "added_later", "type": "string", "default": "x"})
    theirs_is = (a_subject(), json.dumps(newer))
    registry = await holding([*THIS_RELEASE, theirs_is])
    ours = await load_codec(registry)
    frame = ours.encode(ERASED).body
    their_id = await registry.lookup(*theirs_is)
    # Their record: their id, and the field they have before ours (Avro string of length 1: 0x02, then "x").
    theirs = b"\0" + their_id.to_bytes(4, "big") + b"\x02x" + frame[5:]
    assert await ours.decode(ERASED.TOPIC, theirs) == ERASED
    with pytest.raises(EventUndecodable):
        await ours.decode(ERASED.TOPIC, b"\0" + (2_000_000_000).to_bytes(4, "big") + frame[5:])


async def test_a_release_that_is_not_there_says_what_to_do(holding: Holding) -> None:
    registry = await holding(THIS_RELEASE)

    class Without:
        """The same registry, one release earlier."""

        def __getattr__(self, name: str) -> Any:
            return getattr(registry, name)

        async def lookup(self, subject: str, schema: str) -> int:
            return await registry.lookup(f"absent.{uuid4().hex}-{subject}", schema)

    without: Any = Without()
    with pytest.raises(SchemaMissing, match="dpj schemas register"):
        await load_codec(without)


# --- each one's own ----------------------------------------------------------------------------------------------------


async def test_the_two_can_read_each_others_events(stack: Mapping[str, str]) -> None:
    """But for the id in front, what they write is the same."""
    async with SchemaRegistry(stack["DPJ_REGISTRY_URL"]) as server:
        ids = await register_all(server)
        from_server = await load_codec(server)
    repository = RepositoryRegistry.of_this_release()
    from_repository = repository.codec()
    frames = [codec.encode(ERASED).body for codec in (from_server, from_repository)]
    assert frames[0][5:] == frames[1][5:]
    with_their_ids = EventCodec({one.TOPIC: ids[subject_of(one)] for one in EVENT_TYPES}, repository)
    assert await with_their_ids.decode(ERASED.TOPIC, frames[0]) == ERASED


async def test_every_schema_of_this_release_has_an_id_in_the_repository() -> None:
    repository = RepositoryRegistry.of_this_release()
    ids = await register_all(repository)
    codec = RegistryCodec(repository, repository.codec())
    frame = codec.encode(ERASED).body
    assert int.from_bytes(frame[1:5], "big") == ids[subject_of(DocumentErased)]
    assert await codec.decode(ERASED.TOPIC, frame) == ERASED


async def test_the_repository_gives_no_new_id() -> None:
    repository = RepositoryRegistry.of_this_release()
    with pytest.raises(SchemaRefused, match=r"ids\.json"):
        await repository.register(subject_of(DocumentErased), another(schema_text(DocumentErased), doc="new"))


async def test_registering_sets_the_servers_level(stack: Mapping[str, str]) -> None:
    async with SchemaRegistry(stack["DPJ_REGISTRY_URL"]) as registry:
        await register_all(registry)
        answer = await registry._call("GET", f"/config/{subject_of(DocumentErased)}", None)
    assert answer["compatibilityLevel"] == COMPATIBILITY


async def test_a_registry_that_is_away_is_transient() -> None:
    async with SchemaRegistry("http://127.0.0.1:9", deadline=1.0) as client:
        with pytest.raises(RegistryUnavailable):
            await client.schema_by_id(1)


async def test_another_server_is_not_a_registry(stack: Mapping[str, str]) -> None:
    """A 404 that is not the registry's own word must not pass for a missing schema: that would dead-letter events."""
    async with SchemaRegistry(stack["DPJ_GED_URL"]) as client:
        with pytest.raises(RegistryUnavailable):
            await client.schema_by_id(1)
