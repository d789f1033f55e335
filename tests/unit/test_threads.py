"""Calls in threads: bounds, deadlines, and what becomes of a put that fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from domain.errors import ObjectStoreUnavailable
from domain.objects import StoredObject
from storage.clients.worker_threads import ObjectStoreThreads, parts_of
from tests.support.fakes_content import collect, cut, pieces
from tests.support.waiting import until


class Written:
    """A Writing that records; ``gate`` holds ``finish`` back, ``failures`` are raised by the calls named."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.numbers: list[int] = []
        self.calls: list[str] = []
        self.gate: threading.Event | None = None
        self.failures: dict[str, Exception] = {}
        self.finishing = False

    def add(self, part: bytearray, number: int) -> None:
        self._call("add")
        self.numbers.append(number)
        self.parts.append(bytes(part))

    def finish(self, part: bytearray) -> StoredObject:
        self.finishing = True
        if self.gate is not None:
            self.gate.wait(5)
        self._call("finish")
        self.parts.append(bytes(part))
        return StoredObject("k", sum(map(len, self.parts)), "e", datetime(2026, 1, 1, tzinfo=UTC))

    def undo(self) -> None:
        self._call("undo")

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failures:
            raise self.failures[name]


class Counting:
    """A Reading of three pieces, the middle one empty."""

    def __init__(self) -> None:
        self._pieces = [b"a", b"", b"c"]
        self.closed = threading.Event()

    def next(self) -> tuple[bytes, bool]:
        return self._pieces.pop(0), not self._pieces

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
async def threads() -> AsyncIterator[ObjectStoreThreads]:
    made = ObjectStoreThreads("test", 2, 5, bound=3)
    yield made
    await made.aclose()


@pytest.mark.parametrize(
    ("size", "lengths"), [(0, [0]), (1, [1]), (10, [10]), (11, [10, 1]), (20, [10, 10]), (25, [10, 10, 5])]
)
@pytest.mark.parametrize("piece", [1, 3, 10, 100])
async def test_parts_are_full_but_the_last(size: int, lengths: list[int], piece: int) -> None:
    content = bytes(range(size))
    parts = [(bytes(part), last) async for part, last in parts_of(cut(content, piece), 10)]
    assert [len(part) for part, _ in parts] == lengths
    assert [last for _, last in parts] == [False] * (len(lengths) - 1) + [True]
    assert b"".join(part for part, _ in parts) == content


async def test_a_put_sends_its_parts_in_order(threads: ObjectStoreThreads) -> None:
    written = Written()
    stored = await threads.write(written, pieces(b"0123456789", b"abc"), 5)
    assert written.parts == [b"01234", b"56789", b"abc"]
    assert written.calls == ["add", "add", "finish"]
    assert stored.size == 13


@pytest.mark.parametrize("failing", ["add", "finish"])
async def test_a_put_that_fails_is_undone(threads: ObjectStoreThreads, failing: str) -> None:
    written = Written()
    written.failures[failing] = ObjectStoreUnavailable("away")
    with pytest.raises(ObjectStoreUnavailable, match="away"):
        await threads.write(written, pieces(b"0123456789"), 5)
    assert written.calls[-1] == "undo"
    assert written.calls.count("undo") == 1


async def test_nothing_sent_nothing_undone(threads: ObjectStoreThreads) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConnectionResetError

    written = Written()
    with pytest.raises(ConnectionResetError):
        await threads.write(written, broken(), 5)
    assert written.calls == []


async def test_the_put_s_error_is_told_when_the_undoing_fails_too(threads: ObjectStoreThreads) -> None:
    written = Written()
    written.failures = {"finish": ObjectStoreUnavailable("first"), "undo": ObjectStoreUnavailable("second")}
    with capture_logs() as logs, pytest.raises(ObjectStoreUnavailable, match="first"):
        await threads.write(written, pieces(b"0123456789"), 5)
    assert [entry["event"] for entry in logs] == ["object_put_not_undone"]


async def test_a_put_that_is_stuck_ends_at_its_deadline_and_is_undone_later() -> None:
    threads = ObjectStoreThreads("test", 2, 0.3)  # waited for in real time: what is stuck is a thread
    written = Written()
    written.gate = threading.Event()
    started = asyncio.get_running_loop().time()
    with pytest.raises(ObjectStoreUnavailable, match="in time"):
        await threads.write(written, pieces(b"x"), 5)
    assert asyncio.get_running_loop().time() - started < 2
    assert written.calls == []
    written.gate.set()
    await threads.aclose()
    assert written.calls == ["finish", "undo"]


async def test_a_put_that_is_cancelled_waits_for_its_undoing(threads: ObjectStoreThreads) -> None:
    written = Written()
    written.gate = threading.Event()
    putting = asyncio.create_task(threads.write(written, pieces(b"x"), 5))
    await until(lambda: written.finishing)
    putting.cancel()
    await asyncio.sleep(0.05)  # in real time, as the thread is at work: enough for a caller that would not wait
    assert not putting.done()
    written.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert written.calls == ["finish", "undo"]


async def test_too_many_calls_are_refused_at_once(threads: ObjectStoreThreads) -> None:
    gate = threading.Event()
    running = [asyncio.create_task(threads.run(gate.wait, 5)) for _ in range(3)]
    await asyncio.sleep(0)  # each has asked for its thread
    with pytest.raises(ObjectStoreUnavailable, match="Too many"):
        await threads.run(gate.is_set)
    gate.set()
    await asyncio.gather(*running)
    assert await threads.run(gate.is_set)


async def test_a_call_left_by_its_caller_ends_unseen(threads: ObjectStoreThreads) -> None:
    gate = threading.Event()

    begun = threading.Event()

    def failing() -> None:
        begun.set()
        gate.wait(5)
        raise RuntimeError

    running = asyncio.create_task(threads.run(failing))
    await until(begun.is_set)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    gate.set()
    assert await threads.run(gate.is_set)


async def test_a_reading_gives_its_pieces(threads: ObjectStoreThreads) -> None:
    reading = Counting()
    assert await collect(threads.stream(reading)) == b"ac"
    assert not reading.closed.is_set()  # it closed itself, as the last piece says


async def test_a_reading_that_is_left_is_closed(threads: ObjectStoreThreads) -> None:
    reading = Counting()
    stream = threads.stream(reading)
    assert await anext(stream) == b"a"
    await stream.aclose()
    assert await asyncio.to_thread(reading.closed.wait, 5)


async def test_a_reading_left_after_the_end_of_the_pool_is_fine(threads: ObjectStoreThreads) -> None:
    stream = threads.stream(Counting())
    await anext(stream)
    await threads.aclose()
    await stream.aclose()


class Gated(Written):
    """Its ``add`` waits for ``gate``; ``most`` is how many were under way at once."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.under_way = 0
        self.most = 0
        self._lock = threading.Lock()

    def add(self, part: bytearray, number: int) -> None:
        with self._lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        self.open.wait(5)
        with self._lock:
            self.under_way -= 1
            super().add(part, number)


async def endless(taken: list[int]) -> AsyncIterator[bytes]:
    for number in range(40):
        taken.append(number)
        yield bytes([number]) * 5


async def test_parts_go_at_once_and_a_stalled_store_is_not_fed_on() -> None:
    threads = ObjectStoreThreads("test", 8, 5)
    written, taken = Gated(), list[int]()
    putting = asyncio.create_task(threads.write(written, endless(taken), 5, at_once=3))
    # Three under way, one full, and one that shows it was not the last.
    await until(lambda: (written.under_way, len(taken)) == (3, 5))
    await asyncio.sleep(0.05)  # in real time, as threads are at work: enough for one that would be fed on
    assert (written.under_way, len(taken)) == (3, 5)
    written.open.set()
    stored = await putting
    assert stored.size == 200
    assert sorted(written.numbers) == list(range(1, 40))
    in_order = [part for _, part in sorted(zip(written.numbers, written.parts, strict=False))]
    assert b"".join(in_order) + written.parts[-1] == b"".join(bytes([number]) * 5 for number in range(40))
    assert written.most == 3
    await threads.aclose()


async def test_all_puts_together_share_what_goes_beyond_their_first_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.clients.worker_threads.EXTRA_PARTS", 1)
    threads = ObjectStoreThreads("test", 8, 5)
    several = [Gated() for _ in range(3)]
    putting = [asyncio.create_task(threads.write(one, endless([]), 5, at_once=3)) for one in several]
    await until(lambda: sum(one.under_way for one in several) == 4)
    await asyncio.sleep(0.05)  # in real time, as threads are at work: enough for a part too many
    assert sorted(one.under_way for one in several) == [1, 1, 2]
    for one in several:
        one.open.set()
    assert [stored.size for stored in await asyncio.gather(*putting)] == [200] * 3
    await threads.aclose()


async def test_a_put_is_undone_after_all_its_parts_have_ended() -> None:
    threads = ObjectStoreThreads("test", 8, 5)
    written = Gated()
    putting = asyncio.create_task(threads.write(written, endless([]), 5, at_once=2))
    await until(lambda: written.under_way == 2)
    putting.cancel()
    await asyncio.sleep(0.05)  # in real time, as threads are at work: enough for an undoing that would not wait
    assert "undo" not in written.calls
    written.open.set()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert written.calls == ["add", "add", "undo"]
    await threads.aclose()


async def test_one_piece_is_read_ahead(threads: ObjectStoreThreads) -> None:
    reading = Counting()
    stream = threads.stream(reading)
    assert await anext(stream) == b"a"
    await until(lambda: len(reading._pieces) < 2)
    await asyncio.sleep(0.05)
    assert reading._pieces == [b"c"]
    await stream.aclose()
