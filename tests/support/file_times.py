"""What each test file costs: wall seconds, and CPU seconds of the test process and of the children it has ended.

A pytest plugin: ``pytest -p tests.support.file_times --file-times=FILE`` writes a Markdown table, the most expensive file
first. It works under pytest-xdist as well: each test's figures travel with its report. What servers and processes burn that
still run when a test ends is in no row, since two workers share them; the last line tells the machine's total.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import pytest

_KEY = "file_times"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--file-times", metavar="FILE", help="write what each test file costs")


def pytest_configure(config: pytest.Config) -> None:
    target = config.getoption("--file-times")
    if target:
        config.pluginmanager.register(_FileTimes(Path(target)), "file-times")


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _machine_busy_seconds() -> float:
    """CPU seconds that all processors together have not idled since boot (proc(5), /proc/stat)."""
    user, nice, system, _idle, _wait, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


class _FileTimes:
    def __init__(self, target: Path) -> None:
        self._target = target
        self._rows: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
        self._began = time.monotonic(), _machine_busy_seconds()

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, None, None]:
        item.stash[_START] = time.monotonic(), _cpu_seconds()
        yield

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, object, None]:
        if call.when == "teardown":
            wall, cpu = item.stash[_START]
            item.user_properties.append((_KEY, (time.monotonic() - wall, _cpu_seconds() - cpu)))
        yield

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "teardown":
            return
        for key, value in report.user_properties:
            if key == _KEY and isinstance(value, (tuple, list)):
                row = self._rows[report.nodeid.partition("::")[0]]
                row[0] += 1
                row[1] += value[0]
                row[2] += value[1]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput"):
            return
        wall, busy = time.monotonic() - self._began[0], _machine_busy_seconds() - self._began[1]
        lines = ["| file | tests | wall s | CPU s |", "|---|---:|---:|---:|"]
        for name, (tests, seconds, cpu) in sorted(self._rows.items(), key=lambda row: -row[1][1]):
            lines.append(f"| {name} | {tests:.0f} | {seconds:.1f} | {cpu:.1f} |")
        total = [sum(row[column] for row in self._rows.values()) for column in range(3)]
        lines.append(f"| all | {total[0]:.0f} | {total[1]:.1f} | {total[2]:.1f} |")
        lines += ["", f"Wall time of the run: {wall:.0f} s. The machine was busy for {busy:.0f} CPU seconds."]
        self._target.write_text("\n".join(lines) + "\n", "utf-8")


_START: pytest.StashKey[tuple[float, float]] = pytest.StashKey()
