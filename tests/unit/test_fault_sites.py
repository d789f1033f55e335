"""Fault sites side by side: names that can't meet, rounds that every worker knows, waiting that ends when nothing moves."""

from __future__ import annotations

import os

import pytest

from tests.faults.crashes import BY_POINT, group_of, rounds_among
from tests.faults.names import site_name, sites_of_workers
from tests.faults.patience import LONGEST_SECONDS, Patience
from tests.faults.scheduling import scope_of

CRASH_TEST = "tests/faults/test_crash_points.py::test_whatever_dies_at"


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As without pytest-xdist and without a stack to reuse."""
    for name in ("PYTEST_XDIST_WORKER", "DPJ_FAULT_STACK"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_each_worker_has_a_site_of_its_own(outside: pytest.MonkeyPatch) -> None:
    names = [site_name()[0]]
    for worker in ("gw0", "gw1"):
        outside.setenv("PYTEST_XDIST_WORKER", worker)
        names.append(site_name()[0])
    assert len(set(names)) == 3


@pytest.mark.parametrize("worker", [None, "gw0"])
def test_a_stack_that_is_reused_is_not_shared_either(outside: pytest.MonkeyPatch, worker: str | None) -> None:
    outside.setenv("DPJ_FAULT_STACK", "mine")
    if worker:
        outside.setenv("PYTEST_XDIST_WORKER", worker)
    assert site_name() == ("mine-gw0" if worker else "mine", True)


def test_whoever_leads_a_run_knows_its_workers_sites_and_no_others(outside: pytest.MonkeyPatch) -> None:
    outside.setenv("PYTEST_XDIST_WORKER", "gw1")
    outside.setattr(os, "getppid", os.getpid)  # as a worker, whose parent leads
    mine = site_name()[0]
    others = ["demo", f"faults-{os.getpid()}", f"faults-{os.getpid()}0-gw1", "faults-gw1"]
    assert list(sites_of_workers([*others, mine])) == [mine]


def test_a_round_is_the_same_whichever_points_are_asked_for() -> None:
    everything = rounds_among(BY_POINT)
    for point in BY_POINT:
        (number,) = rounds_among([point])
        assert number == group_of(point)
        assert BY_POINT[point] in everything[number]
    assert sum(map(len, everything.values())) == len(BY_POINT)


@pytest.mark.parametrize("point", BY_POINT)
def test_the_points_of_a_round_go_to_one_site(point: str) -> None:
    of_round = {scope_of(f"{CRASH_TEST}[{crash.point}]") for crash in rounds_among(BY_POINT)[group_of(point)]}
    assert of_round == {scope_of(f"{CRASH_TEST}[{point}]")}


def test_any_other_test_goes_where_there_is_room() -> None:
    others = [
        "tests/faults/test_random_faults.py::test_every_promise_holds_whatever_fails[0]",
        "tests/faults/test_random_faults.py::test_every_promise_holds_whatever_fails[1]",
        "tests/faults/test_crash_points.py::test_a_command_dies_at[reconcile.noted]",
        "tests/faults/test_crash_points.py::test_a_command_dies_at[reconcile.repaired]",
    ]
    assert len({scope_of(one) for one in [*others, f"{CRASH_TEST}[relay.fetched]"]}) == 5


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_waiting_goes_on_while_something_moves() -> None:
    clock = _Clock()
    patience = Patience(10.0, clock)
    for step in range(5):
        clock.now += 9.0
        assert not patience.is_over(step)
    clock.now += 9.0
    assert not patience.is_over(4)
    clock.now += 2.0
    assert patience.is_over(4)
    assert patience.told.startswith("nothing moved for 11 s")


def test_waiting_ends_even_if_something_moves_for_ever() -> None:
    clock = _Clock()
    patience = Patience(10.0, clock)
    looks = 0
    while not patience.is_over(looks):
        clock.now += 5.0
        looks += 1
    assert LONGEST_SECONDS < patience.waited <= LONGEST_SECONDS + 5.0
