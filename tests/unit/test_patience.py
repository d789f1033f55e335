"""Waiting for processes: as long as they live and something moves, to a bound; and what is said of it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.native import site
from deploy.native.patience import Patience, Sign, processor_ticks
from deploy.native.supervisor import Command, Supervisor
from runtime.cli.output import CommandFailed
from runtime.cli.pipeline import telling_what_runs
from runtime.config.settings import Settings
from runtime.processes import local
from runtime.processes.health_ports import Health, PipelineProcess
from runtime.processes.local import PipelineProcesses
from tests.support.settings import BASE

STACK = "patient"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def signs(seconds: int, moves: str) -> Iterator[Sign]:
    for second in range(seconds):
        yield Sign(
            log_bytes=second if moves == "log" else 0,
            ticks=second if moves == "processor" else 7,
            answer="kafka" if moves == "answer" else None,
        )


@pytest.mark.parametrize(
    ("moves", "ends", "why"),
    [
        ("log", 600, "is not ready after 10 min"),
        ("processor", 600, "is not ready after 10 min"),
        ("answer", 600, "is not ready after 10 min"),
        ("nothing", 60, "is not ready, and nothing of it has moved for 60 s"),
    ],
)
def test_what_moves_is_waited_for(moves: str, ends: int, why: str) -> None:
    clock = Clock()
    patience = Patience(clock=clock)
    for second, sign in enumerate(signs(700, moves)):
        clock.now = 1000.0 + second
        over = patience.over(sign)
        if over is not None:
            break
    assert (second, over) == (ends, why)


def test_the_processor_time_of_children_counts() -> None:
    before = processor_ticks(os.getpid())
    pid = os.fork()
    if pid == 0:
        while True:
            pass
    try:
        ends = time.monotonic() + 30
        while processor_ticks(os.getpid()) < before + 10 and time.monotonic() < ends:
            time.sleep(0.02)  # until a child that only counts has had 0.1 s of a processor
        assert processor_ticks(pid) >= 5
        assert processor_ticks(os.getpid()) >= before + 10
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert processor_ticks(pid) == 0


class Sleepers(PipelineProcesses):
    """Services whose processes do nothing, or what ``program`` says."""

    program = "import time; print('hello', flush=True); time.sleep(60)"

    def _command(self, service: PipelineProcess) -> Command:
        return Command((sys.executable, "-S", "-c", self.program), {}, Path("/"))


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sleepers]:
    monkeypatch.setenv("DPJ_HOME", str(tmp_path))
    monkeypatch.delenv("DPJ_SETTINGS", raising=False)
    site.load_or_create(STACK, "embedded")
    given: dict[str, Any] = {**BASE, "stack_name": STACK}
    found = Sleepers(Settings(**given, _env_file=None))
    found.services = found.services[:2]
    yield found
    found.stop()


def answers(monkeypatch: pytest.MonkeyPatch, *given: Health | None) -> None:
    """Each question is answered by the next of ``given``, and from then on by the last."""
    left = list(given)
    monkeypatch.setattr(local, "health_of", lambda *_: left.pop(0) if len(left) > 1 else left[0])


def test_what_a_process_waits_for_is_told_once(services: Sleepers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "TELL_SECONDS", 0.0)
    waits = Health(ready=False, waits_for=("kafka",), body={})
    answers(monkeypatch, None, waits, waits, waits, waits, Health(ready=True, waits_for=(), body={}))
    told: list[str] = []
    services.start(told.append)
    assert sorted(told) == ["api is ready", "api waits for kafka", "relay is ready", "relay waits for kafka"]


def test_a_process_that_ends_is_told_at_once_with_its_last_words_and_what_runs(
    services: Sleepers, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, None)
    one = services.services[1]
    services._processes.start(one.name, services._command(one))
    services.program = "print('port in use', flush=True); raise SystemExit(1)"
    with pytest.raises(CommandFailed) as failed:
        services.start(lambda _: None)
    assert str(failed.value) == "api ended. Its last words: port in use"
    assert failed.value.next_step.startswith(
        "Running it again helps once that is mended; what runs is kept. "
        "Still running: relay; dpj down --stack patient ends them. Read "
    )


@pytest.mark.parametrize(
    ("health", "what", "advice"),
    [
        (None, "is not ready, and nothing of it has moved for 0 s.", "Running it again does not help"),
        (
            Health(ready=False, waits_for=("kafka",), body={}),
            "is not ready after 0 min (it waits for kafka).",
            "Running it again helps once that is there",
        ),
    ],
)
def test_whether_it_helps_to_try_again_is_told(
    services: Sleepers, monkeypatch: pytest.MonkeyPatch, health: Health | None, what: str, advice: str
) -> None:
    bounds = {"still": 0.3, "longest": 60.0} if health is None else {"still": 60.0, "longest": 0.3}
    monkeypatch.setattr(local, "Patience", lambda: Patience(**bounds))
    services.program = "import time; time.sleep(60)"
    answers(monkeypatch, health)
    with pytest.raises(CommandFailed) as failed:
        services.start(lambda _: None)
    name, _, why = str(failed.value).partition(" ")
    assert name in {"api", "relay"}  # whichever was first to stand still
    assert why.startswith(what)
    assert failed.value.next_step.startswith(advice)
    assert "Still running: api, relay" in failed.value.next_step


def test_ctrl_c_says_in_one_line_what_runs_and_how_to_end_it(
    services: Sleepers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    servers = Supervisor(tmp_path / STACK)
    one = services.services[0]

    def interrupted() -> str:
        with pytest.raises(KeyboardInterrupt), telling_what_runs(STACK):
            raise KeyboardInterrupt
        return capsys.readouterr().err

    try:
        assert interrupted() == "dpj: interrupted; nothing of stack patient runs\n"
        servers.start("kafka", services._command(one))
        services._processes.start(one.name, services._command(one))
        assert interrupted().startswith("dpj: interrupted; still running: kafka, api; end it with: ")
        services.stop()
        assert "still running: kafka; " in interrupted()
    finally:
        servers.stop(["kafka"])
    assert interrupted() == "dpj: interrupted; nothing of stack patient runs\n"
