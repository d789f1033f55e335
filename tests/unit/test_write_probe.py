"""Whether a store has room is found out by writing, seldom, and told in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.errors import ObjectStoreUnavailable
from domain.objects import WRITE_PROBE_KEY
from processors.resilience.write_probe import NO_ROOM_SECONDS, PROBE_BYTES, ROOM_SECONDS, WriteProbe
from tests.support.builders import ManualSeconds


class Store:
    def __init__(self) -> None:
        self.full = self.away = False
        self.puts: list[int] = []
        self.held: set[str] = set()

    async def check(self) -> None:
        if self.away:
            raise ObjectStoreUnavailable

    async def put(self, key: str, data: AsyncIterator[bytes]) -> Any:
        size = sum([len(piece) async for piece in data])
        self.puts.append(size)
        if self.full:
            raise ObjectStoreUnavailable
        self.held.add(key)

    async def delete(self, key: str) -> None:
        self.held.remove(key)


@pytest.fixture
def clock() -> ManualSeconds:
    return ManualSeconds()


async def test_room_is_asked_for_once_in_a_while_and_nothing_stays(clock: ManualSeconds) -> None:
    store = Store()
    probe = WriteProbe(store, store.check, clock)
    for _ in range(5):
        await probe.check()
    assert store.puts == [PROBE_BYTES]
    assert WRITE_PROBE_KEY not in store.held
    clock.now += ROOM_SECONDS
    await probe.check()
    assert len(store.puts) == 2


async def test_a_full_store_is_told_until_a_write_goes_through(clock: ManualSeconds) -> None:
    store = Store()
    probe = WriteProbe(store, store.check, clock)
    store.full = True
    for _ in range(3):
        with pytest.raises(ObjectStoreUnavailable):
            await probe.check()
    assert len(store.puts) == 1
    store.full = False
    with pytest.raises(ObjectStoreUnavailable):
        await probe.check()
    clock.now += NO_ROOM_SECONDS
    await probe.check()


async def test_a_store_that_is_away_is_not_written_to(clock: ManualSeconds) -> None:
    store = Store()
    store.away = True
    with pytest.raises(ObjectStoreUnavailable):
        await WriteProbe(store, store.check, clock).check()
    assert store.puts == []
