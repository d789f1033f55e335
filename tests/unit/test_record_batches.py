"""Record batches read with doubt: whatever the bytes, each offset is told once, and only what is proved broken is passed over."""

from __future__ import annotations

import random

import pytest

from streams.lanes import Partition, Record
from streams.record_batches import BatchUnproven, read_batches
from tests.support.raw_records import GZIP, RECORDS_AT, RawRecord, batch_bytes, compressed, with_right_crc

PLACE = Partition("t", 3)
LIMIT = 1_000


def records(count: int) -> list[RawRecord]:
    return [RawRecord(b"k%d" % number, b"v%d" % number, ((b"name", b"h"),)) for number in range(count)]


def read(data: bytes, position: int = 0, highwater: int = 100) -> tuple[list[Record], int]:
    return read_batches(data, PLACE, position, highwater, LIMIT)


def damages(found: list[Record]) -> list[tuple[int, str | None]]:
    return [(record.offset, record.damage) for record in found]


@pytest.mark.parametrize("data", [batch_bytes(records(3), base=5), compressed(records(3), GZIP)])
def test_a_sound_batch_is_read_whole(data: bytes) -> None:
    base = data[7]
    found, next_offset = read(data, base)
    assert next_offset == base + 3
    assert damages(found) == [(base, None), (base + 1, None), (base + 2, None)]
    assert (found[1].key, found[1].value, found[1].headers, found[1].partition) == (b"k1", b"v1", {"name": "h"}, PLACE)
    assert found[0].timestamp > 1_600_000_000


def test_reading_begins_within_a_batch_and_ends_at_the_limit() -> None:
    data = batch_bytes(records(3)) + batch_bytes(records(4), base=3)
    assert [record.offset for record in read(data, 2)[0]] == [2, 3, 4, 5, 6]
    found, next_offset = read_batches(data, PLACE, 1, 100, 4)
    assert ([record.offset for record in found], next_offset) == ([1, 2, 3, 4], 5)


def test_a_control_batch_and_what_was_removed_have_no_records() -> None:
    control = batch_bytes(records(1), base=0, attributes=0x20)
    assert read(control) == ([], 1)
    sparse = bytearray(batch_bytes(records(2)))
    sparse[26] = 9  # its last offset is 9, with two records
    found, next_offset = read(with_right_crc(bytes(sparse)))
    assert (damages(found), next_offset) == ([(0, None), (1, None)], 10)


def test_a_batch_that_is_cut_off_is_left_for_the_next_fetch_and_alone_proves_nothing() -> None:
    whole, cut = batch_bytes(records(2)), batch_bytes(records(2), base=2)[:-1]
    assert read(whole + cut)[1] == 2
    for data in (cut, b"", b"\0" * 11):
        with pytest.raises(BatchUnproven):
            read(data, 2)


def test_a_header_that_lies_about_its_end_is_believed_only_with_a_witness() -> None:
    lying = bytearray(batch_bytes(records(2)))
    lying[23:27] = b"\x7f\0\0\0"
    with pytest.raises(BatchUnproven):
        read(bytes(lying))
    found, next_offset = read(bytes(lying) + batch_bytes(records(1), base=2))
    assert next_offset == 3
    assert damages(found) == [(0, "ChecksumMismatch"), (1, "ChecksumMismatch"), (2, None)]


def test_a_format_that_we_do_not_know_costs_a_letter_for_each_offset() -> None:
    data = bytearray(batch_bytes(records(2)))
    data[16] = 3
    assert damages(read(bytes(data))[0]) == [(0, "BatchFormatUnknown"), (1, "BatchFormatUnknown")]


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_bytes_each_offset_is_told_once_and_in_order(seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(batch_bytes(records(4)) + compressed(records(4), GZIP)[8:].join([b"\0" * 7 + b"\x04", b""]))
    data += batch_bytes(records(4), base=8)
    for _ in range(chance.randint(1, 6)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    broken = bytes(data) if seed % 2 else with_right_crc(bytes(data[:RECORDS_AT])) + bytes(data[RECORDS_AT:])
    try:
        found, next_offset = read(broken, 0, 12)
    except BatchUnproven:
        return
    offsets = [record.offset for record in found]
    assert offsets == sorted(set(offsets))
    assert all(0 <= offset < next_offset <= 12 for offset in offsets)
