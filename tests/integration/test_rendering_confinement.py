"""Rendering children that have been taken over really try: each attempt is stopped, and pool and worker go on."""

from __future__ import annotations

import asyncio
import ctypes
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import structlog

from domain.errors import ObjectStoreUnavailable, RendererUnavailable
from domain.renderings import NoThumbnail, Rendered
from rendering.confinement import Layer
from rendering.pool import RenderPool
from tests.support.hostile import compromised_child
from tests.support.rendering import offspring, only_root_sees_inside, plain, runs, stream

PROGRAM = Path(compromised_child.__file__)

#: Attempt -> how it ends: an errno of the call, or why the child was lost.
REFUSED = {
    "read_file": "EACCES",
    "read_environment": "EACCES",
    "list_folder": "EACCES",
    "look_at_file": "EACCES",
    "write_file": "EACCES",
    "remove_file": "EACCES",
    "executable_memory": "EACCES",
    "file_memory": "EACCES",
    "another_pipe": "EACCES",
    "terminal": "EACCES",
    "more_memory": "EACCES",
    "more_time": "EACCES",
    "allocate": "MemoryError",
}
KILLED = (
    "connect",
    "unix_socket",
    "raw_socket",
    "fork",
    "exec",
    "spawn",
    "signal",
    "trace",
    "new_namespace",
    "io_uring",
)


SAY_TOO_MUCH = ("babble", "lie", "answer_twice", "silent")
STAY = ("linger", "swallow_mark")


class TakenOver(RenderPool):
    program: ClassVar[tuple[str, ...]] = ("-I", str(PROGRAM))


@asynccontextmanager
async def a_taken_over_pool(**limits: Any) -> AsyncIterator[RenderPool]:
    pool = TakenOver(**{"children": 1, "timeout": 20.0, "memory_bytes": 400 << 20, "confined": True, **limits})
    try:
        yield pool
    finally:
        await pool.aclose()


async def tried(pool: RenderPool, name: str) -> Rendered:
    return await pool.render(stream(name.encode()), "image/jpeg")


async def goes_on(pool: RenderPool) -> None:
    assert (await pool.render(stream(plain()), "image/jpeg")).reason is None


def test_every_attempt_has_an_expected_end() -> None:
    assert set(compromised_child.ATTEMPTS) == {*REFUSED, *KILLED, *SAY_TOO_MUCH, *STAY, "spin", "crash", "remember"}


async def test_what_libraries_may_try_is_refused_and_the_child_goes_on():
    async with a_taken_over_pool() as pool:
        ends = {name: (await tried(pool, name)).metadata.get("outcome") for name in REFUSED}
        assert ends == REFUSED
        assert len(pool.pids) == 1
        await goes_on(pool)
    assert not compromised_child.FORBIDDEN_FILE.exists()


async def test_what_no_decoder_tries_kills_the_child_and_only_it():
    lost: list[NoThumbnail] = []
    async with a_taken_over_pool(on_lost=lost.append) as pool:
        for name in KILLED:
            with structlog.testing.capture_logs() as logs:
                assert (await tried(pool, name)).reason is NoThumbnail.FORBIDDEN_CALL, name
            assert [line["log_level"] for line in logs if line["event"] == "render_child_lost"] == ["error"]
        await goes_on(pool)
    assert lost == [NoThumbnail.FORBIDDEN_CALL] * len(KILLED)


async def test_a_child_that_spins_is_out_of_processor_time():
    async with a_taken_over_pool(timeout=2.0) as pool:
        assert (await tried(pool, "spin")).reason is NoThumbnail.LIMIT_TIME
        await goes_on(pool)


@pytest.mark.parametrize("name", SAY_TOO_MUCH)
async def test_a_child_that_says_too_much_is_not_listened_to(name: str):
    async with a_taken_over_pool() as pool:
        assert (await tried(pool, name)).reason is NoThumbnail.CHILD_DIED
        await goes_on(pool)


@pytest.mark.parametrize("name", STAY)
async def test_a_process_that_stays_after_its_answer_reads_and_says_no_more(name: str):
    async with a_taken_over_pool(timeout=0.5) as pool:
        await pool.check()
        (child,) = pool.pids
        (reader,) = offspring(child)
        assert (await tried(pool, name)).reason is NoThumbnail.LIMIT_TIME
        await goes_on(pool)
        assert child not in pool.pids
        assert not runs(reader)


async def test_a_document_that_was_aborted_leaves_its_process_to_nobody():
    async def breaks() -> AsyncIterator[bytes]:
        yield plain()
        raise ObjectStoreUnavailable

    async with a_taken_over_pool() as pool:
        await pool.check()
        (child,) = pool.pids
        (reader,) = offspring(child)
        with pytest.raises(ObjectStoreUnavailable):
            await pool.render(breaks(), "image/jpeg")
        assert pool.pids == {child}
        assert not runs(reader)
        await goes_on(pool)


@only_root_sees_inside
async def test_a_documents_process_has_not_the_pipe_that_tells_of_its_end():
    async with a_taken_over_pool() as pool:
        await pool.check()
        (child,) = pool.pids
        (reader,) = offspring(child)
        assert len(pipes_of(child)) == 3
        assert len(pipes_of(reader)) == 2


async def test_a_child_that_crashes_harms_nobody():
    async with a_taken_over_pool() as pool:
        assert (await tried(pool, "crash")).reason is NoThumbnail.PARSER_CRASHED
        await goes_on(pool)


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def pipes_of(pid: int) -> set[str]:
    links = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    return {link for link in links if link.startswith(("pipe:", "socket:"))}


def network_of(pid: int | str) -> Path:
    return Path(f"/proc/{pid}/ns/net").readlink()


async def test_no_document_meets_what_another_left_behind():
    async with a_taken_over_pool() as pool:
        for _ in range(3):
            assert (await tried(pool, "remember")).metadata["outcome"] == "succeeded"
        assert len(pool.pids) == 1


@only_root_sees_inside
async def test_the_kernel_says_the_same():
    async with a_taken_over_pool() as pool:
        await pool.check()
        (child,) = pool.pids
        (child,) = offspring(child)
        status = status_of(child)
        assert (status["Seccomp"], status["NoNewPrivs"], status["Threads"]) == ("2", "1", "1")
        assert pool.confinement is not None
        assert Layer.SECCOMP in pool.confinement
        if Layer.NAMESPACES in pool.confinement:
            assert network_of("self") != network_of(child)


def weaker(tmp_path: Path, *missing: str) -> type[RenderPool]:
    """A pool whose kernel has not those layers."""
    script = tmp_path / "weaker.py"
    lines = ["from rendering import child, confinement, landlock, seccomp"]
    for layer in missing:
        error = f"{layer}.{layer.capitalize()}Unavailable"
        lines += [f"def no_{layer}(*_, **__):", f"    raise {error}"]
        lines.append(f"{layer}.{'install' if layer == 'seccomp' else 'shut'} = no_{layer}")
    lines += ["if __name__ == '__main__':", "    child.main()"]
    script.write_text("\n".join(lines))

    class Weaker(RenderPool):
        program: ClassVar[tuple[str, ...]] = ("-I", str(script))

    return Weaker


async def test_without_a_filter_the_pool_says_so_and_goes_on(tmp_path: Path):
    pool = weaker(tmp_path, "seccomp")(children=1)
    try:
        with structlog.testing.capture_logs() as logs:
            await goes_on(pool)
            await goes_on(pool)
        told = [line for line in logs if line["event"] == "render_confinement"]
        assert [(line["log_level"], line["filtered"]) for line in told] == [("warning", False)]
        assert pool.confinement is not None
        assert Layer.SECCOMP not in pool.confinement
    finally:
        await pool.aclose()


async def test_without_a_filter_that_is_required_no_document_is_opened(tmp_path: Path):
    pool = weaker(tmp_path, "seccomp", "landlock")(children=1, confined=True)
    try:
        with pytest.raises(RendererUnavailable):
            await pool.check()
        with pytest.raises(RendererUnavailable):
            await pool.render(stream(plain()), "image/jpeg")
        async with asyncio.timeout(10):
            while pool.pids:
                await asyncio.sleep(0.01)
    finally:
        await pool.aclose()


async def test_landlock_alone_shuts_files(tmp_path: Path):
    libc = ctypes.CDLL(None)
    if libc.syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), ctypes.c_uint(1)) < 1:
        pytest.skip("this kernel has no Landlock")
    pool = weaker(tmp_path, "seccomp")(children=1)
    try:
        await pool.check()
        assert pool.confinement is not None
        assert Layer.LANDLOCK in pool.confinement
    finally:
        await pool.aclose()


UNPRIVILEGED = """
import os
from rendering import child
from rendering.confinement import Limits, confine, fence
child._warm_up(10**8)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
parent, fenced = os.getpid(), fence()
if os.fork() == 0:
    held = confine(fenced, Limits(512 << 20, 20), parent=parent, sources=[0], sinks=[1])
    child._warm_up(10**8)
    os.write(1, ' '.join(sorted(layer.value for layer in held)).encode())
    os._exit(0)
os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_no_privilege_is_needed():
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=60, check=True
    )
    assert b"seccomp" in done.stdout
