"""What strikes all of a site at once: every accepted document comes to rest all the same, once."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from deploy.native.patience import family_of
from tests.faults.site import FaultSite
from tests.faults.test_stores_that_forget import Drill, opened
from tests.support.rendering import only_root_sees_inside

FROZEN_SECONDS = 30.0
SHORT_SECONDS = 15.0
#: Open files that a process may have beyond those that it has: too few for what comes.
SPARE_FILES = 2
SERVERS = ("kafka", "postgres", "minio", "vault", "registry", "ged", "smtp", "ferretdb")
SHORT = ("api", "worker-integrity", "worker-archiving", "worker-notification", "relay")


@pytest.fixture
async def drill(site: FaultSite, tmp_path: Path) -> AsyncIterator[Drill]:
    async with opened(Drill, site, tmp_path / "whole.jsonl") as made:
        yield made


def shorten(pid: int) -> tuple[int, int]:
    """Let a process open next to nothing more; its limits before."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    open_now = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now + SPARE_FILES, before[1]))
    return before


async def test_all_servers_frozen_for_half_a_minute(drill: Drill) -> None:
    """Connections stay open, and nobody answers: worse than being away, which is told at once."""
    await drill.begin()
    depositing = asyncio.create_task(drill.deposit())
    await asyncio.sleep(1.0)
    found = (drill.site.server(name).pid for name in SERVERS)
    frozen = [process for pid in found if pid is not None for process in family_of(pid)]
    assert len(frozen) > len(SERVERS)
    for process in frozen:
        os.kill(process, signal.SIGSTOP)
    try:
        await asyncio.sleep(FROZEN_SECONDS)
    finally:
        for process in frozen:
            os.kill(process, signal.SIGCONT)
    await depositing
    await asyncio.to_thread(drill.site.wait_ready)
    await drill.all_hold()


@only_root_sees_inside
async def test_open_files_run_out(drill: Drill) -> None:
    """Processes that can open no further file or connection refuse, wait and go on."""
    await drill.begin()
    depositing = asyncio.create_task(drill.deposit())
    await asyncio.sleep(1.0)
    found = [drill.site.process(name).pid for name in SHORT]
    before = {pid: shorten(pid) for pid in found if pid is not None}
    assert len(before) == len(SHORT)
    try:
        await asyncio.sleep(SHORT_SECONDS)
    finally:
        for pid, limits in before.items():
            with suppress(ProcessLookupError):  # one that ended for it was started again without the limit
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    await depositing
    await asyncio.to_thread(drill.site.wait_ready)
    await drill.all_hold()
