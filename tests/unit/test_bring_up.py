"""``dpj up``: our processes start beside the servers, and go with them if the start fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.native import stack as native
from deploy.native.errors import PartFailed
from runtime.processes import local_stack
from runtime.processes.local_stack import bring_up

Then = Mapping[str, Callable[[], None]] | None


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in order."""
    done: list[str] = []

    class FakeServices:
        def __init__(self, settings: Any) -> None:
            pass

        def begin(self, names: Any = None) -> list[str]:
            done.append("all started" if names is None else "first started")
            return ["api", "relay"]

        def wait_until_ready(self, tell: Any, names: Any = None) -> None:
            done.append(f"{'all' if names is None else ' '.join(names)} ready")

        def end(self, names: list[str]) -> None:
            done.append(f"ended {' '.join(names)}")

    monkeypatch.setattr("runtime.processes.local.PipelineProcesses", FakeServices)
    monkeypatch.setattr("runtime.config.settings.load_settings", lambda name: SimpleNamespace(stack_name=name))
    monkeypatch.setattr(local_stack, "prepare_data", lambda *_: done.append("tables"))
    monkeypatch.setattr(local_stack, "prepare_topics", lambda *_: done.append("topics"))
    return done


def servers(done: list[str], monkeypatch: pytest.MonkeyPatch, *, fails: bool = False) -> None:
    def up(name: str, profile: str, *, then: Then, **_: Any) -> None:
        done.append("database")
        if then:
            then["postgres"]()
        if fails:
            raise PartFailed("kafka", "ended right after its start", "")
        done.append("all servers")

    monkeypatch.setattr(native, "up", up)


def say_nothing(_: str) -> None:
    pass


def test_what_the_database_is_enough_for_is_done_beside_the_other_servers(
    done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers(done, monkeypatch)
    bring_up("mine", "embedded", say_nothing)
    assert done == ["database", "tables", "first started", "all servers", "topics", "all started", "all ready"]


def test_the_full_profile_has_its_servers_first(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    servers(done, monkeypatch)
    bring_up("mine", "full", say_nothing)
    assert done == ["database", "all servers", "tables", "first started", "topics", "all started", "all ready"]


def test_who_needs_one_process_waits_for_no_other(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    servers(done, monkeypatch)
    bring_up("mine", "embedded", say_nothing, ready=["api"])
    assert done[-3:] == ["topics", "api ready", "all started"]


def test_processes_go_with_servers_that_do_not_come(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    servers(done, monkeypatch, fails=True)
    with pytest.raises(PartFailed):
        bring_up("mine", "embedded", say_nothing)
    assert done == ["database", "tables", "first started", "ended api relay"]


def test_what_is_asked_for_beside_is_handed_to_the_servers(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(native, "up", lambda *_, extras, **__: asked.append(list(extras)))
    bring_up("mine", "full", say_nothing, extras=["observability"])
    bring_up("mine", "full", say_nothing)
    assert asked == [["observability"], []]
