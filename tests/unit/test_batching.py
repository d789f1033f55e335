"""Calls of one moment share a request; each caller gets its own answer, in time or an error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from crypto.batching import Batcher, BatchLimits
from domain.errors import DPJError, KeyringUnavailable, WrongKey

Send = Callable[[list[int]], Awaitable[Sequence[int | DPJError]]]


class Sender:
    """Doubles; waits for ``gate`` if there is one; raises ``failure``; 13 is wrong."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.under_way = 0
        self.most_under_way = 0
        self.gate: asyncio.Event | None = None
        self.failure: Exception | None = None

    async def __call__(self, items: list[int]) -> list[int | DPJError]:
        self.batches.append(items)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.failure is not None:
                raise self.failure
            return [WrongKey("thirteen") if item == 13 else 2 * item for item in items]
        finally:
            self.under_way -= 1


@pytest.fixture
def sender() -> Sender:
    return Sender()


def batcher(sender: Send, **limits: float) -> Batcher[int, int]:
    return Batcher(sender, BatchLimits(**{"window": 0.001, "deadline": 2.0, **limits}))


async def test_items_of_one_moment_share_a_call(sender: Sender) -> None:
    made = batcher(sender)
    assert await asyncio.gather(*(made.submit(n) for n in range(10))) == [2 * n for n in range(10)]
    assert sender.batches == [list(range(10))]


async def test_batches_are_bounded_and_so_are_calls(sender: Sender) -> None:
    made = batcher(sender, size=4, calls=2)
    sender.gate = asyncio.Event()
    asked = [asyncio.create_task(made.submit(n)) for n in range(11)]
    await asyncio.sleep(0.02)
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
    assert isinstance(answers[1], WrongKey)
    assert answers[1].detail == "thirteen"


async def test_a_failed_call_fails_all_its_items_each_with_an_error_of_its_own(sender: Sender) -> None:
    made = batcher(sender)
    sender.failure = KeyringUnavailable("away")
    answers = await asyncio.gather(made.submit(1), made.submit(2), return_exceptions=True)
    assert all(isinstance(answer, KeyringUnavailable) and answer.detail == "away" for answer in answers)
    assert answers[0] is not answers[1]
    sender.failure = None
    assert await made.submit(3) == 6


async def test_a_defect_hangs_nobody(sender: Sender) -> None:
    made = batcher(sender)
    sender.failure = RuntimeError("defect")
    with pytest.raises(RuntimeError, match="defect"):
        await made.submit(1)


async def test_too_few_answers_hang_nobody() -> None:
    async def forgetful(items: list[int]) -> list[int | DPJError]:
        return [0] * (len(items) - 1)

    made = batcher(forgetful)
    answers = await asyncio.gather(made.submit(1), made.submit(2), return_exceptions=True)
    assert answers[0] == 0
    assert isinstance(answers[1], ValueError)


async def test_a_full_queue_refuses_at_once(sender: Sender) -> None:
    made = batcher(sender, waiting=3, calls=1, size=1)
    sender.gate = asyncio.Event()
    asked = [asyncio.create_task(made.submit(0))]
    await asyncio.sleep(0.01)  # under way
    asked += [asyncio.create_task(made.submit(n)) for n in range(1, 5)]
    await asyncio.sleep(0.01)
    refused = [task for task in asked if task.done()]
    assert len(refused) == 1
    with pytest.raises(KeyringUnavailable, match="Too many"):
        await refused[0]
    sender.gate.set()
    await asyncio.gather(*(task for task in asked if task is not refused[0]))


async def test_the_deadline_holds_for_queue_and_call(sender: Sender) -> None:
    made = batcher(sender, deadline=0.05, calls=1, size=1)
    sender.gate = asyncio.Event()
    answers = await asyncio.gather(made.submit(1), made.submit(2), return_exceptions=True)
    assert all(isinstance(answer, KeyringUnavailable) for answer in answers)
    sender.gate.set()
    await asyncio.sleep(0.01)
    assert sender.batches == [[1]]  # nobody waited for 2 any more
    assert await made.submit(3) == 6


async def test_a_caller_that_gives_up_disturbs_no_other(sender: Sender) -> None:
    made = batcher(sender)
    sender.gate = asyncio.Event()
    leaving, staying = asyncio.create_task(made.submit(1)), asyncio.create_task(made.submit(2))
    await asyncio.sleep(0.01)
    leaving.cancel()
    sender.gate.set()
    assert await staying == 4
    with pytest.raises(asyncio.CancelledError):
        await leaving
    sender.failure = KeyringUnavailable()
    sender.gate.clear()
    leaving, staying = asyncio.create_task(made.submit(1)), asyncio.create_task(made.submit(2))
    await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.sleep(0)
    sender.gate.set()
    with pytest.raises(KeyringUnavailable):
        await staying


async def test_closing_frees_everyone(sender: Sender) -> None:
    made = batcher(sender, calls=1, size=1)
    sender.gate = asyncio.Event()
    asked = [asyncio.create_task(made.submit(n)) for n in range(3)]
    await asyncio.sleep(0.01)
    await made.aclose()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, KeyringUnavailable) for answer in answers)
    with pytest.raises(KeyringUnavailable):
        await made.submit(4)
    assert sender.under_way == 0


async def test_closing_what_was_never_used(sender: Sender) -> None:
    await batcher(sender).aclose()
