"""Jobs beside the work: what fails is tried again, and ends nothing."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from domain.errors import DatabaseUnavailable
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
