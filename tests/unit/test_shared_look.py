"""One look serves all who ask, is renewed behind the page, and is waited for when it is old."""

from __future__ import annotations

import asyncio

import pytest

from console.shared_look import SharedLook


class Store:
    def __init__(self) -> None:
        self.now = 0.0
        self.looks = 0
        self.fails = False
        self.look = SharedLook(self._look, fresh=10.0, stale=60.0, clock=lambda: self.now)

    async def _look(self) -> int:
        self.looks += 1
        await asyncio.sleep(0)
        if self.fails:
            raise ConnectionError
        return self.looks


async def test_who_comes_meanwhile_is_shown_the_same() -> None:
    store = Store()
    assert await asyncio.gather(*(store.look.get() for _ in range(5))) == [1] * 5
    store.now = 9.0
    assert await store.look.get() == 1
    assert store.look.age == 9.0


async def test_an_older_look_is_shown_and_renewed_once_behind_the_page() -> None:
    store = Store()
    await store.look.get()
    store.now = 20.0
    assert await asyncio.gather(*(store.look.get() for _ in range(5))) == [1] * 5
    await asyncio.sleep(0.01)
    assert (await store.look.get(), store.looks) == (2, 2)


async def test_one_that_is_too_old_is_waited_for() -> None:
    store = Store()
    await store.look.get()
    store.now = 60.0
    assert await store.look.get() == 2


async def test_a_look_behind_a_page_that_fails_is_tried_again_and_one_that_is_waited_for_says_so() -> None:
    store = Store()
    await store.look.get()
    store.now, store.fails = 20.0, True
    assert await store.look.get() == 1
    await asyncio.sleep(0.01)
    assert (await store.look.get(), store.looks) == (1, 2)
    await asyncio.sleep(0.01)
    store.now = 100.0
    with pytest.raises(ConnectionError):
        await store.look.get()
    store.fails = False
    assert await store.look.get() == store.looks
