"""The steps that put right what a restore has left, in this order, each a dry run unless it is to be applied:

1. erasures: what was erased and is there again is erased again, first of all; then rows, objects, copies and metadata of it;
2. holds: legal holds and longer retentions stand again;
3. chain: the database's audit chain goes on behind the log;
4. log: entries that the log lost are put back;
5. rows: archived documents get their rows again;
6. metadata: extended metadata are made again;
7. events: what Kafka brings no more is published again.

A step repeated finds what is left to do, so a run that was cut off is simply run again. What a step can't do now, or never can, is named,
and the others go on; only while erasures are not done no document comes back by a later step.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from uuid import UUID, uuid4

from domain.audit_chain import SYSTEM_TENANT
from domain.errors import DatabaseUnavailable, DPJError
from domain.restores import Difference, DocumentHistory
from domain.shared.crash_points import reach
from operations.external_sort import ExternalSort
from operations.restore.check import RestoreReport, RestoreSources, differing
from operations.restore.refill import AuditRefill
from processors.audit.resumption import AuditResumption
from processors.documents.transitions import Origin, audit_line
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.restores import Restores
from processors.ports.work import HasOutbox
from processors.reconcile.metadata import KnownMetadata, RenderedDocuments, without_metadata
from processors.reconcile.owed_events import OwedEvents
from processors.reconcile.run import Reconciliation, RepairMode
from processors.restore.rows import NotRebuildable, RowsFromGed
from processors.restore.undone import UndoneActs

STEPS: Final = ("erasures", "holds", "chain", "log", "rows", "metadata", "events")
#: What a step names one by one.
NAMED: Final = 1_000
BROKEN: Final = "the audit log is broken or shorter than what was signed: run dpj audit verify"


@dataclass(slots=True)
class StepResult:
    """``done`` counts what was put right, or would be; ``left`` names what was not, with why."""

    step: str
    done: int = 0
    left: list[str] = field(default_factory=list)
    left_count: int = 0

    def leave(self, text: str, number: int = 1) -> None:
        self.left_count += number
        if len(self.left) < NAMED:
            self.left.append(text)


class Descriptions(Protocol):
    async def describe(self, document_id: UUID) -> bool:
        """Write a document's extended metadata again; False if there are none to be had."""
        ...


class DueErasures(Protocol):
    async def run_once(self, limit: int = 100) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairParts:
    """What the steps work with. ``refill`` None: the log is in the database. ``erased`` looks only at documents that were erased."""

    sources: RestoreSources
    restores: Restores
    undone: UndoneActs
    eraser: DueErasures
    erased: Reconciliation
    resumption: AuditResumption
    refill: AuditRefill | None
    rows: RowsFromGed
    rendered: RenderedDocuments
    metadata: KnownMetadata
    descriptions: Descriptions
    owed: OwedEvents
    database: Transactions[HasOutbox]
    clock: Clock
    actor: str
    events_after: float


class RestoreRepair:
    """``sorting`` holds what ``operations.restore.check.read_all`` read, and ``report`` what that found."""

    def __init__(self, parts: RepairParts, sorting: ExternalSort, report: RestoreReport, reason: str) -> None:
        self._parts = parts
        self._sorting = sorting
        self._report = report
        self._reason = reason

    async def run(
        self, steps: Sequence[str], *, apply: bool, on_step: Callable[[str, int], None] = lambda _step, _done: None
    ) -> list[StepResult]:
        """Raises DatabaseUnavailable; whatever else a step meets is in its result."""
        every: Mapping[str, Callable[[StepResult, bool], Awaitable[None]]] = {
            "erasures": self._erasures,
            "holds": self._holds,
            "chain": self._chain,
            "log": self._log,
            "rows": self._rows,
            "metadata": self._metadata,
            "events": self._events,
        }
        results: list[StepResult] = []
        for name in STEPS:
            if name not in steps:
                continue
            result = StepResult(name)
            results.append(result)
            on_step(name, 0)
            if name == "rows" and apply and any(one.step == "erasures" and one.left_count for one in results):
                result.leave("erasures are to be done first")
                continue
            try:
                await every[name](result, apply)
            except DatabaseUnavailable:
                raise
            except DPJError as error:
                result.leave(f"{error.code}: {error.detail or 'run it again later'}")
            on_step(name, result.done)
            reach("restore.step")
        if apply:
            await self._put_on_record(results)
        return results

    async def _each(
        self, result: StepResult, kinds: frozenset[Difference], act: Callable[[DocumentHistory], Awaitable[bool]] | None
    ) -> None:
        """``act`` for every document that differs so; None only counts."""
        async for history, _, found in differing(self._parts.sources, self._sorting):
            if not kinds.intersection(found):
                continue
            if act is None:
                result.done += 1
                continue
            try:
                result.done += await act(history)
                reach("restore.document")
            except NotRebuildable as why:
                result.leave(f"{history.document_id}: {why}")
            except DatabaseUnavailable:
                raise
            except DPJError as error:
                result.leave(f"{history.document_id}: {error.detail or error.code}")

    async def _erasures(self, result: StepResult, apply: bool) -> None:
        parts = self._parts
        await self._each(result, frozenset({Difference.ERASURE_UNDONE}), parts.undone.erase if apply else None)
        if Difference.LOG_BROKEN in self._report.count:
            result.leave(BROKEN)
        # What is left outside PostgreSQL can't be read: its keys are gone. So this is when documents may be served again.
        if apply and not result.left_count:
            await parts.restores.mark_erasures_done()
        async for history, _, found in differing(parts.sources, self._sorting):
            if Difference.ERASURE_WITHOUT_ROW in found:
                result.leave(f"{history.document_id}: its erasure had begun, and its row is gone: look at the GED")
        if apply:
            await parts.eraser.run_once(limit=100_000)
        found_left = await parts.erased.run(RepairMode.SAFE if apply else RepairMode.NONE)
        result.done += found_left.repaired.total() if apply else found_left.found.total()
        for finding in found_left.findings:
            if apply and not finding.repaired:
                result.leave(f"{finding.document_id}: {finding.fault.value} {finding.failed or ''}".rstrip())
        for name, code in found_left.failed_parts.items():
            result.leave(f"{name}: {code}")

    async def _holds(self, result: StepResult, apply: bool) -> None:
        kinds = frozenset({Difference.HOLD_LOST, Difference.RETENTION_LOST})
        await self._each(result, kinds, self._parts.undone.keep if apply else None)

    async def _chain(self, result: StepResult, apply: bool) -> None:
        for item in self._report.items.get(Difference.CHAIN_BEHIND, ()):
            tenant = str(item["tenant"])
            try:
                done = await self._parts.resumption.resume(tenant, self._reason, apply=apply)
                result.done += int(done.needed)
            except DatabaseUnavailable:
                raise
            except DPJError as error:
                result.leave(f"{tenant}: {error.detail or error.code}")

    async def _log(self, result: StepResult, apply: bool) -> None:
        if self._parts.refill is None or not self._report.short:
            return
        for one in await self._parts.refill.run(apply=apply):
            result.done += one.found
            ranges = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in one.lost)
            if one.gone:
                result.leave(f"{one.tenant}: entries that nobody has any more: {ranges}", one.gone)

    async def _rows(self, result: StepResult, apply: bool) -> None:
        act = self._parts.rows.rebuild if apply else None
        await self._each(result, frozenset({Difference.ARCHIVED_WITHOUT_ROW}), act)

    async def _metadata(self, result: StepResult, apply: bool) -> None:
        parts = self._parts
        async with aclosing(without_metadata(parts.rendered, parts.metadata)) as lacking:
            async for document_id, _ in lacking:
                if not apply:
                    result.done += 1
                    continue
                try:
                    if await parts.descriptions.describe(document_id):
                        result.done += 1
                        reach("restore.described")
                    else:
                        result.leave(f"{document_id}: its file says nothing any more")
                except DatabaseUnavailable:
                    raise
                except DPJError as error:
                    result.leave(f"{document_id}: {error.detail or error.code}")

    async def _events(self, result: StepResult, apply: bool) -> None:
        parts = self._parts
        report = await parts.owed.look(after_seconds=parts.events_after)
        if not report.known:
            result.leave("broker_unavailable: nobody knows what is lost")
            return
        result.done += await parts.owed.re_emit(report.lost, parts.actor, reason="restore", apply=apply)

    async def _put_on_record(self, results: Sequence[StepResult]) -> None:
        parts = self._parts
        details: dict[str, Any] = {one.step: {"done": one.done, "left": one.left_count} for one in results}
        origin = Origin(actor=parts.actor, at=parts.clock.now(), correlation_id=uuid4())
        await put_on_record(parts.database, origin, "restore.repaired", {"reason": self._reason, **details})


async def put_on_record(
    database: Transactions[HasOutbox], origin: Origin, action: str, details: Mapping[str, Any]
) -> None:
    """An audit line about a restore, which concerns no tenant. Raises DatabaseUnavailable."""
    async with database.transaction() as work:
        await work.outbox.add(audit_line(origin, SYSTEM_TENANT, "restore", "restore", action, details=details))
