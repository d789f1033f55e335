"""Batches of operators' acts and pauses of consumers in memory; see ``processors.ports.batches`` and ``processors.ports.pauses``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from domain.batches import UNDER_WAY, Act, Batch, BatchItem, BatchState
from domain.dead_letter_index import DeadLetterGroup, IndexedLetter
from domain.dead_letters import DeadLetter
from domain.errors import EventUndecodable
from domain.events import Event
from domain.owed_events import Progress
from domain.pauses import Pause
from domain.refusals import BatchNotFound
from processors.operators.act_kinds import Letters
from processors.operators.batches import Batches
from processors.operators.dead_letters import OperatorActions
from processors.operators.desk import OperatorDesk
from processors.operators.pauses import ConsumerPauses
from processors.operators.replay import Replay, WindowRecord
from processors.ports.personal_data import PersonalData
from tests.support.builders import FixedClock
from tests.support.memory_orders import MemoryOrderQueries


class BatchTables(Protocol):
    """What of a database in memory is asked here."""

    rows: Any
    clock: FixedClock


class MemoryBatches:
    def __init__(self, rows: dict[UUID, tuple[Batch, list[BatchItem]]], clock: FixedClock) -> None:
        self._rows = rows
        self._clock = clock

    async def add(self, batch: Batch, items: Sequence[BatchItem]) -> bool:
        if batch.id in self._rows:
            return False
        self._rows[batch.id] = (replace(batch, created_at=self._clock.at, changed_at=self._clock.at), list(items))
        return True

    async def get(self, batch_id: UUID) -> Batch:
        if batch_id not in self._rows:
            raise BatchNotFound
        return self._rows[batch_id][0]

    async def move(
        self,
        batch_id: UUID,
        before: Collection[BatchState],
        after: BatchState,
        *,
        stopped: str | None = None,
        second: str | None = None,
    ) -> bool:
        batch, items = self._rows[batch_id]
        if batch.state not in before:
            return False
        moved = replace(batch, state=after, stopped=stopped, second=second or batch.second)
        self._rows[batch_id] = (moved, items)
        return True

    async def record(self, batch_id: UUID, rank: int, result: str, note: str) -> bool:
        batch, items = self._rows[batch_id]
        item = next(one for one in items if one.rank == rank)
        if batch.state not in UNDER_WAY or item.result is not None:
            return False
        done = replace(item, result=result, note=note, done_at=self._clock.at)
        self._rows[batch_id] = (batch, [done if one.rank == rank else one for one in items])
        return True


class MemoryPauses:
    def __init__(self, rows: dict[str, Pause], clock: FixedClock) -> None:
        self._rows = rows
        self._clock = clock

    async def pause(self, pause: Pause) -> bool:
        standing = self._rows.get(pause.consumer)
        if standing is not None and standing.until > self._clock.at:
            return False
        self._rows[pause.consumer] = pause
        return True

    async def resume(self, consumer: str, actor: str) -> Pause | None:
        assert actor
        standing = self._rows.pop(consumer, None)
        return standing if standing is not None and standing.until > self._clock.at else None


class MemoryBatchQueries:
    """See ``storage.postgres.batches.PostgresBatchQueries``."""

    def __init__(self, database: BatchTables) -> None:
        self._database = database

    @property
    def _batches(self) -> list[tuple[Batch, list[BatchItem]]]:
        return [
            (replace(batch, counts=_counted(items)), items) for batch, items in self._database.rows.batches.values()
        ]

    async def newest(self, limit: int, *, within: Sequence[str] | None = None) -> Sequence[Batch]:
        found = [
            batch
            for batch, _ in reversed(self._batches)
            if within is None or (batch.tenants is not None and set(batch.tenants) <= set(within))
        ]
        return found[:limit]

    async def find(self, batch_id: UUID) -> Batch | None:
        return next((batch for batch, _ in self._batches if batch.id == batch_id), None)

    async def last_done(self, act: Act) -> Batch | None:
        done = [one for one, _ in self._batches if one.request.act is act and one.state is BatchState.DONE]
        return done[-1] if done else None

    async def items(self, batch_id: UUID, *, after: int = 0, limit: int = 100) -> Sequence[BatchItem]:
        found = next(items for batch, items in self._batches if batch.id == batch_id)
        return [item for item in found if item.rank > after][:limit]

    async def under_way(self) -> Batch | None:
        return next((batch for batch, _ in self._batches if batch.state in UNDER_WAY), None)

    async def waiting(self, batch_id: UUID, limit: int) -> Sequence[BatchItem]:
        found = next(items for batch, items in self._batches if batch.id == batch_id)
        return [item for item in found if item.result is None][:limit]


class MemoryPauseQueries:
    """See ``storage.postgres.pauses.PostgresPauseQueries``."""

    def __init__(self, database: BatchTables) -> None:
        self._database = database

    async def paused(self) -> Mapping[str, Pause]:
        now = self._database.clock.at
        return {name: pause for name, pause in self._database.rows.pauses.items() if pause.until > now}


class MemoryLetterIndex:
    """An index of open letters that a test has put in; see ``storage.postgres.delivery.dead_letter_index``."""

    def __init__(self) -> None:
        self.rows: list[IndexedLetter] = []

    def _open(self, tenants: Sequence[str] | None) -> list[IndexedLetter]:
        return [row for row in self.rows if row.settled is None and (tenants is None or row.entry.tenant in tenants)]

    async def groups(
        self, *, tenants: Sequence[str] | None = None, since: datetime | None = None
    ) -> Sequence[DeadLetterGroup]:
        names = sorted({(r.entry.consumer, r.entry.code, r.entry.error_class) for r in self._open(tenants)})
        groups = []
        for consumer, code, error_class in names:
            rows = await self.page(consumer, code, error_class, tenants=tenants)
            made = [row.made_at for row in rows]
            new = sum(since is not None and at >= since for at in made)
            groups.append(
                DeadLetterGroup(
                    consumer=consumer,
                    code=code,
                    error_class=error_class,
                    count=len(rows),
                    oldest=min(made),
                    newest=max(made),
                    new=new,
                )
            )
        return groups

    async def page(
        self,
        consumer: str,
        code: str,
        error_class: str,
        *,
        after: tuple[datetime, int] | None = None,
        limit: int = 100,
        tenants: Sequence[str] | None = None,
    ) -> Sequence[IndexedLetter]:
        wanted = (consumer, code, error_class)
        found = [r for r in self._open(tenants) if (r.entry.consumer, r.entry.code, r.entry.error_class) == wanted]
        return [row for row in found if after is None or (row.made_at, row.number) > after][:limit]

    async def selected(
        self,
        consumer: str | None,
        code: str | None,
        error_class: str | None,
        *,
        limit: int,
        tenants: Sequence[str] | None,
    ) -> Sequence[int]:
        return [
            row.number
            for row in self._open(tenants)
            if consumer in {None, row.entry.consumer}
            and code in {None, row.entry.code}
            and error_class in {None, row.entry.error_class}
        ][:limit]

    async def letters(self, numbers: Sequence[int], *, tenants: Sequence[str] | None = None) -> Sequence[IndexedLetter]:
        return [row for row in self.rows if row.number in numbers and (tenants is None or row.entry.tenant in tenants)]


def a_desk(
    database: Any, index: MemoryLetterIndex, personal: PersonalData, letters: Mapping[tuple[int, int], DeadLetter]
) -> OperatorDesk:
    """The operators' desk over memory: letters are read from ``letters``, by partition and offset; no event can be decoded."""

    async def read(_: str, places: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], DeadLetter]:
        return {place: letters[place] for place in places if place in letters}

    def actions(actor: str) -> OperatorActions:
        return OperatorActions(database, _NoDecoder(), database.clock, actor)

    kind, nothing = Letters(index, read), EmptyTopics()
    replay = Replay(nothing.progress, nothing.scan, read, nothing)
    kinds = {Act.REDRIVE: kind, Act.DISCARD: kind, Act.REPLAY: replay}
    batches = Batches(database, MemoryBatchQueries(database), kinds, index, actions, database.clock)
    pauses = ConsumerPauses(database, MemoryPauseQueries(database), database.clock)
    return OperatorDesk(batches, pauses, index, MemoryOrderQueries(database), personal, database.clock)


class EmptyTopics:
    """Topics in which nothing was ever written."""

    async def progress(self) -> Progress:
        return {}

    async def scan(
        self, topics: Sequence[str], since: datetime | None, until: datetime | None, key: str | None
    ) -> Sequence[WindowRecord]:
        assert topics
        return []

    async def states(self, consumer: str, event_ids: Sequence[UUID]) -> Mapping[UUID, str]:
        return {}


class _NoDecoder:
    async def decode(self, topic: str, value: bytes, schema: str | None = None) -> Event:
        raise EventUndecodable


def _counted(items: Sequence[BatchItem]) -> Mapping[str, int]:
    return Counter(item.result or "waiting" for item in items)
