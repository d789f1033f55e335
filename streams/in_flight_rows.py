"""The relay's rows in flight: one row of a key at a time, different keys at once.

So no row overtakes an earlier one of its document, whatever Kafka answers: the next is sent when the one before was
confirmed, and stays where it is when that one was refused.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Protocol
from uuid import UUID

Key = bytes | int


class OutboxRow(Protocol):
    """A row to publish: framed Avro ``body``, text ``headers``."""

    @property
    def id(self) -> int: ...
    @property
    def topic(self) -> str: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def body(self) -> bytes | None: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def event_id(self) -> UUID | None: ...
    @property
    def waiting_since(self) -> datetime | None:
        """When it was written, by the database's clock; None if it is published once more."""
        ...


class InFlightRows:
    """Rows by key, in id order. Bodies are kept until their row is confirmed, ids until ``forget``."""

    def __init__(self) -> None:
        self._queues: dict[Key, deque[OutboxRow]] = {}
        self._ready: deque[Key] = deque()
        self._to_send_alone: deque[Key] = deque()
        self._alone = False
        self._known: set[int] = set()
        self.size = 0
        self.in_flight = 0

    def __len__(self) -> int:
        return len(self._known)

    @property
    def known(self) -> Collection[int]:
        """Ids in hand, those confirmed and not yet forgotten included."""
        return self._known

    def add(self, rows: Iterable[OutboxRow]) -> None:
        """Rows in id order, each later than those of its key that are in hand."""
        for row in rows:
            self._known.add(row.id)
            self.size += size_of(row)
            key = _key(row)
            queue = self._queues.get(key)
            if queue is None:
                self._queues[key] = deque([row])
                self._ready.append(key)
            else:
                queue.append(row)

    def take(self) -> OutboxRow | None:
        """A row to send now, if there is one. One that is to be sent alone has nothing else in flight beside it."""
        if self._alone:
            return None
        if self._to_send_alone:
            if self.in_flight:
                return None
            self._alone = True
            return self._sent(self._to_send_alone.popleft())
        return self._sent(self._ready.popleft()) if self._ready else None

    @property
    def is_alone(self) -> bool:
        """One row is in flight alone: an answer is about no other row."""
        return self._alone

    def confirm(self, row: OutboxRow) -> None:
        """The row is with Kafka; the next of its key may go."""
        self._one_less_in_flight()
        key = _key(row)
        queue = self._queues[key]
        self.size -= size_of(queue.popleft())
        if queue:
            self._ready.append(key)
        else:
            del self._queues[key]

    def forget(self, ids: Iterable[int]) -> None:
        """Confirmed rows that were marked."""
        self._known.difference_update(ids)

    def return_unsent(self, row: OutboxRow) -> None:
        """There was no room to send the row: it goes first the next time."""
        if self._alone:
            self._to_send_alone.appendleft(_key(row))
        else:
            self._ready.appendleft(_key(row))
        self._one_less_in_flight()

    def send_alone(self, row: OutboxRow) -> None:
        """The row was refused together with others: it is sent once more, alone."""
        self._one_less_in_flight()
        self._to_send_alone.append(_key(row))

    def drop(self, row: OutboxRow) -> None:
        """The row can't go, now or for good: it and the later rows of its key leave our hands; the table keeps them."""
        self._one_less_in_flight()
        for left in self._queues.pop(_key(row)):
            self._known.discard(left.id)
            self.size -= size_of(left)

    def _sent(self, key: Key) -> OutboxRow:
        self.in_flight += 1
        return self._queues[key][0]

    def _one_less_in_flight(self) -> None:
        self.in_flight -= 1
        self._alone = False


def size_of(row: OutboxRow) -> int:
    """Bytes of key and body."""
    return len(row.key or b"") + len(row.body or b"")


def _key(row: OutboxRow) -> Key:
    """Rows without a key have no order: each is a key of its own."""
    return row.id if row.key is None else row.key
