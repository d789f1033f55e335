"""A MongoDB that was restored to before or emptied is filled again: the audit log's entries, in bounded memory.

Three runs over sorted lines: places (PostgreSQL) meet events (Kafka) by the event's id; what comes of it, and whole entries that PostgreSQL
has, is brought into the order of numbers; then each tenant's log is walked beside it. Cut off anywhere, what was put back is there, and the
next run goes on: an entry that the log has is passed over.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

from domain.audit_chain import ChainEntry, StoredEntry, entry_of, event_of, genesis
from domain.events import AuditRecorded
from domain.shared.crash_points import reach
from operations.external_sort import ExternalSort
from processors.ports.database import Locks
from processors.restore.refilling import ChainRefill

BATCH: Final = 500
#: Leaves asked for at once.
LEAVES: Final = 1_024
#: Ranges of lost numbers that a report names one by one; all are counted.
NAMED_RANGES: Final = 1_000

_PLACE, _LINE, _BODY = b"1", b"2", b"0"

#: The audit lines that Kafka still has, from its first record on. Raises BrokerUnavailable.
ReadLines = Callable[[], AsyncGenerator[AuditRecorded, None]]


class RefillableLog(Protocol):
    """The audit log. Raises AuditStoreUnavailable."""

    def entries(self, tenant: str, after: int, up_to: int) -> AsyncGenerator[StoredEntry, None]: ...

    async def add(self, entries: Sequence[ChainEntry]) -> None:
        """Raises AuditConflict if something else stands in a place."""
        ...


class RefillSources(Protocol):
    """What the database knows of entries. Raises DatabaseUnavailable."""

    async def handed_over(self) -> Mapping[str, int]:
        """By tenant, the number of the last entry that the log has by the database's word."""
        ...

    def places(self) -> AsyncGenerator[tuple[str, int, UUID], None]:
        """(tenant, number, event) of what was chained lately."""
        ...

    def bodies(self) -> AsyncGenerator[tuple[str, int, bytes], None]:
        """(tenant, number, canonical bytes) of whole entries."""
        ...

    async def leaves(self, tenant: str, first: int, last: int) -> Mapping[int, bytes]: ...

    async def hashes(self, tenant: str) -> Mapping[int, str]: ...


@dataclass(slots=True)
class TenantRefill:
    """Of ``last`` entries that the log is to have, ``missing`` are not there; ``found`` of these can be made again, or were.
    ``lost`` names the others, as ranges of numbers."""

    tenant: str
    last: int
    missing: int = 0
    found: int = 0
    lost: list[tuple[int, int]] = field(default_factory=list)

    @property
    def gone(self) -> int:
        return self.missing - self.found

    def lose(self, seq: int) -> None:
        if self.lost and self.lost[-1][1] == seq - 1:
            self.lost[-1] = (self.lost[-1][0], seq)
        elif len(self.lost) < NAMED_RANGES:
            self.lost.append((seq, seq))


class AuditRefill:
    """``folder``: for sorted runs, about the size of the lines that Kafka has."""

    def __init__(
        self, log: RefillableLog, sources: RefillSources, lines: ReadLines, locks: Locks, folder: Path
    ) -> None:
        self._log = log
        self._sources = sources
        self._lines = lines
        self._locks = locks
        self._folder = folder

    async def run(self, *, apply: bool) -> list[TenantRefill]:
        """What each tenant's log lacks; put back with ``apply``. Tenants that lack nothing are left out.

        Raises AuditStoreUnavailable, DatabaseUnavailable, BrokerUnavailable, AuditConflict, or DocumentBusy while entries are on their way.
        """
        handed_over = await self._sources.handed_over()
        with ExitStack() as files:
            by_number = files.enter_context(ExternalSort(self._folder))
            await self._sort(by_number)
            known = _Known(by_number)
            reports = []
            for tenant, last in sorted(handed_over.items()):
                async with self._locks.lock(f"audit-flush/{tenant}"):
                    reports.append(await self._walk(TenantRefill(tenant, last), known, apply=apply))
        return [one for one in reports if one.missing]

    async def _sort(self, by_number: ExternalSort) -> None:
        with ExternalSort(self._folder) as by_event:
            async with aclosing(self._sources.places()) as places:
                async for tenant, seq, event_id in places:
                    by_event.add(str(event_id), _PLACE + f"{tenant} {seq:020d}".encode())
            async with aclosing(self._lines()) as lines:
                async for line in lines:
                    by_event.add(str(line.event_id), _LINE + _packed(entry_of(line, genesis(line.tenant)).body))
            for _, one in groupby(_keyed(by_event), key=lambda pair: pair[0]):
                held = sorted(value for _, value in one)
                if held[0][:1] == _PLACE and held[-1][:1] == _LINE:
                    by_number.add(held[0][1:].decode(), held[-1])
        async with aclosing(self._sources.bodies()) as bodies:
            async for tenant, seq, body in bodies:
                by_number.add(f"{tenant} {seq:020d}", _BODY + _packed(body))

    async def _walk(self, report: TenantRefill, known: _Known, *, apply: bool) -> TenantRefill:
        tenant = report.tenant
        refill = ChainRefill(tenant, await self._sources.hashes(tenant))
        leaves = _Leaves(self._sources, tenant, report.last)
        batch: list[ChainEntry] = []
        following = 1

        async def fill(up_to: int) -> None:
            """Numbers from ``following`` to before ``up_to``."""
            for seq in range(following, up_to):
                body, line = known.of(tenant, seq)
                entry = refill.make(seq, await leaves.of(seq), body=body, line=line)
                report.missing += 1
                if entry is None:
                    report.lose(seq)
                    continue
                report.found += 1
                batch.append(entry)
                if len(batch) >= BATCH:
                    await put()

        async def put() -> None:
            if apply and batch:
                await self._log.add(batch)
                reach("restore.refilled")
            batch.clear()

        async with aclosing(self._log.entries(tenant, 0, report.last)) as entries:
            async for stored in entries:
                await fill(stored.entry.seq)
                refill.has(stored.entry)
                following = stored.entry.seq + 1
        await fill(report.last + 1)
        await put()
        return report


class _Known:
    """Whole entries and events by tenant and number, asked for in that order."""

    def __init__(self, by_number: ExternalSort) -> None:
        self._left = _keyed(by_number)
        self._next = next(self._left, None)

    def of(self, tenant: str, seq: int) -> tuple[bytes | None, AuditRecorded | None]:
        wanted = f"{tenant} {seq:020d}".encode()
        body, line = None, None
        while self._next is not None and self._next[0] <= wanted:
            key, value = self._next
            if key == wanted:
                unpacked = base64.b64decode(value[1:])
                if value[:1] == _BODY:
                    body = unpacked
                else:
                    line = _event_of(tenant, unpacked)
            self._next = next(self._left, None)
        return body, line


class _Leaves:
    """Leaf hashes, a block at a time."""

    def __init__(self, sources: RefillSources, tenant: str, last: int) -> None:
        self._sources = sources
        self._tenant = tenant
        self._last = last
        self._block: Mapping[int, bytes] = {}
        self._first = self._end = 0

    async def of(self, seq: int) -> bytes | None:
        if not self._first <= seq < self._end:
            self._first, self._end = seq, min(seq + LEAVES, self._last + 1)
            self._block = await self._sources.leaves(self._tenant, self._first, self._end - 1)
        return self._block.get(seq)


def _keyed(sorting: ExternalSort) -> Iterator[tuple[bytes, bytes]]:
    return ((key, value.rstrip(b"\n")) for key, value in sorting.items())


def _packed(body: bytes) -> bytes:
    """Without line ends."""
    return base64.b64encode(body)


def _event_of(tenant: str, body: bytes) -> AuditRecorded | None:
    try:
        return event_of(ChainEntry(tenant=tenant, seq=1, event_id=UUID(int=0), body=body, hash=""))
    except ValueError:
        return None
