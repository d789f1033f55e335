"""Record batches made byte by byte, and sent as they are: what no client of Kafka would write."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import codec
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NotLeaderForPartitionError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

#: Codec numbers of a batch's attributes.
NONE, GZIP, SNAPPY, LZ4, ZSTD, UNKNOWN = 0, 1, 2, 3, 4, 7
#: Where in a batch its CRC, its attributes and its records stand.
CRC_AT, ATTRIBUTES_AT, RECORDS_AT = 17, 21, 61


@dataclass(frozen=True)
class RawRecord:
    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[bytes, bytes | None]] = field(default_factory=tuple)


def varint(number: int) -> bytes:
    """Zigzag, as in Kafka's records."""
    left, out = (number << 1) ^ (number >> 63), bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


def sized(data: bytes | None) -> bytes:
    return varint(-1) if data is None else varint(len(data)) + data


def record_bytes(record: RawRecord, delta: int) -> bytes:
    headers = b"".join(sized(name) + sized(value) for name, value in record.headers)
    body = b"\0" + varint(0) + varint(delta) + sized(record.key) + sized(record.value)
    body += varint(len(record.headers)) + headers
    return varint(len(body)) + body


def batch_bytes(
    records: Sequence[RawRecord], *, base: int = 0, attributes: int = NONE, payload: bytes | None = None
) -> bytes:
    """A batch of magic 2 with a right CRC; ``payload`` in place of the records' own bytes."""
    if payload is None:
        payload = b"".join(record_bytes(record, delta) for delta, record in enumerate(records))
    now = int(time.time() * 1000)
    covered = struct.pack(">hiqqqhii", attributes, len(records) - 1, now, now, -1, -1, -1, len(records)) + payload
    tail = struct.pack(">ib", -1, 2) + struct.pack(">I", calc_crc32c(covered)) + covered
    return struct.pack(">qi", base, len(tail)) + tail


def compressed(records: Sequence[RawRecord], number: int) -> bytes:
    """A batch under the codec of that number."""
    encode = {GZIP: codec.gzip_encode, SNAPPY: codec.snappy_encode, LZ4: codec.lz4_encode, ZSTD: codec.zstd_encode}
    payload = b"".join(record_bytes(record, delta) for delta, record in enumerate(records))
    return batch_bytes(records, attributes=number, payload=bytes(encode[number](payload)))


def with_right_crc(batch: bytes) -> bytes:
    return batch[:CRC_AT] + struct.pack(">I", calc_crc32c(batch[ATTRIBUTES_AT:])) + batch[ATTRIBUTES_AT:]


async def produce(bootstrap: str, topic: str, partition: int, batch: bytes) -> int:
    """Send one batch as it is; its base offset. Raises AssertionError with the broker's code if it is refused."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        await client.set_topics([topic])
        for _ in range(50):
            node = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            if node is None:
                raise AssertionError("no leader")
            answer = await client.send(node, ProduceRequest(None, -1, 10_000, [(topic, [(partition, batch)])]))
            (_, ((_, code, offset, *_),)) = answer.topics[0]
            if code != NotLeaderForPartitionError.errno:  # a topic that was made a moment ago
                break
            await asyncio.sleep(0.1)
        assert code == 0, f"the broker refused the batch with {code}"
        return int(offset)
    finally:
        await client.close()


def rewrite_on_disk(broker_data: Path, topic: str, partition: int, base: int, change: Callable[[bytes], bytes]) -> None:
    """Change the batch at offset ``base`` in the broker's own file, as a failing disk would; it keeps its length."""
    segment = broker_data / f"{topic}-{partition}" / f"{0:020d}.log"
    data, at = segment.read_bytes(), 0
    while at < len(data):
        found, length = struct.unpack_from(">qi", data, at)
        if found == base:
            batch = data[at : at + 12 + length]
            changed = change(batch)
            assert len(changed) == len(batch)
            with segment.open("r+b") as file:
                file.seek(at)
                file.write(changed)
            return
        at += 12 + length
    raise AssertionError(f"no batch at {base}")
