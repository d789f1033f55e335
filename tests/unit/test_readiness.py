"""Whoever asks on /readyz, dependencies are asked once a second, and not at all while their circuit is open."""

from __future__ import annotations

import asyncio

from ingest_api.readiness import KEEP_SECONDS, Readiness


class Dependency:
    def __init__(self) -> None:
        self.asked = 0
        self.there = True
        self.now = 100.0
        self.circuits = {"keyring": "closed"}

    async def check(self) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        if not self.there:
            raise OSError

    def readiness(self) -> Readiness:
        return Readiness({"keyring": self.check}, lambda: self.circuits, lambda: self.now)


async def test_many_who_ask_at_once_share_one_look() -> None:
    dependency = Dependency()
    readiness = dependency.readiness()
    found = await asyncio.gather(*(readiness.status() for _ in range(200)))
    assert found == [{"keyring": True}] * 200
    assert dependency.asked == 1


async def test_what_was_found_is_told_for_a_second() -> None:
    dependency = Dependency()
    readiness = dependency.readiness()
    await readiness.status()
    dependency.there = False
    dependency.now += KEEP_SECONDS * 0.9
    assert await readiness.status() == {"keyring": True}
    dependency.now += KEEP_SECONDS * 0.1
    assert await readiness.status() == {"keyring": False}
    assert dependency.asked == 2


async def test_nobody_probes_past_an_open_circuit() -> None:
    dependency = Dependency()
    readiness = dependency.readiness()
    for state in ("open", "half_open"):
        dependency.circuits["keyring"] = state
        for _ in range(3):
            assert await readiness.status() == {"keyring": False}
            dependency.now += KEEP_SECONDS
    assert dependency.asked == 0
    dependency.circuits["keyring"] = "closed"
    assert await readiness.status() == {"keyring": True}


async def test_a_look_that_is_cancelled_leaves_the_next_one_free() -> None:
    dependency = Dependency()
    readiness = dependency.readiness()
    first, second = asyncio.create_task(readiness.status()), asyncio.create_task(readiness.status())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == {"keyring": True}
