"""Reconciling: what rows, object store and GED say of each other is compared, and told or put right.

Safe beside live traffic. A row stands before its object is put, and an object is deleted only after its row says that it may
go. So what a comparison finds is looked at once more, row first, before it is told, and again before it is repaired; and
what is younger than ``grace_seconds``, which is longer than an upload's lease, is not looked at. One run at a time in the
cluster. Nothing is ever repaired by believing the store: a document whose object is missing is told, and that is all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, Protocol
from uuid import UUID, uuid4

import structlog

from domain.audit_chain import SYSTEM_TENANT
from domain.documents import Document
from domain.errors import DatabaseUnavailable, DPJError, RestoreUnderWay
from domain.events import AuditRecorded
from domain.objects import StoredObject
from domain.reconciliation import DiscrepancyKind, InventoryRow, ReconcileFinding, Repair
from domain.shared.crash_points import reach
from processors.documents.abandoned_objects import AbandonedObjects
from processors.documents.transitions import Origin, audit_line
from processors.ports.clock import Clock
from processors.ports.content import UnfinishedPuts
from processors.ports.database import HeldLock, LockingTransactions
from processors.ports.restores import MayDelete, unguarded
from processors.ports.work import HasOutbox, HasUploads

ACTOR: Final = "system:reconcile"
#: Whose audit chain holds the repair of what names no tenant any more.
LOCK: Final = "reconcile"
MAX_LISTED_FINDINGS: Final = 1_000

log = structlog.get_logger()


class Inventory(Protocol):
    """Rows, for comparing. Raises DatabaseUnavailable."""

    async def page(self, digit: int, after: UUID | None, limit: int) -> Sequence[InventoryRow]:
        """Rows whose ids begin with that hexadecimal digit, in the order of their ids, from just after ``after``."""
        ...

    async def get(self, document_id: UUID) -> InventoryRow | None: ...

    async def expired(self, limit: int) -> Sequence[InventoryRow]:
        """PENDING rows whose lease ran out."""
        ...

    async def archived(self, after: tuple[datetime, UUID], limit: int) -> Sequence[Document]:
        """ARCHIVED documents by (archived_at, id), from just after the given one."""
        ...

    async def erased(self, after: tuple[datetime, UUID], limit: int) -> Sequence[tuple[datetime, Document]]:
        """ERASED documents with the time of it, by (time, id), from just after the given one."""
        ...


class ReconcilableObjects(UnfinishedPuts, Protocol):
    async def stat(self, key: str) -> StoredObject: ...

    async def delete(self, key: str) -> None: ...

    def list(self, prefix: str) -> AsyncIterator[StoredObject]: ...


class RepairMode(Enum):
    """Which faults a run repairs: none, those that a row decides (``Repair.SAFE``), or all that can be."""

    NONE = "none"
    SAFE = "safe"
    ALL = "all"

    def include(self, fault: DiscrepancyKind) -> bool:
        if self is RepairMode.NONE:
            return False
        return fault.repair is Repair.SAFE or (fault.repair is Repair.PERSON and self is RepairMode.ALL)


@dataclass(frozen=True, slots=True)
class ReconcileProgress:
    """``done`` of ``of`` steps of ``stage``; ``objects`` and ``rows`` seen so far."""

    stage: str
    done: int
    of: int
    objects: int
    rows: int


@dataclass(slots=True)
class ReconcileReport:
    """What a run saw and found. ``findings`` holds the first of them; ``found`` and ``repaired`` count them all by fault."""

    repairs: RepairMode
    objects: int = 0
    rows: int = 0
    copies: int = 0
    found: Counter[DiscrepancyKind] = field(default_factory=Counter)
    repaired: Counter[DiscrepancyKind] = field(default_factory=Counter)
    findings: list[ReconcileFinding] = field(default_factory=list)
    #: Parts that could not look, by name, and the code of what kept them from it.
    failed_parts: dict[str, str] = field(default_factory=dict)

    def add(self, finding: ReconcileFinding) -> None:
        self.found[finding.fault] += 1
        self.repaired[finding.fault] += int(finding.repaired)
        if len(self.findings) < MAX_LISTED_FINDINGS:
            self.findings.append(finding)

    @property
    def is_clean(self) -> bool:
        """All was looked at, and nothing is wrong now: nothing was, or all of it was repaired."""
        return not self.failed_parts and self.found.total() == self.repaired.total()


class RepairWork(HasUploads, HasOutbox, Protocol):
    """What a repair needs of a transaction: its audit line, and uploads to abandon."""


class ReconcileRun:
    """One run under way: what its parts share."""

    def __init__(
        self,
        database: LockingTransactions[RepairWork],
        inventory: Inventory,
        objects: ReconcilableObjects,
        clock: Clock,
        held: HeldLock,
        *,
        repairs: RepairMode,
        grace_seconds: float,
        recent_seconds: float | None,
        on_progress: Callable[[ReconcileProgress], None],
        may_delete: MayDelete = unguarded,
    ) -> None:
        self.may_delete = may_delete
        self.database = database
        self.inventory = inventory
        self.objects = objects
        self.clock = clock
        self.held = held
        self.repairs = repairs
        self.report = ReconcileReport(repairs)
        self.started = clock.now()
        self._grace = timedelta(seconds=grace_seconds)
        self._recent = None if recent_seconds is None else timedelta(seconds=recent_seconds)
        self._on_progress = on_progress
        self._correlation_id = uuid4()

    def is_old(self, at: datetime) -> bool:
        """Whether what is of that time existed before whatever is under way now began."""
        return at < self.started - self._grace

    def is_recent(self, at: datetime) -> bool:
        """Whether what changed then can't have been looked at, past its grace, by an earlier run."""
        return self._recent is None or at > self.started - self._grace - self._recent

    def progress(self, stage: str, done: int, of: int) -> None:
        self._on_progress(ReconcileProgress(stage, done, of, self.report.objects, self.report.rows))

    async def settle(self, finding: ReconcileFinding, repair: Callable[[], Awaitable[object]] | None = None) -> None:
        """Put the finding into the report, repaired if this run repairs its kind. The audit line comes before the act: an
        act without its line there never is. Raises what concerns the run as a whole: the database away, the lock lost, a restore
        under way."""
        if repair is not None and self.repairs.include(finding.fault):
            await self.held.check()
            await self.may_delete()
            await self.audit(finding)
            reach("reconcile.noted")
            try:
                await repair()
                reach("reconcile.repaired")
                finding = replace(finding, repaired=True)
            except DatabaseUnavailable:
                raise
            except DPJError as error:
                finding = replace(finding, failed=error.code)
        log.log(
            _LEVELS[finding.fault.repair],
            "reconcile_found",
            fault=finding.fault.value,
            document_id=str(finding.document_id) if finding.document_id else None,
            place=finding.place,
            repaired=finding.repaired,
            code=finding.failed,
        )
        self.report.add(finding)

    async def audit(self, finding: ReconcileFinding) -> None:
        async with self.database.transaction() as work:
            await work.outbox.add(self.audit_line(finding))

    def audit_line(self, finding: ReconcileFinding) -> AuditRecorded:
        entity = ("document", str(finding.document_id)) if finding.document_id else ("object", finding.place[:128])
        return audit_line(
            Origin(actor=ACTOR, at=self.clock.now(), correlation_id=self._correlation_id),
            finding.tenant or SYSTEM_TENANT,
            *entity,
            f"reconcile.{finding.fault.value}",
            details={"place": finding.place, **finding.details},
        )

    async def remove(self, key: str) -> None:
        """Delete an object and whatever was begun under its key."""
        await AbandonedObjects(self.objects).delete(key)


#: What a person has to look at is an error.
_LEVELS: Final[Mapping[Repair, int]] = {Repair.SAFE: 20, Repair.PERSON: 30, Repair.NONE: 40}


Comparison = Callable[[ReconcileRun], Awaitable[None]]


class Reconciliation:
    """The use case. ``parts``, by name, are comparisons that add what they find to the run's report; they run one after
    another. ``grace_seconds`` has to be longer than an upload's lease."""

    def __init__(
        self,
        database: LockingTransactions[RepairWork],
        inventory: Inventory,
        objects: ReconcilableObjects,
        clock: Clock,
        parts: Mapping[str, Comparison],
        *,
        grace_seconds: float,
        may_delete: MayDelete = unguarded,
        recheck: MayDelete = unguarded,
    ) -> None:
        """``may_delete`` is awaited before a run that repairs, ``recheck`` before each repair; they raise if nothing may be deleted now."""
        self._may_delete = may_delete
        self._recheck = recheck
        self._database = database
        self._inventory = inventory
        self._objects = objects
        self._clock = clock
        self._parts = parts
        self._grace_seconds = grace_seconds

    async def run(
        self,
        repairs: RepairMode,
        on_progress: Callable[[ReconcileProgress], None] = lambda _progress: None,
        *,
        recent_seconds: float | None = None,
    ) -> ReconcileReport:
        """What was found, and repaired as far as ``repairs`` goes. ``recent_seconds``: the last complete run is no longer ago, so
        what costs a request each need not be asked again. Raises DocumentBusy (another run is under way), RestoreUnderWay (nothing
        may be repaired now) or DatabaseUnavailable; a part whose dependency is away is named in the report, and the others go on."""
        if repairs is not RepairMode.NONE:
            await self._may_delete()
        async with self._database.lock(LOCK) as held:
            run = ReconcileRun(
                self._database,
                self._inventory,
                self._objects,
                self._clock,
                held,
                repairs=repairs,
                grace_seconds=self._grace_seconds,
                recent_seconds=recent_seconds,
                on_progress=on_progress,
                may_delete=self._recheck,
            )
            for name, part in self._parts.items():
                try:
                    await part(run)
                except (DatabaseUnavailable, RestoreUnderWay):
                    raise
                except DPJError as error:
                    run.report.failed_parts[name] = error.code
        log.info("reconcile_finished", objects=run.report.objects, rows=run.report.rows, found=run.report.found.total())
        return run.report
