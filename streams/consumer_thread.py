"""The thread of a consumer's Kafka client. A fetch that the client can't read costs its broken records, not the consumer.

aiokafka 0.14 raises out of a fetch with a broken record, names no place, and fetches the same again. Then this thread fetches
that partition's bytes itself, and reads them with ``streams.record_batches``: what is proved broken becomes a record with
``damage``, at its place. Delivery writes its dead letter, and only then is its offset committed, as for any other record. So a
process that dies between the two finds the record again, and the inbox knows whether its letter is written.

Offsets without a record (transaction markers, what compaction removed) reach delivery as one record that is a ``gap``: otherwise a
partition that ends with such would never be read to its end by the committed offset.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import structlog
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import ConsumerStoppedError, KafkaError, for_code
from aiokafka.protocol.fetch import FetchRequest
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from streams.lanes import Partition, Record
from streams.record_batches import BatchUnproven, read_batches

log = structlog.get_logger()

RAW_FETCH_WAIT_MS: Final = 500
#: The broker sends one whole batch at least, however large; more than it need not come at once.
RAW_FETCH_BYTES: Final = 1_048_576
RETRY_SECONDS: Final = 0.5


class FetchUnreadable(Exception):
    """The client can't read what stands at ``offset``, and nothing proves it broken. ``cause`` is the class of its error."""

    def __init__(self, topic: str, partition: int, offset: int, cause: str) -> None:
        super().__init__(f"{cause} at {topic}/{partition}/{offset}")
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.cause = cause


class ConsumerThread(AIOKafkaConsumerThread):
    """Faust's consumer thread, whose fetches survive broken records."""

    async def seek_to_committed(self) -> Any:
        """Committed offset of each assigned partition, None where there is none; the next fetch begins there, or at the beginning.

        aiokafka seeks nowhere where nothing is committed. A partition's first records that were fetched during a rebalance, and
        dropped for it, would be passed then: nobody gets them until the next rebalance.
        """
        return await self.call_thread(self._seek_to_committed)

    async def _seek_to_committed(self) -> Any:
        consumer = self._ensure_consumer()
        committed = await consumer.seek_to_committed()
        none = [tp for tp, offset in committed.items() if not offset and tp in consumer.assignment()]
        if none:
            await consumer.seek_to_beginning(*none)
        return committed

    async def _fetch_records(
        self, consumer: Any, active_partitions: Any, timeout: float | None = None, max_records: int | None = None
    ) -> Any:
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher  # noqa: SLF001 - as Faust's own thread does
        if consumer._closed or fetcher._closed:  # noqa: SLF001
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():  # noqa: SLF001
            return await self._fetched(consumer, fetcher, active_partitions, timeout or 0.0, max_records or 1)

    async def _fetched(self, consumer: Any, fetcher: Any, partitions: Any, timeout: float, limit: int) -> Any:
        """As aiokafka's ``Fetcher.fetched_records``, but for broken records and gaps."""
        ends = time.monotonic() + timeout
        while True:
            if fetcher._subscriptions.reassignment_in_progress:  # noqa: SLF001
                await fetcher._subscriptions.wait_for_assignment()  # noqa: SLF001
            drained = await self._drained(consumer, fetcher, partitions, limit)
            left = ends - time.monotonic()
            if drained or left <= 0:
                return drained
            waiter = fetcher._create_fetch_waiter()  # noqa: SLF001
            done, _ = await asyncio.wait([waiter], timeout=left)
            if not done or fetcher._closed:  # noqa: SLF001
                waiter.cancel()
                return {}
            waiter.result()  # raises what the group's coordinator has against us

    async def _drained(self, consumer: Any, fetcher: Any, partitions: Any, limit: int) -> dict[Any, list[Any]]:
        """What was fetched before, ``limit`` records at most."""
        drained: dict[Any, list[Any]] = {}
        for tp in list(fetcher._records):  # noqa: SLF001
            fetched = fetcher._records.get(tp)  # noqa: SLF001 - None: reading another one's bytes took its time
            if fetched is None or limit <= 0:
                continue
            if partitions and tp not in partitions:
                if not fetcher._subscriptions.is_assigned(tp):  # noqa: SLF001
                    del fetcher._records[tp]  # noqa: SLF001
                continue
            if type(fetched) is not FetchResult:
                if not drained:
                    self._take_out(fetcher, tp, fetched)
                    fetched.check_raise()
                return drained
            if records := await self._taken(consumer, fetcher, tp, fetched, limit):
                drained[tp] = records
                limit -= len(records)
        return drained

    async def _taken(self, consumer: Any, fetcher: Any, tp: Any, fetched: Any, limit: int) -> list[Any]:
        """The partition's next records, ``limit`` at most."""
        state = fetched._assignment.state_value(tp)  # noqa: SLF001
        if not state.has_valid_position:
            self._take_out(fetcher, tp, fetched)
            return []
        before = state.position
        try:
            records: list[Any] = fetched.getall(limit)
        except Exception as error:  # noqa: BLE001 - the client's parsers and decompressors raise in all classes
            records = await self._read_raw(consumer, fetched, tp, before, limit, error)
            self._take_out(fetcher, tp, fetched)
        else:
            if not fetched.has_more():
                self._take_out(fetcher, tp, fetched)
        if fetched._assignment.active and state.has_valid_position:  # noqa: SLF001
            last = records[-1].offset if records else before - 1
            if state.position > last + 1:
                place = Partition(tp.topic, tp.partition)
                records.append(Record(place, state.position - 1, None, None, gap=True))
        return records

    @staticmethod
    def _take_out(fetcher: Any, tp: Any, fetched: Any) -> None:
        """The partition is to be fetched again, from its position."""
        if fetcher._records.get(tp) is fetched:  # noqa: SLF001
            del fetcher._records[tp]  # noqa: SLF001
            fetcher._notify(fetcher._wait_consume_future)  # noqa: SLF001

    async def _read_raw(
        self, consumer: Any, fetched: Any, tp: Any, position: int, limit: int, cause: Exception
    ) -> list[Any]:
        """What stands at ``position``, read from its bytes. Nothing, and no progress, while the broker can't be asked.

        Raises FetchUnreadable.
        """
        try:
            data, highwater = await _fetch_bytes(consumer._client, tp, position)  # noqa: SLF001
        except (TimeoutError, KafkaError, OSError) as error:
            log.warning("raw_fetch_failed", topic=tp.topic, partition=tp.partition, error=type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)
            return []
        assignment = fetched._assignment  # noqa: SLF001
        state = assignment.state_value(tp) if assignment.active else None
        if state is None or not state.has_valid_position or state.position != position:
            return []  # taken from us meanwhile, or sought elsewhere
        try:
            records, next_offset = read_batches(data, Partition(tp.topic, tp.partition), position, highwater, limit)
        except BatchUnproven:
            raise FetchUnreadable(tp.topic, tp.partition, position, type(cause).__name__) from cause
        if next_offset == position:
            raise FetchUnreadable(tp.topic, tp.partition, position, type(cause).__name__) from cause
        state.consumed_to(next_offset)
        return list(records)


async def _fetch_bytes(client: Any, tp: Any, position: int) -> tuple[bytes, int]:
    """The partition's bytes from ``position`` on, and its end. Raises KafkaError."""
    node = client.cluster.leader_for_partition(tp)
    if node is None or node == -1:
        raise KafkaError
    wanted = [(tp.topic, [(tp.partition, position, RAW_FETCH_BYTES)])]
    response = await client.send(node, FetchRequest(RAW_FETCH_WAIT_MS, 1, RAW_FETCH_BYTES, 0, wanted))
    ((_, ((_, code, highwater, *rest),)),) = response.topics
    if code:
        raise for_code(code)
    return bytes(rest[-1] or b""), highwater
