"""Quotas: what counts against which, what a client is told, who is never refused."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import pytest

from domain.refusals import RateLimited
from ingest_api import rate_limits
from ingest_api.rate_limits import UNLIMITED, QuotaName, RateLimits
from tests.support.api import a_client, an_app, assert_problem, bearer, post_document
from tests.support.builders import ManualSeconds
from tests.support.fakes_intake import IntakeBench

API = "/api/v1"
SOME = {QuotaName.CLIENT: 3, QuotaName.DOCUMENTS: 2, QuotaName.FAILURES: 2, QuotaName.TOKENS: 1}


@asynccontextmanager
async def limited(bench: IntakeBench, clock: ManualSeconds) -> AsyncIterator[httpx.AsyncClient]:
    async with a_client(an_app(bench, limits=RateLimits(SOME, clock=clock))) as client:
        yield client


async def test_a_client_is_told_what_it_has_left_and_refused_beyond(clock: ManualSeconds) -> None:
    bench = IntakeBench()
    async with limited(bench, clock) as client:
        for left in (2, 1, 0):
            answered = await client.get(f"{API}/document-types", headers=bearer())
            assert answered.status_code == 200
            assert answered.headers["ratelimit-policy"] == '"client";q=3;w=1'
            assert answered.headers["ratelimit"] == f'"client";r={left};t=1'
        refused = await client.get(f"{API}/document-types", headers=bearer())
        assert_problem(refused, 429, "rate_limited")
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["ratelimit"] == '"client";r=0;t=1'
        other = await client.get(f"{API}/document-types", headers=bearer(subject="u2"))
        assert other.status_code == 200
        clock.now += 1.0
        assert (await client.get(f"{API}/document-types", headers=bearer())).status_code == 200


async def test_the_document_api_has_a_quota_of_its_own_within_the_clients(clock: ManualSeconds) -> None:
    bench = IntakeBench()
    async with limited(bench, clock) as client:
        uploaded = await post_document(client, bench)
        assert uploaded.status_code == 201
        assert uploaded.headers["ratelimit-policy"] == '"documents";q=2;w=1'
        assert (await client.get(uploaded.json()["links"]["self"], headers=bearer())).status_code == 200
        assert_problem(await post_document(client, bench), 429, "rate_limited")
        assert_problem(await client.get(f"{API}/documents", headers=bearer()), 429, "rate_limited")
        assert (await client.get(f"{API}/dossiers", headers=bearer())).status_code == 200
        assert_problem(await client.get(f"{API}/dossiers", headers=bearer()), 429, "rate_limited")
    assert len(bench.database.rows.documents) == 1


async def test_who_is_refused_by_its_role_counts_too(clock: ManualSeconds) -> None:
    bench = IntakeBench()
    async with limited(bench, clock) as client:
        for code in ("forbidden", "forbidden", "rate_limited"):
            refused = await client.post(f"{API}/documents/{uuid4()}/validate", headers=bearer("portal"), json={})
            assert refused.json()["code"] == code


async def test_refused_tokens_count_by_address_and_good_ones_still_pass(clock: ManualSeconds) -> None:
    bench = IntakeBench()
    async with limited(bench, clock) as client:
        for header in ({}, {"Authorization": "Bearer x"}):
            assert_problem(await client.get(f"{API}/dossiers", headers=header), 401, "unauthenticated")
        refused = await client.get(f"{API}/dossiers", headers={"Authorization": "Bearer y"})
        assert_problem(refused, 429, "rate_limited")
        assert refused.headers["retry-after"] == "60"
        assert refused.headers["ratelimit-policy"] == '"failures";q=2;w=60'
        assert (await client.get(f"{API}/dossiers", headers=bearer())).status_code == 200
        clock.now += 60.0
        assert_problem(await client.get(f"{API}/dossiers"), 401, "unauthenticated")


async def test_acts_on_tokens_have_a_small_quota(clock: ManualSeconds) -> None:
    bench = IntakeBench()
    async with limited(bench, clock) as client:
        body = {"token_id": "t"}
        assert (await client.post(f"{API}/revocations", headers=bearer("operator"), json=body)).status_code == 200
        refused = await client.post(f"{API}/revocations", headers=bearer("operator"), json=body)
        assert_problem(refused, 429, "rate_limited")
        assert refused.headers["retry-after"] == "60"


async def test_health_is_never_refused_and_the_description_by_address(clock: ManualSeconds) -> None:
    bench = IntakeBench()
    async with limited(bench, clock) as client:
        for path in ("/livez", "/readyz"):
            for _ in range(20):
                answered = await client.get(path)
                assert answered.status_code == 200
                assert "ratelimit" not in answered.headers
        statuses = [(await client.get(f"{API}/openapi.json")).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]


async def test_no_limit_says_nothing() -> None:
    bench = IntakeBench()
    async with a_client(an_app(bench)) as client:
        for _ in range(200):
            answered = await client.get(f"{API}/dossiers", headers=bearer())
        assert answered.status_code == 200
        assert "ratelimit" not in answered.headers
    assert await UNLIMITED.count(QuotaName.CLIENT, "x") is None
    assert await RateLimits({QuotaName.CLIENT: 0}).count(QuotaName.CLIENT, "x") is None


async def test_memory_is_bounded(clock: ManualSeconds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MAX_CLIENTS", 50)
    counting = rate_limits.MemoryCallCounter(clock)
    limits = RateLimits({QuotaName.CLIENT: 1}, counting)
    for number in range(500):
        await limits.count(QuotaName.CLIENT, f"c{number}")
    assert counting._storage.reset() <= 50
    await limits.count(QuotaName.CLIENT, "late")
    clock.now += 5
    monkeypatch.setattr(rate_limits, "MAX_CLIENTS", 1)
    await limits.count(QuotaName.CLIENT, "later")
    assert counting._storage.reset() == 1


async def test_room_is_made_for_many_at_a_time(clock: ManualSeconds, monkeypatch: pytest.MonkeyPatch) -> None:
    """One window that has just ended must not make every new key look through all of them."""
    monkeypatch.setattr(rate_limits, "MAX_CLIENTS", 100)
    memory = rate_limits.BoundedMemory(clock)
    for number in range(100):
        memory.incr(f"c{number}", 0.5 if number == 50 else 60)
    clock.now += 1
    memory.incr("new", 60)
    assert memory.get("c50") == memory.get("c0") == 0
    assert memory.get("c99") == 1
    assert memory.reset() == 91


async def test_an_ipv6_client_does_not_escape_by_its_other_addresses(clock: ManualSeconds) -> None:
    bench = IntakeBench()
    app = an_app(bench, limits=RateLimits(SOME, clock=clock))
    statuses = []
    for host in ("2001:db8::1", "2001:db8::2", "2001:db8::3:4", "2001:db8:0:1::1"):
        transport = httpx.ASGITransport(app, client=(host, 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
            statuses.append((await client.get(f"{API}/dossiers")).status_code)
    assert statuses == [401, 401, 429, 401]


async def test_counting_costs_next_to_nothing() -> None:
    """Far below a hundredth of an upload's time, with room for a busy machine."""
    limits = RateLimits({QuotaName.DOCUMENTS: 10**9})
    began = time.process_time()
    for _ in range(5_000):
        await limits.count(QuotaName.DOCUMENTS, "tenant/portal")
    assert (time.process_time() - began) / 5_000 < 100e-6


async def test_a_refusal_names_its_quota() -> None:
    limits = RateLimits({QuotaName.TOKENS: 1})
    await limits.count(QuotaName.TOKENS, "x")
    with pytest.raises(RateLimited) as refused:
        await limits.count(QuotaName.TOKENS, "x")
    assert (refused.value.limit, refused.value.retry_after) == ("tokens", 60)
