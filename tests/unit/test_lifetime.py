"""Jobs beside the work: what fails is tried again, and ends nothing."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from domain.errors import DatabaseUnavailable
from domain.shared.waiting import unless_stopped, until_stopped
from runtime.processes.lifetime import repeat


async def test_a_job_that_fails_is_repeated_whatever_it_raised() -> None:
    failures: list[Exception] = [DatabaseUnavailable("away"), ValueError("s3cret"), OSError("s3cret")]
    stopping, done = asyncio.Event(), []

    async def job() -> None:
        if failures:
            raise failures.pop(0)
        done.append(True)
        stopping.set()

    with capture_logs() as logs:
        await asyncio.wait_for(repeat(stopping, "sweep", 0.001, job), 5)
    assert done == [True]
    assert [line["event"] for line in logs] == ["housekeeping_waiting", "housekeeping_failed", "housekeeping_failed"]
    assert "s3cret" not in str(logs)


async def test_turns_pause_as_they_say_and_end_with_the_process() -> None:
    stopping, pauses = asyncio.Event(), [0.0, 0.001, 60.0]
    turns: list[float] = []

    async def turn() -> float:
        turns.append(pauses[len(turns)])
        if len(turns) == len(pauses):
            asyncio.get_running_loop().call_later(0.01, stopping.set)
        return turns[-1]

    await asyncio.wait_for(until_stopped(stopping, turn), 2)
    assert turns == pauses
    await until_stopped(stopping, turn)
    assert turns == pauses, "nothing begins once it is stopped"


async def test_a_turn_that_raises_ends_the_loop() -> None:
    async def turn() -> float:
        raise DatabaseUnavailable

    with pytest.raises(DatabaseUnavailable):
        await until_stopped(asyncio.Event(), turn)


@pytest.mark.parametrize("by", ["stop", "cancellation"])
async def test_work_that_is_cut_short_has_ended_when_its_caller_goes_on(by: str) -> None:
    stopping, tidied = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            tidied.set()

    waiting = asyncio.create_task(unless_stopped(stopping, work()))
    await asyncio.sleep(0.01)
    if by == "stop":
        stopping.set()
        assert await asyncio.wait_for(waiting, 2) is None
    else:
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert tidied.is_set()
