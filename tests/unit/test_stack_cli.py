"""What the person at the terminal sees: tables of 80 columns, JSON for programs, reasons for failures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.native import prerequisites, stack
from deploy.native.cli import app
from deploy.native.errors import Missing, PartFailed
from deploy.native.parts import ALL, of
from deploy.native.report import Plain, Silent

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


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with nothing installed, and a user who may not install."""
    monkeypatch.setattr(prerequisites, "output", lambda *command: "")
    monkeypatch.setattr(prerequisites.shutil, "which", lambda program: None)
    monkeypatch.setattr(prerequisites, "postgres_folder", lambda: None)
    monkeypatch.setattr(prerequisites.ctypes.util, "find_library", lambda name: None)
    monkeypatch.setattr(prerequisites.os, "geteuid", lambda: 1000)


@pytest.mark.usefixtures("bare")
def test_all_that_is_missing_is_named_with_its_package() -> None:
    with pytest.raises(Missing) as error:
        prerequisites.ensure(frozenset({"go", "mvn"}), Silent())
    for package in ("default-jre-headless", "maven", "golang-go", "postgresql", "libmagic1"):
        assert package in str(error.value)


@pytest.mark.usefixtures("bare")
def test_build_tools_are_asked_for_only_if_something_is_to_be_built() -> None:
    assert {"maven", "golang-go"}.isdisjoint(item.package for item in prerequisites.missing(frozenset()))


@pytest.mark.parametrize(
    ("java", "go", "lacking"),
    [
        ('openjdk version "17.0.15" 2025-04-15', "go version go1.24.0 linux/amd64", []),
        ('openjdk version "25" 2025-09-16', "go version go1.26.8 linux/amd64", []),
        ('openjdk version "11.0.2"', "go version go1.19.8 linux/amd64", ["Java >= 17", "Go >= 1.24"]),
        ('java version "1.8.0_401"', "", ["Java >= 17", "Go >= 1.24"]),
    ],
)
def test_versions(monkeypatch: pytest.MonkeyPatch, java: str, go: str, lacking: list[str]) -> None:
    monkeypatch.setattr(prerequisites, "output", lambda program, *_: {"java": java, "go": go}[program])
    names = [item.name for item in prerequisites.missing(frozenset({"go"}))]
    assert [name for name in names if ">=" in name] == lacking


def test_the_antivirus_is_needed_by_the_full_profile_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "clamd", lambda: None)
    assert "clamav-daemon" not in {item.package for item in prerequisites.missing(frozenset())}
    assert "clamav-daemon" in {item.package for item in prerequisites.missing(frozenset({"clamd"}))}
    parts = {profile: {part.name for part in of(profile, ())} for profile in ("embedded", "full")}
    assert {profile: "clamd" in names for profile, names in parts.items()} == {"embedded": False, "full": True}
    assert "clamd" in stack._tools(of("full", ()))
