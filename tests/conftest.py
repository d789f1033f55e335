"""Shared fixtures: one real stack per test session; databases, buckets and topics are each test's own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from dotenv import dotenv_values

REPOSITORY = Path(__file__).resolve().parent.parent
NEEDS_SERVERS = {"contract", "integration", "e2e", "faults"}


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


@pytest.fixture(scope="session")
def stack() -> Iterator[Mapping[str, str]]:
    """Settings (DPJ_...) of a running full stack: the one named by DPJ_TEST_STACK, else one of our own."""
    running = os.environ.get("DPJ_TEST_STACK")
    name = running or f"test-{os.getpid()}"
    if running is None:
        from deploy.native import stack as native

        native.up(name, "full")
    try:
        home = Path(os.environ.get("DPJ_HOME", REPOSITORY / ".dpj"))
        values = dotenv_values(home / name / "settings.env")
        yield {key: value for key, value in values.items() if value is not None}
    finally:
        if running is None:
            native.down(name, wipe=True)
