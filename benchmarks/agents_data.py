"""What the agents bench works on: a database, a topic full of events, and documents that they are about."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
from confluent_kafka import Producer
from confluent_kafka import admin as kafka_admin

from benchmarks.agents_workload import Task, site_of
from benchmarks.site import TENANT
from domain.documents import Document, Dossier, Language
from domain.events import DocumentUploaded
from domain.keys import EncryptionContext
from domain.lifecycle import Status
from domain.shared.correlation import new_traceparent
from runtime.config.settings import Settings
from runtime.wiring.site import Site
from storage.migrate import upgrade

PARTITIONS: Final = 6
_kafka: Any = kafka_admin  # the package says it is typed, but exports these names only implicitly
AT_ONCE: Final = 16
#: The part of the events whose traces are recorded.
TRACED: Final = 0.05


@dataclass(frozen=True, slots=True)
class BenchData:
    """A database and a topic of the bench's own."""

    dsn: str
    topic: str
    count: int


@asynccontextmanager
async def bench_data(
    settings: Settings, stack: str, work: str, count: int, document_bytes: int
) -> AsyncIterator[BenchData]:
    """``count`` events, and for the integrity work as many stored documents; all of it goes when the block ends."""
    name = f"bench_agents_{uuid4().hex[:8]}"
    server = settings.postgres_dsn.get_secret_value()
    dsn = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    admin = _kafka.AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    await _on(server, f"CREATE DATABASE {name}")
    try:
        await upgrade(dsn)
        await _on(dsn, "CREATE TABLE bench_done (consumer text, event_id uuid, PRIMARY KEY (consumer, event_id))")
        for future in admin.create_topics([_kafka.NewTopic(name, PARTITIONS, 1)]).values():
            await asyncio.to_thread(future.result, 20)
        task = Task(
            contestant="ours",
            way="event",
            work=work,
            stack=stack,
            dsn=dsn,
            topic=name,
            group="none",
            count=count,
            batch=1,
            connections=10,
        )
        site = site_of(task)
        try:
            await site.codec.check()
            events = await _stored(site, count, document_bytes) if work == "integrity" else _events(count)
            await asyncio.to_thread(_send, site, name, events)
            yield BenchData(dsn, name, count)
            await _remove(site)
        finally:
            await site.aclose()
    finally:
        admin.delete_topics([name])
        await _on(server, f"DROP DATABASE {name} WITH (FORCE)")


async def reset(dsn: str) -> None:
    """As before the last contestant: no event is done, every document is STORED; dead rows are gone."""
    for statement in (
        "TRUNCATE inbox, outbox, bench_done, dossier_events",
        "UPDATE documents SET statut = 'STORED', sequence = 1",
        "VACUUM (FULL, ANALYZE) documents",
        "ANALYZE inbox, bench_done",
    ):
        await _on(dsn, statement)


async def finished(dsn: str, group: str) -> int:
    """How many events of the group are done by what PostgreSQL says."""
    connection = await asyncpg.connect(dsn)
    try:
        return int(
            await connection.fetchval(
                """
                SELECT (SELECT count(*) FROM bench_done WHERE consumer = $1)
                     + (SELECT count(*) FROM inbox WHERE state = 'DONE')
                """,
                group,
            )
        )
    finally:
        await connection.close()


async def verified(dsn: str) -> int:
    """How many documents are VERIFIED."""
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM documents WHERE statut = 'VERIFIED'"))
    finally:
        await connection.close()


def _event(document: Document | None = None) -> DocumentUploaded:
    return DocumentUploaded(
        event_id=uuid4(),
        sequence=1,
        occurred_at=datetime.now(UTC),
        correlation_id=uuid4(),
        tenant=TENANT,
        actor="bench",
        document_id=document.id if document else uuid4(),
        object_key=document.object_key if document else f"documents/{TENANT}/none",
        size=(document.size if document else None) or 0,
        mime_type="application/pdf",
        sha256=(document.sha256 if document else None) or "0" * 64,
        type_code="DIVERS",
        dossier_ref="bench",
    )


def _events(count: int) -> list[DocumentUploaded]:
    return [_event() for _ in range(count)]


async def _stored(site: Site, count: int, size: int) -> list[DocumentUploaded]:
    now = datetime.now(UTC)
    dossier = Dossier(
        id=uuid4(),
        tenant=TENANT,
        number=uuid4().hex,
        client_id="bench",
        journey_type="BENCH",
        status="OPEN",
        current_step=None,
        priority=0,
        created_at=now,
        updated_at=now,
        created_by="bench",
        steps=(),
    )
    async with site.database.transaction() as work:
        await work.dossiers.add(dossier)
    free = asyncio.Semaphore(AT_ONCE)

    async def one() -> DocumentUploaded:
        async with free:
            document = await _store(site, dossier, size)
            async with site.database.transaction() as work:
                await work.documents.add(document)
            return _event(document)

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def _store(site: Site, dossier: Dossier, size: int) -> Document:
    document_id, clear, now = uuid4(), os.urandom(size), datetime.now(UTC)
    context = EncryptionContext(TENANT, document_id)
    key, wrapped = await site.content.new_key(context)

    async def pieces() -> AsyncIterator[bytes]:
        yield clear

    stored = await site.content.store(key, context, f"documents/{TENANT}/{document_id}/bench", pieces())
    return Document(
        id=document_id,
        tenant=TENANT,
        dossier_id=dossier.id,
        step_id=None,
        type_code="DIVERS",
        category=None,
        original_name="bench.pdf",
        stored_name=f"{document_id}.pdf",
        object_key=stored.key,
        status=Status.STORED,
        mandatory=False,
        depositor_id="bench",
        depositor_email_sealed="bench",
        language=Language.ENGLISH,
        mime_type="application/pdf",
        size=size,
        sha256=hashlib.sha256(clear).hexdigest(),
        wrapped_key=wrapped,
        object_etag=stored.etag,
        object_size=stored.size,
        sequence=1,
        correlation_id=uuid4(),
        created_at=now,
        updated_at=now,
        deposited_at=now,
    )


def _send(site: Site, topic: str, events: list[DocumentUploaded]) -> None:
    producer = Producer({"bootstrap.servers": site.settings.kafka_bootstrap, "partitioner": "murmur2_random"})
    for event in events:
        headers: list[tuple[str, str | bytes | None]] = [("traceparent", _traceparent())]
        headers += [("event-id", str(event.event_id)), ("correlation-id", str(event.correlation_id))]
        producer.produce(topic, site.codec.encode(event).body, key=event.key.encode(), headers=headers)
        producer.poll(0)
    if producer.flush(60):
        raise RuntimeError("the broker did not take the events")


def _traceparent() -> str:
    """As the API begins it: that of ``TRACED`` of the events is to be recorded, by whoever records."""
    recorded = random.random() < TRACED  # noqa: S311 - picks events, keeps no secret
    return f"{new_traceparent()[:-1]}{int(recorded)}"


async def _remove(site: Site) -> None:
    """The documents' objects."""
    async with site.postgres.connection() as connection:
        keys = [row[0] for row in await connection.fetch("SELECT chemin_stockage FROM documents")]
    for first in range(0, len(keys), AT_ONCE):
        await asyncio.gather(*(site.objects.delete(key) for key in keys[first : first + AT_ONCE]))


async def _on(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
