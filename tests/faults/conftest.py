"""One fault site for the session. These tests run when they are asked for (``make faults``), not with all the others."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.faults.site import FaultSite

HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """They take a machine of their own for a quarter of an hour: only an argument that names this folder collects them."""
    named = any("faults" in Path(argument.partition("::")[0]).parts for argument in config.args)
    return True if HERE in collection_path.parents and not named else None


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
