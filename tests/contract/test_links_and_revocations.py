"""Links to documents, and revoked tokens: the same over memory, PostgreSQL and (revocations) Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from limits import RateLimitItemPerMinute
from redis.asyncio import Redis

from domain.documents import Document
from domain.errors import RevocationsUnavailable
from domain.links import DocumentLink
from domain.refusals import RateLimited
from domain.revocations import RevocableClaim, Revocation, RevocationSnapshot, mark_of
from ingest_api.rate_limits import QuotaName, RateLimits
from processors.documents.revocations import Revocations
from storage.postgres.database import Postgres
from storage.postgres.revocations import PostgresRevocations
from storage.redis.rate_limit_counts import RedisCallCounter
from storage.redis.revocations import RedisRevocations
from tests.support.builders import a_document
from tests.support.database_backends import DatabaseBackend, Rolled
from tests.support.memory_revocations import MemoryRevocations
from tests.support.redis_server import RedisServer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
A, B, C = (mark_of(RevocableClaim.TOKEN, name) for name in "abc")


# --- links ------------------------------------------------------------------------------------------------------------


def a_link(document: Document, **changes: Any) -> DocumentLink:
    base = {
        "id": uuid4(),
        "document_id": document.id,
        "purpose": "audit",
        "created_by": "f" * 32,
        "created_at": NOW,
        "expires_at": NOW + timedelta(hours=1),
    }
    return DocumentLink(**{**base, **changes})


async def test_a_link_is_kept_as_it_is_and_revoked_once(site: DatabaseBackend) -> None:
    document = a_document(site.dossier)
    await site.add(document)
    link, other = a_link(document), a_link(document)
    async with site.database.transaction() as work:
        await work.links.add(link)
        await work.links.add(other)
    async with site.database.transaction() as work:
        assert await work.links.get(link.id) == link
        assert await work.links.get(uuid4()) is None
        assert await work.links.count_good(document.id, NOW) == 2
        assert await work.links.count_good(document.id, link.expires_at) == 0
        assert await work.links.count_good(uuid4(), NOW) == 0
        for later in (1, 2):
            await work.links.revoke(link.id, NOW + timedelta(seconds=later))
        await work.links.revoke(uuid4(), NOW)
    async with site.database.transaction() as work:
        kept = await work.links.get(link.id)
        assert kept is not None
        assert kept.revoked_at == NOW + timedelta(seconds=1)
        assert not kept.is_good(NOW)
        assert await work.links.count_good(document.id, NOW) == 1


async def test_links_of_one_token_are_revoked_together(site: DatabaseBackend) -> None:
    document = a_document(site.dossier)
    await site.add(document)
    links = [a_link(document, marks=marks) for marks in ((A, B), (B,), (C,), ())]
    over = a_link(document, marks=(A,), expires_at=NOW)
    async with site.database.transaction() as work:
        for link in (*links, over):
            await work.links.add(link)
    async with site.database.transaction() as work:
        assert await work.links.get(links[0].id) == links[0]
        assert await work.links.revoke_made_with(A, NOW) == 1
        assert await work.links.revoke_made_with(B, NOW + timedelta(seconds=1)) == 1
        assert await work.links.revoke_made_with(mark_of(RevocableClaim.SESSION, "a"), NOW) == 0
    async with site.database.transaction() as work:
        kept = [await work.links.get(link.id) for link in (*links, over)]
        first, second = NOW, NOW + timedelta(seconds=1)
        assert [link.revoked_at for link in kept if link] == [first, second, None, None, None]


async def test_a_link_is_part_of_its_transaction(site: DatabaseBackend) -> None:
    document = a_document(site.dossier)
    await site.add(document)
    link = a_link(document)
    with suppress(Rolled):
        async with site.database.transaction() as work:
            await work.links.add(link)
            raise Rolled
    async with site.database.transaction() as work:
        assert await work.links.get(link.id) is None


# --- revocations ------------------------------------------------------------------------------------------------------


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


@pytest.fixture
async def on_redis(redis_server: RedisServer) -> AsyncIterator[Revocations]:
    redis = RedisRevocations(redis_server.url)
    yield redis
    await redis.aclose()


@pytest.fixture(params=["memory", "postgres", "redis"])
def store(request: pytest.FixtureRequest) -> Revocations:
    if request.param == "memory":
        return MemoryRevocations(WallClock())
    if request.param == "postgres":
        return PostgresRevocations(request.getfixturevalue("postgres"))
    on_redis: Revocations = request.getfixturevalue("on_redis")
    return on_redis


def until(mark: str, seconds: float) -> Revocation:
    return Revocation(mark, datetime.now(UTC) + timedelta(seconds=seconds))


async def test_nothing_is_revoked_at_first(store: Revocations) -> None:
    found = await store.active()
    assert dict(found.until) == {}
    assert found.version == await store.version()


async def test_what_is_added_is_there_with_another_version(store: Revocations) -> None:
    versions = {await store.version()}
    one, two = until(A, 100), until(B, 100)
    await store.add([one, two])
    versions.add(await store.version())
    found = await store.active()
    assert set(found.until) == {A, B}
    assert abs(found.until[A] - one.until) < timedelta(seconds=1)
    assert found.version in versions
    await store.add([until(C, 100)])
    versions.add(await store.version())
    assert len(versions) == 3
    assert set((await store.active()).until) == {A, B, C}


async def test_the_longer_time_is_kept(store: Revocations) -> None:
    longer = until(A, 500)
    for one in (until(A, 100), longer, until(A, 200)):
        await store.add([one])
    assert abs((await store.active()).until[A] - longer.until) < timedelta(seconds=1)


async def test_what_is_over_is_forgotten(store: Revocations) -> None:
    await store.add([until(A, 0.3), until(B, 100)])
    await asyncio.sleep(0.5)
    assert set((await store.active()).until) == {B}
    await store.add([until(C, 100)])
    assert set((await store.active()).until) == {B, C}


async def test_many_at_once_lose_nothing_and_no_version_hides_one(store: Revocations) -> None:
    marks = [mark_of(RevocableClaim.SESSION, str(number)) for number in range(40)]
    seen: dict[int, set[str]] = {}

    async def watch() -> None:
        found = RevocationSnapshot(-1, {})
        while len(found.until) < len(marks):
            found = await store.active()
            assert seen.setdefault(found.version, set(found.until)) == set(found.until)
            await asyncio.sleep(0)

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(watch())
        for mark in marks:
            group.create_task(store.add([until(mark, 100)]))
    assert set((await store.active()).until) == set(marks)


async def test_postgresql_keeps_them_over_a_restart_of_ours(database_dsn: str) -> None:
    for expected in ((), (A,)):
        postgres = Postgres(database_dsn, connections=1)
        try:
            kept = PostgresRevocations(postgres)
            assert set((await kept.active()).until) == set(expected)
            await kept.add([until(A, 100)])
        finally:
            await postgres.aclose()


async def test_redis_keeps_them_over_a_restart_of_its_own(redis_server: RedisServer) -> None:
    """Killed, not asked to save."""
    kept = RedisRevocations(redis_server.url)
    await kept.add([until(A, 100)])
    version = await kept.version()
    redis_server.kill()
    for call in (kept.version, kept.active, lambda: kept.add([until(B, 100)])):
        with pytest.raises(RevocationsUnavailable):
            await call()
    redis_server.start()
    found = await kept.active()
    assert (set(found.until), found.version) == ({A}, version)
    await kept.aclose()


async def test_a_failover_of_redis_does_not_come_to_the_same_version_twice(redis_server: RedisServer) -> None:
    """What the old server had not passed on is lost; what the new one takes in must be seen by who has read the old one."""
    kept = RedisRevocations(redis_server.url)
    raw = Redis.from_url(redis_server.url, decode_responses=True)
    await kept.add([until(A, 100)])
    before = await raw.get("dpj:revoked:version")
    await kept.add([until(B, 100)])
    seen = await kept.active()
    await raw.set("dpj:revoked:version", before)
    await raw.zrem("dpj:revoked", B)
    await kept.add([until(C, 100)])
    found = await kept.active()
    assert found.version not in {seen.version, int(before)}
    assert set(found.until) == {A, C}
    await raw.aclose()
    await kept.aclose()


async def test_calls_are_counted_for_all_processes_together(redis_server: RedisServer) -> None:
    here, there = RedisCallCounter(redis_server.url), RedisCallCounter(redis_server.url)
    item = RateLimitItemPerMinute(3, namespace="tokens")
    counts = [await counting.hit(item, "acme/u1") for counting in (here, there, here, there)]
    assert [found[0] for found in counts if found] == [1, 2, 3, 4]
    assert await here.hit(item, "acme/u2") is not None
    redis_server.kill()
    began = time.monotonic()
    assert await here.hit(item, "acme/u1") is None
    limits = RateLimits({QuotaName.TOKENS: 1}, here)
    quota = await limits.count(QuotaName.TOKENS, "acme/u1")  # each for itself
    assert quota is not None
    with pytest.raises(RateLimited):
        await limits.count(QuotaName.TOKENS, "acme/u1")
    assert time.monotonic() - began < 5
    await here.aclose()
    await there.aclose()


async def test_a_database_that_is_away_says_so() -> None:
    postgres = Postgres("postgresql://nobody@127.0.0.1:9/none", connections=1)
    kept = PostgresRevocations(postgres)
    for call in (kept.version, kept.active, lambda: kept.add([until(A, 100)])):
        with pytest.raises(RevocationsUnavailable):
            await call()
    await postgres.aclose()
