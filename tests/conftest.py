"""Shared fixtures: one real stack per test process; databases, buckets and topics are each test's own.

Under pytest-xdist each worker has a stack of its own, so that what is safe in one process is safe in several; which tests stay
together in one worker is said in ``tests.scheduling``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from tests.core_tests import measures_core
from tests.scheduling import GroupScheduling, place_of
from tests.support.own_loop import run_beside

REPOSITORY = Path(__file__).resolve().parent.parent
NEEDS_SERVERS = {"contract", "integration", "e2e", "faults", "sign_in"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--core", choices=("measured", "others"), help="only the files that measure the core's coverage, or the others"
    )
    parser.addoption("--no-skips", action="store_true", help="a test that is skipped counts as failed, as in CI")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where nothing may be left out, a run that left something out has failed."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None or not session.config.getoption("--no-skips"):
        return
    if terminal.stats.get("skipped") and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    wanted = config.getoption("--core")
    if wanted is None or not collection_path.name.startswith("test_") or collection_path.suffix != ".py":
        return None
    return measures_core(collection_path) != (wanted == "measured") or None


def pytest_configure() -> None:
    """Children start with SIGINT as it is at a terminal, also where the tests run in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Unit and property tests open no socket; the others may reach this machine and nothing else."""
    for item in items:
        folder = item.path.relative_to(REPOSITORY / "tests").parts[0]
        if folder in NEEDS_SERVERS:
            item.add_marker(pytest.mark.allow_hosts(["127.0.0.1", "::1"]))
        else:
            item.add_marker(pytest.mark.disable_socket)
    items.sort(key=lambda item: place_of(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling | None:
    """``--dist loadgroup`` means our groups; see ``tests.scheduling``."""
    return GroupScheduling(config, log) if config.getoption("dist") == "loadgroup" else None


def _register_schemas(url: str) -> None:
    """The schemas of this release, so that no test leans on one that came before it."""
    from schemas.registry import SchemaRegistry, register_all

    async def register() -> None:
        async with SchemaRegistry(url) as registry:
            await register_all(registry)

    run_beside(register())


@pytest.fixture(scope="session")
def stack() -> Iterator[Mapping[str, str]]:
    """Settings (DPJ_...) of a running full stack: the one named by DPJ_TEST_STACK, else one of our own.

    A worker of pytest-xdist (gw0, gw1, ...) has its own: "<DPJ_TEST_STACK>-gw0".
    """
    running = os.environ.get("DPJ_TEST_STACK")
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    name = running or f"test-{os.getpid()}"
    if running and worker:
        name = f"{running}-{worker}"
    if running is None:
        from deploy.native import stack as native

        os.environ["DPJ_STACK_NO_FSYNC"] = "1"
        native.up(name, "full")
    try:
        home = Path(os.environ.get("DPJ_HOME", REPOSITORY / ".dpj"))
        values = dotenv_values(home / name / "settings.env")
        settings = {key: value for key, value in values.items() if value is not None}
        _register_schemas(settings["DPJ_REGISTRY_URL"])
        yield settings
    finally:
        if running is None:
            native.down(name, wipe=True)
