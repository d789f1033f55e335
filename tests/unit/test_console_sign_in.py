"""Signing in to the console and out of it: cookies, sessions on the server, forms from elsewhere, other hosts."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest

from console.dependencies import local_path
from console.security import SECURITY_HEADERS
from domain.documents import Role
from domain.events import AuditRecorded
from domain.revocations import RevocableClaim, Revocation, mark_of
from domain.sessions import subject_mark
from identity.tokens import Identity
from tests.support.console import BASE, IDLE, LONGEST, ConsoleBench, sign_in, token_in

PAGES = ("/", "/consumers", "/consumers/archiving", "/topics", "/documents", "/proof", "/acts", "/reconcile", "/me")
PUBLIC = "https://console.bank.example"


@pytest.fixture
def console() -> ConsoleBench:
    return ConsoleBench()


def actions(console: ConsoleBench) -> list[str]:
    return [one.action for one in console.bench.database.rows.outbox if isinstance(one, AuditRecorded)]


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_asks_who_one_is(console: ConsoleBench, path: str) -> None:
    async with console.client() as client:
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?to={path}")
        await sign_in(client)
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("path", [*PAGES, "/sign-in", "/nowhere", "/static/x/console.css", "/static/x/none", "/livez"])
async def test_every_answer_is_hardened(console: ConsoleBench, path: str) -> None:
    async with console.client() as client:
        await sign_in(client)
        answer = await client.get(path)
        assert {name: answer.headers[name] for name in SECURITY_HEADERS} == dict(SECURITY_HEADERS)
        assert "unsafe" not in answer.headers["content-security-policy"]
        if not path.startswith("/static"):
            assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", [*PAGES, "/sign-in"])
async def test_no_page_holds_a_script_or_a_style_of_its_own(console: ConsoleBench, path: str) -> None:
    async with console.client() as client:
        await sign_in(client)
        page = (await client.get(path)).text
        assert " style=" not in page
        assert "<style" not in page
        assert " onclick=" not in page
        assert page.count("<script") == 1
        assert 'console.js" defer></script>' in page
        assert "//" not in page.replace("http://www.w3.org", "").partition("<body")[0].replace("<!doctype html>", "")


async def test_a_session_is_on_the_server_and_only_its_hash(console: ConsoleBench) -> None:
    async with console.client() as client:
        answer = await sign_in(client)
        value = client.cookies["dpj-console"]
        (row,) = console.bench.database.rows.sessions.values()
        assert row.digest == hashlib.sha256(value.encode()).digest()
        assert "marie" not in row.identity_sealed
        cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("dpj-console="))
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        page = await client.get("/me")
        out = await client.post("/sign-out", data={"csrf": token_in(page.text)}, headers={"Origin": BASE})
        assert out.status_code == 303
        assert console.bench.database.rows.sessions == {}
        # Whatever the browser keeps, it is over.
        client.cookies.set("dpj-console", value)
        assert (await client.get("/me")).status_code == 303
    assert actions(console) == ["console.signed_in", "console.signed_out"]


async def test_over_tls_the_cookie_is_bound_to_the_host() -> None:
    console = ConsoleBench(public_url=PUBLIC)
    async with console.client(PUBLIC) as client:
        answer = await sign_in(client)
        assert answer.status_code == 303
        cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("__Host-dpj-console="))
        assert "Secure" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie
        assert answer.headers["strict-transport-security"].startswith("max-age=")


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": BASE, "Sec-Fetch-Site": "cross-site"}, True),
        ({}, True),
        ({"Origin": BASE}, False),
    ],
)
async def test_a_form_from_elsewhere_does_nothing(console: ConsoleBench, headers: dict[str, str], token: bool) -> None:
    async with console.client() as client:
        await sign_in(client)
        csrf = token_in((await client.get("/me")).text) if token else "x" * 43
        answer = await client.post("/sign-out", data={"csrf": csrf}, headers=headers)
        assert answer.status_code == 403
        assert "form_refused" in answer.text
        assert len(console.bench.database.rows.sessions) == 1


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", ""])
async def test_another_name_for_this_machine_is_not_answered(console: ConsoleBench, host: str) -> None:
    async with console.client() as client:
        assert (await client.get("/sign-in", headers={"Host": host})).status_code == 421


async def test_a_session_ends_by_itself(console: ConsoleBench) -> None:
    async with console.client() as client:
        await sign_in(client)
        for _ in range(int(LONGEST // (IDLE - 60))):
            console.bench.clock.at += timedelta(seconds=IDLE - 60)
            assert (await client.get("/me")).status_code == 200
        console.bench.clock.at += timedelta(seconds=IDLE - 60)
        assert (await client.get("/me")).status_code == 303, "after its longest time"
        await sign_in(client)
        console.bench.clock.at += timedelta(seconds=IDLE)
        assert (await client.get("/me")).status_code == 303, "when nobody used it"


async def test_what_a_page_asks_for_by_itself_keeps_nobody_signed_in(console: ConsoleBench) -> None:
    value = await console.sessions.open(console.person(Role.OPERATOR))
    for _ in range(3):
        console.bench.clock.at += timedelta(seconds=IDLE / 2 + 1)
        found = await console.sessions.find(value, active=False)
    assert found is None


async def test_a_revoked_token_or_session_ends_it(console: ConsoleBench) -> None:
    mark = mark_of(RevocableClaim.SESSION, "s-1")
    person = Identity("marie", "acme", frozenset({Role.OPERATOR}), marks=(mark,))
    value = await console.sessions.open(person)
    assert await console.sessions.find(value) is not None
    until = console.bench.clock.at + timedelta(days=1)
    await console.bench.revocations.add([Revocation(mark, until)])
    console.bench.clock.at += timedelta(seconds=5)
    assert await console.sessions.find(value) is None


async def test_the_provider_ends_a_session_or_all_of_a_person(console: ConsoleBench) -> None:
    mark = mark_of(RevocableClaim.SESSION, "s-1")
    first = await console.sessions.open(Identity("marie", "acme", frozenset({Role.OPERATOR}), marks=(mark,)))
    second = await console.sessions.open(Identity("marie", "acme", frozenset({Role.OPERATOR})))
    other = await console.sessions.open(Identity("paul", "acme", frozenset({Role.OPERATOR})))
    assert await console.sessions.close_marked([mark]) == 1
    assert await console.sessions.find(first) is None
    assert await console.sessions.find(second) is not None
    assert await console.sessions.close_marked([subject_mark("marie")]) == 1
    assert await console.sessions.find(second) is None
    assert await console.sessions.find(other) is not None
    assert actions(console)[-2:] == ["console.signed_out_by_provider"] * 2


async def test_other_roles_have_no_business_here(console: ConsoleBench) -> None:
    value = await console.sessions.open(Identity("marie", "acme", frozenset({Role.PORTAL, Role.VALIDATOR})))
    async with console.client() as client:
        client.cookies.set("dpj-console", value)
        assert (await client.get("/documents")).status_code == 303
        page = (await client.get("/sign-in")).text
        form = {"csrf": token_in(page), "role": "portal", "to": "/"}
        assert (await client.post("/sign-in", data=form, headers={"Origin": BASE})).status_code == 400


async def test_in_earnest_nobody_signs_in_by_saying_so(console: ConsoleBench) -> None:
    earnest = ConsoleBench(development=None)
    async with earnest.client() as client:
        page = (await client.get("/sign-in")).text
        assert 'name="role"' not in page
        answer = await client.post("/sign-in", data={"role": "operator"}, headers={"Origin": BASE})
        assert answer.status_code == 403
        assert earnest.bench.database.rows.sessions == {}


async def test_who_is_bound_to_tenants_sees_theirs_alone(console: ConsoleBench) -> None:
    console.bound_to = frozenset({"acme"})
    mine, other = console.document(), console.document(tenant="other")
    async with console.client() as client:
        await sign_in(client)
        for path in ("/", "/consumers", "/topics", "/proof", "/reconcile", "/live"):
            assert (await client.get(path)).status_code == 403, path
        listed = (await client.get("/documents")).text
        assert str(mine.id) in listed
        assert str(other.id) not in listed
        assert 'href="/topics"' not in listed
        assert str(other.id) not in (await client.get("/documents", params={"tenant": "other"})).text
        assert (await client.get(f"/documents/{mine.id}")).status_code == 200
        assert (await client.get(f"/documents/{other.id}")).status_code == 404
        assert (await client.get("/acts", params={"tenant": "system"})).status_code == 403


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("/documents?status=STORED", "/documents?status=STORED"),
        ("//evil.example/x", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/a\r\nSet-Cookie: x", "/"),
        ("", "/"),
    ],
)
def test_one_goes_on_to_a_page_of_ours(asked: str, path: str) -> None:
    assert local_path(asked) == path


async def test_a_body_that_is_no_form_of_ours_is_refused(console: ConsoleBench) -> None:
    async with console.client() as client:
        await sign_in(client)
        long = await client.post(
            "/sign-out",
            content=b"a=" + b"b" * 70_000,
            headers={"Origin": BASE, "Content-Type": "application/x-www-form-urlencoded"},
        )
        other = await client.post("/sign-out", json={"csrf": "x"}, headers={"Origin": BASE})
        assert (long.status_code, other.status_code) == (400, 400)
