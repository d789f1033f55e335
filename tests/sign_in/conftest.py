"""A small stack of its own with Keycloak and the pipeline's processes: the one named by DPJ_TEST_STACK, if it has Keycloak, else one
that is removed afterwards. ``make identity`` runs these tests; ``make test`` does not: Keycloak's start alone costs some 40 s of
processor time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dotenv import dotenv_values
from playwright.sync_api import Browser

from runtime.config.settings import load_settings
from runtime.processes.local import PipelineProcesses
from tests.support.browser import chromium
from tests.support.keycloak import Keycloak
from tests.support.pipeline import ROOT, Pipeline

#: How long a sign-in is fresh here, in minutes: a test waits for its end.
STEP_UP_MINUTES = 0.1


#: The first start fetches and makes Keycloak.
START_SECONDS = 1500


def dpj(*words: str, **settings: str) -> None:
    command = [sys.executable, "-m", "runtime.cli.main", *words]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-4000:])


def shorten_step_up(stack: str) -> None:
    """The console again, with sign-ins that are fresh for seconds."""
    processes = PipelineProcesses(load_settings(stack), {"DPJ_CONSOLE_STEP_UP_MINUTES": str(STEP_UP_MINUTES)})
    processes.end(["console"])
    processes.begin()
    processes.wait_until_ready(lambda _: None)


@pytest.fixture(scope="session")
def pipeline() -> Iterator[Pipeline]:
    given = os.environ.get("DPJ_TEST_STACK")
    name = given or f"sign-in-{os.getpid()}"
    home = Path(os.environ.get("DPJ_HOME", ROOT / ".dpj")) / name
    try:
        dpj("up", "--profile", "embedded", "--with", "identity", "--stack", name, DPJ_STACK_NO_FSYNC="1")
        shorten_step_up(name)
        values = dotenv_values(home / "settings.env")
        found = Pipeline({name: value for name, value in values.items() if value is not None})
        yield found
        found.close()
    finally:
        dpj("down", "--keep-servers", "--stack", name)
        if given is None:
            dpj("stack", "down", "--wipe", "--name", name)


@pytest.fixture(scope="session")
def keycloak(pipeline: Pipeline) -> Iterator[Keycloak]:
    accounts = dotenv_values(pipeline.home / "config" / "identity.env")
    identity = json.loads((pipeline.home / "stack.json").read_text("utf-8"))
    found = Keycloak(
        pipeline.settings["DPJ_JWT_ISSUER"],
        {name: value for name, value in accounts.items() if value is not None},
        identity["secrets"]["identity_administrator"],
    )
    yield found
    found.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def url(pipeline: Pipeline) -> str:
    return f"http://127.0.0.1:{pipeline.settings['DPJ_CONSOLE_PORT']}"
