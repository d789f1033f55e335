"""One look at what a restore means, across all stores. Changes nothing.

Parts, each of which may fail for want of its servers and is then named, and the others go on:

1. the audit log is read, and what it tells of each document is held against the document's row;
2. the log itself: where it breaks, which entries are missing, and which of these can be made again;
3. rows against object store, GED, extended metadata and Kafka, as ``dpj reconcile`` does;
4. topics and schemas.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import UUID

from domain.audit_chain import ChainBreak
from domain.errors import DatabaseUnavailable, DPJError, Permanent
from domain.reconciliation import DiscrepancyKind
from domain.restores import STORED, Difference, DocumentHistory, OpenRestore, RestoredRow, differences
from operations.audit.checkpoints import NOTHING_SIGNED, SignedHistory
from operations.audit.verify import AuditReader
from operations.external_sort import ExternalSort
from operations.restore.history import ReadLog, histories, read_histories
from operations.restore.refill import ReadLines, TenantRefill
from processors.reconcile.run import ReconcileReport

#: Items that a report names one by one; all are counted, and ``on_item`` gets every one.
LISTED: Final = 1_000
BATCH: Final = 500

#: What reconciling finds, as a restore has it.
OF_RECONCILING: Final[Mapping[DiscrepancyKind, Difference]] = {
    DiscrepancyKind.UNKNOWN_OBJECT: Difference.OBJECT_WITHOUT_ROW,
    DiscrepancyKind.CONTENT_MISSING: Difference.CONTENT_MISSING,
    DiscrepancyKind.CONTENT_DIFFERS: Difference.CONTENT_MISSING,
    DiscrepancyKind.GED_MISSING: Difference.GED_MISSING,
    DiscrepancyKind.LEFT_COPY: Difference.ERASED_LEFT,
    DiscrepancyKind.LEFT_METADATA: Difference.ERASED_LEFT,
    DiscrepancyKind.ERASED_OBJECT: Difference.ERASED_LEFT,
    DiscrepancyKind.METADATA_MISSING: Difference.METADATA_MISSING,
    DiscrepancyKind.EVENT_LOST: Difference.EVENT_LOST,
}


#: What a part of a look finds; where it can't look, nobody knows of these.
FOUND_BY: Final[Mapping[str, frozenset[Difference]]] = {
    "schemas": frozenset({Difference.SCHEMA_MISSING}),
    "topics": frozenset({Difference.TOPIC_MISSING}),
    "audit log": frozenset(
        {
            Difference.ERASURE_UNDONE,
            Difference.ERASURE_WITHOUT_ROW,
            Difference.DOCUMENT_LOST,
            Difference.ARCHIVED_WITHOUT_ROW,
            Difference.HOLD_LOST,
            Difference.RETENTION_LOST,
            Difference.DECISION_LOST,
            Difference.MAIL_SENT,
            Difference.CHAIN_BEHIND,
            Difference.LOG_BROKEN,
        }
    ),
    "log entries": frozenset({Difference.ENTRY_MISSING}),
}


class DocumentRows(Protocol):
    async def rows(self, ids: Sequence[UUID]) -> Mapping[UUID, RestoredRow]:
        """Those of ``ids`` that are there. Raises DatabaseUnavailable."""
        ...


@dataclass(slots=True)
class RestoreReport:
    """``count`` by kind, and the first of each as ``items``. ``failed`` names the parts that could not look, with a code."""

    open: Sequence[OpenRestore] = ()
    documents: int = 0
    logs: Sequence[ReadLog] = ()
    count: Counter[Difference] = field(default_factory=Counter)
    items: dict[Difference, list[dict[str, Any]]] = field(default_factory=dict)
    refill: Sequence[TenantRefill] = ()
    #: Tenants whose log lacks entries that it was given.
    short: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, kind: Difference, item: dict[str, Any], number: int = 1) -> None:
        self.count[kind] += number
        listed = self.items.setdefault(kind, [])
        if len(listed) < LISTED:
            listed.append(item)

    @property
    def is_clean(self) -> bool:
        """All was looked at, and nothing is to be done. That mails went out is nothing to be done."""
        return not self.failed and not +Counter({k: n for k, n in self.count.items() if k is not Difference.MAIL_SENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreSources:
    """What the log tells and the database has. ``signed`` gives each tenant's checkpoints, ``lines`` Kafka's audit lines, ``handed_over``
    the last entry that each tenant's log has by the database's word. ``folder`` is for sorted runs."""

    log: AuditReader
    rows: DocumentRows
    handed_over: Callable[[], Awaitable[Mapping[str, int]]]
    signed: Callable[[], Awaitable[Mapping[str, SignedHistory]]]
    lines: ReadLines
    folder: Path


async def read_all(
    sources: RestoreSources,
    sorting: ExternalSort,
    report: RestoreReport,
    on_entry: Callable[[int], None] = lambda _count: None,
) -> None:
    """Log and Kafka, into ``sorting``, and what is wrong with the log itself into the report. A Kafka that is away is named.

    Raises AuditStoreUnavailable, DatabaseUnavailable, CheckpointStoreUnavailable or KeyringUnavailable.
    """
    signed = await sources.signed()
    # Before the log is read: the database is never ahead of what it handed over.
    handed_over = await sources.handed_over()
    tenants = sorted({*await sources.log.tenants(), *signed, *handed_over})
    report.logs = await read_histories(sorting, sources.log, None, signed, tenants, on_entry)
    try:
        await read_histories(sorting, sources.log, sources.lines, {}, ())
    except DatabaseUnavailable:
        raise
    except DPJError as error:
        report.failed["audit lines in Kafka"] = error.code
    now = await sources.handed_over()
    for one in report.logs:
        last = now.get(one.tenant, 0)
        if one.fault is not None and one.fault.reason is not ChainBreak.MISSING:
            report.add(
                Difference.LOG_BROKEN, {"tenant": one.tenant, "seq": one.fault.seq, "reason": one.fault.reason.value}
            )
        elif one.fault is None and one.entries > last:
            report.add(Difference.CHAIN_BEHIND, {"tenant": one.tenant, "from": last, "to": one.entries})
        if one.entries < signed.get(one.tenant, NOTHING_SIGNED).size and last < signed[one.tenant].size:
            report.add(
                Difference.LOG_BROKEN, {"tenant": one.tenant, "seq": one.entries + 1, "reason": "SHORTER_THAN_SIGNED"}
            )
        if one.entries < handed_over.get(one.tenant, 0):
            report.short.append(one.tenant)


async def differing(
    sources: RestoreSources, sorting: ExternalSort, report: RestoreReport | None = None
) -> AsyncIterator[tuple[DocumentHistory, RestoredRow | None, Sequence[Difference]]]:
    """Documents whose rows are not what was recorded, and how. Raises DatabaseUnavailable."""
    async for history, row in _with_rows(histories(sorting), sources.rows):
        if report is not None:
            report.documents += 1
        if kinds := differences(history, row):
            yield history, row, kinds


async def _with_rows(
    found: Iterator[DocumentHistory], rows: DocumentRows
) -> AsyncIterator[tuple[DocumentHistory, RestoredRow | None]]:
    while batch := list(islice(found, BATCH)):
        known = await rows.rows([history.document_id for history in batch])
        for history in batch:
            yield history, known.get(history.document_id)


def item_of(history: DocumentHistory, row: RestoredRow | None) -> dict[str, Any]:
    """A document for a report: what a portal has to be told of it."""
    stored = history.last(STORED) or history.acts[0]
    last = history.acts[-1]
    return {
        "document_id": str(history.document_id),
        "tenant": history.tenant,
        "deposited_at": stored.at.isoformat(),
        "sha256": history.sha256,
        "size": stored.number("size"),
        "type": stored.text("type"),
        "last_act": last.action,
        "last_at": last.at.isoformat(),
        "row": row and row.status.value,
        "in_log": bool(last.seq),
    }


#: Gets every difference of a document, listed or not.
OnItem = Callable[[Difference, dict[str, Any]], None]


async def compare_documents(
    sources: RestoreSources, sorting: ExternalSort, report: RestoreReport, on_item: OnItem = lambda _kind, _item: None
) -> None:
    """Put what differs into the report."""
    async for history, row, kinds in differing(sources, sorting, report):
        item = item_of(history, row)
        for kind in kinds:
            report.add(kind, item)
            on_item(kind, item)
        if Difference.ERASURE_UNDONE not in kinds:
            for template in history.mails_after(row):
                report.add(Difference.MAIL_SENT, {"document_id": item["document_id"], "template": template})


def add_reconciled(report: RestoreReport, found: ReconcileReport) -> None:
    """What a run of reconciling found, as a restore has it."""
    for finding in found.findings:
        kind = OF_RECONCILING.get(finding.fault)
        if kind is not None and not finding.repaired:
            report.add(
                kind, {"document_id": finding.document_id and str(finding.document_id), "place": finding.place}, 0
            )
    for fault, count in found.found.items():
        if (kind := OF_RECONCILING.get(fault)) is not None:
            report.count[kind] += count - found.repaired[fault]
    report.failed |= {f"reconcile {name}": code for name, code in found.failed_parts.items()}


def add_refill(report: RestoreReport, found: Sequence[TenantRefill]) -> None:
    """Entries that the log lacks."""
    report.refill = found
    for one in found:
        item = {"tenant": one.tenant, "missing": one.missing, "found": one.found, "lost": one.lost}
        report.add(Difference.ENTRY_MISSING, item, one.missing)


async def look(report: RestoreReport, name: str, part: Callable[[], Awaitable[None]]) -> None:
    """Run a part; what keeps it from looking is named in the report. Raises DatabaseUnavailable: without the database nothing is known."""
    try:
        await part()
    except DatabaseUnavailable:
        raise
    except DPJError as error:
        report.failed[name] = error.detail if isinstance(error, Permanent) and error.detail else error.code
