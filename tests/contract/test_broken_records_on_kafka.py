"""Records that are broken, on a real broker: each costs one dead letter, and the partition goes on."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from structlog.testing import capture_logs

from domain.events import Event
from tests.contract.test_delivery_on_kafka import Site
from tests.support import raw_records
from tests.support.raw_records import ATTRIBUTES_AT, CRC_AT, GZIP, RECORDS_AT, UNKNOWN, RawRecord, batch_bytes

REPOSITORY = Path(__file__).parents[2]
BAD_NAME = ((b"\xff\xfe", b"v"), (b"traceparent", b"kept"))


class BrokenSite(Site):
    """A site to which bytes can be sent, and whose broker's files can be changed."""

    broker_data: Path

    async def produce(self, batch: bytes, partition: int = 0) -> int:
        return await raw_records.produce(self.bootstrap, self.topic, partition, batch)

    def rewrite(self, base: int, change: Callable[[bytes], bytes], partition: int = 0) -> None:
        raw_records.rewrite_on_disk(self.broker_data, self.topic, partition, base, change)

    def send_one_by_one(self, count: int) -> list[Event]:
        """Events to partition 0, each in a batch of its own."""
        return [self.send(1, 0)[0] for _ in range(count)]

    def forget_offsets(self) -> None:
        """As when the group's offsets were lost: all is read again."""
        client = Consumer({"bootstrap.servers": self.bootstrap, "group.id": f"dpj.{self.consumer}"})
        client.commit(offsets=[TopicPartition(self.topic, number, 0) for number in range(2)], asynchronous=False)
        client.close()

    def letters(self) -> list[tuple[int, int, str, str]]:
        """Partition, offset, code and class of error of each letter, in order of place."""
        return sorted(
            (
                int(headers["dpj-origin-partition"]),
                int(headers["dpj-origin-offset"]),
                headers["dpj-code"],
                headers["dpj-error-class"],
            )
            for _, _, _, headers in self.bench.database.dead_letters
        )


@pytest.fixture
def site(stack: Mapping[str, str], tmp_path: Path) -> BrokenSite:
    site = BrokenSite(stack["DPJ_KAFKA_BOOTSTRAP"], tmp_path)
    site.create_topic()
    name = os.environ.get("DPJ_TEST_STACK", f"test-{os.getpid()}")
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        name = f"{name}-{worker}"
    site.broker_data = Path(os.environ.get("DPJ_HOME", REPOSITORY / ".dpj")) / name / "data" / "kafka"
    return site


def damaged(offsets: range | list[int], reason: str, partition: int = 0) -> list[tuple[int, int, str, str]]:
    return [(partition, offset, "record_damaged", reason) for offset in offsets]


def some(count: int) -> list[RawRecord]:
    return [RawRecord(b"k%d" % number, b"not an event") for number in range(count)]


async def test_a_header_name_that_is_not_utf8_costs_one_letter_and_keeps_its_partition_going(site: BrokenSite) -> None:
    before = site.send(5, 0)
    await site.produce(batch_bytes([RawRecord(b"a key", b"a value", BAD_NAME)]))
    after = [*site.send(5, 0), *site.send(5, 1)]
    with capture_logs() as logs:
        async with site.running():
            await site.until_written([*before, *after])
            await site.until_committed([11, 5])
    assert site.letters() == damaged([5], "HeaderNameNotUtf8")
    ((_, key, value, headers),) = site.bench.database.dead_letters
    assert (key, value, headers["traceparent"]) == (b"a key", b"a value", "kept")
    assert site.each_written_once([*before, *after])
    assert [line["event"] for line in logs if line["event"] == "consumer_crashed"] == []
    ((topic, offset),) = [(line["topic"], line["offset"]) for line in logs if line["event"] == "record_damaged"]
    assert (topic, offset) == (site.topic, 5)


async def test_good_records_of_a_batch_with_a_bad_one_are_done(site: BrokenSite) -> None:
    events = [site.event() for _ in range(3)]
    good = [RawRecord(event.key.encode(), str(event.event_id).encode()) for event in events]
    bad = RawRecord(None, None, BAD_NAME)
    await site.produce(batch_bytes([good[0], bad, good[1], bad, good[2]]))
    async with site.running():
        await site.until_written(events)
        await site.until_committed([5, -1001])
    assert site.letters() == damaged([1, 3], "HeaderNameNotUtf8")
    assert site.each_written_once(events)


async def test_a_broken_record_is_not_taken_for_the_event_that_it_copies(site: BrokenSite) -> None:
    (event,) = site.send(1, 0)
    await site.produce(batch_bytes([RawRecord(event.key.encode(), str(event.event_id).encode(), BAD_NAME)]))
    async with site.running():
        await site.until_committed([2, -1001])
    assert site.letters() == damaged([1], "HeaderNameNotUtf8")
    assert site.each_written_once([event])
    assert not site.bench.processor.given_up


async def test_null_keys_null_values_and_huge_headers_are_ordinary(site: BrokenSite) -> None:
    (event,) = events = [site.event()]
    value = str(event.event_id).encode()
    huge = [(b"h" * 1_000, b"x" * 700_000), (b"null", None), (b"", b""), (b"bytes", b"\0\xff")]
    await site.produce(batch_bytes([RawRecord(None, None), RawRecord(None, b""), RawRecord(None, value, huge)]))
    async with site.running():
        await site.until_written(events)
        await site.until_committed([3, -1001])
    assert [place[1:3] for place in site.letters()] == [(0, "event_undecodable"), (1, "event_undecodable")]


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda batch: batch[:at] + bytes([batch[at] ^ 0xFF]) + batch[at + 1 :]


def garbage(batch: bytes) -> bytes:
    return raw_records.with_right_crc(batch[:RECORDS_AT] + b"\x07" * (len(batch) - RECORDS_AT))


def unknown_codec(batch: bytes) -> bytes:
    return raw_records.with_right_crc(batch[: ATTRIBUTES_AT + 1] + bytes([UNKNOWN]) + batch[ATTRIBUTES_AT + 2 :])


def bad_structure(batch: bytes) -> bytes:
    return raw_records.with_right_crc(batch[:RECORDS_AT] + b"\x02" + batch[RECORDS_AT + 1 :])


@pytest.mark.parametrize(
    ("codec", "change", "reason"),
    [
        (GZIP, garbage, "CompressionDamaged"),
        (raw_records.SNAPPY, garbage, "CompressionDamaged"),
        (raw_records.LZ4, garbage, "CompressionDamaged"),
        (raw_records.ZSTD, garbage, "CompressionDamaged"),
        (GZIP, unknown_codec, "CompressionUnknown"),
        (raw_records.NONE, flip(RECORDS_AT + 12), "ChecksumMismatch"),
        (raw_records.NONE, flip(CRC_AT), "ChecksumMismatch"),
        (raw_records.NONE, bad_structure, "MalformedRecord"),
    ],
)
async def test_a_batch_that_is_broken_on_the_brokers_disk_costs_a_letter_for_each_of_its_records(
    site: BrokenSite, codec: int, change: Callable[[bytes], bytes], reason: str
) -> None:
    before = site.send_one_by_one(2)
    batch = batch_bytes(some(4))
    if codec != raw_records.NONE:
        batch = raw_records.compressed(some(4), codec)
    base = await site.produce(batch)
    after = site.send_one_by_one(2)
    site.rewrite(base, change)
    async with site.running():
        await site.until_written([*before, *after])
        await site.until_committed([8, -1001])
    assert site.letters() == damaged(range(2, 6), reason)
    assert site.each_written_once([*before, *after])


async def test_a_batch_whose_header_lies_about_its_end_ends_where_the_next_begins(site: BrokenSite) -> None:
    base = await site.produce(batch_bytes(some(3)))
    after = site.send_one_by_one(1)
    site.rewrite(base, lambda batch: batch[:23] + b"\x7f\0\0\0" + batch[27:])
    async with site.running():
        await site.until_written(after)
        await site.until_committed([4, -1001])
    assert site.letters() == damaged(range(3), "ChecksumMismatch")


async def test_what_is_not_proved_broken_is_not_passed_over_and_its_consumer_is_crashing_with_the_place(
    site: BrokenSite,
) -> None:
    before = site.send_one_by_one(2)
    base = await site.produce(batch_bytes(some(3)))
    site.rewrite(base, lambda batch: batch[:23] + b"\x7f\0\0\0" + batch[27:])
    stopping, runner = asyncio.Event(), site.member()
    task = asyncio.create_task(runner.run(stopping))
    try:
        await site.until_written(before)
        async with asyncio.timeout(60):
            while runner.state != "crashing":
                await asyncio.sleep(0.05)
        crash = runner.crash
        assert crash is not None
        assert (crash["error"], crash["record"]) == ("FetchUnreadable", f"{site.topic}/0/2")
        assert site.letters() == []
        after = site.send_one_by_one(1)  # where it begins proves where the broken batch ends
        await site.until_written(after)
        await site.until_committed([6, -1001])
    finally:
        stopping.set()
        await task
    assert site.letters() == damaged(range(2, 5), "ChecksumMismatch")


async def test_more_broken_records_than_one_fetch_takes(site: BrokenSite) -> None:
    await site.produce(batch_bytes([RawRecord(b"%d" % number, b"v", BAD_NAME) for number in range(450)]))
    async with site.running():
        await site.until_committed([450, -1001])
    assert site.letters() == damaged(range(450), "HeaderNameNotUtf8")


async def test_two_members_and_a_restart_write_each_letter_once(site: BrokenSite) -> None:
    for partition in (0, 1):
        await site.produce(batch_bytes([RawRecord(b"%d" % n, b"v", BAD_NAME) for n in range(40)]), partition)
    async with site.running():
        async with asyncio.timeout(30):
            while len(site.letters()) < 20:
                await asyncio.sleep(0.01)
        async with site.running():
            await site.until_committed([40, 40])
    site.forget_offsets()
    async with site.running():
        await site.until_committed([40, 40])
    wanted = [*damaged(range(40), "HeaderNameNotUtf8"), *damaged(range(40), "HeaderNameNotUtf8", 1)]
    assert site.letters() == wanted


async def test_a_process_that_dies_after_the_letter_and_before_the_commit_writes_no_second_one(
    site: BrokenSite,
) -> None:
    await site.produce(batch_bytes([RawRecord(b"k", b"v", BAD_NAME)]))
    site.committing = False
    async with site.running():
        async with asyncio.timeout(30):
            while not site.letters():
                await asyncio.sleep(0.02)
    assert site.committed() == [-1001, -1001]
    site.committing = True
    async with site.running():
        await site.until_committed([1, -1001])
    assert site.letters() == damaged([0], "HeaderNameNotUtf8")


@pytest.mark.parametrize("end", ["commit", "abort"])
async def test_a_transactions_marker_leaves_no_lag(site: BrokenSite, end: str) -> None:
    """An aborted transaction's records are read as any others: our consumers read what is uncommitted."""
    events = [site.event(), site.event()]
    producer = Producer({"bootstrap.servers": site.bootstrap, "transactional.id": site.consumer})
    producer.init_transactions(20)
    producer.begin_transaction()
    for event in events:
        producer.produce(site.topic, str(event.event_id).encode(), key=event.key.encode(), partition=0)
    producer.flush(20)
    producer.commit_transaction(20) if end == "commit" else producer.abort_transaction(20)
    async with site.running():
        await site.until_written(events)
        await site.until_committed([3, -1001])
        (last,) = site.send(1, 0)
        await site.until_written([last])
        await site.until_committed([4, -1001])
    assert not site.letters()


async def test_what_can_be_read_of_a_batch_with_a_wrong_checksum_is_kept(site: BrokenSite) -> None:
    base = await site.produce(batch_bytes([RawRecord(b"key", b"value")]))
    site.rewrite(base, flip(CRC_AT))
    async with site.running():
        await site.until_committed([1, -1001])
    ((_, key, value, _),) = site.bench.database.dead_letters
    assert (key, value) == (b"key", b"value")


def test_compression_of_the_helper_is_kafkas() -> None:
    assert gzip.decompress(raw_records.compressed(some(1), GZIP)[RECORDS_AT:])
