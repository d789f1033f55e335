"""What strangers wrote, on its way to a terminal: spelt out whatever command shows it, in no case obeyed."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from domain.batches import Act, ActionResult, ActRequest, Batch, BatchItem, BatchState, Plan, PlanItem
from domain.dead_letters import DeadLetter, HeldEvent, HeldEventStatus, RecordPosition
from domain.orders import Order, OrderedAct
from domain.owed_events import LostEvent, OwedEvent
from domain.pauses import Pause
from domain.reconciliation import DiscrepancyKind, ReconcileFinding
from domain.restores import Difference, OpenRestore, RestoredStore
from domain.shared.terminal_text import visible, visible_lines
from domain.subjects import Legibility, OpenedAuditField
from operations.audit.verify import AuditReport, ChainReport
from operations.kafka.lag import PartitionLag
from operations.overview.model import Overview
from operations.restore.check import ReadLog, RestoreReport
from processors.audit.reading import OpenedAuditEntry
from processors.operators.document_waits import DocumentWait, WaitState
from processors.reconcile.owed_events import OwedReport
from processors.reconcile.run import ReconcileReport, RepairMode
from runtime.cli import (
    administration,
    batches,
    consumers,
    dead_letters,
    documents,
    lag,
    orders,
    outbox,
    overview,
    pipeline,
    reconcile,
    restore,
)
from runtime.cli.document_waits import waits_of
from runtime.cli.failures import report
from runtime.cli.main import _COMMANDS, main
from runtime.cli.operator_options import table
from runtime.cli.output import print_note, print_result
from runtime.errors import CommandFailed
from runtime.processes.local import ProcessState
from tests.support.console import a_consumer, an_overview

#: Retitle, clear, C1, report (which answers as if typed), direction, isolates, invisible, line ends, bell, surrogate, tag.
HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J\x9b31m\x1b[6n\u202egnp.exe\u2066\u200b\u2028\r\nforged line\x00\ud800\U000e0041é\u202f日"
)


def obeyed(shown: str) -> list[str]:
    """What of it a terminal would obey, or not show; line feeds end the lines."""
    return [one for one in shown if one != "\n" and unicodedata.category(one) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}]


def test_letters_of_any_script_stay_and_the_rest_is_spelt() -> None:
    assert visible("Référence\u00a0: 1\u202f000 € 日本 \\ [red]") == "Référence\u00a0: 1\u202f000 € 日本 \\ [red]"
    assert visible("\x1b\x9b\u202e\n\t\r\x00\ud800\U000e0041") == r"\x1b\x9b\u202e\n\t\r\x00\ud800\U000e0041"
    assert visible(visible(HOSTILE)) == visible(HOSTILE)
    assert visible_lines("a\tb\nc\x1b") == "a\tb\nc\\x1b"
    assert not obeyed(visible(HOSTILE))


@pytest.mark.parametrize(
    "tell",
    [
        lambda: print_result(None, [f"x {HOSTILE}"], as_json=False),
        lambda: print_result(None, table(("A", "B"), [(HOSTILE, ("one", HOSTILE))]), as_json=False),
        lambda: print_result({"x": HOSTILE}, (), as_json=True),
        lambda: print_note(HOSTILE),
        lambda: report(CommandFailed(HOSTILE, HOSTILE), as_json=True),
        lambda: main(["doc", "list", f"--{HOSTILE}", "--json"]),
    ],
)
def test_every_way_out_spells_it(tell: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> None:
    tell()
    out, err = capsys.readouterr()
    assert out + err
    assert not obeyed(out + err)
    assert "\nforged line" not in out + err


LETTER = DeadLetter(
    RecordPosition("dpj.dlq.archiving", 0, 1, 1_700_000_000_000),
    HOSTILE.encode("utf-8", "surrogatepass"),
    b"value",
    {HOSTILE: HOSTILE, "dpj-code": HOSTILE, "dpj-error-class": HOSTILE, "dpj-origin-topic": HOSTILE},
)
HELD = HeldEventStatus(
    event=HeldEvent(
        consumer="archiving", event_id=UUID(int=1), document_key=HOSTILE, tenant=None, topic="t", partition=0, offset=1,
        code=HOSTILE, waiting_for=HOSTILE, attempts=1,
    ),
    since=datetime.now(UTC), noted_at=datetime.now(UTC), given_up_by=None, given_up_reason=HOSTILE,
)  # fmt: skip
ROW = SimpleNamespace(
    id=1, topic=HOSTILE, key=HOSTILE, event_id=None, size=1, code=HOSTILE, refused_at=datetime.now(UTC), waiting=0
)
DOCUMENT = {
    "id": HOSTILE, "status": HOSTILE, "type": HOSTILE, "size": 3, "media_type": HOSTILE, "sha256": HOSTILE,
    "dossier_id": HOSTILE, "archive": {"ged_path": HOSTILE}, "failure_code": HOSTILE, "created_at": HOSTILE,
    "http_status": 200,
}  # fmt: skip
EVENT = {"at": HOSTILE, "type": HOSTILE, "by": HOSTILE, "details": {HOSTILE: HOSTILE}}


NOW = datetime.now(UTC)
#: As a database holds it.
TOLD = HOSTILE.replace("\ud800", "")
LOST = LostEvent(
    OwedEvent(
        row_id=1, event_id=UUID(int=1), topic=HOSTILE, key=HOSTILE, consumers=(HOSTILE,), published_at=NOW, partition=0, offset=1,
        re_emissions=0,
    ),
    (HOSTILE,),
)  # fmt: skip
WAIT = DocumentWait(
    state=WaitState.DEAD, topic=HOSTILE, consumer=HOSTILE, since=NOW, waiting_for=HOSTILE, code=HOSTILE, letter=HOSTILE
)
RESTORE = OpenRestore(store=RestoredStore.KAFKA, opened_at=NOW, opened_by=HOSTILE, reason=HOSTILE)
PAUSE = Pause(consumer=HOSTILE, by=HOSTILE, reason=HOSTILE, since=NOW, until=NOW)
BATCH = Batch(
    id=UUID(int=1), request=ActRequest(act=Act.REDRIVE, items=(HOSTILE,), consumer=HOSTILE, code=HOSTILE), plan_hash="0",
    tenants=None, actor=HOSTILE, reason=HOSTILE, state=BatchState.STOPPED, canary=None, stop_after=1, stopped=HOSTILE,
    created_at=NOW, changed_at=NOW, counts={HOSTILE: 1},
)  # fmt: skip
ORDER = Order(
    id=UUID(int=1), act=OrderedAct.KEY_RETIREMENT, subject=HOSTILE, tenant=HOSTILE, parameters={"reason": HOSTILE},
    ordered_by=HOSTILE, ordered_at=NOW, expires_at=NOW,
)  # fmt: skip
LAG = PartitionLag(group=HOSTILE, topic=HOSTILE, partition=0, start=0, end=2, committed=1, lag=1, behind=3.0)
FIELD = OpenedAuditField(Legibility.CLEAR, HOSTILE)
ENTRY = OpenedAuditEntry(
    seq=1, at=NOW, action=HOSTILE, actor=HOSTILE, details=HOSTILE, ip=FIELD, user_agent=FIELD, faithful=False
)
CHAIN = ChainReport(tenant=HOSTILE, verified=1, expected=2, waiting=0, fault=None)


def answering(answer: Any) -> Callable[..., Any]:
    """A coroutine function that gives what ``answer`` makes, whatever it is asked."""

    async def answered(*_: object, **__: object) -> Any:
        return answer()

    return answered


def reconciled() -> ReconcileReport:
    report = ReconcileReport(RepairMode.NONE)
    details = {HOSTILE: HOSTILE}
    kind = DiscrepancyKind.EVENT_LOST
    report.add(
        ReconcileFinding(fault=kind, document_id=None, tenant=HOSTILE, place=HOSTILE, failed=HOSTILE, details=details)
    )
    report.failed_parts[HOSTILE] = HOSTILE
    return report


def looked_at() -> RestoreReport:
    report = RestoreReport(open=[RESTORE], logs=[ReadLog(HOSTILE, 1, None)])
    report.add(Difference.EVENT_LOST, {"topic": HOSTILE, HOSTILE: HOSTILE})
    report.failed[HOSTILE] = HOSTILE
    return report


class Site:
    """A site of which every part answers with what a stranger wrote."""

    def operations(self) -> Any:
        async def held(_: int, **__: object) -> list[HeldEventStatus]:
            return [HELD]

        async def marks(_: object) -> dict[Any, Any]:
            return {}

        return SimpleNamespace(held=held, marks=marks)

    def operator_actions(self, _: str) -> Any:
        async def decoded(_: object) -> None:
            return None

        async def act(*_: object, **__: object) -> ActionResult:
            return ActionResult("done", HOSTILE)

        acts = ("redrive", "discard", "give_up", "retry_refused", "drop_refused")
        return SimpleNamespace(decoded=decoded, **dict.fromkeys(acts, act))

    def refusals(self) -> Any:
        async def refused(_: int) -> list[Any]:
            return [ROW]

        return SimpleNamespace(refused=refused)

    codec = SimpleNamespace(check=answering(lambda: None))
    settings = SimpleNamespace(events_lost_after=1.0, operator_tenants=None, stack_name="x")
    postgres = None

    def operator(self, name: str) -> str:
        return name

    def owed_events(self) -> Any:
        async def look(**_: object) -> OwedReport:
            report = OwedReport()
            report.add(LOST)
            return report

        return SimpleNamespace(look=look)

    def document_waits(self) -> Any:
        async def of(_: object) -> list[DocumentWait]:
            return [WAIT]

        return SimpleNamespace(of=of)

    @property
    def restore_guard(self) -> Any:
        async def look() -> list[OpenRestore]:
            return [RESTORE]

        return SimpleNamespace(look=look)

    def overview(self, _: object) -> Any:
        async def look() -> Overview:
            return an_overview(a_consumer("archiving", waits_for=(HOSTILE,)), silent=(HOSTILE,))

        return SimpleNamespace(look=look)


class Desk:
    """Batches, orders and pauses that are made of what strangers wrote."""

    def __init__(self, *_: object) -> None: ...

    async def list(self, *_: object) -> list[Batch]:
        return [BATCH]

    async def get(self, *_: object) -> Batch:
        return BATCH

    async def items(self, *_: object, **__: object) -> list[BatchItem]:
        result = {"rank": 1, "name": HOSTILE, "forecast": "done", "result": HOSTILE, "note": HOSTILE, "done_at": None}
        return [BatchItem(**result)]

    go_on = stop = second = get

    async def plan(self, _: object, request: ActRequest) -> Plan:
        items = (PlanItem(TOLD, ActionResult("refused", TOLD)),)
        return Plan(request, None, items, more=True, left_out={TOLD: 1})

    async def open(self, *_: object) -> list[Order]:
        return [ORDER]

    async def paused(self) -> dict[str, Pause]:
        return {"x": PAUSE}

    async def pause(self, *_: object) -> Pause:
        return PAUSE

    async def resume(self, *_: object) -> Pause:
        return PAUSE


class Api:
    def documents(self, **_: str) -> Any:
        yield DOCUMENT

    def document(self, _: str) -> Any:
        return DOCUMENT

    def events(self, _: str) -> Any:
        return {"items": [EVENT]}

    def validate(self, *_: object) -> Any:
        return DOCUMENT

    def reject(self, *_: object) -> Any:
        return DOCUMENT


@pytest.fixture
def strangers_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at everything find what strangers wrote."""

    async def on_site(_: object, work: Any, **__: object) -> Any:
        return looked_at() if "lost_to" in work.__code__.co_freevars else await work(Site())

    # It is the process's, and other tests read their logs.
    monkeypatch.setattr("runtime.observability.telemetry.configure_logging", lambda *_, **__: None)
    monkeypatch.setattr(restore, "on_site", on_site)
    monkeypatch.setattr(reconcile, "_run", answering(reconciled))
    monkeypatch.setattr("runtime.cli.audit.read", answering(lambda: [ENTRY]))
    monkeypatch.setattr("runtime.cli.audit.verify", answering(lambda: AuditReport((CHAIN,))))
    monkeypatch.setattr("runtime.cli.audit.resume", answering(lambda: [(HOSTILE, HOSTILE)]))


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch, strangers_reports: None) -> None:
    async def on_site(_: object, work: Any, **__: object) -> Any:
        return await work(Site())

    async def each(_: object, __: object, take: Any) -> None:
        await take(LETTER, None)

    async def one(*_: object) -> DeadLetter:
        return LETTER

    class Opened:
        def __enter__(self) -> Api:
            return Api()

        def __exit__(self, *_: object) -> None: ...

    for module in (dead_letters, outbox, batches, consumers, orders, overview, documents):
        monkeypatch.setattr(module, "on_site", on_site)

    monkeypatch.setattr(batches, "_desk", lambda _: (Desk(), None))
    monkeypatch.setattr("runtime.wiring.operators.consumer_pauses", Desk)
    monkeypatch.setattr("storage.postgres.orders.PostgresOrderQueries", Desk)
    monkeypatch.setattr("runtime.processes.process_answers.process_answers", lambda _: None)
    for module in (lag, pipeline, reconcile, administration):
        monkeypatch.setattr(module, "settings_of", lambda *_, **__: Site.settings)
    monkeypatch.setattr(administration, "settings_about", lambda *_: Site.settings)
    monkeypatch.setattr(lag, "_measure", lambda _: [LAG])
    monkeypatch.setattr("runtime.wiring.backlog.outbox_backlog", lambda _: None)
    monkeypatch.setattr(
        "runtime.processes.health_ports.stalled_places", lambda _: {(HOSTILE, HOSTILE, 0): (1.0, HOSTILE)}
    )
    monkeypatch.setattr("runtime.processes.health_ports.paused_consumers", lambda _: [HOSTILE])
    running = SimpleNamespace(states=lambda: [ProcessState(HOSTILE, "ready", 1, "", HOSTILE)])
    monkeypatch.setattr("runtime.processes.local.PipelineProcesses", lambda _: running)
    monkeypatch.setattr("deploy.native.stack.status", lambda _: None)
    monkeypatch.setattr(pipeline, "monitoring_of", lambda _: {})

    monkeypatch.setattr(dead_letters, "_each", each)
    monkeypatch.setattr(dead_letters, "_letter", one)
    monkeypatch.setattr(documents, "api", lambda *_: Opened())
    monkeypatch.setattr(documents, "_waits", lambda *_: (asyncio.run(waits_of(Site(), UUID(int=1))), HOSTILE))


_ID = str(UUID(int=1))
_BECAUSE = ["--reason", "INC-1"]
#: Every command that can tell what came from a record, with the words that make it.
TELLING = [
    ["dlq", "list"],
    ["dlq", "show", "archiving/0/1"],
    ["dlq", "held"],
    ["dlq", "held", "--summary"],
    ["dlq", "redrive", "archiving/0/1"],
    ["dlq", "redrive", "--canary", "1"],
    ["dlq", "discard", "archiving/0/1", *_BECAUSE],
    ["dlq", "give-up", "--consumer", "archiving", "--event", _ID, *_BECAUSE],
    ["outbox", "refused"],
    ["outbox", "retry", "1"],
    ["outbox", "drop", "1", *_BECAUSE],
    ["outbox", "owed"],
    ["batches", "list"],
    ["batches", "show", _ID],
    ["batches", "continue", _ID],
    ["batches", "stop", _ID],
    ["batches", "confirm", _ID],
    ["consumers", "list"],
    ["consumers", "replay", "archiving", "--document", _ID],
    ["orders", "list"],
    ["lag"],
    ["overview"],
    ["status"],
    ["reconcile"],
    ["restore", "status"],
    ["restore", "check"],
    ["audit", "show", _ID, "--tenant", "acme", *_BECAUSE],
    ["audit", "verify"],
    ["audit", "resume", *_BECAUSE],
    ["doc", "list"],
    ["doc", "show", _ID],
    ["doc", "validate", "x"],
    ["doc", "reject", "x", "--reason", "r"],
]
#: All others, by what they tell instead. Whatever it is, it goes the ways out that spell it (see below).
SILENT = {
    "numbers and our own names": [
        *(
            "dlq index",
            "outbox re-emit",
            "consumers pause",
            "consumers resume",
            "types set",
            "restore begin",
            "restore end",
            "restore repair",
        ),
        *("schemas register", "schemas check", "topics create", "db migrate", "audit export", "audit keys", "purge"),
        *("keys create", "keys rotate", "keys rewrap", "keys retire", "keys status"),
        *("personal rotate", "personal reseal", "personal retire", "personal status", "personal find"),
        *("tokens revoke", "token", "openapi", "export anonymised", "stack"),
    ],
    "the platform's own words, which its people write": ["types list", "types show"],
    "the API's answers: rows, not records": [
        *("doc submit", "doc content", "erasure request", "erasure order", "erasure confirm", "erasure withdraw"),
        *("erasure receipt", "hold set", "hold lift", "retention show", "retention extend"),
    ],
    "how our processes start and end": ["up", "down", "demo", "api", "console", "relay", "worker", "watchdog"],
}


def test_each_command_is_said_to_tell_records_or_not_to() -> None:
    def commands(name: str, lazy: Any) -> list[str]:
        found = lazy.loaded(name)
        below = getattr(found, "commands", None)
        return [f"{name} {one}" for one in below] if below else [name]

    there = {one for name, lazy in _COMMANDS.items() for one in commands(name, lazy)}
    telling = {next(one for one in (" ".join(words[:2]), words[0]) if one in there) for words in TELLING}
    silent = [one for group in SILENT.values() for one in group]
    assert len(silent) == len(set(silent))
    assert not telling & set(silent)
    assert telling | set(silent) == there


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("words", TELLING, ids=lambda words: " ".join(words[:3]))
def test_every_command_that_shows_what_strangers_wrote_spells_it(
    words: list[str], as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--json"] if as_json else words) in {0, 1}
    out, err = capsys.readouterr()
    assert "owned" in out, err
    assert not obeyed(out + err)
    assert "\nforged line" not in out
    if as_json:
        assert "\x1b]0;owned" in str(json.loads(out)) or "\\x1b" in str(json.loads(out))


def test_a_document_is_not_written_to_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    class Opened:
        def __enter__(self) -> Any:
            return SimpleNamespace(content=lambda _: iter([HOSTILE.encode("utf-8", "replace")]))

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(documents, "api", lambda *_: Opened())
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert main(["doc", "content", "x"]) == 1
    assert "--output FILE" in capsys.readouterr().err


#: Whoever writes to the terminal himself, and what: bars and counts, our own words, a file's bytes (never to a terminal), what
#: ``visible`` has been over. All other commands hand their text to ``runtime.cli.output``.
WRITERS = {
    "administration",
    "documents",
    "failures",
    "lag",
    "main",
    "operator_options",
    "output",
    "overview",
    "progress",
}


def test_a_command_writes_by_the_ways_out_that_spell_it() -> None:
    writes = re.compile(r"sys\.std(?:out|err)\b|\becho\(|\bConsole\(|\bprint\(")
    files = (Path(__file__).resolve().parents[2] / "runtime" / "cli").glob("*.py")
    assert {file.stem for file in files if writes.search(file.read_text("utf-8"))} == WRITERS
