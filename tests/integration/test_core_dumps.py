"""A process of ours that dies leaves no image of its memory, whatever the limits it was started under."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tests.support.api_processes import PDF, ApiProcesses

DUMPED = 0x80  # of a wait status: the kernel wrote a core
UNLIMITED = ("sh", "-c", 'ulimit -c unlimited && exec "$0" "$@"')
CLEAR = b"clear bytes of a document" * 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a process that does nothing about it leaves its core; skips where none is written, as nothing is proved there."""
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        pytest.skip("the limit of cores can't be raised here")
    command = [*UNLIMITED, sys.executable, "-c", "import os; os.abort()"]
    if not status_of(subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)) & DUMPED:
        pytest.skip("no core is written on this machine")
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def status_of(process: subprocess.Popen[bytes]) -> int:
    """The wait status of a process that ends."""
    _, status = os.waitpid(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return status


def core_limits_of(pid: int) -> list[str]:
    """Soft and hard."""
    limits = Path(f"/proc/{pid}/limits").read_text("ascii").splitlines()
    (cores,) = [line.split()[4:6] for line in limits if line.startswith("Max core file size")]
    return cores


def what_is_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_an_api_that_is_aborted_in_the_middle_of_an_upload_leaves_no_core(
    stack: Mapping[str, str], database_dsn: str, folder: Path
) -> None:
    apis = ApiProcesses(stack, database_dsn)
    apis.prefix, apis.cwd = UNLIMITED, folder
    sent = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield PDF
        for number in range(10_000):
            await asyncio.sleep(0.01)
            yield CLEAR
            if number == 50:
                sent.set()

    async with apis.up():
        (process,) = apis.processes
        assert core_limits_of(process.pid) == ["0", "0"]
        sending = asyncio.create_task(apis.post(endless(), await apis.dossier()))
        async with asyncio.timeout(60):
            await sent.wait()
        process.send_signal(signal.SIGABRT)
        status = await asyncio.to_thread(status_of, process)
        await asyncio.wait({sending})
    assert os.WTERMSIG(status) == signal.SIGABRT
    assert not status & DUMPED
    assert what_is_in(folder) == []
