"""Every crash point is reached in the source as it is declared, and none costs anything until it is armed."""

from __future__ import annotations

import ast
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.shared import crash_points
from tests.faults.crashes import BY_POINT, COMMANDS, CRASHES, DRILLED, rounds_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "crypto",
    "ged",
    "ingest_api",
    "notifications",
    "operations",
    "processors",
    "rendering",
    "runtime",
    "storage",
)


def _calls() -> Iterator[ast.Call]:
    for package in (*PACKAGES, "streams"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reach":
                    yield node


def test_every_point_is_reached_and_nothing_else_is() -> None:
    names = Counter(ast.literal_eval(call.args[0]) for call in _calls())
    assert set(names) == set(crash_points.POINTS)
    assert {name for name, count in names.items() if count > 1} == set()


def test_every_point_has_its_crash_test() -> None:
    assert Counter([*(crash.point for crash in CRASHES), *COMMANDS, *DRILLED]) == Counter(crash_points.POINTS.keys())


def test_a_round_kills_each_process_once() -> None:
    rounds = rounds_of(BY_POINT)
    assert all(len({crash.process for crash in crashes}) == len(crashes) for crashes in rounds)
    assert sum(map(len, rounds)) == len(CRASHES)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit statuses instead of ends."""
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    monkeypatch.setattr(crash_points, "_armed", {})
    return statuses


def test_nothing_armed_nothing_happens(ended: list[int]) -> None:
    crash_points.arm(None)
    for name in crash_points.POINTS:
        crash_points.reach(name)
    assert ended == []


def test_the_armed_point_ends_the_process_the_nth_time(ended: list[int], capfd: pytest.CaptureFixture[str]) -> None:
    crash_points.arm("relay.fetched:3")
    crash_points.reach("relay.fetched")
    crash_points.reach("relay.marked")
    crash_points.reach("relay.fetched")
    assert ended == []
    crash_points.reach("relay.fetched")
    assert ended == [crash_points.STATUS]
    assert '"point": "relay.fetched"' in capfd.readouterr().err


@pytest.mark.parametrize("name", ["relay.fetchd", "", "relay.fetched:0", "relay.fetched:x", "relay.fetched:"])
def test_what_is_no_point_can_not_be_armed(name: str, ended: list[int]) -> None:
    with pytest.raises(ValueError, match="no such crash point"):
        crash_points.arm(name)
