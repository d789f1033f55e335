"""Operators' acts over HTTP: who may see and do what, plans that are confirmed as they were read, pauses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from domain.batches import BatchState
from domain.dead_letter_index import DeadLetterEntry, IndexedLetter
from domain.documents import Role
from domain.events import AuditRecorded
from identity.tokens import Identity
from tests.support.api import NamedTokens, a_client, an_app, assert_problem, bearer
from tests.support.builders import NOW
from tests.support.fakes_intake import IntakeBench

BASE = "/api/v1/operations"
GROUP = {"act": "discard", "consumer": "archiving", "code": "archive_refused"}


class BoundTokens(NamedTokens):
    """As ``NamedTokens``; the subject ``bound`` is bound to its own tenant."""

    async def authenticate(self, token: str) -> Identity:
        found = await super().authenticate(token)
        bound = frozenset({found.tenant}) if found.subject == "bound" else None
        return Identity(found.subject, found.tenant, found.roles, bound_to=bound)


@pytest.fixture
def bench() -> IntakeBench:
    return IntakeBench()


@pytest.fixture
async def client(bench: IntakeBench) -> AsyncIterator[httpx.AsyncClient]:
    async with a_client(an_app(bench, authenticator=BoundTokens())) as client:
        yield client


def add_letter(bench: IntakeBench, number: int, tenant: str = "acme") -> None:
    entry = DeadLetterEntry(
        consumer="archiving",
        event_id=uuid4(),
        tenant=tenant,
        document_id=uuid4(),
        code="archive_refused",
        error_class="ArchiveRefused",
        origin_topic="dpj.document.validated",
        origin_partition=0,
        origin_offset=number,
        attempts=1,
        replays=0,
        redriven_event=None,
    )
    bench.letter_index.rows.append(
        IndexedLetter(
            number=number,
            entry=entry,
            made_at=NOW + timedelta(seconds=number),
            partition=0,
            offset=number,
            settled=None,
            settled_by=None,
            settled_at=None,
            came_back=False,
        )
    )


def operator(subject: str = "alice", tenant: str = "acme") -> dict[str, str]:
    return bearer("operator", tenant=tenant, subject=subject)


async def planned(client: httpx.AsyncClient, body: dict[str, Any] = GROUP) -> dict[str, Any]:
    answer = await client.post(f"{BASE}/plans", json=body, headers=operator())
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def confirm(client: httpx.AsyncClient, plan_hash: str, key: str | None = None, **more: Any) -> httpx.Response:
    headers = operator() | ({"Idempotency-Key": key} if key else {})
    body = {**GROUP, "plan_hash": plan_hash, "reason": "INC-1", **more}
    return await client.post(f"{BASE}/batches", json=body, headers=headers)


async def test_letters_are_grouped_and_paged(bench: IntakeBench, client: httpx.AsyncClient) -> None:
    for number in range(1, 4):
        add_letter(bench, number)
    since = (NOW + timedelta(seconds=3)).isoformat()
    answer = await client.get(f"{BASE}/dead-letters", params={"since": since}, headers=bearer("auditor"))
    (group,) = answer.json()["items"]
    assert (group["consumer"], group["code"], group["count"], group["new"]) == ("archiving", "archive_refused", 3, 1)
    asked: dict[str, Any] = {name: group[name] for name in ("consumer", "code", "error_class")} | {"limit": 2}
    first = (await client.get(f"{BASE}/dead-letters/group", params=asked, headers=operator())).json()
    second = (
        await client.get(
            f"{BASE}/dead-letters/group", params={**asked, "cursor": first["next_cursor"]}, headers=operator()
        )
    ).json()
    assert [one["number"] for one in first["items"] + second["items"]] == [1, 2, 3]
    assert second["next_cursor"] is None
    assert first["items"][0]["address"] == "archiving/0/1"
    wrong = await client.get(f"{BASE}/dead-letters/group", params={**asked, "cursor": "x"}, headers=operator())
    assert_problem(wrong, 400, "cursor_invalid")


async def test_a_plan_is_confirmed_by_its_hash_and_refused_once_it_changed(
    bench: IntakeBench, client: httpx.AsyncClient
) -> None:
    add_letter(bench, 1)
    plan = await planned(client)
    assert plan["forecast"] == [{"outcome": "done", "note": "off the list: PLAN", "code": "off_the_list", "count": 1}]
    add_letter(bench, 2)
    assert_problem(await confirm(client, plan["hash"]), 409, "plan_changed")
    assert bench.database.rows.batches == {}
    plan = await planned(client)
    answer = await confirm(client, plan["hash"], canary=1)
    batch = answer.json()
    assert (answer.status_code, batch["state"], batch["counts"]) == (201, "CANARY", {"waiting": 2})
    assert answer.headers["location"] == batch["links"]["self"]
    assert (await client.get(batch["links"]["self"], headers=bearer("auditor"))).json() == batch
    items = (await client.get(batch["links"]["items"], headers=operator())).json()
    assert [(one["rank"], one["name"], one["result"]) for one in items["items"]] == [(1, "1", None), (2, "2", None)]
    assert [one["id"] for one in (await client.get(f"{BASE}/batches", headers=operator())).json()["items"]] == [
        batch["id"]
    ]
    (line,) = [row for row in bench.database.rows.outbox if isinstance(row, AuditRecorded)]
    assert (line.action, line.entity_id, line.actor) == ("batch.confirmed", batch["id"], batch["by"])


async def test_an_idempotency_key_makes_one_batch(bench: IntakeBench, client: httpx.AsyncClient) -> None:
    add_letter(bench, 1)
    plan = await planned(client)
    first, again = await confirm(client, plan["hash"], "k-1"), await confirm(client, plan["hash"], "k-1")
    assert (first.status_code, first.json()["id"]) == (again.status_code, again.json()["id"])
    assert_problem(await confirm(client, "0" * 64, "k-1"), 422, "idempotency_key_reused")
    assert_problem(await confirm(client, plan["hash"], "a b"), 400, "idempotency_key_invalid")
    assert "k-1" not in str(bench.database.rows.batches)


async def test_a_batch_is_stopped_continued_and_confirmed_by_another(
    bench: IntakeBench, client: httpx.AsyncClient
) -> None:
    add_letter(bench, 1)
    plan = await planned(client)
    batch = (await confirm(client, plan["hash"], second_person=True)).json()
    assert batch["state"] == "ORDERED"
    path = f"{BASE}/batches/{batch['id']}"
    assert_problem(await client.post(f"{path}/confirm", headers=operator()), 403, "second_person_needed")
    assert_problem(await client.post(f"{path}/continue", headers=operator()), 403, "second_person_needed")
    confirmed = (await client.post(f"{path}/confirm", headers=operator("bob"))).json()
    assert confirmed["state"] == "RUNNING"
    assert confirmed["second"] not in {None, confirmed["by"]}
    stopped = (await client.post(f"{path}/stop", headers=operator())).json()
    assert (stopped["state"], stopped["stopped"]) == ("STOPPED", "operator")
    assert_problem(await client.post(f"{path}/stop", headers=operator()), 409, "batch_state")
    assert (await client.post(f"{path}/continue", headers=operator())).json()["state"] == BatchState.RUNNING.value
    missing = await client.post(f"{BASE}/batches/{uuid4()}/stop", headers=operator())
    assert_problem(missing, 404, "batch_not_found")


async def test_a_bound_operator_sees_and_acts_on_his_tenants_alone(
    bench: IntakeBench, client: httpx.AsyncClient
) -> None:
    add_letter(bench, 1)
    add_letter(bench, 2, "other")
    bound = operator("bound")
    assert [one["count"] for one in (await client.get(f"{BASE}/dead-letters", headers=bound)).json()["items"]] == [1]
    plan = (await client.post(f"{BASE}/plans", json=GROUP, headers=bound)).json()
    assert [one["name"] for one in plan["items"]] == ["1"]
    of_all = (await confirm(client, (await planned(client))["hash"])).json()
    assert_problem(await client.get(of_all["links"]["self"], headers=bound), 404, "batch_not_found")
    pause = {"consumer": "archiving", "minutes": 5, "reason": "INC-1"}
    assert_problem(await client.post(f"{BASE}/pauses", json=pause, headers=bound), 403, "operator_bound")
    outbox = await client.post(f"{BASE}/plans", json={"act": "drop_refused"}, headers=bound)
    assert_problem(outbox, 403, "operator_bound")


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.OPERATOR])
async def test_nobody_but_operators_acts(client: httpx.AsyncClient, role: Role) -> None:
    headers = bearer(role.value)
    for path in ("plans", "batches", f"batches/{uuid4()}/stop", "pauses", "pauses/archiving/resume"):
        assert_problem(await client.post(f"{BASE}/{path}", json={}, headers=headers), 403, "forbidden")
    seen = await client.get(f"{BASE}/dead-letters", headers=headers)
    assert seen.status_code == (200 if role is Role.AUDITOR else 403)


async def test_a_consumer_is_paused_and_resumed(client: httpx.AsyncClient) -> None:
    body = {"consumer": "archiving", "minutes": 30, "reason": "INC-1"}
    answer = await client.post(f"{BASE}/pauses", json=body, headers=operator())
    pause = answer.json()
    assert (answer.status_code, pause["consumer"], pause["reason"]) == (201, "archiving", "INC-1")
    assert (await client.post(f"{BASE}/pauses", json=body, headers=operator())).json() == pause
    assert_problem(await client.post(f"{BASE}/pauses", json=body, headers=operator("bob")), 409, "pause_refused")
    assert (await client.get(f"{BASE}/pauses", headers=bearer("auditor"))).json() == {"items": [pause]}
    resume = f"{BASE}/pauses/archiving/resume"
    assert (await client.post(resume, json={"reason": "MENDED"}, headers=operator("bob"))).json() == pause
    assert_problem(await client.post(resume, json={"reason": "MENDED"}, headers=operator()), 409, "pause_refused")
    unknown = await client.post(f"{BASE}/pauses", json={**body, "consumer": "nobody"}, headers=operator())
    assert_problem(unknown, 404, "consumer_unknown")
    long = await client.post(f"{BASE}/pauses", json={**body, "minutes": 1441}, headers=operator())
    assert_problem(long, 422, "metadata_invalid")


@pytest.mark.parametrize("since", ["yesterday", "2026-01-31T12:00:00", 1_700_000_000, True])
async def test_a_window_begins_at_a_time(client: httpx.AsyncClient, since: object) -> None:
    body = {"act": "replay", "consumer": "archiving", "since": since}
    answer = await client.post(f"{BASE}/plans", json=body, headers=operator())
    assert answer.status_code == 422
    assert "since" in answer.text


async def test_a_replay_is_planned_for_one_consumer_since_a_time(client: httpx.AsyncClient) -> None:
    async def plan(**body: object) -> httpx.Response:
        return await client.post(f"{BASE}/plans", json={"act": "replay", **body}, headers=operator())

    found = await plan(consumer="archiving", since="2026-01-31T12:00:00Z")
    assert (found.status_code, found.json()["items"], found.json()["left_out"]) == (200, [], [])
    assert (await plan(consumer="archiving")).json()["code"] == "parameter_invalid"
    assert (await plan(since="2026-01-31T12:00:00Z")).json()["code"] == "parameter_invalid"
    assert (await plan(consumer="nobody", since="2026-01-31T12:00:00Z")).status_code == 404
