"""Comparing the object store with the rows: both are walked in the order of document ids, a digit of them at a time
and page by page; so memory does not grow with either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

from domain.errors import IntegrityMismatch, ObjectMissing
from domain.lifecycle import Status
from domain.objects import StoredObject
from domain.reconciliation import (
    DiscrepancyKind,
    ExpectedObject,
    InventoryRow,
    ReconcileFinding,
    document_of_key,
    prefix_of,
)
from processors.reconcile.run import ReconcileRun
from processors.resilience.closing_streams import closing_stream

DIGITS: Final = 16
PAGE: Final = 500
#: Suspects kept before they are looked at again.
BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class _Surplus:
    """An object that no row names."""

    document_id: UUID | None
    stored: StoredObject


@dataclass(frozen=True, slots=True)
class _Missing:
    """A row's object that was not listed, or differs from what the row says."""

    document_id: UUID
    key: str


@dataclass(frozen=True, slots=True)
class _Abandoned:
    """An upload that was given up, and may have left a put under way."""

    row: InventoryRow


class _Rows:
    """The rows of one prefix, in order, a page at a time."""

    def __init__(self, run: ReconcileRun, digit: int) -> None:
        self._run = run
        self._digit = digit
        self._page: Sequence[InventoryRow] = ()
        self._next = 0
        self._after: UUID | None = None
        self._ended = False

    async def peek(self) -> InventoryRow | None:
        if self._next == len(self._page) and not self._ended:
            self._page = await self._run.inventory.page(self._digit, self._after, PAGE)
            self._next = 0
            self._ended = len(self._page) < PAGE
            if self._page:
                self._after = self._page[-1].document_id
        return self._page[self._next] if self._next < len(self._page) else None

    def take(self) -> None:
        self._next += 1
        self._run.report.rows += 1


class _Walk:
    """The merge of one prefix's objects and rows."""

    def __init__(self, run: ReconcileRun, digit: int) -> None:
        self._run = run
        self._prefix = prefix_of(digit)
        self._rows = _Rows(run, digit)
        self._row: InventoryRow | None = None
        self._unseen: dict[str, ExpectedObject] = {}
        self._to_recheck: list[_Surplus | _Missing | _Abandoned] = []

    async def walk(self) -> None:
        async with closing_stream(self._run.objects.list(self._prefix)) as listing:
            async for stored in listing:
                self._run.report.objects += 1
                document_id = document_of_key(stored.key)
                if document_id is None:
                    self._to_recheck.append(_Surplus(None, stored))
                else:
                    await self._advance(document_id)
                    self._compare(document_id, stored)
                if len(self._to_recheck) >= BATCH:
                    await self._recheck()
        await self._advance(None)
        await self._recheck()

    async def _advance(self, to: UUID | None) -> None:
        """Make the row of ``to`` the current one, if there is one; all rows before it have been seen whole."""
        if self._row is not None and self._row.document_id == to:
            return
        self._close_row()
        while (row := await self._rows.peek()) is not None and (to is None or row.document_id <= to):
            self._rows.take()
            self._row, self._unseen = row, row.expected
            if row.status is Status.ABANDONED and self._run.is_recent(row.changed_at):
                self._to_recheck.append(_Abandoned(row))
            if row.document_id == to:
                return
            self._close_row()
            if len(self._to_recheck) >= BATCH:
                await self._recheck()

    def _close_row(self) -> None:
        if self._row is not None:
            self._to_recheck += [_Missing(self._row.document_id, key) for key in self._unseen]
        self._row, self._unseen = None, {}

    def _compare(self, document_id: UUID, stored: StoredObject) -> None:
        if self._row is None or not self._row.may_have(stored.key):
            self._to_recheck.append(_Surplus(document_id, stored))
            return
        kept = self._unseen.get(stored.key)
        if kept is None or (kept.size, kept.etag) == (stored.size, stored.etag):
            self._unseen.pop(stored.key, None)  # what differs stays, and is looked at again

    async def _recheck(self) -> None:
        for candidate in self._to_recheck:
            match candidate:
                case _Missing():
                    await _judge_missing(self._run, candidate)
                case _Surplus():
                    await _judge_surplus(self._run, candidate)
                case _Abandoned():
                    await _judge_abandoned(self._run, candidate)
        self._to_recheck.clear()


async def check_stored_objects(run: ReconcileRun) -> None:
    """Objects without rows and rows without objects."""
    for digit in range(DIGITS):
        await run.held.check()
        run.progress("objects", digit, DIGITS)
        await _Walk(run, digit).walk()
    run.progress("objects", DIGITS, DIGITS)


async def _judge_surplus(run: ReconcileRun, candidate: _Surplus) -> None:
    stored = candidate.stored
    if not run.is_old(stored.modified_at):
        return
    if candidate.document_id is None:
        await run.settle(_surplus(DiscrepancyKind.FOREIGN_OBJECT, candidate, None))
        return
    row = await run.inventory.get(candidate.document_id)
    if row is not None and row.may_have(stored.key):
        return
    try:
        now = await run.objects.stat(stored.key)
    except ObjectMissing:
        return
    except IntegrityMismatch:
        now = stored
    if not run.is_old(now.modified_at):
        return
    fault = DiscrepancyKind.UNKNOWN_OBJECT if row is None else DiscrepancyKind.LEFT_OBJECT
    await run.settle(_surplus(fault, candidate, row), partial(_remove, run, candidate))


async def _remove(run: ReconcileRun, candidate: _Surplus) -> None:
    """The last look, right before: a row that names the object by now keeps it."""
    row = None if candidate.document_id is None else await run.inventory.get(candidate.document_id)
    if row is None or not row.may_have(candidate.stored.key):
        await run.remove(candidate.stored.key)


def _surplus(fault: DiscrepancyKind, candidate: _Surplus, row: InventoryRow | None) -> ReconcileFinding:
    return ReconcileFinding(
        fault=fault,
        document_id=candidate.document_id,
        tenant=row.tenant if row else None,
        place=candidate.stored.key,
        details={"size": str(candidate.stored.size), **({"status": row.status.value} if row else {})},
    )


async def _judge_missing(run: ReconcileRun, candidate: _Missing) -> None:
    row = await run.inventory.get(candidate.document_id)
    kept = row.expected.get(candidate.key) if row else None
    if row is None or kept is None:
        return
    is_content = kept.key == row.object_key
    try:
        found = await run.objects.stat(kept.key)
        if (found.size, found.etag) == (kept.size, kept.etag):
            return
        fault = DiscrepancyKind.CONTENT_DIFFERS
    except ObjectMissing:
        fault = DiscrepancyKind.CONTENT_MISSING
    except IntegrityMismatch:
        fault = DiscrepancyKind.CONTENT_DIFFERS
    # Once more the row: an erasure or a new thumbnail may have taken the object away while we looked.
    now = await run.inventory.get(candidate.document_id)
    if now is None or now.expected.get(candidate.key) != kept:
        return
    finding = ReconcileFinding(
        fault=fault if is_content else DiscrepancyKind.THUMBNAIL_MISSING,
        document_id=row.document_id,
        tenant=row.tenant,
        place=kept.key,
        details={"status": row.status.value},
    )
    await run.settle(finding)


async def _judge_abandoned(run: ReconcileRun, candidate: _Abandoned) -> None:
    """Puts begun under the key of an upload that was given up: a store may tell of them by their exact key alone."""
    async for put in run.objects.unfinished(candidate.row.object_key):
        finding = ReconcileFinding(
            fault=DiscrepancyKind.UNFINISHED_PUT,
            document_id=candidate.row.document_id,
            tenant=candidate.row.tenant,
            place=candidate.row.object_key,
        )
        await run.settle(finding, partial(run.objects.abort, put))
