"""The producer, and what librdkafka says of TLS, which shows in none of its calls: those only tell that no broker answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, Producer

log = structlog.get_logger()

PRODUCER_QUEUE_MESSAGES: Final = 20_000

#: Addresses and OpenSSL's file names are left out of what is logged.
_WORDS: Final = re.compile(
    r"(certificate verify failed|[Dd]isconnected|wrong version number|handshake failure|alert \w+)"
)


def log_tls_error(error: KafkaError) -> None:
    """For ``error_cb``: log that a broker's certificate is refused, or that it does not speak TLS as we do."""
    if error.code() == KafkaError._SSL:  # noqa: SLF001 - the client's own name for its own finding
        found = _WORDS.search(str(error.str()))
        log.warning("kafka_tls_failed", reason=found[1] if found else "handshake failed")


def create_producer(bootstrap: str, security: Mapping[str, str] | None = None) -> Producer:
    """Idempotent, acks from all replicas, no message given up by time; keys land where Java's partitioner puts them. ``security`` is
    what librdkafka is told beside the address."""
    producer_settings: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        **(security or {}),
        "error_cb": log_tls_error,
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "message.timeout.ms": 0,
        "linger.ms": 5,
        "compression.type": "lz4",
        "queue.buffering.max.messages": PRODUCER_QUEUE_MESSAGES,
        "log_level": 2,
    }
    return Producer(producer_settings)
