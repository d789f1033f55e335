"""A seed is a schedule; the report tells what came of it, violations first."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.faults import report
from tests.faults.documents import KINDS as DOCUMENTS
from tests.faults.documents import make
from tests.faults.faults import GROUPS, KINDS
from tests.faults.schedule import FEW, LONG, MANY, SHORT, episode_line, plan
from tests.faults.soak import Soak, merged


@pytest.mark.parametrize("durations", [SHORT, LONG])
def test_the_same_seed_is_the_same_schedule(durations: Any) -> None:
    first = plan(7, 3, 60, durations)
    assert first == plan(7, 3, 60, durations)
    assert first != plan(8, 3, 60, durations)
    assert first != plan(7, 4, 60, durations)
    assert sum(len(episode) for episode in first) == 60
    assert episode_line(first[0]).startswith(f"{first[0][0].kind} at 0.0")


@pytest.mark.parametrize("sizes", [FEW, MANY])
def test_faults_of_an_episode_overlap_and_break_different_things(sizes: dict[int, int]) -> None:
    met: Counter[int] = Counter()
    for episode in (episode for number in range(40) for episode in plan(1, number, 60, LONG, sizes)):
        met[len(episode)] += 1
        targets = [KINDS[fault.kind].target for fault in episode]
        assert len(set(targets)) == len(targets)
        assert episode[0].at == 0
        assert all(fault.at < episode[0].seconds for fault in episode)
        assert all(LONG.least <= fault.seconds <= LONG.most for fault in episode)
    assert met.keys() >= sizes.keys()
    assert met[1] == max(met.values())


def test_every_kind_of_fault_comes_in_a_soak() -> None:
    drawn = {fault.group for number in range(50) for episode in plan(1, number, 20, LONG) for fault in episode}
    assert drawn == set(GROUPS)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_document_is_the_same_at_any_time_and_like_no_other(kind: str) -> None:
    assert make(kind, "a" * 16) == make(kind, "a" * 16)
    assert kind == "nothing" or make(kind, "a" * 16) != make(kind, "b" * 16)


def a_round(number: int, *violations: str) -> dict[str, Any]:
    findings = dict.fromkeys(
        (
            "documents",
            "complete_without_2xx",
            "mails",
            "second_mails",
            "audit_entries",
            "repeated_records",
            "dead_letters",
        ),
        2,
    )
    return {
        "number": number,
        "code": "abc1234" if number < 3 else "def5678",
        "faults": {"kafka stopped": 3},
        "recoveries": [
            {"group": "kafka stopped", "seconds": float(number)},
            {"group": "several at once", "seconds": None},
        ],
        "violations": list(violations),
        "answers": {"deposit 201": 5},
        "findings": {**findings, "states": {"ARCHIVED": 5}},
        "redeliveries": {"audit": 4},
        "retries": {},
        "reconciled": {"left_object": 1},
        "deposits": 6,
        "settled": 3.0,
        "seconds": 90.0,
    }


def test_the_report_adds_up_and_hides_nothing(tmp_path: Path) -> None:
    state = {"seed": 9, "faults": 6, "per_round": 3, "least": 5.0, "most": 60.0}
    report.write(tmp_path / "soak.md", {**state, "rounds": [a_round(1), a_round(3)]})
    sound = (tmp_path / "soak.md").read_text("utf-8")
    assert "No promise was broken." in sound
    assert "| kafka stopped | 6 | 2 | 2.0 | 3.0 |" in sound
    assert "| several at once | - | 0 (+2 not in time) | - | - |" in sound
    assert "| deposits | 12 |" in sound
    assert "Code: `abc1234` (rounds 1 to 1), `def5678` (rounds 3 to 3)." in sound
    report.write(tmp_path / "soak.md", {**state, "rounds": [a_round(1), a_round(3, "lost: a document")]})
    broken = (tmp_path / "soak.md").read_text("utf-8")
    assert "Violations: 1, in 1 of the rounds" in broken
    assert "* round 3: lost: a document" in broken
    assert "--seed 9 --round N" in broken


def test_what_was_broken_at_the_end_is_told_too(tmp_path: Path) -> None:
    state = {"seed": 9, "faults": 3, "per_round": 3, "least": 5.0, "most": 60.0, "rounds": [a_round(1)]}
    report.write(tmp_path / "soak.md", {**state, "whole": ["mail: one came late"]})
    assert "* at the end: mail: one came late" in (tmp_path / "soak.md").read_text("utf-8")


def test_many_violations_of_one_kind_are_counted(tmp_path: Path) -> None:
    many = [f"thumbnail: document {number}" for number in range(40)]
    state = {
        "seed": 9,
        "faults": 3,
        "per_round": 3,
        "least": 5.0,
        "most": 60.0,
        "rounds": [a_round(1, *many, "lag: 3")],
    }
    report.write(tmp_path / "soak.md", state)
    told = (tmp_path / "soak.md").read_text("utf-8")
    assert "Violations: 41, in 1 of the rounds" in told
    assert told.count("* round 1: thumbnail: document") == report.TOLD
    assert "* round 1: thumbnail: 35 more of this kind" in told
    assert "* round 1: lag: 3" in told


def test_sites_that_shared_a_soak_make_one_report(tmp_path: Path) -> None:
    state = {"seed": 9, "faults": 3, "per_round": 3, "least": 5.0, "most": 60.0}
    for name, round_ in (("one", a_round(2)), ("two", a_round(1, "lag: 3"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.json").write_text(json.dumps({**state, "rounds": [round_]}), "utf-8")
    together = merged([tmp_path / "one", tmp_path / "two"], 9)
    assert [one["number"] for one in together["rounds"]] == [1, 2]
    report.write(tmp_path / "soak.md", together)
    told = (tmp_path / "soak.md").read_text("utf-8")
    assert "6 of 9 faults, in 2 rounds on 2 sites at the same time" in told
    assert "* round 1: lag: 3" in told
    with pytest.raises(ValueError, match="two of the sites"):
        merged([tmp_path / "one", tmp_path / "one"], 9)
    (tmp_path / "two" / "state.json").write_text(json.dumps({**state, "seed": 8, "rounds": []}), "utf-8")
    with pytest.raises(ValueError, match="different seeds"):
        merged([tmp_path / "one", tmp_path / "two"], 9)


def test_a_round_that_is_played_again_hides_nothing(tmp_path: Path) -> None:
    state = {"seed": 9, "faults": 9, "per_round": 3, "least": 5.0, "most": 60.0, "first": 1}
    rounds = [a_round(1), a_round(2, "lag: 3"), a_round(3)]
    soak = Soak(tmp_path, tmp_path / "soak.md", {**state, "rounds": rounds}, Console())
    soak.set_aside(2, "a lane slept")
    assert (soak._next(), soak.done) == (2, 6)
    told = (tmp_path / "soak.md").read_text("utf-8")
    assert "**No promise was broken.** Plays that broke some and are not in these figures: 1, see below." in told
    assert "Round 2, code `abc1234`: a lane slept Not played again yet.\n\n* round 2: lag: 3\n" in told
    assert json.loads((tmp_path / "state.json").read_text("utf-8"))["again"][0]["violations"] == ["lag: 3"]
