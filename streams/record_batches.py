"""Record batches as they come from the broker, read with doubt: each record of a broken batch is known by its place.

Kafka's client reads a fetch as a whole, and one byte that it does not expect ends the fetch, each time anew. This reader is for
that fetch only (``streams.consumer_thread``). It tells what can be read from what is proved broken, offset by offset.

Format: Kafka's record batch of magic 2 (https://kafka.apache.org/documentation/#recordbatch), as brokers of version 4 keep and
send all records.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aiokafka import codec
from aiokafka.record.util import calc_crc32c

from streams.lanes import Partition, Record

#: Base offset, length, leader epoch, magic, CRC, attributes, last offset delta, first and last timestamp (ms), producer id and
#: epoch, base sequence, number of records.
_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
#: Base offset and length, which the length does not count.
_LENGTH_END: Final = 12
#: Where what the CRC covers begins.
_CRC_END: Final = 21
_MAGIC: Final = 2
_CODEC_MASK: Final = 0x07
_LOG_APPEND_TIME: Final = 0x08
_CONTROL: Final = 0x20
_MAX_VARINT_BYTES: Final = 10


class Damage(StrEnum):
    """What proves a record broken; a dead letter has it as its class of error."""

    HEADER_NAME = "HeaderNameNotUtf8"
    STRUCTURE = "MalformedRecord"
    CHECKSUM = "ChecksumMismatch"
    COMPRESSION = "CompressionDamaged"
    CODEC = "CompressionUnknown"
    FORMAT = "BatchFormatUnknown"


class BatchUnproven(Exception):
    """What came from the broker does not say which offsets it spans: nothing may be passed over."""


class _Malformed(Exception):
    """A record does not have the form that its batch promises."""


@dataclass(frozen=True, slots=True)
class _Batch:
    base: int
    last: int
    magic: int
    crc: int
    attributes: int
    first_timestamp: int
    max_timestamp: int
    count: int
    #: From the attributes on, which is what the CRC covers.
    covered: memoryview

    @property
    def payload(self) -> memoryview:
        return self.covered[_HEADER.size - _CRC_END :]


def read_batches(
    data: bytes, partition: Partition, position: int, highwater: int, limit: int
) -> tuple[list[Record], int]:
    """The records of a fetch from ``position`` on, ``limit`` of them at most, and the offset to fetch next.

    ``highwater`` is the end of the partition as the broker told it with ``data``. A record that is proved broken has its
    ``damage``, and of key, value and headers what could be read. Raises BatchUnproven if the first batch does not say where it ends.
    """
    found: list[Record] = []
    next_offset = position
    for batch in _batches(data, position, highwater):
        for record in _records(batch, partition, next_offset):
            if len(found) == limit:
                return found, next_offset
            found.append(record)
            next_offset = record.offset + 1
        next_offset = max(next_offset, batch.last + 1)
    return found, next_offset


def _batches(data: bytes, position: int, highwater: int) -> Iterator[_Batch]:
    """Whole batches that reach ``position``. The last one of a fetch is often cut off, and then comes with the next."""
    view, at, next_base = memoryview(data), 0, position
    while at + _HEADER.size <= len(view):
        base, length, _, magic, crc, attributes, delta, first, most, _, _, _, count = _HEADER.unpack_from(view, at)
        end = at + _LENGTH_END + length
        if length < _HEADER.size - _LENGTH_END or end > len(view):
            break
        following = struct.unpack_from(">q", view, end)[0] if end + 8 <= len(view) else None
        last = base + delta
        if following is not None and not base <= last < following:
            last = following - 1  # a broken header; where the next batch begins is the better witness
        if not (base <= last < highwater and last >= next_base - 1):
            break
        if last >= position:
            yield _Batch(base, last, magic, crc, attributes, first, most, count, view[at + _CRC_END : end])
        at, next_base = end, last + 1
    if next_base == position:
        raise BatchUnproven


def _records(batch: _Batch, partition: Partition, position: int) -> Iterator[Record]:
    """The batch's records from ``position`` on. A control batch has none for us."""
    damage = _batch_damage(batch)
    if damage is Damage.FORMAT:
        yield from _lost(partition, max(batch.base, position), batch.last, damage)
        return
    if damage is None and batch.attributes & _CONTROL:
        return
    try:
        payload = _decompressed(batch)
    except _Malformed:
        unknown = batch.attributes & _CODEC_MASK > 4
        reason = damage or (Damage.CODEC if unknown else Damage.COMPRESSION)
        yield from _lost(partition, max(batch.base, position), batch.last, reason)
        return
    expected = batch.base
    for record in _parsed(batch, payload, partition, damage):
        if record.offset >= position:
            yield record
        expected = record.offset + 1
    if damage is not None or _is_dense(batch):
        yield from _lost(partition, max(expected, position), batch.last, damage or Damage.STRUCTURE)


def _batch_damage(batch: _Batch) -> Damage | None:
    if batch.magic != _MAGIC:
        return Damage.FORMAT
    return None if calc_crc32c(bytes(batch.covered)) == batch.crc else Damage.CHECKSUM


def _is_dense(batch: _Batch) -> bool:
    """Nothing was removed from the batch since it was written: each of its offsets has a record."""
    return batch.count == batch.last - batch.base + 1


def _lost(partition: Partition, first: int, last: int, damage: Damage) -> Iterator[Record]:
    """Records of which nothing but the place is known."""
    for offset in range(first, last + 1):
        yield Record(partition, offset, None, None, damage=damage.value)


def _decompressed(batch: _Batch) -> bytes:
    payload = bytes(batch.payload)
    number = batch.attributes & _CODEC_MASK
    if number == 0:
        return payload
    decode = {1: codec.gzip_decode, 2: codec.snappy_decode, 3: codec.lz4_decode, 4: codec.zstd_decode}.get(number)
    if decode is None:
        raise _Malformed
    try:
        return bytes(decode(payload))
    except Exception as error:  # each codec has its own errors, and garbage meets them all
        raise _Malformed from error


def _parsed(batch: _Batch, payload: bytes, partition: Partition, damage: Damage | None) -> Iterator[Record]:
    """The records that ``payload`` has; ends at the first whose length can't be right."""
    reader, expected = _Reader(payload), batch.base
    for _ in range(batch.count):
        try:
            length = reader.varint()
            frame = _Reader(reader.take(length))
        except _Malformed:
            return
        record = _one(batch, frame, partition, expected, damage)
        if record.offset > batch.last:
            return
        yield record
        expected = record.offset + 1


def _one(batch: _Batch, frame: _Reader, partition: Partition, expected: int, damage: Damage | None) -> Record:
    """One record. What is read before it turns out to be broken is kept, but for an offset that goes backwards."""
    offset, timestamp = expected, batch.first_timestamp
    key: bytes | None = None
    value: bytes | None = None
    headers: dict[str, str] = {}
    try:
        frame.take(1)  # attributes: none are in use
        timestamp += frame.varint()
        offset = batch.base + frame.varint()
        if not expected <= offset <= batch.last:
            offset = expected
            raise _Malformed
        key = frame.sized()
        value = frame.sized()
        names_read = _read_headers(frame, headers)
        if not frame.at_end:
            raise _Malformed
        if not names_read:
            damage = damage or Damage.HEADER_NAME
    except _Malformed:
        damage = damage or Damage.STRUCTURE
    if batch.attributes & _LOG_APPEND_TIME:
        timestamp = batch.max_timestamp
    return Record(partition, offset, key, value, headers, timestamp / 1000, damage=damage and damage.value)


def _read_headers(frame: _Reader, headers: dict[str, str]) -> bool:
    """Fill ``headers``; whether each name is UTF-8. Raises _Malformed."""
    names_read = True
    count = frame.varint()
    if count < 0:
        raise _Malformed
    for _ in range(count):
        name, value = frame.sized(), frame.sized()
        if name is None:
            raise _Malformed
        try:
            text = name.decode()
        except UnicodeDecodeError:
            names_read = False
            continue
        if value is not None:
            headers[text] = value.decode("utf-8", "replace")
    return names_read


class _Reader:
    """Reads from ``data``, never past its end. Raises _Malformed."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at == len(self._data)

    def take(self, length: int) -> bytes:
        end = self._at + length
        if length < 0 or end > len(self._data):
            raise _Malformed
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def varint(self) -> int:
        """A zigzag-encoded signed integer."""
        number = 0
        for shift in range(0, 7 * _MAX_VARINT_BYTES, 7):
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (number >> 1) ^ -(number & 1)
        raise _Malformed

    def sized(self) -> bytes | None:
        length = self.varint()
        return None if length == -1 else self.take(length)
