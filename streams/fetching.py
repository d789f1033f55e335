"""Records go from Faust's consumer straight to delivery.

What Faust 0.15.3 does with a record otherwise costs more than our own work on it: two tasks per record, a channel, a queue, a
stream. And a consumer all of whose partitions are pushed back sleeps for a whole second. Of Faust remain the group, the
assignment, the fetching in a thread and the commits. As in its own loop, nothing is handed over during a rebalance: what was
fetched is sought back to. Between a fetch's end and its hand-over nothing else of the main loop runs that was asked for later,
so a revocation finds the records in their lanes and cancels them there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from faust.transport.drivers.aiokafka import Consumer

from domain.shared.waiting import pause
from streams.lanes import Partition, Record

FETCH_SECONDS: Final = 1.0
#: While a partition is pushed back, its end must be noticed soon: a fetch for the others then waits no longer than this.
PUSHED_BACK_SECONDS: Final = 0.1


class DirectConsumer(Consumer):
    """Faust's consumer, whose loop gives its records to ``accept``."""

    accept: Callable[[Record], None]

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._wanted = asyncio.Event()

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
        self._wanted.clear()
        if self._buffered_partitions and self.flow_active and not self._get_active_partitions():
            await pause(self._wanted, FETCH_SECONDS)
            return
        seconds = PUSHED_BACK_SECONDS if self._buffered_partitions else FETCH_SECONDS
        records, active = await self._wait_next_records(seconds)
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            with suppress(Exception):  # as in Faust's own loop: it is tried again at the next turn
                await self.perform_seek()
            return
        for tp, batch in records.items():
            if active is None or tp in active or tp in self._buffered_partitions:
                try:
                    self._accept_all(tp, batch)
                except Exception as error:  # noqa: BLE001 - going on would acknowledge past a record that no lane holds
                    await self.app.crash(error)
                    return

    def _accept_all(self, tp: Any, batch: Iterable[Any]) -> None:
        for record in batch:
            read = self._read_offset[tp]
            if read is None or record.offset >= read:
                self.accept(to_record(record))
                self._read_offset[tp] = record.offset


def fetch_directly(app: Any, accept: Callable[[Record], None]) -> None:
    """Have the app's consumer, which must not be made yet, give its records to ``accept``."""
    app.transport.Consumer = type("DirectConsumer", (DirectConsumer,), {"accept": staticmethod(accept)})


def to_record(record: Any) -> Record:
    """The Kafka client's record as delivery's."""
    return Record(
        partition=Partition(record.topic, record.partition),
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers={name: value.decode("utf-8", "replace") for name, value in record.headers if value is not None},
        timestamp=(record.timestamp or 0) / 1000,
    )
