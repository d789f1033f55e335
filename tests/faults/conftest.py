"""One fault site per pytest-xdist worker. These tests run when they are asked for (``make faults``), not with all the others.

Sites run side by side (``-n 2 --dist loadgroup --no-loadscope-reorder``): much of a test is waiting for leases, pauses and starts,
during which another site works. What belongs together is a group and stays on one site; any group may come before any other.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.faults.crashes import group_of
from tests.faults.names import sites_of_workers
from tests.faults.site import FaultSite

HERE = Path(__file__).parent
#: A site's start on a busy machine counts as its first test's.
TIMEOUT_SECONDS = 1800
#: Files in the order in which their tests begin: what takes longest first, so that sites end at about the same time.
ORDER = ("test_random_faults.py", "test_checker_on_servers.py", "test_pairs.py", "test_crash_points.py")


def pytest_configure() -> None:
    """One seed for all workers: they inherit it."""
    os.environ.setdefault("DPJ_FAULT_SEED", str(secrets.randbelow(1_000_000)))


def pytest_report_header() -> str:
    return f"faults: DPJ_FAULT_SEED={os.environ['DPJ_FAULT_SEED']}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """They take a machine of their own for minutes: only an argument that names this folder collects them."""
    named = any("faults" in Path(argument.partition("::")[0]).parts for argument in config.args)
    return True if HERE in collection_path.parents and not named else None


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A crash point's group is its round; any other test is its own."""
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))
    if len(ours) == len(items):
        items.sort(key=lambda item: (ORDER.index(item.path.name), -_group_number(item)))


def _point(item: pytest.Item) -> str | None:
    return str(item.callspec.params["point"]) if isinstance(item, pytest.Function) and _is_crash(item) else None


def _is_crash(item: pytest.Function) -> bool:
    return "rounds" in item.fixturenames and hasattr(item, "callspec")


def _group_number(item: pytest.Item) -> int:
    point = _point(item)
    return 0 if point is None else group_of(point)


def _group(item: pytest.Item) -> str:
    point = _point(item)
    return item.name if point is None else f"crashes-{group_of(point)}"


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what a worker left that was ended before its site: pytest-xdist gives an interrupted one a few seconds."""
    if not hasattr(config, "workerinput") and config.getoption("numprocesses", None):
        from deploy.native import stack as native

        for name in list(sites_of_workers(native.names())):
            native.down(name, wipe="DPJ_FAULT_STACK" not in os.environ)


@pytest.fixture(scope="session")
def site() -> Iterator[FaultSite]:
    with FaultSite() as opened:
        yield opened


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure comes with what the processes said last; the whole logs stay."""
    report = yield
    if (
        report.failed
        and isinstance(item, pytest.Function)
        and isinstance(found := item.funcargs.get("site"), FaultSite)
    ):
        found.failed = True
        report.sections.append((f"processes (whole logs: {found.logs})", found.log_tails()))
    return report
