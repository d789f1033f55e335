"""Each fetch of Faust's consumer reaches the agent's stream as one item: a list of records.

Faust 0.15.3 hands over record by record, and that costs more than our own work on an event: two tasks per record, a decode, a
queue with its callbacks. Here its consumer puts a whole fetch into the channel of the agent's stream instead. All else is
Faust's own: the group, the assignment, the fetching in a thread, the stream that the agent iterates over, the commits.

What delivery needs of the way between fetch and agent:

- The consumer fetches again only when the agent asks for its next item, and has put the last one into the lanes: a lane that
  became full pushes its partition back before the next fetch. A consumer all of whose partitions are pushed back waits until
  one is wanted again, not Faust's whole second.
- Nothing is handed over during a rebalance: what was fetched is sought back to, as in Faust's own loop, and unlike there also
  in a partition of which nothing was ever committed (``streams.consumer_thread``).
- Whatever a revocation finds is in the channel, where it is dropped, or in its lane, where it is cancelled. The agent takes a
  fetch out of the channel and puts its records into the lanes without a pause in between.
- Faust's flow control never empties the channel: it would drop records of partitions that stay ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from faust import Topic
from faust.transport.drivers.aiokafka import Consumer
from mode.utils.queues import ThrowableQueue

from domain.shared.waiting import pause
from streams.consumer_thread import ConsumerThread
from streams.lanes import Partition, Record

FETCH_SECONDS: Final = 1.0
#: While a partition is pushed back, its end must be noticed soon: a fetch for the others then waits no longer than this.
PUSHED_BACK_SECONDS: Final = 0.1


class FetchTopic(Topic):
    """A topic whose stream yields fetches: lists of records, of one partition or more, in each partition's order."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        #: The agent waits for its next item, and none is on its way.
        self.asked = asyncio.Event()
        self._handed: list[Record] = []

    @property
    def queue(self) -> ThrowableQueue[Any]:
        """The stream's items. Faust makes queues that its flow control empties; this one is not known to it."""
        if self._queue is None:
            self._queue = ThrowableQueue(flow_control=self.app.flow_control)
        return self._queue

    async def __anext__(self) -> Any:
        if self.queue.empty():
            self.asked.set()
        return await self.queue.get()

    def hand_over(self, fetch: list[Record]) -> None:
        """Give the agent its next item; only after it has asked."""
        self.asked.clear()
        self._handed = fetch
        self.queue.put_nowait(fetch)

    def forget(self, revoked: set[Partition]) -> None:
        """Drop the records of partitions that are no longer ours from the item that the agent has not taken yet."""
        self._handed[:] = [record for record in self._handed if record.partition not in revoked]


class FetchConsumer(Consumer):
    """Faust's consumer, whose loop gives each fetch to the app's one agent."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._wanted = asyncio.Event()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def on_buffer_drop(self, tp: Any) -> None:
        super().on_buffer_drop(tp)
        self._wanted.set()

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):  # noqa: SLF001 - as in Faust's own loop
                await asyncio.sleep(0)
                await self._hand_over()
        except BaseException as error:
            ends = isinstance(error, asyncio.CancelledError | self.consumer_stopped_errors[0])
            if not (ends and self.app.should_stop):
                raise

    async def _hand_over(self) -> None:
        topic: Any
        (topic,) = self.app.topics  # of the app's one agent
        await topic.asked.wait()
        self._wanted.clear()
        if self._buffered_partitions and self.flow_active and not self._get_active_partitions():
            await pause(self._wanted, FETCH_SECONDS)
            return
        seconds = PUSHED_BACK_SECONDS if self._buffered_partitions else FETCH_SECONDS
        found, active = await self._wait_next_records(seconds)
        if found is None or self.should_stop:
            return
        if not self.flow_active:
            await self._give_back(found)
            return
        try:
            fetch: list[Record] = []
            for tp, batch in found.items():
                if active is None or tp in active or tp in self._buffered_partitions:
                    fetch += self._unread(tp, batch)
        except Exception as error:  # noqa: BLE001 - going on would acknowledge past a record that no lane holds
            await self.app.crash(error)
            return
        if fetch:
            topic.hand_over(fetch)

    async def _give_back(self, found: Mapping[Any, Any]) -> None:
        """Seek to before the records of ``found``, which nobody gets now. Whose partitions are assigned anew seeks by itself."""
        while found and not self.should_stop:
            with suppress(Exception):
                await self.perform_seek()
                return
            if not self.assignment() & found.keys():
                return
            await asyncio.sleep(PUSHED_BACK_SECONDS)

    def _unread(self, tp: Any, batch: Iterable[Any]) -> list[Record]:
        """The records of ``batch`` that were not handed over before."""
        unread: list[Record] = []
        for record in batch:
            read = self._read_offset[tp]
            if read is None or record.offset >= read:
                unread.append(to_record(record))
                self._read_offset[tp] = record.offset
        return unread


def to_record(record: Any) -> Record:
    """The Kafka client's record as delivery's; ``streams.consumer_thread`` makes delivery's itself."""
    if isinstance(record, Record):
        return record
    return Record(
        partition=Partition(record.topic, record.partition),
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers={name: value.decode("utf-8", "replace") for name, value in record.headers if value is not None},
        timestamp=(record.timestamp or 0) / 1000,
    )
