"""Events that are owed: published, and not finished by every consumer that must finish them.

PostgreSQL alone says what is owed (outbox and inbox). Kafka's offsets only say whether such an event is still on its way; a broker that
lost its data, or a group whose offsets were moved, can't make an event forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

#: So often an event is sent again without anybody asking for it. One that gets lost each time has a cause that sending does not mend.
MOST_RE_EMISSIONS: Final = 3


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """A group on a partition: offsets from ``start`` to before ``end`` are kept, those before ``committed`` are consumed (None:
    the group has committed nothing there)."""

    start: int
    end: int
    committed: int | None

    @property
    def next_offset(self) -> int:
        """Where the group reads on: a group without an offset that is kept begins at the first record."""
        if self.committed is None or not self.start <= self.committed <= self.end:
            return self.start
        return self.committed

    def brings(self, offset: int) -> bool:
        """Whether the record at ``offset`` is there and still to be read."""
        return self.next_offset <= offset < self.end


#: By consumer, topic and partition.
Progress = Mapping[tuple[str, str, int], PartitionProgress]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwedEvent:
    """An outbox row that was published and that ``consumers`` have not finished. ``key``: the document or what else it is about;
    ``partition`` and ``offset``: where Kafka put it, None if an earlier release published it."""

    row_id: int
    event_id: UUID
    topic: str
    key: str
    consumers: tuple[str, ...]
    published_at: datetime
    partition: int | None
    offset: int | None
    re_emissions: int

    def lost_to(self, progress: Progress) -> tuple[str, ...]:
        """The consumers to which Kafka brings it no more. ``progress`` must have been read before it was seen to be owed: an event is
        finished before its offset is committed."""
        return tuple(consumer for consumer in self.consumers if not self._is_on_its_way(consumer, progress))

    def _is_on_its_way(self, consumer: str, progress: Progress) -> bool:
        if self.partition is None or self.offset is None:
            # Anywhere in the topic: so it is on its way as long as anything is.
            mine = [found for (name, topic, _), found in progress.items() if (name, topic) == (consumer, self.topic)]
            return any(found.next_offset < found.end for found in mine)
        found = progress.get((consumer, self.topic, self.partition))
        return found is not None and found.brings(self.offset)


@dataclass(frozen=True, slots=True)
class LostEvent:
    """An owed event, and the ``consumers`` to which Kafka brings it no more."""

    event: OwedEvent
    consumers: tuple[str, ...]

    @property
    def goes_by_itself(self) -> bool:
        """Whether it may be sent again without anybody asking for it."""
        return self.event.re_emissions < MOST_RE_EMISSIONS
