"""Restores on record, and what tells that a database is behind, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from domain.audit_chain import ChainEntry, head_after
from domain.restores import OpenRestore, RestoredStore, RestoreState
from processors.resilience.restore_guard import RestoreGuard
from tests.support.audit_lines import MemoryAuditStore, MemoryUnflushedEntries
from tests.support.builders import FixedClock, ManualSeconds
from tests.support.memory_audit_trees import MemoryCheckpointStore


class MemoryRestores:
    """See ``processors.ports.restores``. ``server_started`` moves when a test has the server start anew."""

    def __init__(self, clock: FixedClock) -> None:
        self._clock = clock
        self.server_started: datetime = clock.at
        self.kept: dict[RestoredStore, OpenRestore] = {}
        self.reads = 0

    async def state(self) -> RestoreState:
        self.reads += 1
        return RestoreState(self.server_started, self.server_started.isoformat(), tuple(self.kept.values()))

    async def open(self, store: RestoredStore, by: str, reason: str) -> bool:
        known = self.kept.get(store)
        at = known.opened_at if known else self._clock.at
        self.kept[store] = OpenRestore(store=store, opened_at=at, opened_by=by, reason=reason)
        return known is None

    async def mark_erasures_done(self) -> None:
        for store, one in self.kept.items():
            self.kept[store] = OpenRestore(
                store=store,
                opened_at=one.opened_at,
                opened_by=one.opened_by,
                reason=one.reason,
                erasures_done_at=self._clock.at,
            )

    async def close(self, by: str) -> int:
        count = len(self.kept)
        self.kept.clear()
        return count


class MemoryTaken:
    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}

    async def newest(self) -> Mapping[str, int]:
        return dict(self.sizes)


class GuardBench:
    """A database, its log and its checkpoints; ``in_database``: the log is in the database itself."""

    def __init__(self, *, in_database: bool = False) -> None:
        self.clock = FixedClock()
        self.restores = MemoryRestores(self.clock)
        self.chains = MemoryUnflushedEntries()
        self.taken = MemoryTaken()
        self.log = MemoryAuditStore()
        self.checkpoints = MemoryCheckpointStore()
        self.seconds = ManualSeconds()
        self.guard = RestoreGuard(
            self.restores,
            self.chains,
            self.taken,
            None if in_database else lambda: self.log,
            lambda: self.checkpoints,
            self.is_signed,
            self.seconds,
        )

    async def is_signed(self, tenant: str, size: int) -> bool:
        return b"a stranger's" not in await self.checkpoints.contents(tenant, size)

    def is_at(self, chain: Sequence[ChainEntry], waiting: Sequence[ChainEntry] = ()) -> None:
        """The database's head is behind ``chain``, and ``waiting`` is on its way."""
        whole = [*chain, *waiting]
        self.chains.known[whole[-1].tenant] = head_after(whole[-1])
        self.chains.waiting = list(waiting)
