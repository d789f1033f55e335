"""Rendering children that run out of time or memory, die, or are told to go: only they are harmed."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from domain.errors import ObjectStoreUnavailable, RendererUnavailable
from domain.renderings import NoThumbnail
from rendering.pool import RenderPool
from tests.support.rendering import a_pdf, a_pool, is_there, offspring, only_root_sees_inside, plain, stream


@pytest.fixture
async def pool() -> AsyncIterator[RenderPool]:
    async with a_pool() as opened:
        yield opened


async def test_memory_is_bounded_and_the_child_goes_on():
    # What is known beforehand to need too much is not begun; here nobody knows.
    async with a_pool(memory_bytes=300 << 20, picture_bytes=1 << 40) as pool:
        assert (await pool.render(stream(plain()), "image/jpeg")).reason is None
        pids = pool.pids
        rendered = await pool.render(stream(plain("PNG", (9000, 9000))), "image/png")
        assert rendered.reason is NoThumbnail.LIMIT_MEMORY
        assert (await pool.render(stream(plain()), "image/jpeg")).reason is None
        assert pool.pids == pids


async def test_a_document_larger_than_the_memory_is_refused_and_the_child_goes_on():
    async def zeros() -> AsyncIterator[bytes]:
        for _ in range(400):
            yield bytes(1 << 20)

    async with a_pool(memory_bytes=300 << 20) as pool:
        assert (await pool.render(zeros(), "image/png")).reason is NoThumbnail.LIMIT_MEMORY
        assert (await pool.render(stream(plain()), "image/jpeg")).reason is None


# --- children ---------------------------------------------------------------------------------------------------------


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def slow_pdf() -> bytes:
    """A small PDF that takes a renderer minutes: overlapping transparent strokes of many curves."""
    curve = b" ".join(b"%d %d %d %d %d %d c" % (i % 595, 7 * i % 842, 3 * i % 595, i, i, 5 * i) for i in range(1500))
    return a_pdf(b"/MediaBox [0 0 595 842]", drawing=(b"0 0 m " + curve + b" S ") * 3000)


async def test_a_document_that_takes_too_long_is_killed():
    async with a_pool(timeout=1.0) as pool:
        assert (await pool.render(stream(plain()), "image/jpeg")).reason is None
        (first,) = pool.pids
        started = asyncio.get_running_loop().time()
        assert (await pool.render(stream(slow_pdf(), 1 << 20), "application/pdf")).reason is NoThumbnail.LIMIT_TIME
        assert asyncio.get_running_loop().time() - started < 40
        await until(lambda: not is_there(first))
        assert (await pool.render(stream(plain()), "image/jpeg")).reason is None
        assert first not in pool.pids


async def test_a_document_is_not_condemned_because_the_machine_is_busy():
    """Its child is stopped for longer than it may work: by the clock it is late, of processor time it used next to nothing."""
    async with a_pool(timeout=0.5) as pool:
        await pool.check()
        (child,) = pool.pids
        (reader,) = offspring(child)
        os.kill(reader, signal.SIGSTOP)
        asyncio.get_running_loop().call_later(1.2, os.kill, reader, signal.SIGCONT)
        assert (await pool.render(stream(plain()), "image/jpeg")).reason is None
        assert pool.pids == {child}


async def test_a_child_that_stops_reading_is_killed():
    async def much() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(1 << 20)

    async with a_pool(timeout=0.5) as pool:
        await pool.check()
        (child,) = pool.pids
        (reader,) = offspring(child)
        os.kill(reader, signal.SIGSTOP)
        assert (await pool.render(much(), "image/png")).reason is NoThumbnail.LIMIT_TIME
        assert (await pool.render(stream(plain()), "image/jpeg")).reason is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGXCPU])
async def test_a_child_that_dies_at_work_harms_nobody_else(number: signal.Signals):
    async with a_pool(children=2) as pool:
        await asyncio.gather(*(pool.render(stream(plain()), "image/jpeg") for _ in range(2)))
        sending = asyncio.Event()

        async def held() -> AsyncIterator[bytes]:
            yield plain()
            sending.set()
            await asyncio.sleep(0.3)
            yield b"tail"

        before = pool.pids
        doomed = asyncio.create_task(pool.render(held(), "image/jpeg"))
        await sending.wait()
        (victim,) = before - {child.pid for child in pool._idle}
        os.kill(victim, number)
        neighbour = await pool.render(stream(plain()), "image/jpeg")
        assert neighbour.reason is None
        ends = {signal.SIGXCPU: NoThumbnail.LIMIT_TIME, signal.SIGSEGV: NoThumbnail.PARSER_CRASHED}
        assert (await doomed).reason is ends.get(number, NoThumbnail.CHILD_DIED)
        again = await asyncio.gather(*(pool.render(stream(plain()), "image/jpeg") for _ in range(3)))
        assert [rendered.reason for rendered in again] == [None] * 3
        await until(lambda: victim not in pool.pids and len(pool.pids) == 2)


async def test_a_child_killed_while_idle_is_replaced(pool: RenderPool):
    await pool.render(stream(plain()), "image/jpeg")
    (idle,) = pool.pids
    os.kill(idle, signal.SIGKILL)
    await until(lambda: idle not in pool.pids)
    assert (await pool.render(stream(plain()), "image/jpeg")).reason is None


async def test_a_child_does_its_share_and_no_more():
    async with a_pool(jobs_per_child=3) as pool:
        seen: list[int] = []
        for _ in range(7):
            assert (await pool.render(stream(plain()), "image/jpeg")).reason is None
            seen += [pid for pid in pool.pids if pid not in seen]
        assert len(seen) == 3


async def test_no_more_children_than_asked_for():
    async with a_pool(children=2) as pool:
        results = await asyncio.gather(*(pool.render(stream(plain()), "image/jpeg") for _ in range(12)))
        assert [rendered.reason for rendered in results] == [None] * 12
        assert len(pool.pids) == 2


async def test_a_failing_source_leaves_the_child_ready(pool: RenderPool):
    async def breaks() -> AsyncIterator[bytes]:
        yield plain()[:500]
        raise ObjectStoreUnavailable

    await pool.render(stream(plain()), "image/jpeg")
    pids = pool.pids
    with pytest.raises(ObjectStoreUnavailable):
        await pool.render(breaks(), "image/jpeg")
    assert (await pool.render(stream(plain()), "image/jpeg")).reason is None
    assert pool.pids == pids


async def test_a_time_out_of_the_source_is_not_the_documents_fault(pool: RenderPool):
    async def late() -> AsyncIterator[bytes]:
        yield b"x"
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await pool.render(late(), "image/jpeg")


async def test_a_cancelled_caller_leaves_no_child_with_half_a_document(pool: RenderPool):
    async def endless() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(60)

    await pool.render(stream(plain()), "image/jpeg")
    (child,) = pool.pids
    task = asyncio.create_task(pool.render(endless(), "image/jpeg"))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not is_there(child))
    assert (await pool.render(stream(plain()), "image/jpeg")).reason is None


@only_root_sees_inside
async def test_a_child_has_no_secrets_no_files_and_no_way_to_get_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DPJ_VAULT_SECRET_ID", "not-for-decoders")
    descriptor = os.open("/etc/hostname", os.O_RDONLY)
    try:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - positional only
        async with a_pool(memory_bytes=512 << 20) as pool:
            await pool.check()
            (child,) = pool.pids
            (child,) = offspring(child)
            proc = Path(f"/proc/{child}")
            assert (proc / "environ").read_bytes() == b""
            assert b"not-for-decoders" not in (proc / "cmdline").read_bytes()
            assert (proc / "cwd").readlink() == Path("/")
            links = [str(link.readlink()) for link in (proc / "fd").iterdir()]
            assert sorted({link.split(":")[0] for link in links}) in (["/dev/null", "pipe"], ["/dev/null", "socket"])
            status = (proc / "status").read_text()
            assert "NoNewPrivs:\t1" in status
            limits = {
                name: resource.prlimit(child, getattr(resource, name))
                for name in ("RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_NOFILE", "RLIMIT_NPROC")
            }
            assert limits == {
                "RLIMIT_AS": (512 << 20, 512 << 20),
                "RLIMIT_FSIZE": (0, 0),
                "RLIMIT_CORE": (0, 0),
                "RLIMIT_NOFILE": (32, 32),
                "RLIMIT_NPROC": (0, 0),
            }
            assert resource.prlimit(child, resource.RLIMIT_CPU) == (21, 22)
    finally:
        os.close(descriptor)


async def test_closing_ends_work_under_way_without_a_verdict():
    pool = RenderPool(children=1, timeout=60.0)
    task = asyncio.create_task(pool.render(stream(slow_pdf(), 1 << 20), "application/pdf"))
    await until(lambda: bool(pool.pids))
    await asyncio.sleep(0.8)
    (child,) = pool.pids
    await pool.aclose()
    with pytest.raises(RendererUnavailable):
        await task
    assert not is_there(child)
    with pytest.raises(RendererUnavailable):
        await pool.render(stream(plain()), "image/jpeg")
    await pool.aclose()


async def test_a_child_that_can_not_start_is_not_the_documents_fault(monkeypatch: pytest.MonkeyPatch):
    async with a_pool() as pool:
        for executable in ("/bin/true", "/nonexistent/python"):
            monkeypatch.setattr(sys, "executable", executable)
            with pytest.raises(RendererUnavailable):
                await pool.render(stream(plain()), "image/jpeg")
        monkeypatch.undo()
        assert (await pool.render(stream(plain()), "image/jpeg")).reason is None


async def test_children_end_with_a_parent_that_is_killed(tmp_path: Path):
    script = """
import asyncio, logging, structlog
from rendering.pool import RenderPool
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
async def main():
    pool = RenderPool(children=1)
    async def one():
        yield b""
    await pool.render(one(), "image/png")
    print(*pool.pids, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:  # noqa: ASYNC220
        assert parent.stdout is not None
        child = int(await asyncio.to_thread(parent.stdout.readline))
        assert is_there(child)
        parent.kill()
    await until(lambda: not is_there(child) or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2])
