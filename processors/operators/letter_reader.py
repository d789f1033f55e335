"""Reads the events of letters, and of records that stand in their own topics."""

from __future__ import annotations

from typing import Protocol

from domain.dead_letters import DeadLetter
from domain.errors import Transient
from domain.events import SCHEMA_HEADER, TOPICS, Event


class Decoder(Protocol):
    async def decode(self, topic: str, value: bytes, schema: str | None = None) -> Event:
        """Raises EventUndecodable, or RegistryUnavailable."""
        ...


class LetterReader:
    """Reads the events of letters."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    async def decoded(self, letter: DeadLetter) -> Event | None:
        """The letter's event, if it has one that this release can read. Raises RegistryUnavailable."""
        return await self._decoded(letter.origin_topic, letter)

    async def of_record(self, record: DeadLetter) -> Event | None:
        """The event of a record that stands in its own topic. Raises RegistryUnavailable."""
        return await self._decoded(record.place.topic, record)

    async def _decoded(self, topic: str | None, record: DeadLetter) -> Event | None:
        if record.value is None or topic not in TOPICS:
            return None
        try:
            return await self._decoder.decode(topic, record.value, record.headers.get(SCHEMA_HEADER))
        except Transient:
            raise
        except Exception:  # noqa: BLE001 - what made it a letter may be a decoder's defect
            return None
