"""A row that can't be sent does not keep back the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from streams.outbox_relay import OutboxRelay, create_producer


class Reader:
    """Always leads; keeps what was marked. After the first closing the test is over."""

    def __init__(self, rows: list[Any], stopping: asyncio.Event) -> None:
        self.rows = rows
        self.marked: list[int] = []
        self._stopping = stopping

    async def lead(self) -> bool:
        return True

    async def fetch_unpublished(self, limit: int) -> Sequence[Any]:
        return self.rows[:limit]

    async def mark_published(self, ids: Sequence[int]) -> None:
        self.marked += ids

    async def wait(self, timeout: float) -> None: ...

    async def prune(self, older_than_hours: float) -> int:
        return 0

    async def close(self) -> None:
        self._stopping.set()


class Producer:
    """The real one's refusals; what it takes is confirmed at the next flush."""

    def __init__(self) -> None:
        self._real = create_producer("127.0.0.1:9")
        self._confirm: list[Callable[[None, Any], None]] = []

    def produce(self, topic: str, *, on_delivery: Callable[[None, Any], None], **record: Any) -> None:
        self._real.produce(topic, **record)
        self._confirm.append(on_delivery)

    def purge(self, **how: bool) -> None:
        self._real.purge(**how)

    def flush(self, _: float) -> int:
        while self._confirm:
            self._confirm.pop()(None, None)
        return 0


class Metrics:
    def published(self, count: int) -> None: ...

    def leading(self, *, leader: bool) -> None: ...


async def test_rows_around_an_oversized_one_are_published_and_it_is_not_marked() -> None:
    stopping = asyncio.Event()
    sizes = {1: 10, 2: 1_000_000, 3: 10}
    rows = [
        SimpleNamespace(id=number, topic="t", key=b"k", body=b"x" * size, headers={}, event_id=None)
        for number, size in sizes.items()
    ]
    reader = Reader(rows, stopping)

    async def open_reader() -> Reader:
        return reader

    source: Any = SimpleNamespace(open_reader=open_reader)
    new_producer: Any = Producer
    async with asyncio.timeout(10):
        await OutboxRelay(source, new_producer, Metrics()).run(stopping)
    assert sorted(reader.marked) == [1, 3]
