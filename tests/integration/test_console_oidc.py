"""Signing in to the console at an OpenID Connect provider: a small one of the tests' own that signs with a real key, over real HTTP."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import httpx
import pytest

from console.pages_sign_in import SIGN_IN, SIGNED_IN
from identity.jwks import Jwks, jwks_source
from identity.oidc import OidcClient, OidcSignIn
from identity.sessions import Session
from identity.tokens import Identity, TokenAuthenticator
from tests.support.console import BASE, ConsoleBench
from tests.support.oidc_provider import AUDIENCE, CLIENT, SECRET, Provider, query_of, running_provider

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with running_provider() as found:
        yield found


@pytest.fixture
def console(provider: Provider) -> ConsoleBench:
    keys = Jwks(jwks_source(f"{provider.issuer}/keys"))
    access = TokenAuthenticator(keys, issuer=provider.issuer, audience=AUDIENCE)
    client = OidcClient(
        issuer=provider.issuer,
        client_id=CLIENT,
        secret=SECRET,
        redirect_uri=f"{BASE}{SIGNED_IN}",
        signed_out_uri=f"{BASE}{SIGN_IN}",
    )
    return ConsoleBench(development=None, oidc=OidcSignIn(client, keys, access))


async def answer_of(client: httpx.AsyncClient, to: str = "/") -> str:
    """The address that the provider sends the browser back to."""
    begun = await client.get("/sign-in/begin", params={"to": to})
    assert begun.status_code == 303, begun.text
    async with httpx.AsyncClient(trust_env=False) as browser:
        back = await browser.get(begun.headers["location"])
    return str(back.headers["location"])


async def test_an_operator_signs_in_and_goes_on_to_what_was_asked_for(console: ConsoleBench) -> None:
    async with console.client() as client:
        done = await client.get(await answer_of(client, "/documents?status=STORED"))
        assert (done.status_code, done.headers["location"]) == (303, "/documents?status=STORED")
        assert (await client.get("/me")).status_code == 200
        assert len(console.bench.database.rows.sessions) == 1


async def test_an_answer_to_another_browser_is_worth_nothing(console: ConsoleBench) -> None:
    async with console.client() as client, console.client() as victim:
        answer = await answer_of(client)
        await victim.get("/sign-in")
        assert (await victim.get(answer)).status_code == 401
        changed = answer.replace("state=", "state=x")
        assert (await client.get(changed)).status_code == 401
        assert (await client.get(answer.replace("iss=http", "iss=https"))).status_code == 401
        assert (await client.get(f"{SIGNED_IN}?error=access_denied")).status_code == 401
        assert console.bench.database.rows.sessions == {}


async def test_a_code_counts_once(console: ConsoleBench) -> None:
    async with console.client() as client:
        answer = await answer_of(client)
        before = client.cookies["dpj-console-before"]
        assert (await client.get(answer)).status_code == 303
        client.cookies.set("dpj-console-before", before)
        assert (await client.get(answer)).status_code == 401


@pytest.mark.parametrize(
    ("claims", "id_claims", "status"),
    [
        ({"tenant": "acme", "roles": ["portal", "validator"]}, {}, 403),
        # Keycloak 26 leaves the claim out where a person has none of the roles that a client is for.
        ({"tenant": "acme"}, {}, 403),
        ({"tenant": "acme", "roles": ["operator"], "aud": "another"}, {}, 401),
        ({"tenant": "acme", "roles": ["operator"], "sub": "paul"}, {}, 401),
        ({"tenant": "unknown", "roles": ["operator"]}, {}, 403),
        ({"tenant": "acme", "roles": ["operator"]}, {"nonce": "another"}, 401),
        ({"tenant": "acme", "roles": ["operator"]}, {"aud": "another"}, 401),
        ({"tenant": "acme", "roles": ["operator"]}, {"aud": [CLIENT, "another"]}, 401),
        ({"tenant": "acme", "roles": ["operator"]}, {"iss": "https://evil.example"}, 401),
        ({"tenant": "acme", "roles": ["operator"]}, {"exp": 1}, 401),
        ({"tenant": "acme", "roles": ["auditor"]}, {"aud": [CLIENT, "another"], "azp": CLIENT}, 303),
    ],
)
async def test_only_good_tokens_of_the_right_person_let_in(
    console: ConsoleBench, provider: Provider, claims: dict[str, Any], id_claims: dict[str, Any], status: int
) -> None:
    provider.claims, provider.id_claims = claims, id_claims
    async with console.client() as client:
        answer = await client.get(await answer_of(client))
        assert answer.status_code == status
        assert bool(console.bench.database.rows.sessions) is (status == 303)
        # Whom the provider knows, and we do not let in, it would let pass again without a question: the way out is on the page.
        assert (f'href="{provider.issuer}/logout?' in answer.text) is (status == 403)


async def test_the_provider_ends_a_session_by_its_back_channel(console: ConsoleBench, provider: Provider) -> None:
    async with console.client() as client:
        await client.get(await answer_of(client))
        for bad in (
            provider.logout_token(nonce="x"),
            provider.logout_token(aud="another"),
            provider.logout_token(events={}),
            provider.logout_token(sid=None),
            provider.logout_token(iat=1),
            provider.signed({"sub": "marie"}),
            "none",
        ):
            refused = await client.post("/sign-in/back-channel-logout", content=f"logout_token={bad}", headers=FORM)
            assert refused.status_code == 400
        assert (await client.get("/me")).status_code == 200
        token = provider.logout_token()
        ended = await client.post("/sign-in/back-channel-logout", content=f"logout_token={token}", headers=FORM)
        assert (ended.status_code, ended.headers["cache-control"]) == (200, "no-store")
        assert (await client.get("/me")).status_code == 303


async def test_who_signs_out_may_do_so_at_the_provider_too(console: ConsoleBench, provider: Provider) -> None:
    async with console.client() as client:
        page = (await client.get("/sign-in", params={"out": "yes"})).text
        [place] = re.findall(rf'href="({re.escape(provider.issuer)}/logout[^"]*)"', page)
        # Where the browser goes afterwards is registered at the provider: whole, also where the console has no public address.
        asked = {"client_id": CLIENT, "post_logout_redirect_uri": f"{BASE}/sign-in"}
        assert query_of(unescape(place)) == asked


async def test_a_provider_that_is_away_is_told_of(console: ConsoleBench, provider: Provider) -> None:
    provider.issuer, kept = "http://127.0.0.1:9", provider.issuer
    async with console.client() as client:
        # It calls itself something else than what the console was told: nobody is sent there.
        answer = await client.get("/sign-in/begin")
        assert (answer.status_code, "identity_unavailable" in answer.text) == (503, True)
    provider.issuer = kept


async def test_what_is_asked_of_the_provider_holds_no_secret(console: ConsoleBench) -> None:
    async with console.client() as client:
        begun = await client.get("/sign-in/begin")
        asked = query_of(begun.headers["location"])
        value = client.cookies["dpj-console-before"]
        assert asked["code_challenge_method"] == "S256"
        assert value.partition("~")[0] not in begun.headers["location"]
        assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    await asyncio.sleep(0)


async def test_the_provider_is_asked_to_ask_again_before_an_act_without_a_way_back(
    console: ConsoleBench, provider: Provider
) -> None:
    async with console.client() as client:
        provider.id_claims = {"auth_time": int(time.time()) - 3600}
        await client.get(await answer_of(client))
        assert not await is_fresh(console, client)
        begun = await client.get("/sign-in/again", params={"to": "/operations/plan?act=discard"})
        asked = query_of(begun.headers["location"])
        assert (asked["prompt"], asked["max_age"], "acr_values" in asked) == ("login", "0", False)
        provider.id_claims = {"auth_time": int(time.time())}
        async with httpx.AsyncClient(trust_env=False) as browser:
            back = await browser.get(begun.headers["location"])
        done = await client.get(back.headers["location"])
        assert done.headers["location"] == "/operations/plan?act=discard"
        assert await is_fresh(console, client)
        assert len(console.bench.database.rows.sessions) == 1


@pytest.mark.parametrize("said", [{}, {"auth_time": 1}])
async def test_a_provider_that_does_not_say_when_it_asked_asked_long_ago(
    console: ConsoleBench, provider: Provider, said: dict[str, Any]
) -> None:
    provider.id_claims = said
    async with console.client() as client:
        await client.get(await answer_of(client))
        assert not await is_fresh(console, client)
        assert (await client.get("/me")).status_code == 200


@pytest.mark.parametrize("said", ["now", True, -1, 10**18, [1]])
async def test_a_time_that_is_none_or_still_to_come_lets_nobody_in(
    console: ConsoleBench, provider: Provider, said: Any
) -> None:
    provider.id_claims = {"auth_time": said}
    async with console.client() as client:
        assert (await client.get(await answer_of(client))).status_code == 401


async def test_a_site_may_ask_for_a_second_factor(console: ConsoleBench, provider: Provider) -> None:
    now = datetime.now(UTC)
    weak = Session(Identity("m", "acme", frozenset()), now, now, now, "password")
    assert not weak.is_fresh(now, timedelta(minutes=5), "mfa")
    assert replace(weak, acr="mfa").is_fresh(now, timedelta(minutes=5), "mfa")
    provider.id_claims = {"auth_time": int(time.time()), "acr": "mfa"}
    async with console.client() as client:
        await client.get(await answer_of(client))
        session = await console.sessions.find(client.cookies["dpj-console"])
        assert session is not None
        assert session.acr == "mfa"


async def is_fresh(console: ConsoleBench, client: httpx.AsyncClient) -> bool:
    session = await console.sessions.find(client.cookies["dpj-console"])
    assert session is not None
    return session.is_fresh(datetime.now(UTC), console.dependencies.step_up)
