"""Fills the index of dead letters from their topics: with letters that an earlier release wrote, and with those of strangers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby, islice
from typing import Final, Protocol

from domain.consumers import CONSUMERS
from domain.dead_letter_index import DeadLetterEntry, entry_of
from domain.dead_letters import DeadLetter, RecordPosition
from domain.events import Event, dead_letter_topic

#: Letters in one transaction. A letter has up to 900,000 bytes, and so many are in memory at once.
BATCH: Final = 100


class IndexRows(Protocol):
    """See ``storage.postgres.delivery.dead_letter_index``. Raises DatabaseUnavailable."""

    async def read_up_to(self, topic: str) -> Mapping[int, int]: ...

    async def fill(
        self, topic: str, partition: int, up_to: int, found: Sequence[tuple[DeadLetterEntry, RecordPosition]]
    ) -> int: ...


class LetterDecoder(Protocol):
    async def decoded(self, letter: DeadLetter) -> Event | None:
        """The letter's event, if this release can read it. Raises RegistryUnavailable."""
        ...


#: Letters of a topic from these offsets on (by partition), read in a thread.
ReadFrom = Callable[[str, Mapping[int, int]], Generator[DeadLetter, None, None]]


async def fill_index(rows: IndexRows, decoder: LetterDecoder, read: ReadFrom, *, anew: bool = False) -> int:
    """Take what the topics of dead letters hold into the index; gives how many letters it did not have, or not their place.

    Goes on where the last run ended, however that did; ``anew``: from the beginning. Letters that are in the index stay as they
    are. Raises BrokerUnavailable, DatabaseUnavailable, RegistryUnavailable.
    """
    count = 0
    for consumer in CONSUMERS:
        topic = dead_letter_topic(consumer)
        reading = read(topic, {} if anew else await rows.read_up_to(topic))
        try:
            while batch := await asyncio.to_thread(lambda reading=reading: list(islice(reading, BATCH))):  # type: ignore[misc]
                for partition, letters in groupby(batch, key=lambda letter: letter.place.partition):
                    found = [(await _entry(decoder, consumer, letter), letter.place) for letter in letters]
                    count += await rows.fill(topic, partition, found[-1][1].offset + 1, found)
        finally:
            with suppress(ValueError):  # interrupted while it was being read from: then it ends with its thread
                await asyncio.to_thread(reading.close)
    return count


async def _entry(decoder: LetterDecoder, consumer: str, letter: DeadLetter) -> DeadLetterEntry:
    event = await decoder.decoded(letter)
    tenant = None if event is None else event.tenant
    return entry_of(consumer, letter.key, letter.headers, tenant=tenant, place=letter.place)
