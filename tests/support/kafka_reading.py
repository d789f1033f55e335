"""What lies in Kafka, read with its own client."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, TopicPartition


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record."""

    topic: str
    key: bytes
    value: bytes
    headers: bytes


class KafkaReader:
    """The topics ``dpj.*`` of the broker at ``bootstrap``; ``security`` is what librdkafka is told beside the address."""

    def __init__(self, bootstrap: str, security: Mapping[str, str] | None = None) -> None:
        self._bootstrap = bootstrap
        self._security = dict(security or {})

    def records(self) -> list[Record]:
        """Every record of every topic that is not Kafka's own."""
        consumer = self._consumer("e2e-reader")
        try:
            remaining: dict[tuple[str, int], int] = {}
            for topic, number in self._partitions(consumer):
                start, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
                if end > start:
                    remaining[topic, number] = end
            consumer.assign([TopicPartition(topic, number, 0) for topic, number in remaining])
            found: list[Record] = []
            ends = time.monotonic() + 30
            while remaining:
                assert time.monotonic() < ends, remaining
                for message in consumer.consume(500, timeout=1.0):
                    assert message.error() is None, message.error()
                    headers = repr(message.headers() or []).encode()
                    found.append(Record(message.topic(), message.key() or b"", message.value() or b"", headers))
                for place in consumer.position([TopicPartition(*one) for one in remaining]):
                    if place.offset >= remaining[place.topic, place.partition]:
                        del remaining[place.topic, place.partition]
            return found
        finally:
            consumer.close()

    def lag(self) -> dict[str, int]:
        """Records that each consumer group has not committed, over the partitions in which it has committed any."""
        found = {}
        for name in ("integrity", "renditions", "archiving", "notification", "audit"):
            consumer = self._consumer(f"dpj.{name}")
            try:
                places = [TopicPartition(topic, number) for topic, number in self._partitions(consumer)]
                committed = [place for place in consumer.committed(places, timeout=10) if place.offset >= 0]
                ends = [consumer.get_watermark_offsets(place, timeout=10)[1] for place in committed]
                found[name] = sum(end - place.offset for end, place in zip(ends, committed, strict=True))
            finally:
                consumer.close()
        return found

    def _consumer(self, group: str) -> Any:
        return Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                **self._security,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )

    @staticmethod
    def _partitions(consumer: Any) -> list[tuple[str, int]]:
        topics = consumer.list_topics(timeout=10).topics
        return [(name, number) for name in topics if name.startswith("dpj.") for number in topics[name].partitions]
