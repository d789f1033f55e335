"""A Schema Registry as the pipeline needs it, and the client of a real one: the few calls of Confluent's REST API that are used.

Source: https://docs.confluent.io/platform/current/schema-registry/develop/api.html. Works alike against Confluent's,
Karapace, Apicurio's ``/apis/ccompat/v7`` and the registry of the local stack (which keeps, but does not enforce, the
compatibility level: ``schemas.compatibility`` is the check that counts before a release).
"""

from __future__ import annotations

import asyncio
import json
import ssl
from types import TracebackType
from typing import Any, Final, Protocol, Self
from urllib.parse import quote

import httpx

from domain.errors import RegistryUnavailable, SchemaMissing, SchemaRefused
from domain.events import EVENT_TYPES, Event
from schemas.catalog import schema_text, subject_of
from schemas.codec import EncodedEvent, EventCodec

COMPATIBILITY: Final = "BACKWARD_TRANSITIVE"
MAX_ANSWER_BYTES: Final = 1024 * 1024

_MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
#: Subject, version, schema not found. A 404 without one of these is not the registry's own word (a proxy's, a wrong path).
_NOT_FOUND: Final = frozenset({40401, 40402, 40403})


class Registry(Protocol):
    """Where schemas have their ids. Raises RegistryUnavailable."""

    async def register(self, subject: str, schema: str) -> int:
        """The id of a schema (JSON text) that is there afterwards; one that is there already keeps its id. Raises SchemaRefused."""
        ...

    async def lookup(self, subject: str, schema: str) -> int:
        """The id under which exactly this schema is registered. Raises SchemaMissing."""
        ...

    async def schema_by_id(self, schema_id: int) -> str:
        """The schema (JSON text) of an id. Raises SchemaMissing."""
        ...

    async def set_compatibility(self, subject: str) -> None:
        """Have versions of the subject refused that can't read all earlier ones."""
        ...

    async def close(self) -> None: ...


class SchemaRegistry:
    """See ``Registry``. ``url`` is the registry's base address; ``deadline`` bounds each call, in seconds; ``tls`` says whom to trust over TLS, if not
    the usual authorities.

    Every method raises RegistryUnavailable when there is no answer, or none that a registry would give.
    """

    def __init__(self, url: str, *, deadline: float = 5.0, tls: ssl.SSLContext | None = None) -> None:
        self._url = url.rstrip("/")
        self._deadline = deadline
        self._client = httpx.AsyncClient(
            timeout=deadline,
            headers={"Accept": _MEDIA_TYPE, "Content-Type": _MEDIA_TYPE},
            limits=httpx.Limits(max_connections=4),
            trust_env=False,
            verify=tls or True,
        )

    async def register(self, subject: str, schema: str) -> int:
        """Register a schema (JSON text) and return its id; one that is there already keeps its id.

        Raises SchemaRefused if the registry finds it invalid or incompatible.
        """
        return _id(await self._call("POST", f"/subjects/{quote(subject, safe='')}/versions", _schema_body(schema)))

    async def lookup(self, subject: str, schema: str) -> int:
        """The id under which exactly this schema is registered. Raises SchemaMissing."""
        return _id(await self._call("POST", f"/subjects/{quote(subject, safe='')}", _schema_body(schema)))

    async def schema_by_id(self, schema_id: int) -> str:
        """The schema (JSON text) of an id. Raises SchemaMissing."""
        text = (await self._call("GET", f"/schemas/ids/{schema_id}", None)).get("schema")
        if not isinstance(text, str):
            raise RegistryUnavailable("The schema registry gave an unreadable answer.")
        return text

    async def set_compatibility(self, subject: str) -> None:
        """Have the registry refuse versions of the subject that can't read all earlier ones."""
        await self._call("PUT", f"/config/{quote(subject, safe='')}", {"compatibility": COMPATIBILITY})

    async def close(self) -> None:
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, method: str, path: str, body: dict[str, str] | None) -> dict[str, Any]:
        try:
            async with (
                asyncio.timeout(self._deadline),
                self._client.stream(method, self._url + path, json=body) as response,
            ):
                status, answer = response.status_code, await _bounded(response)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise RegistryUnavailable("The schema registry does not answer.") from error
        return _judge(status, answer)


async def load_codec(registry: Registry) -> EventCodec:
    """A codec for this release's schemas. Raises SchemaMissing if one of them is not registered, or RegistryUnavailable."""
    ids: dict[str, int] = {}
    for event_type in EVENT_TYPES:
        try:
            ids[event_type.TOPIC] = await registry.lookup(subject_of(event_type), schema_text(event_type))
        except SchemaMissing as error:
            raise SchemaMissing(
                f"The registry does not hold {event_type.SCHEMA} of this release; run: dpj schemas register"
            ) from error
    return EventCodec(ids, registry)


class RegistryCodec:
    """A codec that is loaded when it is first needed, so that a process can start while the registry is away."""

    def __init__(self, registry: Registry, codec: EventCodec | None = None) -> None:
        """``codec``: one that is there already."""
        self._registry = registry
        self._codec = codec
        self._loading = asyncio.Lock()

    async def check(self) -> None:
        """Load the codec if it is not yet; from then on the registry may go. Raises as ``load_codec``."""
        async with self._loading:
            if self._codec is None:
                self._codec = await load_codec(self._registry)

    def encode(self, event: Event) -> EncodedEvent:
        """See ``EventCodec.encode``. Raises RegistryUnavailable before the codec is loaded."""
        if self._codec is None:
            raise RegistryUnavailable("The event schemas are not loaded yet.")
        return self._codec.encode(event)

    async def decode(self, topic: str, value: bytes, schema: str | None = None) -> Event:
        """See ``EventCodec.decode``. Raises RegistryUnavailable or SchemaMissing while the codec can't be loaded."""
        if self._codec is None:
            await self.check()
        if self._codec is None:
            raise RegistryUnavailable("The event schemas are not loaded yet.")
        return await self._codec.decode(topic, value, schema)


async def register_all(registry: Registry) -> dict[str, int]:
    """Register every schema of this release and set each subject's compatibility; ids by subject. May be repeated."""
    ids: dict[str, int] = {}
    for event_type in EVENT_TYPES:
        subject = subject_of(event_type)
        await registry.set_compatibility(subject)
        ids[subject] = await registry.register(subject, schema_text(event_type))
    return ids


def _schema_body(schema: str) -> dict[str, str]:
    return {"schemaType": "AVRO", "schema": schema}


async def _bounded(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer; an empty one if it is none."""
    data = bytearray()
    async for piece in response.aiter_bytes():
        data += piece
        if len(data) > MAX_ANSWER_BYTES:
            raise RegistryUnavailable("The schema registry's answer is too large.")
    try:
        answer = json.loads(data)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _judge(status: int, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer of a call that succeeded; otherwise the error that it stands for."""
    if status == httpx.codes.OK:
        return answer
    if status == httpx.codes.NOT_FOUND and answer.get("error_code") in _NOT_FOUND:
        raise SchemaMissing
    if status == httpx.codes.CONFLICT:
        raise SchemaRefused("The registry holds an earlier version that this schema can't read.")
    if status == httpx.codes.UNPROCESSABLE_ENTITY:
        raise SchemaRefused("The registry finds the schema invalid.")
    raise RegistryUnavailable(f"The schema registry answered {status}.")


def _id(answer: dict[str, Any]) -> int:
    schema_id = answer.get("id")
    if not isinstance(schema_id, int):
        raise RegistryUnavailable("The schema registry gave an unreadable answer.")
    return schema_id
