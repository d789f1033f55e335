"""The overview at a terminal: 80 columns, unknown is told as unknown, and each red line says what comes next."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from domain.consumers import CONSUMERS
from domain.dead_letters import HeldEvent, HeldEventStatus
from domain.errors import BrokerUnavailable
from domain.lifecycle import Status
from domain.overview import (
    CheckpointsOverview,
    Count,
    DeadGroup,
    ErasuresOverview,
    HeldGroup,
    Holder,
    NextStep,
    OutboxOverview,
    RestoreOverview,
    Sample,
    StateOverview,
)
from operations.kafka.lag import PartitionLag
from operations.overview.model import (
    CircuitOverview,
    DependencyOverview,
    Overview,
    Pause,
    ReconcileOverview,
    StalledPartition,
)
from runtime.cli import dead_letters, lag, overview
from runtime.cli.main import main
from runtime.cli.overview_lines import HOLDERS, NEXT, bars, lines_of, outbox_lines
from tests.support.builders import NOW
from tests.support.overviews import DOCUMENT, a_consumer, an_oldest, an_overview
from tests.support.settings import settings_of


def ago(**how: float) -> Any:
    return NOW - timedelta(**how)


def everything_wrong() -> Overview:
    consumer = a_consumer(
        "notification",
        lag=99_999_999,
        behind_seconds=9 * 86400.0,
        known=True,
        held=(HeldGroup(waiting_for="smtp", code="mail_unavailable", count=9999, since=ago(days=2), attempts=999),),
        dead_open=(DeadGroup(code="mail_refused", error_class="MailRefused", count=12, newest=ago(hours=3), new=4),),
        waits_for=("smtp", "kafka"),
        waits_since=ago(days=2),
        stalled=(
            StalledPartition(topic="dpj.document.uploaded", partition=2, seconds=900.0, held_up_by=None),
            StalledPartition(topic="dpj.document.uploaded", partition=11, seconds=900.0, held_up_by="t/1/7"),
        ),
        retention_margin_seconds=20 * 86400.0,
        trend=tuple(Sample(at=ago(minutes=n), lag=n, behind_seconds=None) for n in range(59, 0, -1)),
        drain_seconds=None,
        paused=Pause(owner="k1.abcdefghijklmnop", reason="INC-1234", until=NOW),
    )
    return an_overview(
        consumers=(consumer, a_consumer("audit")),
        outbox=OutboxOverview(
            waiting=Count(10_000, more=True), oldest=ago(minutes=12), refused=Count(3), refused_since=ago(days=1)
        ),
        states=(
            StateOverview(status=Status.STORED, count=Count(10_000, more=True), oldest=ago(hours=5)),
            StateOverview(status=Status.VALIDATED, count=Count(0, more=True), oldest=None),
            StateOverview(status=Status.ERASING, count=Count(0), oldest=None),
        ),
        oldest=an_oldest(
            waits_since=ago(hours=5),
            deposited_at=ago(days=9),
            held_by=Holder.GED,
            held_since=ago(hours=5),
            waiting_for="ged",
            next_step=NextStep.CONSUMER_TRIES_AGAIN,
            consumer="archiving",
            code="ged_unavailable",
            attempts=41,
        ),
        checkpoints=CheckpointsOverview(newest=ago(minutes=4), overdue_since=ago(hours=2), uncovered=3),
        audit_steps_stopped=("flush",),
        erasures=ErasuresOverview(waiting=Count(2), oldest=ago(days=1)),
        dependencies=(
            DependencyOverview(name="smtp", away=True, away_since=ago(hours=2), processes=("worker-notification",)),
            DependencyOverview(name="ged", away=False, away_since=None, processes=("worker-archiving",)),
        ),
        circuits=(
            CircuitOverview(process="worker-notification", dependency="smtp", state="open"),
            CircuitOverview(process="worker-archiving", dependency="ged", state="closed"),
        ),
        silent=("relay",),
        watchdog_looked=ago(seconds=12),
        reconcile=ReconcileOverview(finished_at=ago(minutes=50), findings={"left_object": 2}),
        restores=(RestoreOverview(store="postgresql", since=ago(hours=3)),),
    )


def test_all_of_it_fits_eighty_columns_and_names_what_to_do() -> None:
    lines = lines_of(everything_wrong())
    assert [line for line in lines if len(line) > 80] == []
    page = "\n".join(lines)
    for told in (
        f"Oldest        5 h: {DOCUMENT}",
        "held by archiving for ged, since 5 h",
        "ged_unavailable, 41 tries",
        "next: the consumer tries again",
        "10,000+ rows wait for the relay, the first for 12 min",
        "dpj outbox refused",
        "PAUSED until 12:00 by k1.abcdefghijklmnop: INC-1234",
        "waits for smtp, kafka, since 2 d",
        "STALLED: dpj.document.uploaded 2",
        "held up by t/1/7",
        "holds 9999 for smtp",
        "dead: 12 mail_refused (MailRefused), newest 3 h ago, 4 new",
        "STORED 10,000+, the first for 5 h",
        "VALIDATED some",
        "due for 3 tenants",
        "STOPPED at flush: dpj audit verify",
        "2 wait, the first for 24 h",
        "smtp, since 2 h, says worker-notification",
        "smtp is open in worker-notification",
        "No answer     relay",
        "left_object 2",
        "dpj restore status",
    ):
        assert told in page, told
    assert "ERASING" not in page
    assert "ged is" not in page


def test_unknown_is_never_zero() -> None:
    lines = lines_of(an_overview())
    for line in lines[lines.index(next(one for one in lines if one.startswith("CONSUMER"))) + 1 :][: len(CONSUMERS)]:
        name, behind, waiting, trend, drains, held, dead, kept = line.split()
        assert (behind, waiting, drains, held, dead, kept) == ("?",) * 6
        assert set(trend) == {"·"}
        assert name in CONSUMERS
    page = "\n".join(lines)
    assert "Oldest        unknown" in page
    assert "Outbox        unknown" in page
    assert "0" not in page.replace("02", "")


def test_a_pipeline_at_rest() -> None:
    empty = OutboxOverview(waiting=Count(0), oldest=None, refused=Count(0), refused_since=None)
    quiet = a_consumer("audit", lag=0, behind_seconds=0.0, known=True, held=(), dead_open=(), drain_seconds=0.0)
    lines = lines_of(an_overview(outbox=empty, consumers=(quiet,), states=(), oldest_unknown=False))
    assert lines[:2] == ["Oldest        no document waits", "Outbox        nothing waits"]
    assert lines[4].split() == ["audit", "-", "0", "·" * 12, "-", "0", "0", "-"]


def test_every_holder_and_step_has_its_words() -> None:
    assert (set(HOLDERS), set(NEXT)) == (set(Holder), set(NextStep))


def test_a_trend_is_the_worst_of_each_five_minutes() -> None:
    samples = [
        Sample(at=ago(minutes=59), lag=8, behind_seconds=None),
        Sample(at=ago(minutes=58), lag=1, behind_seconds=None),
        Sample(at=ago(minutes=8), lag=0, behind_seconds=None),
        Sample(at=ago(minutes=2), lag=None, behind_seconds=None),
        Sample(at=ago(minutes=1), lag=1, behind_seconds=None),
        Sample(at=ago(minutes=200), lag=99, behind_seconds=None),
    ]
    assert bars(samples, NOW) == "█·········▁▂"


def test_what_the_database_does_not_say_is_unknown() -> None:
    assert outbox_lines(None, NOW) == ["Outbox        unknown: the database does not say"]


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Overview]:
    """What the site answers, one after the other."""
    answers: list[Overview] = []

    async def look() -> Overview:
        return answers.pop(0)

    async def on_site(_: object, work: Callable[[Any], Awaitable[None]]) -> None:
        await work(SimpleNamespace(settings=settings_of(), overview=lambda _: SimpleNamespace(look=look)))

    monkeypatch.setattr(overview, "on_site", on_site)
    return answers


def test_for_programs_unknown_is_null_and_times_are_iso(
    looks: list[Overview], capsys: pytest.CaptureFixture[str]
) -> None:
    looks.append(everything_wrong())
    assert main(["overview", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["at"] == NOW.isoformat()
    assert found["oldest"]["document_id"] == str(DOCUMENT)
    assert found["oldest"]["held_by"] == "ged"
    assert found["outbox"]["waiting"] == {"number": 10_000, "more": True}
    assert [one["lag"] for one in found["consumers"]] == [99_999_999, None]
    assert found["reconcile"]["findings"] == {"left_object": 2}


def test_watching_looks_again(looks: list[Overview], capsys: pytest.CaptureFixture[str]) -> None:
    looks += [an_overview(), an_overview(at=NOW + timedelta(seconds=1))]
    assert main(["overview", "--watch", "--every", "1", "--times", "2"]) == 0
    out = capsys.readouterr().out
    assert out.count("CONSUMER") == 2
    assert "2026-03-01 12:00:01 UTC" in out
    assert "\x1b" not in out  # no terminal, nothing that only a terminal obeys


@pytest.mark.parametrize("command", ["overview", "lag"])
def test_watching_is_for_people(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(lag, "settings_of", lambda _: settings_of())
    assert main([command, "--watch", "--json"]) == 1
    assert "do not go together" in capsys.readouterr().out


def _lag(name: str, waiting: int, behind: float | None) -> PartitionLag:
    return PartitionLag(
        group=f"dpj.{name}",
        topic="t",
        partition=0,
        start=0,
        end=900,
        committed=900 - waiting,
        lag=waiting,
        behind=behind,
    )


def test_lag_shows_the_outbox_first_and_watches_the_trend(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = OutboxOverview(waiting=Count(30), oldest=NOW, refused=Count(0), refused_since=None)
    answers: list[Any] = [[_lag("audit", 600, 61.0)], BrokerUnavailable("away"), [_lag("audit", 300, 30.0)]]

    def measure(*_: object, **__: object) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("operations.kafka.lag.measure", measure)
    monkeypatch.setattr("runtime.wiring.backlog.outbox_backlog", lambda _: outbox)
    monkeypatch.setattr("runtime.processes.health_ports.stalled_places", lambda _: {})
    monkeypatch.setattr(lag, "settings_of", lambda _: settings_of())
    assert main(["lag", "--watch", "--every", "1", "--times", "3"]) == 0
    out = capsys.readouterr().out
    assert out.count("Outbox        30 rows wait for the relay") == 3
    assert "Lag is unknown: away" in out
    last = next(line for line in reversed(out.splitlines()) if line.startswith("audit"))
    _, waiting, behind, unit, change, *_ = last.split()
    assert (waiting, behind, unit) == ("300", "30", "s")
    assert float(change.replace(",", "")) < -1_000  # 300 in two seconds
    assert max(map(len, out.splitlines())) <= 80


def test_lag_tells_what_the_outbox_holds_though_the_broker_is_away(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: object, **__: object) -> Any:
        raise BrokerUnavailable("away")

    monkeypatch.setattr("operations.kafka.lag.measure", measure)
    monkeypatch.setattr("runtime.wiring.backlog.outbox_backlog", lambda _: None)
    monkeypatch.setattr(lag, "settings_of", lambda _: settings_of())
    assert main(["lag"]) == 1
    out, err = capsys.readouterr()
    assert out == "Outbox        unknown: the database does not say\n\n"
    assert "away" in err


def _held(consumer: str, waiting_for: str, attempts: int, minutes: float) -> HeldEventStatus:
    event = HeldEvent(
        consumer=consumer,
        event_id=DOCUMENT,
        document_key=str(DOCUMENT),
        tenant="acme",
        topic="t",
        partition=0,
        offset=1,
        code=f"{waiting_for}_unavailable",
        waiting_for=waiting_for,
        attempts=attempts,
    )
    at = ago(minutes=minutes)
    return HeldEventStatus(event=event, since=at, noted_at=NOW, given_up_by=None, given_up_reason=None)


def test_held_events_by_group_and_by_filter(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, dict[str, Any]]] = []
    rows = [_held("archiving", "ged", 9, 50), _held("notification", "smtp", 2, 9), _held("archiving", "ged", 41, 5)]

    async def held(limit: int, **wanted: Any) -> list[HeldEventStatus]:
        asked.append((limit, wanted))
        return rows[:limit]

    async def on_site(_: object, work: Any) -> Any:
        return await work(SimpleNamespace(operations=lambda: SimpleNamespace(held=held)))

    monkeypatch.setattr(dead_letters, "on_site", on_site)
    assert main(["dlq", "held", "--summary", "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert [(one["consumer"], one["waiting_for"], one["count"], one["attempts"]) for one in groups] == [
        ("archiving", "ged", 2, 41),
        ("notification", "smtp", 1, 2),
    ]
    assert groups[0]["since"] == ago(minutes=50).isoformat()
    words = ["--consumer", "archiving", "--dependency", "ged", "--code", "ged_unavailable", "--limit", "1"]
    assert main(["dlq", "held", *words]) == 0
    out, err = capsys.readouterr()
    assert "ged" in out
    assert "more than 1" in err
    assert asked[-1] == (2, {"consumers": ("archiving",), "waiting_for": "ged", "code": "ged_unavailable"})
    assert main(["dlq", "held", "--consumer", "nobody"]) == 1
