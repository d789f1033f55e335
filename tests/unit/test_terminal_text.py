"""What strangers wrote, on its way to a terminal: spelt out whatever command shows it, in no case obeyed."""

from __future__ import annotations

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

from domain.dead_letters import DeadLetter, HeldEvent, HeldEventStatus, RecordPosition
from domain.shared.terminal_text import visible, visible_lines
from runtime.cli import dead_letters, documents, outbox
from runtime.cli.failures import report
from runtime.cli.main import main
from runtime.cli.operator_options import table
from runtime.cli.output import print_note, print_result
from runtime.errors import CommandFailed

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

        return SimpleNamespace(decoded=decoded)

    def refusals(self) -> Any:
        async def refused(_: int) -> list[Any]:
            return [ROW]

        return SimpleNamespace(refused=refused)


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
def strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def on_site(_: object, work: Any) -> Any:
        return await work(Site())

    async def each(_: object, __: object, take: Any) -> None:
        await take(LETTER, None)

    async def one(*_: object) -> DeadLetter:
        return LETTER

    class Opened:
        def __enter__(self) -> Api:
            return Api()

        def __exit__(self, *_: object) -> None: ...

    for module in (dead_letters, outbox):
        monkeypatch.setattr(module, "on_site", on_site)
    monkeypatch.setattr(dead_letters, "_each", each)
    monkeypatch.setattr(dead_letters, "_letter", one)
    monkeypatch.setattr(documents, "api", lambda *_: Opened())


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "words",
    [
        ["dlq", "list"],
        ["dlq", "show", "archiving/0/1"],
        ["dlq", "held"],
        ["outbox", "refused"],
        ["doc", "list"],
        ["doc", "show", "x"],
        ["doc", "validate", "x"],
        ["doc", "reject", "x", "--reason", "r"],
    ],
)
def test_every_command_that_shows_what_strangers_wrote_spells_it(
    words: list[str], as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--json"] if as_json else words) == 0
    out, err = capsys.readouterr()
    assert "owned" in out
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
