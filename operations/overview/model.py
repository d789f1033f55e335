"""What one look at the whole pipeline found. Each part may be unknown by itself: that is None, never 0 and never an empty tuple."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.lifecycle import Status
from domain.overview import (
    CheckpointsOverview,
    DeadGroup,
    ErasuresOverview,
    HeldGroup,
    Holder,
    NextStep,
    OutboxOverview,
    RestoreOverview,
    Sample,
    StateOverview,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OldestDocument:
    """The document that has waited longest.

    ``deposited_at``: when its upload was complete. ``waits_since``: since when the pipeline, and no person, has it to work on; of an
    event about a document that is at rest, since when that event was caused. ``held_by``: what has it, since ``held_since``; None if
    that is not known. ``topic``, ``consumer`` and ``caused_at``: of the event that is not finished.
    """

    document_id: UUID
    tenant: str
    status: Status
    deposited_at: datetime
    waits_since: datetime
    held_by: Holder | None
    held_since: datetime | None
    next_step: NextStep | None
    topic: str | None
    consumer: str | None
    caused_at: datetime | None
    waiting_for: str | None
    code: str | None
    attempts: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StalledPartition:
    """A partition without progress for ``seconds``. ``held_up_by``: the record (topic/partition/offset) at which its consumer crashes."""

    topic: str
    partition: int
    seconds: float
    held_up_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionOwner:
    """The process that has a partition, as it says itself."""

    process: str
    host: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionOverview:
    """``behind_seconds``: age of the first unconsumed record; 0 if there is none, None if it could not be read. ``head``: the key of
    that record, mostly a document's id. ``retention_margin_seconds``: until its topic may delete it; None if nothing waits, or the
    topic keeps records without end, or it is unknown. ``owner``: the process that has it; None if none says so."""

    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int
    behind_seconds: float | None
    head: str | None
    retention_margin_seconds: float | None
    owner: PartitionOwner | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A consumer was told to stand still: by whom, why, and until when at the latest."""

    owner: str
    reason: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerOverview:
    """One consumer. ``known``: whether ``lag`` and ``behind_seconds`` are of all its partitions.

    ``lost``: events that it must still finish and that Kafka brings no more; None if that is not known.
    ``waits_for``: what its worker says it waits for, since ``waits_since`` if that is known. ``trend``: the last hour, a sample a
    minute. ``drain_seconds``: how long the lag lasts at the rate of the last minutes; None if it does not shrink, or nobody knows.
    ``oldest``: among the documents that it still owes something.
    """

    consumer: str
    lag: int | None
    behind_seconds: float | None
    known: bool
    partitions: tuple[PartitionOverview, ...] | None
    held: tuple[HeldGroup, ...] | None
    dead_open: tuple[DeadGroup, ...] | None
    lost: int | None
    waits_for: tuple[str, ...] | None
    waits_since: datetime | None
    stalled: tuple[StalledPartition, ...] | None
    retention_margin_seconds: float | None
    trend: tuple[Sample, ...] | None
    drain_seconds: float | None
    paused: Pause | None
    oldest: OldestDocument | None

    @property
    def oldest_deposit(self) -> datetime | None:
        return None if self.oldest is None else self.oldest.deposited_at


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyOverview:
    """A server that ``processes`` need. ``away``: whether one of them says that it is not there, since ``away_since`` if known."""

    name: str
    away: bool
    away_since: datetime | None
    processes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitOverview:
    """A circuit breaker of a process: ``closed``, ``half_open`` or ``open``."""

    process: str
    dependency: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileOverview:
    """The last whole run of reconciling: when, and the faults that it left."""

    finished_at: datetime
    findings: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """``oldest_unknown``: whether a part is unknown in which an older document may wait than ``oldest``.

    ``silent``: processes that were asked and gave no answer; empty where a site has no ports to ask, and then ``dependencies``,
    ``circuits``, ``waits_for`` and ``stalled`` are None. ``audit_steps_stopped``: steps of the audit log that wait for a person.
    """

    at: datetime
    consumers: tuple[ConsumerOverview, ...]
    outbox: OutboxOverview | None
    outbox_trend: tuple[Sample, ...] | None
    states: tuple[StateOverview, ...] | None
    oldest: OldestDocument | None
    oldest_unknown: bool
    checkpoints: CheckpointsOverview | None
    audit_steps_stopped: tuple[str, ...] | None
    erasures: ErasuresOverview | None
    dependencies: tuple[DependencyOverview, ...] | None
    circuits: tuple[CircuitOverview, ...] | None
    silent: tuple[str, ...]
    watchdog_looked: datetime | None
    reconcile: ReconcileOverview | None
    restores: tuple[RestoreOverview, ...] | None

    @property
    def oldest_deposit(self) -> datetime | None:
        return None if self.oldest is None else self.oldest.deposited_at
