"""What every contestant of the agents bench shares: its task, its progress, the work for an event, the parts it works with."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import asyncpg

from domain.events import DocumentUploaded, Event
from processors.documents.transitions import NOTHING_TO_COMMIT
from processors.ports.work import Commit
from runtime.config.settings import load_settings
from runtime.wiring.site import Site
from storage.postgres.connections import SERVER_SETTINGS, prepare_connection
from storage.postgres.database import PostgresWork

TOPIC: Final = DocumentUploaded.TOPIC
INSERT: Final = "INSERT INTO bench_done (consumer, event_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true"
INSERT_MANY: Final = """
    INSERT INTO bench_done (consumer, event_id) SELECT $1, event_id FROM unnest($2::uuid[]) AS new (event_id)
    ON CONFLICT DO NOTHING RETURNING event_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """``way``: event by event or batch by batch; ``work``: noop or integrity; ``count``: events in ``topic``."""

    contestant: str
    way: str
    work: str
    stack: str
    dsn: str
    topic: str
    group: str
    count: int
    batch: int
    connections: int
    #: The collector of its spans, if it makes any.
    spans_to: str = ""


class Worker(Protocol):
    """What is done for an event, the same for every contestant."""

    async def decode(self, topic: str, value: bytes) -> Event: ...

    async def process(self, event: Event) -> Commit: ...


class BenchProgress:
    """Counts finished events and tells the parent."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._cpu = 0.0
        self._began = 0.0
        self.done = asyncio.Event()

    def begin(self) -> None:
        """The first record is here; later calls do nothing."""
        if not self._began:
            self._began, self._cpu = time.monotonic(), _cpu()
            _say(at="first")

    def add(self, finished: int = 1) -> None:
        self._left -= finished
        if self._left <= 0 and not self.done.is_set():
            _say(at="done", seconds=time.monotonic() - self._began, cpu=_cpu() - self._cpu)
            self.done.set()

    @property
    def ended(self) -> bool:
        return self.done.is_set()


def _cpu() -> float:
    """User and system seconds of this process, all threads."""
    used = os.times()
    return used.user + used.system


def _say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


class Effects:
    """The same work for the bare loop and the peers: decode with our codec, process, write with the row that says it is done."""

    def __init__(self, site: Site, task: Task, pool: asyncpg.Pool[Any]) -> None:
        self._codec = site.codec
        self._processor = site.processor("integrity") if task.work == "integrity" else None
        self._consumer = task.group
        self._pool = pool
        self._at_once = asyncio.Semaphore(task.connections)

    async def decode(self, value: bytes | None) -> Event:
        return await self._codec.decode(TOPIC, value or b"")

    async def process(self, event: Event) -> Commit:
        return await self._processor.process(event) if self._processor else NOTHING_TO_COMMIT

    async def one(self, value: bytes | None) -> None:
        """Event by event: its own transaction."""
        event = await self.decode(value)
        async with self._at_once:
            if self._processor is None:  # a transaction of one statement
                await self._pool.fetchval(INSERT, self._consumer, event.event_id)
                return
            commit = await self.process(event)
            async with self._pool.acquire() as connection, connection.transaction():
                if await connection.fetchval(INSERT, self._consumer, event.event_id):
                    await self._write(connection, [commit])

    async def by_event(self, records: Mapping[bytes | None, list[bytes | None]]) -> None:
        """A batch, by key: keys at once, one key in order."""

        async def in_order(values: list[bytes | None]) -> None:
            for value in values:
                await self.one(value)

        await asyncio.gather(*(in_order(values) for values in records.values()))

    async def by_batch(self, records: Mapping[bytes | None, list[bytes | None]]) -> None:
        """A batch as one transaction: what fails one event fails them all."""
        events = [await self.decode(value) for values in records.values() for value in values]
        commits = dict(zip((event.event_id for event in events), await self._process_all(events), strict=True))
        async with self._pool.acquire() as connection, connection.transaction():
            fresh = await connection.fetch(INSERT_MANY, self._consumer, list(commits))
            await self._write(connection, [commits[row["event_id"]] for row in fresh])

    async def _process_all(self, events: list[Event]) -> list[Commit]:
        if self._processor is None:
            return [NOTHING_TO_COMMIT] * len(events)

        async def bounded(event: Event) -> Commit:
            async with self._at_once:
                return await self.process(event)

        return await asyncio.gather(*(bounded(event) for event in events))

    async def _write(self, connection: Any, commits: list[Commit]) -> None:
        if self._processor is None:
            return
        work = PostgresWork(connection, self._codec.encode)
        for commit in commits:
            await commit(work)
        await work.outbox.flush()


def by_key(records: list[tuple[bytes | None, bytes | None]]) -> dict[bytes | None, list[bytes | None]]:
    """Values by their key, in order."""
    found: dict[bytes | None, list[bytes | None]] = {}
    for key, value in records:
        found.setdefault(key, []).append(value)
    return found


async def _keep_session(_: object) -> None:
    """The pool's own reset is a round trip per event; nothing here changes a session."""


async def pool_of(task: Task) -> asyncpg.Pool[Any]:
    """A pool that is warm."""
    return await asyncpg.create_pool(
        task.dsn,
        min_size=task.connections,
        max_size=task.connections,
        server_settings=SERVER_SETTINGS,
        init=prepare_connection,
        reset=_keep_session,
    )


def site_of(task: Task) -> Site:
    """Our parts on the bench's own database; without an antivirus, as no contestant has one."""
    settings = load_settings(task.stack)
    secret = type(settings.postgres_dsn)(task.dsn)
    return Site(settings.model_copy(update={"postgres_dsn": secret, "antivirus": "off"}))
