"""Revoked tokens are refused within seconds, also while the store is away; the act is on record."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from domain.errors import RevocationsUnavailable
from domain.refusals import MetadataInvalid, Unauthenticated
from domain.revocations import RevocableClaim, Revocation, mark_of
from identity.jwks import Jwks
from identity.tokens import LEEWAY_SECONDS, ClaimRules, TokenAuthenticator
from processors.documents import revocations
from processors.documents.revocations import (
    EXPIRY_MARGIN,
    FULL_READ_SECONDS,
    MAX_AGE_SECONDS,
    REFRESH_TIMEOUT_SECONDS,
    TAKEN_BEYOND_EXPIRY,
    RevokedTokens,
)
from tests.support.api import a_client, an_app, assert_problem, bearer
from tests.support.builders import ManualSeconds
from tests.support.fakes_intake import LONGEST_SESSION, LONGEST_TOKEN, IntakeBench
from tests.support.jwks import public_jwks
from tests.support.memory_revocations import MemoryRevocations
from tests.unit.test_api_tokens import AUDIENCE, ISSUER, KEYS, Serving, claims, pem

API = "/api/v1"
A, B, S = mark_of(RevocableClaim.TOKEN, "a"), mark_of(RevocableClaim.SESSION, "b"), mark_of(RevocableClaim.SESSION, "s")


@pytest.fixture
def store(bench: IntakeBench) -> MemoryRevocations:
    return bench.revocations


@pytest.fixture
def copy(store: MemoryRevocations, clock: ManualSeconds) -> RevokedTokens:
    return RevokedTokens(store, clock)


async def revoke(bench: IntakeBench, mark: str, seconds: float = 100.0) -> None:
    await bench.revocations.add([Revocation(mark, bench.clock.now() + timedelta(seconds=seconds))])


def test_the_promise_of_five_seconds_adds_up() -> None:
    assert MAX_AGE_SECONDS + REFRESH_TIMEOUT_SECONDS < 5.0
    assert (
        revocations.POLL_SECONDS + REFRESH_TIMEOUT_SECONDS < MAX_AGE_SECONDS
    )  # one look that hangs, and nobody has noticed


async def test_the_store_is_not_asked_at_each_request(
    bench: IntakeBench, store: MemoryRevocations, copy: RevokedTokens, clock: ManualSeconds
) -> None:
    assert not await copy.any_of([A, B])
    await revoke(bench, A)
    for _ in range(1000):
        assert not await copy.any_of([A])
    assert store.reads == 1
    clock.now += MAX_AGE_SECONDS + 0.1
    assert await copy.any_of([B, A])
    assert not await copy.any_of([B])
    assert not await copy.any_of([])


async def test_nothing_is_read_while_nothing_changes(
    bench: IntakeBench, store: MemoryRevocations, copy: RevokedTokens, clock: ManualSeconds
) -> None:
    await copy.refresh()
    for _ in range(5):
        clock.now += 1
        await copy.refresh()
    assert store.reads == 1
    await revoke(bench, A)
    await copy.refresh()
    assert store.reads == 2
    clock.now += FULL_READ_SECONDS
    await copy.refresh()
    assert store.reads == 3


@pytest.mark.parametrize("away", ["refuses", "hangs"])
async def test_a_copy_that_is_too_old_decides_nothing(
    away: str,
    bench: IntakeBench,
    store: MemoryRevocations,
    copy: RevokedTokens,
    clock: ManualSeconds,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(revocations, "REFRESH_TIMEOUT_SECONDS", 0.2)
    await copy.refresh()
    store.away = away
    clock.now += MAX_AGE_SECONDS
    assert not await copy.any_of([A])
    clock.now += 0.1
    for _ in range(3):
        with pytest.raises(RevocationsUnavailable):
            await copy.any_of([A])
    store.away = None
    await asyncio.sleep(0.3)
    assert not await copy.any_of([A])


async def test_those_who_wait_share_one_look(store: MemoryRevocations, copy: RevokedTokens) -> None:
    await asyncio.gather(*(copy.any_of([A]) for _ in range(50)))
    assert store.reads == 1


async def test_what_nobody_knows_yet_is_refused(store: MemoryRevocations, copy: RevokedTokens) -> None:
    store.away = "refuses"
    with pytest.raises(RevocationsUnavailable):
        await copy.any_of([A])
    assert not copy.is_fresh


# --- The act ----------------------------------------------------------------------------------------------------------


async def test_revoking_over_http_is_audited_before_it_counts(bench: IntakeBench) -> None:
    async with a_client(an_app(bench)) as client:
        body = {"token_id": "secret-jti", "session_id": "secret-sid"}
        done = await client.post(f"{API}/revocations", headers=bearer("operator", tenant="bank"), json=body)
        assert done.status_code == 200
        again = await client.post(f"{API}/revocations", headers=bearer("operator", tenant="bank"), json=body)
        assert again.status_code == 200
        bench.revocations.away = "refuses"
        away = await client.post(f"{API}/revocations", headers=bearer("operator", tenant="bank"), json=body)
        assert_problem(away, 503, "revocations_unavailable")
        assert away.headers["retry-after"] == "1"
    lines = bench.audited()
    assert {line.action for line in lines} == {"token.revoked"}
    assert {line.entity_id for line in lines} == {
        mark_of(RevocableClaim.TOKEN, "secret-jti").partition(":")[2],
        mark_of(RevocableClaim.SESSION, "secret-sid").partition(":")[2],
    }
    assert len(lines) == 6
    assert "secret" not in repr(lines)
    bench.revocations.away = None
    assert await bench.revoked.any_of([mark_of(RevocableClaim.SESSION, "secret-sid")])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"token_id": ""},
        {"token_id": "x" * 256},
        {"token_id": None, "session_id": None},
        {"token_id": "x", "expires_at": "2026-03-01T12:00:00"},
        {"token_id": "x", "expires_at": 3},
        {"token_id": "x", "more": 1},
    ],
)
async def test_what_names_nothing_is_refused(bench: IntakeBench, body: dict[str, Any]) -> None:
    async with a_client(an_app(bench)) as client:
        refused = await client.post(f"{API}/revocations", headers=bearer("operator"), json=body)
        assert_problem(refused, 422, "metadata_invalid")
    assert not bench.audited()


async def test_a_revocation_ends_after_its_token_and_never_lasts_for_ever(bench: IntakeBench) -> None:
    caller = bench.caller()
    now = bench.clock.at
    claims_named = {RevocableClaim.TOKEN: "x"}
    soon = await bench.revocation.revoke_for_caller(caller, claims_named, now + timedelta(hours=2))
    assert soon == now + timedelta(hours=2) + EXPIRY_MARGIN
    for until in (None, now + timedelta(days=900)):
        end = await bench.revocation.revoke_for_caller(caller, claims_named, until)
        assert abs(end - now - timedelta(seconds=LONGEST_TOKEN) - EXPIRY_MARGIN) < timedelta(seconds=1)
    with pytest.raises(MetadataInvalid):
        await bench.revocation.revoke_for_caller(caller, {})


async def test_a_time_that_has_passed_is_refused(bench: IntakeBench) -> None:
    now = bench.clock.at
    async with a_client(an_app(bench)) as client:
        for named in ({"token_id": "t"}, {"session_id": "s"}):
            for past in (timedelta(seconds=5), timedelta(days=400)):
                body = {**named, "expires_at": (now - past).isoformat()}
                refused = await client.post(f"{API}/revocations", headers=bearer("operator"), json=body)
                assert_problem(refused, 422, "token_already_expired")
        assert not bench.audited()
        assert not (await bench.revocations.active()).until
        # A token is taken a little beyond its expiry: it can be revoked for as long.
        body = {"token_id": "t", "expires_at": (now - timedelta(seconds=4)).isoformat()}
        done = await client.post(f"{API}/revocations", headers=bearer("operator"), json=body)
        assert done.status_code == 200
    assert TAKEN_BEYOND_EXPIRY.total_seconds() == LEEWAY_SECONDS


async def test_a_session_s_revocation_outlives_the_token_that_named_it(bench: IntakeBench) -> None:
    """A refresh token goes on making tokens of the session, the last one at its end."""
    now = bench.clock.at
    body = {"session_id": "s", "token_id": "t", "expires_at": (now + timedelta(hours=2)).isoformat()}
    async with a_client(an_app(bench)) as client:
        done = await client.post(f"{API}/revocations", headers=bearer("operator"), json=body)
    longest = timedelta(seconds=LONGEST_SESSION + LONGEST_TOKEN)
    assert datetime.fromisoformat(done.json()["until"]) > now + longest
    for at, expected in ((timedelta(hours=2, minutes=-1), [True, True]), (longest, [False, True])):
        bench.clock.at = now + at
        assert [
            mark in (await bench.revocations.active()).until for mark in (mark_of(RevocableClaim.TOKEN, "t"), S)
        ] == expected


# --- Tokens -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return pem(tmp_path, KEYS["EdDSA"])


def signed(key_file: Path, **changes: Any) -> str:
    kid = public_jwks(key_file)["keys"][0]["kid"]
    return jwt.encode(claims(**changes), KEYS["EdDSA"], algorithm="EdDSA", headers={"kid": kid})


def checking(key_file: Path, copy: RevokedTokens, **rules: Any) -> TokenAuthenticator:
    keys = Jwks(Serving(public_jwks(key_file)))
    given = ClaimRules(**{"identified": True, **rules})
    return TokenAuthenticator(keys, issuer=ISSUER, audience=AUDIENCE, rules=given, revoked=copy)


@pytest.mark.parametrize(("claim", "kept"), [("jti", "sid"), ("sid", "jti")])
async def test_a_remembered_token_is_refused_once_it_is_revoked(
    claim: str, kept: str, key_file: Path, bench: IntakeBench, copy: RevokedTokens, clock: ManualSeconds
) -> None:
    check = checking(key_file, copy)
    one = signed(key_file, **{claim: "gone", kept: "k1"})
    other = signed(key_file, **{claim: "good", kept: "k2"})
    for token in (one, other):
        await check.authenticate(token)
    await revoke(bench, mark_of(RevocableClaim(claim), "gone"))
    clock.now += 1
    await copy.refresh()
    with pytest.raises(Unauthenticated, match="revoked"):
        await check.authenticate(one)
    await check.authenticate(other)


async def test_a_tokens_and_a_sessions_ids_are_not_mixed_up(
    key_file: Path, bench: IntakeBench, copy: RevokedTokens
) -> None:
    await revoke(bench, mark_of(RevocableClaim.SESSION, "same"))
    await checking(key_file, copy).authenticate(signed(key_file, jti="same"))


async def test_a_token_that_could_not_be_revoked_is_refused(key_file: Path, copy: RevokedTokens) -> None:
    check = checking(key_file, copy)
    for changes in ({}, {"jti": ""}, {"jti": 7}, {"sid": "x" * 256}, {"jti": ["a"]}):
        with pytest.raises(Unauthenticated):
            await check.authenticate(signed(key_file, **changes))
    await checking(key_file, copy, identified=False).authenticate(signed(key_file))


async def test_a_token_that_is_valid_for_too_long_is_refused(key_file: Path, copy: RevokedTokens) -> None:
    now = claims()["iat"]
    check = checking(key_file, copy, longest=3600)
    await check.authenticate(signed(key_file, jti="a", exp=now + 3500))
    with pytest.raises(Unauthenticated, match="longer"):
        await check.authenticate(signed(key_file, jti="b", exp=now + 3700))


async def test_revoked_over_http_and_refused_over_http(key_file: Path, bench: IntakeBench) -> None:
    check = checking(key_file, bench.revoked)
    async with a_client(an_app(bench, authenticator=check)) as client:
        thief = {"Authorization": f"Bearer {signed(key_file, jti='stolen')}"}
        operator = {"Authorization": f"Bearer {signed(key_file, jti='op', roles=['operator'])}"}
        assert (await client.get(f"{API}/dossiers", headers=thief)).status_code == 200
        done = await client.post(f"{API}/revocations", headers=operator, content=json.dumps({"token_id": "stolen"}))
        assert done.status_code == 200
        await bench.revoked.refresh()
        refused: httpx.Response = await client.get(f"{API}/dossiers", headers=thief)
        assert_problem(refused, 401, "unauthenticated")
