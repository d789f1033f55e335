"""One bounded lane per partition: different keys at once, one key in order, offsets acknowledged in order.

A lane remembers every record from the oldest unfinished one on. It is full when it holds ``size`` of them, however many of
those are finished: so a record that can't finish holds its lane, and no other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

#: Longer than what work does to tidy up when it is cancelled.
CANCEL_AGAIN_SECONDS: Final = 10.0
WORK_AGAIN_SECONDS: Final = 1.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Partition:
    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record as delivery needs it. ``timestamp`` in seconds since the epoch.

    ``damage`` says why the record is proved broken: then key, value and headers are what could be read of it, and nothing acts on
    them. A ``gap`` is no record: nothing is to be done up to its offset.
    """

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str] = field(default_factory=dict)
    timestamp: float = 0.0
    damage: str | None = None
    gap: bool = False


@dataclass(slots=True)
class _Entry:
    record: Record
    finished: bool = False


class Lane:
    """Runs ``work`` on its records; ``work`` returns only when the record is finished, and should raise only on cancellation.

    ``advanced`` is called whenever records have left the lane.
    """

    def __init__(
        self,
        size: int,
        concurrency: int,
        work: Callable[[Record], Awaitable[None]],
        advanced: Callable[[], None] = lambda: None,
    ) -> None:
        self._size: Final = size
        self._work = work
        self._advanced = advanced
        self._concurrency: Final = concurrency
        self._running = 0
        self._entries: deque[_Entry] = deque()
        self._by_key: dict[bytes | None, deque[_Entry]] = {}
        self._ready: deque[bytes | None] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_taken = -1
        self._next_offset: int | None = None
        self._acked: int | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_full(self) -> bool:
        return len(self._entries) >= self._size

    @property
    def has_drained(self) -> bool:
        """Half empty again: time to let the consumer fetch more."""
        return len(self._entries) <= self._size // 2

    @property
    def idle(self) -> bool:
        return not self._entries

    def add(self, record: Record) -> None:
        """Take a record; records of one key are worked on one after the other.

        One that the consumer fetched again, after seeking back to the committed offset, is in the lane already.
        """
        if record.offset <= self._last_taken:
            return
        self._last_taken = record.offset
        entry = _Entry(record)
        self._entries.append(entry)
        waiting = self._by_key.get(record.key)
        if waiting is not None:
            waiting.append(entry)
            return
        self._by_key[record.key] = deque([entry])
        self._ready.append(record.key)
        if self._running < self._concurrency:
            self._running += 1
            task = asyncio.create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        """Work on one ready record after the other until there is none; a key is ready again once its record is finished."""
        try:
            while self._ready:
                key = self._ready.popleft()
                waiting = self._by_key[key]
                await self._finish(waiting[0].record)
                waiting.popleft().finished = True
                if waiting:
                    self._ready.append(key)
                else:
                    del self._by_key[key]
                self._advance()
        finally:
            self._running -= 1

    async def _finish(self, record: Record) -> None:
        while True:
            try:
                return await self._work(record)
            except Exception as error:  # noqa: BLE001 - a record that nobody works on any more would hold its lane for ever
                log.error("lane_work_failed", topic=record.partition.topic, error=type(error).__name__)
                await asyncio.sleep(WORK_AGAIN_SECONDS)

    def _advance(self) -> None:
        if not self._entries[0].finished:
            return
        while self._entries and self._entries[0].finished:
            self._next_offset = self._entries.popleft().record.offset + 1
        self._advanced()

    def take_ack(self) -> int | None:
        """The offset to commit (one past the last record finished without a gap), if it moved since the last call."""
        if self._next_offset is None or self._next_offset == self._acked:
            return None
        self._acked = self._next_offset
        return self._next_offset

    def ack_failed(self) -> None:
        """The commit of the last taken offset did not happen: offer it again."""
        self._acked = None

    async def cancel(self) -> None:
        """Stop all work at once; what is unfinished stays unacknowledged."""
        while tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            # Again, if need be: what a task awaits may lose a cancellation, and this must not wait for its work.
            await asyncio.wait(tasks, timeout=CANCEL_AGAIN_SECONDS)
