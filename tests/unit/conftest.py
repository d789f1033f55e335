"""The API and its use cases over memory: each test has its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import httpx
import pytest

from tests.support.api import a_client, an_app
from tests.support.builders import ManualSeconds
from tests.support.fakes_intake import IntakeBench
from tests.support.simulated_time import SimulatedTimeLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Waiting takes no time and depends on none."""
    return {"simulated time": SimulatedTimeLoop}


@pytest.fixture
def bench() -> IntakeBench:
    """All use cases over memory."""
    return IntakeBench()


@pytest.fixture
async def client(bench: IntakeBench) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API around ``bench``, without a socket."""
    async with a_client(an_app(bench)) as made:
        yield made


@pytest.fixture
def clock() -> ManualSeconds:
    return ManualSeconds()
