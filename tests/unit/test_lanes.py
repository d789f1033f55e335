import asyncio

import pytest

from streams import lanes
from streams.lanes import Lane, Partition, Record

PARTITION = Partition("t", 0)


def record(offset: int, key: bytes = b"k") -> Record:
    return Record(PARTITION, offset, key, b"v")


class Gate:
    """Work that finishes when told, and remembers what started and how many ran at once."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.open: dict[int, asyncio.Event] = {}
        self.running = 0
        self.most_running = 0

    async def __call__(self, item: Record) -> None:
        self.started.append(item.offset)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.open.setdefault(item.offset, asyncio.Event()).wait()
        finally:
            self.running -= 1

    async def finish(self, offset: int) -> None:
        self.open.setdefault(offset, asyncio.Event()).set()
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_key_runs_in_order_and_different_keys_at_once() -> None:
    gate = Gate()
    lane = Lane(10, 4, gate)
    for offset, key in ((0, b"a"), (1, b"a"), (2, b"b")):
        lane.add(record(offset, key))
    await settle()
    assert gate.started == [0, 2]
    await gate.finish(0)
    assert gate.started == [0, 2, 1]
    await lane.cancel()


async def test_offsets_are_acknowledged_without_gaps() -> None:
    gate = Gate()
    lane = Lane(10, 4, gate)
    for offset in (5, 6, 9):
        lane.add(record(offset, str(offset).encode()))
    await settle()
    await gate.finish(6)
    assert lane.take_ack() is None
    await gate.finish(5)
    assert lane.take_ack() == 7
    assert lane.take_ack() is None
    await gate.finish(9)
    assert lane.take_ack() == 10
    assert lane.idle


async def test_a_failed_commit_is_offered_again() -> None:
    gate = Gate()
    lane = Lane(10, 4, gate)
    lane.add(record(0))
    await gate.finish(0)
    assert lane.take_ack() == 1
    lane.ack_failed()
    assert lane.take_ack() == 1


async def test_concurrency_is_bounded() -> None:
    gate = Gate()
    lane = Lane(100, 3, gate)
    for offset in range(20):
        lane.add(record(offset, str(offset).encode()))
    await settle()
    assert gate.running == 3
    for offset in range(20):
        await gate.finish(offset)
    assert gate.most_running == 3
    assert lane.take_ack() == 20


async def test_a_held_record_fills_its_lane_however_many_others_finish() -> None:
    gate = Gate()
    lane = Lane(4, 4, gate)
    for offset in range(4):
        lane.add(record(offset, str(offset).encode()))
    for offset in (1, 2, 3):
        await gate.finish(offset)
    assert lane.is_full
    assert not lane.has_drained
    await gate.finish(0)
    assert not lane.is_full
    assert lane.has_drained


async def test_cancelling_acknowledges_nothing_unfinished() -> None:
    gate = Gate()
    lane = Lane(10, 4, gate)
    lane.add(record(0, b"a"))
    lane.add(record(1, b"b"))
    await gate.finish(1)
    await lane.cancel()
    assert lane.take_ack() is None
    assert gate.running == 0


@pytest.mark.parametrize("keys", [[b"a"] * 6, [b"a", b"b", b"c"] * 2])
async def test_everything_finishes(keys: list[bytes]) -> None:
    done: list[int] = []

    async def work(item: Record) -> None:
        await asyncio.sleep(0)
        done.append(item.offset)

    lane = Lane(10, 2, work)
    for offset, key in enumerate(keys):
        lane.add(record(offset, key))
    async with asyncio.timeout(5):
        while not lane.idle:
            await asyncio.sleep(0)
    assert sorted(done) == list(range(len(keys)))
    assert lane.take_ack() == len(keys)


async def test_a_record_fetched_again_is_taken_once() -> None:
    gate = Gate()
    lane = Lane(10, 4, gate)
    lane.add(record(3, b"a"))
    lane.add(record(4, b"b"))
    lane.add(record(3, b"a"))
    await settle()
    assert gate.started == [3, 4]
    await gate.finish(4)
    await gate.finish(3)
    assert lane.take_ack() == 5


async def test_cancelling_goes_on_where_work_loses_a_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "CANCEL_AGAIN_SECONDS", 0.01)
    lost = 0

    async def work(_: Record) -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
                if lost == 3:
                    raise

    lane = Lane(10, 4, work)
    lane.add(record(0))
    await settle()
    await asyncio.wait_for(lane.cancel(), 2)
    assert lost == 3


async def test_work_that_raises_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "WORK_AGAIN_SECONDS", 0.0)
    failures, done = [ValueError("a defect"), OSError()], []

    async def work(item: Record) -> None:
        if failures:
            raise failures.pop()
        done.append(item.offset)

    lane = Lane(10, 4, work)
    lane.add(record(0))
    lane.add(record(1))
    async with asyncio.timeout(2):
        while done != [0, 1]:
            await asyncio.sleep(0)
    assert lane.take_ack() == 2
