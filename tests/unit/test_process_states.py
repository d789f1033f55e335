"""What ``dpj status`` says of a process that runs, one that crashes again and again, and one that ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runtime.processes.local
from deploy.native.supervisor import CLOCK_SECONDS, Command
from runtime.errors import CommandFailed
from runtime.processes.health_ports import Health
from runtime.processes.local import PipelineProcesses
from tests.support.settings import settings_of

WORKER = "worker-archiving"
CRASH = {"error": "FetchUnreadable", "record": "dpj.document.uploaded/1/7", "where": ["streams.x:1"], "crashes": 4}
DEFECT = {"error": "KeyError", "record": None, "where": ["faust.app:9", "streams.x:12"], "crashes": 5}
LIVES, ENDS = "import time; time.sleep(60)", "raise SystemExit(1)"


class Site:
    """The processes of a stack's folder: they run what a test says, and their health pages answer what it says."""

    def __init__(self, home: Path) -> None:
        folder = home / "here"
        (folder / "logs").mkdir(parents=True)
        self.folder = folder
        self.answer: Health | None = None
        self.code = LIVES
        self.processes = PipelineProcesses(settings_of(stack_name="here"))
        self.processes._command = self.command  # type: ignore[method-assign]

    def command(self, _: object) -> Command:
        return Command((sys.executable, "-c", self.code), {}, self.folder)

    def end_and_restart(self, times: int) -> None:
        self.code = ENDS
        for _ in range(times):
            self.processes.restart(WORKER)
            ends = time.monotonic() + 10
            while WORKER in self.processes._processes.running():
                assert time.monotonic() < ends
                time.sleep(0.01)

    def state(self) -> tuple[str, str]:
        ((state, reason),) = [(one.state, one.reason) for one in self.processes.states() if one.name == WORKER]
        return state, reason


def health(*, ready: bool = False, **body: Any) -> Health:
    return Health(ready, tuple(body.get("waiting_for", ())), body)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("DPJ_HOME", str(tmp_path))
    site = Site(tmp_path)
    monkeypatch.setattr(runtime.processes.local, "health_of", lambda *_: site.answer)
    yield site
    site.processes.stop()


def test_a_process_says_what_it_waits_for_or_why_it_crashes(site: Site) -> None:
    assert site.state() == ("down", "")
    site.processes.restart(WORKER)
    assert site.state() == ("starting", "does not answer yet")
    site.answer = health(waiting_for={"kafka": 0})
    assert site.state() == ("waiting", "waits for kafka")
    site.answer = health(crashing={"archiving": CRASH})
    assert site.state() == ("crashing", "archiving: FetchUnreadable at dpj.document.uploaded/1/7, 4 times")
    site.answer = health(crashing={"archiving": DEFECT})
    assert site.state() == ("crashing", "archiving: KeyError at streams.x:12, 5 times")
    site.answer = health(ready=True, crashing={})
    assert site.state() == ("ready", "")
    site.answer = health(ready=True, events_owed={"integrity": 12, "audit": 3})
    assert site.state() == ("ready", "events lost: audit 3, integrity 12")
    site.answer = health(ready=True, events_owed={})
    assert site.state() == ("ready", "")


def test_a_process_that_has_run_for_long_and_does_not_answer_is_not_starting(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.processes.restart(WORKER)
    site.answer = health()
    assert site.state() == ("starting", "")
    site.answer = None
    monkeypatch.setattr(runtime.processes.local, "START_SECONDS", -CLOCK_SECONDS - 5)
    assert site.state() == ("no answer", "runs and does not answer: frozen, or overloaded")


def test_a_process_that_ends_again_and_again_is_crashing_until_somebody_starts_it(site: Site) -> None:
    site.end_and_restart(1)
    assert site.state() == ("down", "ended by itself")
    site.end_and_restart(2)
    assert site.state() == ("crashing", "ended by itself again, 2 times before of late")
    site.code = LIVES
    site.processes.restart(WORKER)
    assert site.state() == ("crashing", "ended by itself 3 times")
    site.answer = health(ready=True)
    assert site.state() == ("ready", "")
    site.processes.stop()
    assert site.state() == ("down", "")


def test_whoever_starts_the_pipeline_is_told_of_a_crashing_consumer_at_once(site: Site) -> None:
    site.processes.begin()
    site.answer = health(crashing={"archiving": CRASH})
    with pytest.raises(CommandFailed, match=r"is crashing \(archiving: FetchUnreadable at dpj.document.uploaded/1/7"):
        site.processes.wait_until_ready(lambda _: None)
