"""Calls of one moment share a call; each caller gets its own answer, in time or an error."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from domain.shared.micro_batcher import (
    BatcherClosed,
    BatchItem,
    BatchPolicy,
    DeadlineExceeded,
    MicroBatcher,
    QueueFull,
    fail_all,
)

Batch = Sequence[BatchItem[int, int]]


class Away(Exception):
    """Of the whole call, or of the batcher."""


class Wrong(Exception):
    """Of one item."""


class Sender:
    """Doubles; waits for ``gate`` if there is one; raises ``failure``; 13 is wrong."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.under_way = 0
        self.most_under_way = 0
        self.gate: asyncio.Event | None = None
        self.failure: Exception | None = None

    async def __call__(self, batch: Batch) -> None:
        self.batches.append([waiting.item for waiting in batch])
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.failure is not None:
                raise self.failure
            for waiting in batch:
                if waiting.item == 13:
                    waiting.fail(Wrong("thirteen"))
                else:
                    waiting.answer(2 * waiting.item)
        finally:
            self.under_way -= 1


@pytest.fixture
def sender() -> Sender:
    return Sender()


async def settled() -> None:
    """Everything that waits for no clock has happened."""
    for _ in range(20):
        await asyncio.sleep(0)


class Clock:
    """A time that goes on when the test says so."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._sleeping: list[tuple[float, asyncio.Event]] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        over = asyncio.Event()
        self._sleeping.append((self.time + seconds, over))
        await over.wait()

    async def go_on(self, seconds: float) -> None:
        self.time += seconds
        for until, over in self._sleeping:
            if until <= self.time + 1e-9:
                over.set()
        await settled()


def away(ended: QueueFull | DeadlineExceeded | BatcherClosed) -> Exception:
    return Away(type(ended).__name__)


def batcher(sender: Sender, **policy: Any) -> MicroBatcher[int, int]:
    ours = {"size": 256, "calls": 2, "waiting": 4096, "deadline": 30.0, **policy}
    return MicroBatcher(sender, BatchPolicy(**ours), away)


async def test_items_of_one_moment_share_a_call(sender: Sender) -> None:
    made = batcher(sender)
    assert await asyncio.gather(*(made.submit(n) for n in range(10))) == [2 * n for n in range(10)]
    assert sender.batches == [list(range(10))]


async def test_batches_are_bounded_and_so_are_calls(sender: Sender) -> None:
    made = batcher(sender, size=4, calls=2)
    sender.gate = asyncio.Event()
    asked = [asyncio.create_task(made.submit(n)) for n in range(11)]
    await settled()
    assert [len(batch) for batch in sender.batches] == [4, 4]
    sender.gate.set()
    assert await asyncio.gather(*asked) == [2 * n for n in range(11)]
    assert [len(batch) for batch in sender.batches] == [4, 4, 3]
    assert sender.most_under_way == 2


async def test_later_items_are_served_too(sender: Sender) -> None:
    made = batcher(sender)
    for number in range(3):
        assert await made.submit(number) == 2 * number
    assert sender.batches == [[0], [1], [2]]


async def test_one_item_s_error_is_its_own(sender: Sender) -> None:
    made = batcher(sender)
    answers = await asyncio.gather(made.submit(1), made.submit(13), made.submit(2), return_exceptions=True)
    assert (answers[0], answers[2]) == (2, 4)
    assert isinstance(answers[1], Wrong)
    assert str(answers[1]) == "thirteen"


async def test_a_failed_call_fails_all_its_items_each_with_an_error_of_its_own(sender: Sender) -> None:
    made = batcher(sender)
    sender.failure = Away("away")
    answers = await asyncio.gather(made.submit(1), made.submit(2), return_exceptions=True)
    assert all(isinstance(answer, Away) and str(answer) == "away" for answer in answers)
    assert answers[0] is not answers[1]
    sender.failure = None
    assert await made.submit(3) == 6


async def test_a_defect_hangs_nobody(sender: Sender) -> None:
    made = batcher(sender)
    sender.failure = RuntimeError("defect")
    with pytest.raises(RuntimeError, match="defect"):
        await made.submit(1)


async def test_too_few_answers_hang_nobody() -> None:
    async def forgetful(batch: Batch) -> None:
        batch[0].answer(0)

    made = MicroBatcher(forgetful, BatchPolicy(size=4))
    answers = await asyncio.gather(made.submit(1), made.submit(2), return_exceptions=True)
    assert answers[0] == 0
    assert isinstance(answers[1], RuntimeError)


async def test_a_full_queue_refuses_at_once(sender: Sender) -> None:
    made = batcher(sender, waiting=3, calls=1, size=1)
    sender.gate = asyncio.Event()
    asked = [asyncio.create_task(made.submit(0))]
    await settled()  # under way
    asked += [asyncio.create_task(made.submit(n)) for n in range(1, 5)]
    await settled()
    refused = [task for task in asked if task.done()]
    assert len(refused) == 1
    with pytest.raises(Away, match="Full"):
        await refused[0]
    sender.gate.set()
    await asyncio.gather(*(task for task in asked if task is not refused[0]))


async def test_the_deadline_holds_for_queue_and_call(sender: Sender) -> None:
    made = batcher(sender, deadline=0.05, calls=1, size=1)
    sender.gate = asyncio.Event()
    answers = await asyncio.gather(made.submit(1), made.submit(2), return_exceptions=True)
    assert all(isinstance(answer, Away) for answer in answers)
    sender.gate.set()
    await settled()
    assert sender.batches == [[1]]  # nobody waited for 2 any more
    assert await made.submit(3) == 6


async def test_a_caller_that_gives_up_disturbs_no_other(sender: Sender) -> None:
    made = batcher(sender)
    sender.gate = asyncio.Event()
    leaving, staying = asyncio.create_task(made.submit(1)), asyncio.create_task(made.submit(2))
    await settled()
    leaving.cancel()
    sender.gate.set()
    assert await staying == 4
    with pytest.raises(asyncio.CancelledError):
        await leaving
    sender.failure = Away()
    sender.gate.clear()
    leaving, staying = asyncio.create_task(made.submit(1)), asyncio.create_task(made.submit(2))
    await settled()
    leaving.cancel()
    await asyncio.sleep(0)
    sender.gate.set()
    with pytest.raises(Away):
        await staying


async def test_closing_frees_everyone(sender: Sender) -> None:
    made = batcher(sender, calls=1, size=1)
    sender.gate = asyncio.Event()
    asked = [asyncio.create_task(made.submit(n)) for n in range(3)]
    await settled()
    await made.aclose()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, Away) for answer in answers)
    with pytest.raises(Away):
        await made.submit(4)
    assert sender.under_way == 0


async def test_closing_what_was_never_used(sender: Sender) -> None:
    await batcher(sender).aclose()


# --- policies --------------------------------------------------------------------------------------------------------


async def test_alone_an_item_waits_for_nobody(sender: Sender) -> None:
    made = MicroBatcher(sender, BatchPolicy(size=8))
    asked = asyncio.create_task(made.submit(1))
    for _ in range(4):
        await asyncio.sleep(0)
    assert asked.done()  # turns of the loop, and no clock


async def test_with_one_call_what_comes_meanwhile_is_the_next_one(sender: Sender) -> None:
    made = MicroBatcher(sender, BatchPolicy(size=3))
    sender.gate = asyncio.Event()
    asked = [asyncio.create_task(made.submit(0))]
    await settled()
    asked += [asyncio.create_task(made.submit(n)) for n in range(1, 6)]
    await settled()
    assert sender.batches == [[0]]
    sender.gate.set()
    await asyncio.gather(*asked)
    assert sender.batches == [[0], [1, 2, 3], [4, 5]]
    assert sender.most_under_way == 1


@pytest.mark.parametrize(("waiting", "calls"), [(4, 1), (5, 2)])
async def test_a_second_call_starts_where_enough_wait(sender: Sender, waiting: int, calls: int) -> None:
    made = MicroBatcher(sender, BatchPolicy(size=256, calls=2, enough=5))
    sender.gate = asyncio.Event()
    asked = [asyncio.create_task(made.submit(0))]
    await settled()
    asked += [asyncio.create_task(made.submit(1 + n)) for n in range(waiting)]
    await settled()
    assert len(sender.batches) == calls
    sender.gate.set()
    assert await asyncio.gather(*asked) == [2 * n for n in range(1 + waiting)]


async def test_a_first_item_waits_for_others_as_long_as_its_window(sender: Sender) -> None:
    clock = Clock()
    made = MicroBatcher(sender, BatchPolicy(size=8, window=2.0), now=clock.now, sleep=clock.sleep)
    asked = [asyncio.create_task(made.submit(1))]
    await settled()
    await clock.go_on(1.5)
    asked.append(asyncio.create_task(made.submit(2)))
    await settled()
    assert sender.batches == []
    await clock.go_on(0.5)
    assert sender.batches == [[1, 2]]
    await asyncio.gather(*asked)


async def test_under_load_calls_keep_their_pace_and_without_it_they_do_not(sender: Sender) -> None:
    clock = Clock()
    made = MicroBatcher(
        sender, BatchPolicy(size=8, calls=2, pace=10.0, min_arrivals=4), now=clock.now, sleep=clock.sleep
    )

    async def ask(*items: int) -> None:
        asked.extend(asyncio.create_task(made.submit(item)) for item in items)
        await settled()

    asked: list[asyncio.Task[int]] = []
    await ask(0)
    await clock.go_on(3.0)
    await ask(1)  # one in three seconds: waiting ten gathers nobody
    await clock.go_on(3.0)
    await ask(2, 3)  # two in three seconds would: the call after this one waits
    assert sender.batches == [[0], [1], [2, 3]]
    await clock.go_on(4.0)
    await ask(4, 5)
    await clock.go_on(5.0)
    await ask(6)
    assert sender.batches == [[0], [1], [2, 3]]
    await clock.go_on(1.0)
    assert sender.batches == [[0], [1], [2, 3], [4, 5, 6]]
    assert [task.result() for task in asked] == [2 * n for n in range(7)]


async def test_a_sender_that_is_cancelled_leaves_nobody_waiting(sender: Sender) -> None:
    made = batcher(sender, calls=1, size=1)
    sender.gate = asyncio.Event()
    asked = [asyncio.create_task(made.submit(n)) for n in range(3)]
    await settled()
    for task in list(made._senders):
        task.cancel()
    answers = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 1)
    assert [str(answer) for answer in answers] == ["BatcherClosed"] * 3
    sender.gate.set()
    assert await made.submit(4) == 8


async def test_copied_errors_keep_what_they_say_and_where_they_come_from() -> None:
    class Stubborn(Exception):
        def __init__(self, one: str, *, two: str) -> None:
            super().__init__(one, two)

    loop = asyncio.get_running_loop()
    for error in (Away("far"), Stubborn("one", two="two")):
        error.__cause__ = OSError("cable")
        futures = [loop.create_future() for _ in range(2)]
        fail_all([BatchItem(n, future) for n, future in enumerate(futures)], error)
        raised = [future.exception() for future in futures]
        assert [type(one) for one in raised] == [type(error)] * 2
        assert [one.args for one in raised if one] == [error.args] * 2
        assert all(one and isinstance(one.__cause__, OSError) for one in raised)
