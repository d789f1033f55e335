"""What the person at the terminal sees: tables of 80 columns, JSON for programs, reasons for failures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.native import stack
from deploy.native.cli import app
from deploy.native.errors import PartFailed
from deploy.native.parts import ALL
from deploy.native.report import Plain

ROWS = tuple(stack.Row(part.name, "2026-02-12", "127.0.0.1:20000", "no answer", 4_000_000, 123.4) for part in ALL)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DPJ_HOME", str(tmp_path))
    monkeypatch.delenv("DPJ_STACK", raising=False)
    return tmp_path


def up_gives(monkeypatch: pytest.MonkeyPatch, outcome: stack.Stack | BaseException) -> list[tuple[str, str]]:
    calls: list[tuple[str, str]] = []

    def up(name: str, profile: str, **_: object) -> stack.Stack:
        calls.append((name, profile))
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(stack, "up", up)
    return calls


def test_the_table_fits_80_columns(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    calls = up_gives(monkeypatch, stack.Stack("default", "embedded", home / "s", ROWS, started=True, seconds=41.0))
    shown = CliRunner().invoke(app, ["up"], env={"COLUMNS": "80"})
    assert shown.exit_code == 0
    assert calls == [("default", "embedded")]
    table = shown.stdout.splitlines()[: 1 + len(ROWS)]
    assert table[0].split() == ["part", "version", "address", "state", "seconds"]
    for line, row in zip(table[1:], ROWS, strict=True):
        assert len(line.rstrip()) <= 80
        assert line.split() == [row.part, row.version, row.address, "no", "answer", "123.4"]
    assert "is up after 41 s" in shown.stdout


def test_up_as_json(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    up_gives(monkeypatch, stack.Stack("mine", "full", home / "s", ROWS))
    shown = CliRunner().invoke(app, ["up", "--name", "mine", "--profile", "full", "--json"])
    answer = json.loads(shown.stdout)
    assert answer["settings"] == str(home / "s")
    assert answer["rows"][0] | {"part": "kafka", "pid": 4_000_000} == answer["rows"][0]


def test_a_failed_part_is_named_with_its_last_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    up_gives(monkeypatch, PartFailed("kafka", "ended right after its start", "java.lang.Error: [no] disk"))
    shown = CliRunner().invoke(app, ["up"])
    assert shown.exit_code == 1
    assert "kafka: ended right after its start" in shown.stderr
    assert "java.lang.Error: [no] disk" in shown.stderr
    told = json.loads(CliRunner().invoke(app, ["up", "--json"]).stdout)
    assert told["error"] == {"code": "stack_failed", "message": "kafka: ended right after its start", "next_step": ""}


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    up_gives(monkeypatch, KeyboardInterrupt())
    shown = CliRunner().invoke(app, ["up"])
    assert shown.exit_code == 130
    assert "stopped again" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["status"], 1, "there is no stack default"),
        (["status", "--name", "../x"], 1, "lower case"),
        (["down", "--name", "A"], 1, "lower case"),
        (["down"], 0, "nothing was running"),
        (["logs", "nope"], 2, "no part"),
        (["logs"], 0, ""),
    ],
)
def test_what_there_is_nothing_to_do_for(arguments: list[str], code: int, said: str, home: Path) -> None:
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == code
    assert said in shown.output
    assert not list(home.glob("*/stack.json"))


def test_logs_of_one_part(home: Path) -> None:
    (home / "default" / "logs").mkdir(parents=True)
    (home / "default" / "logs" / "ged.log").write_text("one\ntwo\nthree\n")
    assert CliRunner().invoke(app, ["logs", "ged", "-n", "2"]).stdout == "two\nthree\n"
    assert json.loads(CliRunner().invoke(app, ["logs", "ged", "--json"]).stdout) == {"ged": ["one", "two", "three"]}


def test_plain_progress_is_one_line_per_step() -> None:
    lines: list[str] = []
    report = Plain(lines.append)
    report.step("kafka", "starting")
    report.note("apt-get update")
    assert [line.split(" s  ")[1] for line in lines] == ["kafka      starting", "apt-get update"]
