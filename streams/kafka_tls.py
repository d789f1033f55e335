"""What librdkafka says of TLS, which shows in none of its calls: those only tell that no broker answers."""

from __future__ import annotations

import re
from typing import Final

import structlog
from confluent_kafka import KafkaError

log = structlog.get_logger()

#: Addresses and OpenSSL's file names are left out of what is logged.
_WORDS: Final = re.compile(
    r"(certificate verify failed|[Dd]isconnected|wrong version number|handshake failure|alert \w+)"
)


def note_tls(error: KafkaError) -> None:
    """For ``error_cb``: log that a broker's certificate is refused, or that it does not speak TLS as we do."""
    if error.code() == KafkaError._SSL:  # noqa: SLF001 - the client's own name for its own finding
        found = _WORDS.search(str(error.str()))
        log.warning("kafka_tls_failed", reason=found[1] if found else "handshake failed")
