"""What the console's pages show: what needs a person in red, what is unknown as unknown, hostile texts as they are spelt."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from console.charts import sparkline
from console.findings import ACT, UNKNOWN, WATCH, of_consumer, of_pipeline
from console.languages import Texts
from console.latest_overview import LatestOverview
from console.pages_runbook import page_of
from console.rendering import Writer, environment
from domain.audit_chain import entry_of, genesis, head_after
from domain.consumers import CONSUMERS
from domain.dead_letters import HeldEvent, HeldEventStatus
from domain.documents import TimelineEntry
from domain.events import AuditRecorded
from domain.lifecycle import Status
from domain.overview import CheckpointsOverview, Count, DeadGroup, HeldGroup, OutboxOverview, RestoreOverview, Sample
from domain.owed_events import OwedEvent, PartitionProgress
from domain.pauses import Pause
from operations.overview.model import (
    ConsumerOverview,
    DependencyOverview,
    PartitionOwner,
    ReconcileOverview,
    StalledPartition,
)
from processors.documents.transitions import canonical_json
from tests.support.builders import NOW
from tests.support.console import ConsoleBench, a_consumer, an_overview, sign_in, token_in
from tests.support.overviews import DOCUMENT, a_partition, an_oldest

HOSTILE = '<script>alert(1)</script>\u202e\x1b[31m"'


def ago(**how: float) -> datetime:
    return NOW - timedelta(**how)


def names(findings: Any) -> list[tuple[str, str]]:
    return [(one.kind, one.name) for one in findings]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"known": False, "lag": None, "behind_seconds": None}, [(UNKNOWN, "lag_unknown")]),
        ({"lag": 4, "behind_seconds": 29.0}, []),
        ({"lag": 4, "behind_seconds": 40.0, "drain_seconds": 10.0}, [(WATCH, "late")]),
        ({"lag": 4, "behind_seconds": 400.0, "drain_seconds": 10.0}, [(WATCH, "late")]),
        ({"lag": 4, "behind_seconds": 400.0, "drain_seconds": None}, [(ACT, "late_growing")]),
        ({"waits_for": ("ged",), "waits_since": ago(seconds=30)}, [(WATCH, "waits")]),
        ({"waits_for": ("ged",), "waits_since": ago(seconds=300)}, [(ACT, "waits")]),
        ({"waits_for": ("ged",), "waits_since": None}, [(WATCH, "waits_now")]),
        # Late because of what it waits for: that is told, and the rest follows.
        (
            {"lag": 4, "behind_seconds": 400.0, "waits_for": ("ged",), "waits_since": ago(seconds=30)},
            [(WATCH, "waits")],
        ),
        (
            {
                "waits_for": ("ged",),
                "waits_since": ago(seconds=300),
                "stalled": (StalledPartition(topic="t", partition=0, seconds=99.0, held_up_by=None),),
            },
            [(ACT, "waits")],
        ),
        (
            {"stalled": (StalledPartition(topic="t", partition=0, seconds=99.0, held_up_by=None),)},
            [(ACT, "stalled")],
        ),
        (
            {"stalled": (StalledPartition(topic="t", partition=0, seconds=99.0, held_up_by="t/0/7"),)},
            [(ACT, "crashing")],
        ),
        (
            {"dead_open": (DeadGroup(code="ged_refused", error_class="E", count=3, newest=NOW, new=None),)},
            [(ACT, "dead")],
        ),
        ({"retention_margin_seconds": 3600.0}, [(ACT, "margin")]),
        ({"retention_margin_seconds": 3 * 86_400.0}, [(WATCH, "margin")]),
        ({"retention_margin_seconds": 20 * 86_400.0}, []),
        (
            {"held": (HeldGroup(waiting_for="retry", code="c", count=2, since=ago(minutes=2), attempts=3),)},
            [(WATCH, "held")],
        ),
    ],
)
def test_red_is_for_what_needs_a_person(changes: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert names(of_consumer(a_consumer("archiving", **changes), NOW)) == found


def consumers_with(name: str, **changes: Any) -> tuple[ConsumerOverview, ...]:
    return tuple(a_consumer(one, **changes) if one == name else a_consumer(one) for one in CONSUMERS)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"outbox": None}, [(UNKNOWN, "outbox_unknown")]),
        (
            {"outbox": OutboxOverview(waiting=Count(30), oldest=ago(seconds=90), refused=Count(0), refused_since=None)},
            [(ACT, "outbox_waits")],
        ),
        (
            {"outbox": OutboxOverview(waiting=Count(0), oldest=None, refused=Count(2), refused_since=NOW)},
            [(ACT, "refused")],
        ),
        ({"audit_steps_stopped": ("checkpoint",)}, [(ACT, "audit_stopped")]),
        (
            {"checkpoints": CheckpointsOverview(newest=NOW, overdue_since=ago(seconds=700), uncovered=1)},
            [(ACT, "checkpoints")],
        ),
        ({"checkpoints": CheckpointsOverview(newest=NOW, overdue_since=ago(seconds=300), uncovered=1)}, []),
        (
            {"dependencies": (DependencyOverview(name="ged", away=True, away_since=ago(hours=1), processes=()),)},
            [(ACT, "away")],
        ),
        ({"silent": ("relay",)}, [(ACT, "silent")]),
        ({"consumers": tuple(a_consumer(name, partitions=()) for name in CONSUMERS)}, [(ACT, "topics_missing")]),
        ({"consumers": (a_consumer("archiving", partitions=None),)}, [(UNKNOWN, "kafka_unknown")]),
        ({"consumers": consumers_with("audit", lost=3)}, [(ACT, "lost")]),
        ({"watchdog_looked": None}, [(UNKNOWN, "watchdog_unknown")]),
        ({"watchdog_looked": ago(minutes=5)}, [(ACT, "watchdog")]),
        ({"reconcile": ReconcileOverview(finished_at=NOW, findings={"event_lost": 2})}, [(ACT, "reconcile")]),
        ({"reconcile": ReconcileOverview(finished_at=NOW, findings={})}, []),
        ({"restores": (RestoreOverview(store="postgresql", since=ago(hours=1)),)}, [(ACT, "restore")]),
    ],
)
def test_what_surrounds_the_consumers_is_told_as_well(changes: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert names(of_pipeline(an_overview(**changes), checkpoint_seconds=300.0)) == found


def test_a_line_leads_to_the_page_that_holds_the_diagnosis() -> None:
    group = DeadGroup(code="ged_refused", error_class="GedRefused", count=3, newest=NOW, new=None)
    (dead,) = of_consumer(a_consumer("archiving", dead_open=(group,)), NOW)
    assert dead.link == "/operations/dead-letters?consumer=archiving&code=ged_refused&error_class=GedRefused"
    (many,) = of_consumer(a_consumer("archiving", dead_open=(group, replace(group, code="other"))), NOW)
    assert many.link == "/operations#letters"
    ged = DependencyOverview(name="ged", away=True, away_since=ago(seconds=9), processes=())
    waiting = consumers_with("archiving", waits_for=("ged",), waits_since=ago(seconds=9))
    (away,) = of_pipeline(an_overview(consumers=waiting, dependencies=(ged,)), checkpoint_seconds=300.0)
    assert (away.kind, away.link) == (WATCH, "/consumers/archiving")
    behind = OutboxOverview(waiting=Count(30), oldest=ago(seconds=90), refused=Count(0), refused_since=None)
    first = consumers_with("integrity", oldest=an_oldest())
    (outbox,) = of_pipeline(an_overview(consumers=first, outbox=behind), checkpoint_seconds=300.0)
    assert outbox.link == f"/documents/{DOCUMENT}"


async def test_what_is_only_worth_a_look_says_what_comes_next_as_well() -> None:
    console = ConsoleBench()
    console.overview = an_overview(a_consumer("archiving", waits_for=("ged",), waits_since=ago(seconds=20)))
    async with console.client() as client:
        await sign_in(client)
        page = (await client.get("/")).text
    told = page.partition('id="todo"')[2].partition("</section>")[0]
    assert "Worth a look; nothing needs a person" in told
    assert "archiving has waited for the GED for 20" in told
    assert "Bring that server back" in told


async def test_each_red_line_says_what_to_do_and_leads_to_its_runbook() -> None:
    console = ConsoleBench()
    console.overview = an_overview(
        a_consumer("archiving", waits_for=("ged",), waits_since=ago(minutes=9)), silent=("relay",)
    )
    async with console.client() as client:
        await sign_in(client)
        page = (await client.get("/")).text
    assert "2 things need a person" in page
    assert "archiving has waited for the GED for 9\u00a0min" in page
    assert "Bring that server back" in page
    assert 'href="/runbook#when-a-part-is-down"' in page
    assert 'href="/runbook#start-and-stop"' in page


async def test_a_server_that_is_away_is_one_thing_to_do_however_many_wait_for_it() -> None:
    console = ConsoleBench()
    away = DependencyOverview(name="ged", away=True, away_since=ago(minutes=9), processes=("worker-archiving",))
    waiting = a_consumer("archiving", waits_for=("ged",), waits_since=ago(minutes=9))
    console.overview = an_overview(waiting, dependencies=(away,))
    async with console.client() as client:
        await sign_in(client)
        page = (await client.get("/")).text
    assert "1 thing needs a person" in page
    assert "Server away for 9\u00a0min: the GED" in page
    assert "Waits for the GED for 9\u00a0min" in page


async def test_what_is_unknown_is_never_nought() -> None:
    console = ConsoleBench()
    nothing = {"lag": None, "behind_seconds": None, "known": False, "partitions": None, "held": None, "dead_open": None}
    console.overview = an_overview(
        *(a_consumer(name, **nothing) for name in ("integrity", "archiving")), outbox=None, states=None, erasures=None
    )
    async with console.client() as client:
        await sign_in(client)
        page = (await client.get("/")).text
        line = page.partition("<tbody>")[2].partition("</tr>")[0]
        assert "/consumers/integrity" in line
        assert "how far behind is unknown" not in page  # it follows from one thing, which is told
        assert line.count(">unknown<") >= 4
        assert ">0<" not in line
        assert "Kafka does not answer" in (await client.get("/consumers/integrity")).text
        assert ">unknown<" in (await client.get("/topics")).text


def held_by_archiving(key: object, **changes: Any) -> HeldEventStatus:
    event = HeldEvent(
        consumer="archiving",
        event_id=uuid4(),
        document_key=str(key),
        tenant="acme",
        topic="dpj.document.validated",
        partition=0,
        **{"offset": 7, "code": "ged_unavailable", "waiting_for": "ged", "attempts": 41, **changes},
    )
    at = datetime.now(UTC) - timedelta(minutes=12, seconds=5)
    return HeldEventStatus(event=event, since=at, noted_at=at, given_up_by=None, given_up_reason=None)


async def test_a_document_tells_why_it_is_late() -> None:
    console = ConsoleBench()
    document = console.document(status=Status.VALIDATED)
    console.delivery.held = [held_by_archiving(document.id)]
    # (the fake outbox owes nothing: what is held is told by the event)
    async with console.client() as client:
        await sign_in(client)
        page = (await client.get(f"/documents/{document.id}")).text
    assert "Validated, to be archived" in page
    assert str(document.dossier_id) in page
    assert document.original_name not in page
    audited = [one for one in console.bench.database.rows.outbox if isinstance(one, AuditRecorded)]
    assert (audited[-1].action, audited[-1].entity_id) == ("document.read", str(document.id))


async def test_a_document_tells_that_its_consumer_is_paused() -> None:
    console = ConsoleBench()
    document = console.document(status=Status.VALIDATED)
    topic = "dpj.document.validated"
    event = OwedEvent(
        row_id=1,
        event_id=uuid4(),
        topic=topic,
        key=str(document.id),
        consumers=("archiving",),
        published_at=NOW,
        partition=0,
        offset=0,
        re_emissions=0,
    )
    console.delivery.owed = [event]
    console.progress = {("archiving", topic, 0): PartitionProgress(0, 1, 0)}
    console.delivery.pauses = {
        "archiving": Pause(
            consumer="archiving", by="k1.x", reason="INC-1", since=NOW, until=datetime.now(UTC) + timedelta(hours=2)
        )
    }
    async with console.client() as client:
        await sign_in(client)
        page = (await client.get(f"/documents/{document.id}")).text
        assert "archiving is paused until" in page
        assert "the consumer goes on when its pause ends" in page
        console.delivery.pauses = {}
        page = (await client.get(f"/documents/{document.id}")).text
    assert "is paused" not in page
    assert "the consumer reads it" in page


async def test_texts_of_strangers_are_shown_as_they_are_spelt() -> None:
    console = ConsoleBench()
    partition = a_partition(committed=1, end=9, lag=8, behind_seconds=3.0, head=HOSTILE)
    console.overview = an_overview(a_consumer("integrity", lag=8, behind_seconds=3.0, partitions=(partition,)))
    document = console.document()
    entry = TimelineEntry(
        document_id=document.id,
        dossier_id=document.dossier_id,
        type=HOSTILE,
        actor=HOSTILE,
        at=NOW,
        details={"code": HOSTILE},
    )
    console.bench.database.rows.timeline.append(entry)
    line = AuditRecorded(
        event_id=uuid4(),
        sequence=0,
        occurred_at=NOW,
        correlation_id=uuid4(),
        tenant="acme",
        actor=HOSTILE,
        entity_type="document",
        entity_id=HOSTILE,
        action="token.revoked",
        details=canonical_json({"reason": HOSTILE}),
        old_state=None,
        new_state=None,
        ip_sealed=None,
        user_agent_sealed=None,
    )
    first = entry_of(line, genesis("acme"))
    bare = replace(line, event_id=uuid4(), details="{}")
    console.log.entries_there = [first, entry_of(bare, head_after(first))]
    async with console.client() as client:
        await sign_in(client)
        for path in ("/consumers", f"/documents/{document.id}", "/acts?tenant=acme", f"/documents?id={quote(HOSTILE)}"):
            page = (await client.get(path)).text
            assert "&lt;script&gt;" in page, path
            assert "<script>" not in page, path
            assert "\u202e" not in page, path
            assert "\x1b" not in page, path


async def test_a_search_says_what_it_was_asked_and_pages_by_key() -> None:
    console = ConsoleBench()
    for number in range(60):
        console.document(created_at=ago(minutes=number), failure_code="ged_refused", status=Status.ARCHIVE_FAILED)
    console.document(created_at=NOW)
    async with console.client() as client:
        await sign_in(client)
        first = (await client.get("/documents", params={"failure": "ged_refused"})).text
        assert first.count("<tr>") == 51
        address = first.partition('" rel="next"')[0].rpartition('href="')[2].replace("&amp;", "&")
        assert "failure=ged_refused" in address
        second = (await client.get(address)).text
        assert second.count("<tr>") == 11
        assert "This is no id" in (await client.get("/documents", params={"id": "x"})).text
        assert (await client.get("/documents", params={"cursor": "x"})).status_code == 400
        found = await client.get("/documents", params={"id": str(uuid4())})
        assert found.status_code == 303


async def test_one_look_serves_all_who_ask() -> None:
    looks, now = 0, 0.0

    async def look() -> Any:
        nonlocal looks
        looks += 1
        return an_overview()

    latest = LatestOverview(look, lambda: now)
    await latest.get()
    await latest.get()
    assert looks == 1
    assert latest.rate_in("dpj.document.uploaded") is None
    now = 10.0
    await latest.get()
    assert looks == 1, "what is a few seconds old is shown at once"
    await asyncio.sleep(0)
    await latest.get()
    assert looks == 2, "and looked for anew behind the page"
    now = 40.0
    await latest.get()
    assert looks == 3
    assert latest.rate_in("dpj.document.uploaded") == 0.0
    assert latest.rate_out("integrity", "dpj.document.uploaded") == 0.0
    assert latest.rate_in("nowhere") is None


def test_a_chart_has_gaps_where_nobody_knows() -> None:
    points = [
        (ago(minutes=minute), value) for minute, value in ((50, 1.0), (40, None), (30, 4.0), (20, 2.0), (90, 9.0))
    ]
    drawn = sparkline(points, label='"most"', seconds=3600.0, until=NOW)
    path = drawn.partition('class="line" d="')[2].partition('"')[0]
    assert path.count("M") == 2
    assert "&#34;most&#34;" in drawn


def test_samples_are_as_the_model_has_them() -> None:
    sample = Sample(at=NOW, lag=None, behind_seconds=None)
    assert (
        "M"
        not in sparkline([(sample.at, sample.behind_seconds)], label="x", seconds=60.0, until=NOW)
        .partition('class="line"')[2]
        .partition("/>")[0]
    )


@pytest.mark.parametrize(
    ("seconds", "french", "english"),
    [
        (None, "–", "–"),
        (0.0, "0\u00a0s", "0\u00a0s"),
        (0.25, "250\u00a0ms", "250\u00a0ms"),
        (90.0, "90\u00a0s", "90\u00a0s"),
        (600.0, "10\u00a0min", "10\u00a0min"),
        (3 * 3600 + 300.0, "3\u00a0h\u00a005", "3\u00a0h\u00a005"),
        (30 * 86_400.0, "30\u00a0j", "30\u00a0d"),
    ],
)
def test_durations_have_the_unit_that_suits_them(seconds: float | None, french: str, english: str) -> None:
    assert Writer(Texts("fr"), UTC, NOW).duration(seconds) == french
    assert Writer(Texts("en"), UTC, NOW).duration(seconds) == english


def test_figures_are_written_as_the_language_does() -> None:
    french, english = Writer(Texts("fr"), UTC, NOW), Writer(Texts("en"), UTC, NOW)
    assert (french.number(1234567), english.number(1234567)) == ("1\u202f234\u202f567", "1,234,567")
    assert (french.size(2_819), english.size(2_819)) == ("2,8\u00a0ko", "2.8\u00a0kB")
    assert (french.size(12), english.size(5_000_000_000_000_000)) == ("12\u00a0o", "5000\u00a0TB")


def test_a_template_escapes_by_itself() -> None:
    made = environment().from_string("{{ text }}").render(text=HOSTILE)
    assert made == "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e\\x1b[31m&#34;"


def test_the_runbook_has_its_anchors_and_leads_nowhere_else(tmp_path: Any) -> None:
    file = tmp_path / "OPERATIONS.md"
    file.write_text(
        "# Operations\n\n## When a part is down\n\n[here](#lag) [ADR](adr/1.md) [out](https://x.example)\n\n## Lag\n\n"
        "<script>x</script>\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n## Lag\n"
    )
    page = page_of(file)
    assert '<h2 id="when-a-part-is-down">' in page
    assert '<h2 id="lag">' in page
    assert '<h2 id="lag-1">' in page
    assert '<a href="#lag">here</a> ADR out' in page
    assert "<script>" not in page
    assert "<table" in page


async def test_a_partition_names_its_worker_and_the_last_try_at_its_head() -> None:
    console = ConsoleBench()
    mine = a_partition(
        topic="dpj.document.validated",
        committed=7,
        end=9,
        lag=2,
        owner=PartitionOwner(process="worker-archiving", host="node-3", pid=4711),
    )
    nobody = a_partition(topic="dpj.document.validated", partition=1)
    console.overview = an_overview(a_consumer("archiving", lag=2, partitions=(mine, nobody)))
    console.delivery.held = [held_by_archiving(uuid4(), offset=8, code="smtp_unavailable"), held_by_archiving(uuid4())]
    async with console.client() as client:
        await sign_in(client)
        page = (await client.get("/consumers/archiving")).text.partition("<tbody>")[2]
        french = (await client.get("/consumers/archiving", headers={"Accept-Language": "fr"})).text
    assert "</code> GED unavailable<br>" in page
    assert "</code> GED indisponible<br>" in french
    assert "GED unavailable" not in french
    first, second = page.split("</tr>")[:2]
    assert "node-3/4711" in first
    assert "ged_unavailable" in first
    assert "41 tries" in first
    assert "smtp_unavailable" not in first
    assert ">unknown<" in second
    assert "node-3" not in second


async def test_documents_are_found_by_what_they_wait_for_and_by_their_trace() -> None:
    console = ConsoleBench()
    late, other = console.document(status=Status.VALIDATED), console.document(status=Status.STORED)
    console.delivery.held = [held_by_archiving(late.id), held_by_archiving("no id")]
    console.delivery.traces = {"0af7651916cd43dd8448eb211c80319c": [str(other.id)]}
    async with console.client() as client:
        await sign_in(client)

        async def found(**asked: str) -> set[str]:
            page = (await client.get("/documents", params=asked)).text
            return {str(one.id) for one in (late, other) if f'href="/documents/{one.id}"' in page}

        assert await found() == {str(late.id), str(other.id)}
        assert await found(waits="ged") == {str(late.id)}
        assert await found(waits="smtp") == set()
        assert await found(trace=" 0AF7651916CD43DD8448EB211C80319C ") == {str(other.id)}
        assert await found(trace="0af7651916cd43dd8448eb211c80319c", waits="ged") == set()
        assert "A trace has 32" in (await client.get("/documents", params={"trace": "x"})).text
    audited = [one for one in console.bench.database.rows.outbox if isinstance(one, AuditRecorded)]
    lists = [json.loads(one.details) for one in audited if one.action == "document.list"]
    assert [one.get("found_by") for one in lists] == [None, "waits", "waits", "trace", "waits trace"]


async def test_operators_find_a_person_s_documents_and_nobody_reads_for_whom() -> None:
    console = ConsoleBench()
    receipt = await console.bench.receive(
        caller=console.bench.caller(), dossier_id=console.bench.dossier.id, depositor_email="marie.durand@example.org"
    )
    origin = {"Origin": "http://127.0.0.1:8083"}
    sought = {"by": "email", "text": " Marie.Durand@example.org ", "tenant": "acme"}
    async with console.client() as client:
        await sign_in(client)
        csrf = {"csrf": token_in((await client.get("/documents")).text)}
        page = await client.post("/documents/by-person", data={**csrf, **sought}, headers=origin)
        assert page.status_code == 200
        assert f'href="/documents/{receipt.body["id"]}"' in page.text
        assert "durand" not in page.text.lower()
        (line,) = [
            one
            for one in console.bench.database.rows.outbox
            if isinstance(one, AuditRecorded) and one.action == "document.search"
        ]
        assert (line.tenant, json.loads(line.details)) == ("acme", {"by": ["depositor_email"], "count": 1})
        other = await client.post("/documents/by-person", data={**csrf, **sought, "tenant": "other"}, headers=origin)
        assert str(receipt.body["id"]) not in other.text
        assert (await client.get("/documents/by-person")).headers["location"] == "/documents"
        for wrong in ({"text": ""}, {"by": "name"}, {"text": "x" * 321}):
            answer = await client.post("/documents/by-person", data={**csrf, **sought, **wrong}, headers=origin)
            assert answer.status_code == 422
        assert (
            await client.post("/documents/by-person", data={**csrf, **sought, "tenant": ""}, headers=origin)
        ).status_code >= 400
        console.bound_to = frozenset({"other"})
        await sign_in(client)
        csrf = {"csrf": token_in((await client.get("/documents")).text)}
        assert (await client.post("/documents/by-person", data={**csrf, **sought}, headers=origin)).status_code == 403
        await sign_in(client, "auditor")
        csrf = {"csrf": token_in((await client.get("/documents")).text)}
        assert (await client.post("/documents/by-person", data={**csrf, **sought}, headers=origin)).status_code == 403
        assert "by-person" not in (await client.get("/documents")).text
