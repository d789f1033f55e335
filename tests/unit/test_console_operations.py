"""Acts in the console: a plan is shown before anything is done, its confirmation is the plan's, each page works by forms alone."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx
import pytest

from console.languages import catalogue
from domain.act_notes import note
from domain.batches import Act, ActRequest, Batch, BatchState
from domain.error_table import ERROR_TABLE
from domain.owed_events import LostEvent, OwedEvent
from domain.restores import Difference
from processors.operators.restore_steps import LastLook
from tests.support.builders import NOW
from tests.support.console import ConsoleBench, sign_in, token_in
from tests.unit.test_api_operations import add_letter

DOCUMENT = "0b0f2ac4-2f0c-4c3e-8d65-5a7c4c0c1f57"
ORIGIN = {"Origin": "http://127.0.0.1:8083"}


@pytest.fixture
def site() -> ConsoleBench:
    return ConsoleBench()


@pytest.fixture
async def client(site: ConsoleBench) -> AsyncIterator[httpx.AsyncClient]:
    async with site.client() as client:
        await sign_in(client)
        yield client


def fields_of(page: str, action: str) -> dict[str, str]:
    """The hidden fields of the first form that goes there."""
    form = next(found for found in re.findall(r"<form.*?</form>", page, re.DOTALL) if f'action="{action}"' in found)
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form))


async def planned(client: httpx.AsyncClient, act: str = "discard") -> httpx.Response:
    page = (await client.get("/operations")).text
    forms = [one for one in re.findall(r"<form.*?</form>", page, re.DOTALL) if f'value="{act}"' in one]
    return await client.post("/operations/plan", data=fields_of(forms[0], "/operations/plan"), headers=ORIGIN)


async def confirm(client: httpx.AsyncClient, page: str, **more: str) -> httpx.Response:
    form = {**fields_of(page, "/operations/confirm"), "reason": "INC-1", **more}
    return await client.post("/operations/confirm", data=form, headers=ORIGIN)


async def test_from_group_to_plan_to_batch(site: ConsoleBench, client: httpx.AsyncClient) -> None:
    for number in (1, 2):
        add_letter(site.bench, number)
    plan = await planned(client)
    assert plan.status_code == 200
    assert "would be done" in plan.text
    assert site.bench.database.rows.batches == {}
    answer = await confirm(client, plan.text, canary="1")
    assert answer.status_code == 303
    (batch, _) = next(iter(site.bench.database.rows.batches.values()))
    assert (batch.state, batch.canary, batch.reason) == (BatchState.CANARY, 1, "INC-1")
    page = (await client.get(answer.headers["location"])).text
    assert "Canary under way" in page
    assert "0 of 2 items" in page
    assert (await confirm(client, plan.text, canary="1")).headers["location"] == answer.headers["location"]
    assert len(site.bench.database.rows.batches) == 1
    stopped = await client.post(
        f"{answer.headers['location']}/stop", data={"csrf": token_in(page)}, headers=ORIGIN, follow_redirects=True
    )
    assert "Have the rest done" in stopped.text
    again = await client.post(
        f"{answer.headers['location']}/continue", data={"csrf": token_in(page)}, headers=ORIGIN, follow_redirects=True
    )
    assert "Under way" in again.text


async def test_a_plan_that_changed_is_shown_anew_and_nothing_is_done(
    site: ConsoleBench, client: httpx.AsyncClient
) -> None:
    add_letter(site.bench, 1)
    plan = await planned(client)
    add_letter(site.bench, 2)
    answer = await confirm(client, plan.text)
    assert answer.status_code == 409
    assert "has changed since you read it" in answer.text
    assert site.bench.database.rows.batches == {}
    assert (await confirm(client, answer.text)).status_code == 303


@pytest.mark.parametrize("reason", ["", "Marie Dupont asked for it", "x" * 65])
async def test_a_reason_is_a_code(site: ConsoleBench, client: httpx.AsyncClient, reason: str) -> None:
    add_letter(site.bench, 1)
    plan = await planned(client)
    answer = await confirm(client, plan.text, reason=reason)
    assert (answer.status_code, site.bench.database.rows.batches) == (422, {})
    assert "another form" in answer.text


async def test_an_auditor_sees_and_does_not_act(site: ConsoleBench) -> None:
    add_letter(site.bench, 1)
    async with site.client() as client:
        await sign_in(client, "auditor")
        page = (await client.get("/operations")).text
        assert "archive_refused" in page
        assert "/operations/plan" not in page
        form = {"csrf": token_in(page), "act": "discard"}
        assert (await client.post("/operations/plan", data=form, headers=ORIGIN)).status_code == 403


async def test_nothing_is_done_without_the_forms_token(site: ConsoleBench, client: httpx.AsyncClient) -> None:
    add_letter(site.bench, 1)
    plan = await planned(client)
    for csrf in ("", "x"):
        assert (await confirm(client, plan.text, csrf=csrf)).status_code == 403
    assert site.bench.database.rows.batches == {}


async def test_a_consumer_is_paused_and_resumed(site: ConsoleBench, client: httpx.AsyncClient) -> None:
    csrf = token_in((await client.get("/operations")).text)
    form = {"csrf": csrf, "act": "pause", "consumer": "archiving", "minutes": "30", "reason": "INC-1"}
    assert (await client.post("/operations/pauses", data=form, headers=ORIGIN)).status_code == 303
    page = (await client.get("/operations")).text
    assert "Resume now" in page
    assert "INC-1" in page
    form = {"csrf": csrf, "act": "resume", "consumer": "archiving", "reason": "MENDED"}
    assert (await client.post("/operations/pauses", data=form, headers=ORIGIN)).status_code == 303
    assert "Resume now" not in (await client.get("/operations")).text
    long = {**form, "act": "pause", "minutes": "1441"}
    assert (await client.post("/operations/pauses", data=long, headers=ORIGIN)).status_code == 400


async def test_a_bound_operator_finds_no_acts_on_what_concerns_all(site: ConsoleBench) -> None:
    site.bound_to = frozenset({"acme"})
    add_letter(site.bench, 1)
    add_letter(site.bench, 2, "other")
    async with site.client() as client:
        await sign_in(client)
        page = (await client.get("/operations")).text
        assert "Publish lost events again" not in page
        assert "Minutes" not in page
        plan = await planned(client)
        assert re.findall(r"<li><code>(\d+)</code>", plan.text) == ["1"]


@pytest.mark.parametrize("language", ["fr", "en"])
async def test_the_letters_of_a_group_are_listed_in_both_languages(site: ConsoleBench, language: str) -> None:
    add_letter(site.bench, 1)
    async with site.client(**{"Accept-Language": language}) as client:
        await sign_in(client)
        asked = {"consumer": "archiving", "code": "archive_refused", "error_class": "ArchiveRefused"}
        page = (await client.get("/operations/dead-letters", params=asked)).text
        assert "archiving/0/1" in page
        assert ("Tout renvoyer" if language == "fr" else "Redrive all") in page
        assert ("1 lettre ouverte" if language == "fr" else "1 open letter") in page
        assert catalogue(language)["code.archive_refused"] in page
        assert (ERROR_TABLE["archive_refused"].title in page) == (language == "en")
        assert ("ne sont pas archivés" if language == "fr" else "are not archived") in page


async def test_a_french_plan_is_french(site: ConsoleBench) -> None:
    add_letter(site.bench, 1)
    async with site.client(**{"Accept-Language": "fr"}) as client:
        await sign_in(client)
        plan = await planned(client)
    assert "quitte la liste" in plan.text
    assert 'lang="en"' not in plan.text.partition("<main")[2]


async def test_the_window_of_a_replay_is_in_the_sites_zone() -> None:
    site = ConsoleBench(zone=ZoneInfo("Europe/Paris"))
    async with site.client() as client:
        await sign_in(client)
        await the_window_is_in_the_sites_zone(client)


async def the_window_is_in_the_sites_zone(client: httpx.AsyncClient) -> None:
    page = (await client.get("/operations/replay", params={"document": DOCUMENT})).text
    assert DOCUMENT in page
    given = {**fields_of(page, "/operations/plan"), "consumer": "archiving", "since": "2026-01-31T12:00"}
    plan = await client.post("/operations/plan", data=given, headers=ORIGIN)
    assert plan.status_code == 200
    assert 'datetime="2026-01-31T11:00:00+00:00"' in plan.text
    given["since"] = "yesterday"
    assert (await client.post("/operations/plan", data=given, headers=ORIGIN)).status_code == 400


async def test_what_is_lost_is_told_and_unknown_is_no_none(site: ConsoleBench, client: httpx.AsyncClient) -> None:
    assert "Nothing is lost" in (await client.get("/operations/lost")).text
    site.lost.add(LostEvent(an_owed_event(), ("archiving",)))
    page = (await client.get("/operations/lost")).text
    assert DOCUMENT in page
    assert fields_of(page, "/operations/plan")["act"] == "re_emit"
    site.lost.known = False
    page = (await client.get("/operations/lost")).text
    assert "nobody knows what is lost" in page
    assert "Nothing is lost" not in page


def an_owed_event() -> OwedEvent:
    return OwedEvent(
        row_id=7,
        event_id=UUID(int=7),
        topic="dpj.document.validated",
        key=DOCUMENT,
        consumers=("archiving",),
        published_at=NOW,
        partition=0,
        offset=3,
        re_emissions=3,
    )


async def test_what_a_restore_has_left_leads_to_its_step(site: ConsoleBench, client: httpx.AsyncClient) -> None:
    assert "Nobody has looked yet" in (await client.get("/operations/restore")).text
    batch = Batch(
        id=UUID(int=1),
        request=ActRequest(act=Act.CHECK_RESTORE),
        plan_hash="",
        tenants=None,
        actor="p",
        reason="INC-1",
        state=BatchState.DONE,
        canary=None,
        stop_after=5,
    )
    notes = {
        Difference.HOLD_LOST: note("differs", count=2),
        Difference.DOCUMENT_LOST: note("differs_not"),
        Difference.EVENT_LOST: note("not_looked_for", code="broker_unavailable"),
    }
    site.look = LastLook(batch, NOW, {kind: notes.get(kind, note("differs_not")) for kind in Difference})
    page = (await client.get("/operations/restore")).text
    assert "Legal holds that stood" in page
    assert "Acknowledged, and lost" not in page
    assert "not looked for: broker_unavailable" in page
    forms = [one for one in re.findall(r"<form.*?</form>", page, re.DOTALL) if "repair_restore" in one]
    assert len([one for one in forms if 'value="holds"' in one]) == 1
    assert not [one for one in forms if 'value="events"' in one]


async def test_who_signed_in_long_ago_says_again_who_he_is_before_an_act_without_a_way_back() -> None:
    site = ConsoleBench()
    add_letter(site.bench, 1)
    async with site.client() as client:
        await sign_in(client)
        plan = (await planned(client)).text
        assert 'action="/operations/confirm"' in plan
        # The session's person said so an hour ago.
        site.authenticated_ago(client, timedelta(hours=1))
        assert (await planned(client, "redrive")).text.count("Sign in again") == 0
        stale = await planned(client)
        assert 'action="/operations/confirm"' not in stale.text
        refused = await confirm(client, plan)
        assert refused.status_code == 403
        assert "You signed in too long ago" in refused.text
        assert site.bench.database.rows.batches == {}
        again = html.unescape(re.findall(r'href="(/sign-in/again[^"]+)"', stale.text)[0])
        page = await client.get(again, follow_redirects=True)
        form = {"csrf": token_in(page.text), "role": "operator", "to": fields_of(page.text, "/sign-in")["to"]}
        back = await client.post("/sign-in", data=form, headers=ORIGIN)
        assert back.headers["location"].startswith("/operations/plan?act=discard")
        fresh = (await client.get(back.headers["location"])).text
        assert (await confirm(client, fresh)).status_code == 303
    assert len(site.bench.database.rows.batches) == 1


async def test_nobody_confirms_as_the_second_person_by_an_old_sign_in() -> None:
    site = ConsoleBench()
    add_letter(site.bench, 1)
    async with site.client() as client:
        await sign_in(client)
        ordered = await confirm(client, (await planned(client)).text, second_person="on")
        path = ordered.headers["location"]
        site.subject = "paul"
        await sign_in(client)
        site.authenticated_ago(client, timedelta(minutes=6))
        page = (await client.get(path)).text
        assert "Sign in again" in page
        form = {"csrf": token_in(page)}
        assert (await client.post(f"{path}/confirm", data=form, headers=ORIGIN)).status_code == 403
        assert (await client.post(f"{path}/stop", data=form, headers=ORIGIN)).status_code == 303
