"""One fault site per pytest-xdist worker. These tests run when they are asked for (``make faults``), not with all the others.

Sites run side by side (``-n 2 --no-loadscope-reorder``): much of a test is waiting for leases, pauses and starts,
during which another site works. Rounds of crash points stay on one site (``scheduling.py``).
Any test may come before any other.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.names import sites_of_workers
from tests.faults.scheduling import SiteScheduling, place_of
from tests.faults.site import FaultSite

HERE = Path(__file__).parent
#: A site's start on a busy machine counts as its first test's.
TIMEOUT_SECONDS = 1800


def pytest_configure() -> None:
    """One seed for all workers: they inherit it."""
    os.environ.setdefault("DPJ_FAULT_SEED", str(secrets.randbelow(1_000_000)))


def pytest_report_header() -> str:
    return f"faults: DPJ_FAULT_SEED={os.environ['DPJ_FAULT_SEED']}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """They take a machine of their own for minutes: only an argument that names this folder collects them."""
    named = any("faults" in Path(argument.partition("::")[0]).parts for argument in config.args)
    return True if HERE in collection_path.parents and not named else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))
    if len(ours) == len(items):
        items.sort(key=lambda item: place_of(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SiteScheduling:
    return SiteScheduling(config, log)


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
