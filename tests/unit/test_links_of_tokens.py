"""Links end with the token that made them, and what is refused is on record."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from domain.errors import RevocationsUnavailable
from domain.events import AuditRecorded
from domain.lifecycle import Status
from domain.refusals import LinkNotFound
from domain.revocations import RevocableClaim, Revocation, mark_of
from ingest_api.rate_limits import QuotaName, RateLimits
from processors.documents.callers import Caller, LinkVisitor
from tests.support.api import a_client, an_app, assert_problem, bearer
from tests.support.fakes_intake import LONGEST_LINK, LONGEST_TOKEN, PDF, IntakeBench
from tests.unit.test_api_tokens import KEYS, pem
from tests.unit.test_revocations import checking, signed

API = "/api/v1"
TOKEN, SESSION = mark_of(RevocableClaim.TOKEN, "stolen"), mark_of(RevocableClaim.SESSION, "session")


def thief(bench: IntakeBench) -> Caller:
    return replace(bench.caller(), marks=(TOKEN, SESSION))


def lines(bench: IntakeBench, action: str) -> list[tuple[AuditRecorded, dict[str, Any]]]:
    return [(line, json.loads(line.details)) for line in bench.audited() if line.action == action]


@pytest.mark.parametrize("named", [{RevocableClaim.TOKEN: "stolen"}, {RevocableClaim.SESSION: "session"}])
async def test_revoking_a_token_or_its_session_revokes_its_links_for_good(
    bench: IntakeBench, named: dict[RevocableClaim, str]
) -> None:
    document = await bench.stored(Status.VERIFIED)
    (_, token), (_, other) = [
        await bench.links.create(caller, document.id, "x", 3600) for caller in (thief(bench), bench.caller())
    ]
    await bench.links.readable(token)
    await bench.revocation.revoke_for_caller(bench.caller(), named, bench.clock.at)
    bench.revocations.forget()
    with pytest.raises(LinkNotFound):
        await bench.links.readable(token)
    assert (await bench.links.readable(other)).id == document.id
    [(_, details)] = lines(bench, "token.revoked")
    assert details["links"] == "1"


async def test_a_link_made_before_every_process_knows_is_refused_until_it_has_expired(bench: IntakeBench) -> None:
    """Its process did not know yet; the revocation is kept for as long as such a link may be good."""
    document = await bench.stored(Status.VERIFIED)
    await bench.revocation.revoke_for_caller(bench.caller(), {RevocableClaim.TOKEN: "stolen"}, bench.clock.at)
    _, token = await bench.links.create(thief(bench), document.id, "x", LONGEST_LINK)
    for _ in range(4):
        await bench.revoked.refresh()
        with pytest.raises(LinkNotFound):
            await bench.links.readable(token)
        with pytest.raises(LinkNotFound):
            await bench.links.read(LinkVisitor(correlation_id=uuid4()), token)
        bench.clock.at += timedelta(seconds=LONGEST_LINK / 3)


async def test_who_can_not_know_whether_it_is_revoked_opens_nothing(bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    _, token = await bench.links.create(thief(bench), document.id, "x", 60)
    bench.revocations.away = "refuses"
    with pytest.raises(RevocationsUnavailable):
        await bench.links.readable(token)


async def test_a_stolen_token_s_link_over_http(bench: IntakeBench, tmp_path: Path) -> None:
    key_file = pem(tmp_path, KEYS["EdDSA"])
    document = await bench.stored(Status.VERIFIED)
    stolen = {"Authorization": f"Bearer {signed(key_file, jti='stolen', sid='session')}"}
    operator = {"Authorization": f"Bearer {signed(key_file, jti='op', roles=['operator'])}"}
    async with a_client(an_app(bench, authenticator=checking(key_file, bench.revoked))) as client:
        made = await client.post(f"{API}/documents/{document.id}/links", headers=stolen, json={"purpose": "x"})
        [link] = bench.database.rows.links.values()
        assert set(link.marks) == {TOKEN, SESSION}
        assert (await client.get(made.json()["url"])).content == PDF
        done = await client.post(f"{API}/revocations", headers=operator, json={"token_id": "stolen"})
        assert done.status_code == 200
        assert_problem(await client.get(made.json()["url"]), 404, "link_not_found")
    assert "stolen" not in repr((link, bench.audited()))


# --- What is refused --------------------------------------------------------------------------------------------------


async def a_link(client: httpx.AsyncClient, bench: IntakeBench, seconds: int = 60) -> dict[str, str]:
    document = await bench.stored(Status.VERIFIED)
    made = await client.post(
        f"{API}/documents/{document.id}/links", headers=bearer(), json={"purpose": "x", "seconds": seconds}
    )
    found: dict[str, str] = made.json()
    return found


async def test_attempts_with_links_that_are_not_good_are_on_record(bench: IntakeBench) -> None:
    async with a_client(an_app(bench)) as client:
        found = {name: await a_link(client, bench) for name in ("expired", "revoked", "token_revoked", "unreadable")}
        bench.clock.at += timedelta(seconds=60)
        rows = bench.database.rows
        for name, link in found.items():
            [row] = [one for one in rows.links.values() if str(one.id) == link["id"]]
            later = row.expires_at if name == "expired" else row.expires_at + timedelta(hours=1)
            rows.links[row.id] = replace(row, expires_at=later, marks=(TOKEN,) if name == "token_revoked" else ())
        tokens = {name: bench.link_signer.sign(row) for name, row in zip(found, rows.links.values(), strict=True)}
        await client.delete(
            f"{API}/documents/{found['revoked']['document_id']}/links/{found['revoked']['id']}", headers=bearer()
        )
        await bench.revocations.add([Revocation(TOKEN, bench.clock.at + timedelta(hours=1))])
        [going] = [row for row in rows.documents.values() if str(row.id) == found["unreadable"]["document_id"]]
        bench.database.put(replace(going, status=Status.QUARANTINED))
        before = len(bench.audited())
        for token in tokens.values():
            refused = await client.get(f"{API}/links/{token}", headers={"User-Agent": "browser/1"})
            assert_problem(refused, 404, "link_not_found")
        for unknown in ("l1.x.y", tokens["revoked"][:-2] + "AA"):
            assert_problem(await client.get(f"{API}/links/{unknown}"), 404, "link_not_found")
        assert len(bench.audited()) == before + len(tokens)
    for (line, details), (reason, link) in zip(lines(bench, "document.link.refused"), found.items(), strict=True):
        assert (details["reason"], details["link_id"], line.entity_id) == (reason, link["id"], link["document_id"])
        assert line.user_agent_sealed


async def test_who_goes_on_trying_fills_no_log(bench: IntakeBench) -> None:
    async with a_client(an_app(bench, limits=RateLimits({QuotaName.FAILURES: 3}))) as client:
        link = await a_link(client, bench, seconds=1)
        bench.clock.at += timedelta(seconds=1)
        answers = [(await client.get(link["url"])).status_code for _ in range(6)]
    assert answers == [404] * 3 + [429] * 3
    assert len(lines(bench, "document.link.refused")) == 3


async def test_a_revocation_lasts_as_long_as_a_link_may(bench: IntakeBench) -> None:
    end = await bench.revocation.revoke_for_caller(bench.caller(), {RevocableClaim.TOKEN: "x"}, bench.clock.at)
    assert end >= bench.clock.at + timedelta(seconds=LONGEST_LINK)
    assert LONGEST_LINK < LONGEST_TOKEN
