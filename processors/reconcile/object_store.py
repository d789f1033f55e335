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
from domain.reconciliation import Fault, Finding, KeptObject, KeptRow, document_of_key, prefix_of
from processors.reconcile.run import Run
from processors.resilience.closing_streams import closed

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
class _Lacking:
    """A row's object that was not listed, or differs from what the row says."""

    document_id: UUID
    key: str


@dataclass(frozen=True, slots=True)
class _Abandoned:
    """An upload that was given up, and may have left a put under way."""

    row: KeptRow


class _Rows:
    """The rows of one prefix, in order, a page at a time."""

    def __init__(self, run: Run, digit: int) -> None:
        self._run = run
        self._digit = digit
        self._page: Sequence[KeptRow] = ()
        self._next = 0
        self._after: UUID | None = None
        self._ended = False

    async def peek(self) -> KeptRow | None:
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

    def __init__(self, run: Run, digit: int) -> None:
        self._run = run
        self._prefix = prefix_of(digit)
        self._rows = _Rows(run, digit)
        self._row: KeptRow | None = None
        self._unseen: dict[str, KeptObject] = {}
        self._suspects: list[_Surplus | _Lacking | _Abandoned] = []

    async def walk(self) -> None:
        async with closed(self._run.objects.list(self._prefix)) as listing:
            async for stored in listing:
                self._run.report.objects += 1
                document_id = document_of_key(stored.key)
                if document_id is None:
                    self._suspects.append(_Surplus(None, stored))
                else:
                    await self._advance(document_id)
                    self._compare(document_id, stored)
                if len(self._suspects) >= BATCH:
                    await self._look_again()
        await self._advance(None)
        await self._look_again()

    async def _advance(self, to: UUID | None) -> None:
        """Make the row of ``to`` the current one, if there is one; all rows before it have been seen whole."""
        if self._row is not None and self._row.document_id == to:
            return
        self._leave()
        while (row := await self._rows.peek()) is not None and (to is None or row.document_id <= to):
            self._rows.take()
            self._row, self._unseen = row, row.expected
            if row.status is Status.ABANDONED and self._run.is_recent(row.changed_at):
                self._suspects.append(_Abandoned(row))
            if row.document_id == to:
                return
            self._leave()
            if len(self._suspects) >= BATCH:
                await self._look_again()

    def _leave(self) -> None:
        if self._row is not None:
            self._suspects += [_Lacking(self._row.document_id, key) for key in self._unseen]
        self._row, self._unseen = None, {}

    def _compare(self, document_id: UUID, stored: StoredObject) -> None:
        if self._row is None or not self._row.may_have(stored.key):
            self._suspects.append(_Surplus(document_id, stored))
            return
        kept = self._unseen.get(stored.key)
        if kept is None or (kept.size, kept.etag) == (stored.size, stored.etag):
            self._unseen.pop(stored.key, None)  # what differs stays, and is looked at again

    async def _look_again(self) -> None:
        for suspect in self._suspects:
            match suspect:
                case _Lacking():
                    await _judge_lacking(self._run, suspect)
                case _Surplus():
                    await _judge_surplus(self._run, suspect)
                case _Abandoned():
                    await _judge_abandoned(self._run, suspect)
        self._suspects.clear()


async def stored_objects(run: Run) -> None:
    """Objects without rows and rows without objects."""
    for digit in range(DIGITS):
        await run.held.check()
        run.progress("objects", digit, DIGITS)
        await _Walk(run, digit).walk()
    run.progress("objects", DIGITS, DIGITS)


async def _judge_surplus(run: Run, suspect: _Surplus) -> None:
    stored = suspect.stored
    if not run.is_old(stored.modified_at):
        return
    if suspect.document_id is None:
        await run.settle(_surplus(Fault.FOREIGN_OBJECT, suspect, None))
        return
    row = await run.inventory.look(suspect.document_id)
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
    fault = Fault.UNKNOWN_OBJECT if row is None else Fault.LEFT_OBJECT
    await run.settle(_surplus(fault, suspect, row), partial(_remove, run, suspect))


async def _remove(run: Run, suspect: _Surplus) -> None:
    """The last look, right before: a row that names the object by now keeps it."""
    row = None if suspect.document_id is None else await run.inventory.look(suspect.document_id)
    if row is None or not row.may_have(suspect.stored.key):
        await run.remove(suspect.stored.key)


def _surplus(fault: Fault, suspect: _Surplus, row: KeptRow | None) -> Finding:
    return Finding(
        fault=fault,
        document_id=suspect.document_id,
        tenant=row.tenant if row else None,
        place=suspect.stored.key,
        details={"size": str(suspect.stored.size), **({"status": row.status.value} if row else {})},
    )


async def _judge_lacking(run: Run, suspect: _Lacking) -> None:
    row = await run.inventory.look(suspect.document_id)
    kept = row.expected.get(suspect.key) if row else None
    if row is None or kept is None:
        return
    is_content = kept.key == row.object_key
    try:
        found = await run.objects.stat(kept.key)
        if (found.size, found.etag) == (kept.size, kept.etag):
            return
        fault = Fault.CONTENT_DIFFERS
    except ObjectMissing:
        fault = Fault.CONTENT_MISSING
    except IntegrityMismatch:
        fault = Fault.CONTENT_DIFFERS
    # Once more the row: an erasure or a new thumbnail may have taken the object away while we looked.
    now = await run.inventory.look(suspect.document_id)
    if now is None or now.expected.get(suspect.key) != kept:
        return
    finding = Finding(
        fault=fault if is_content else Fault.THUMBNAIL_MISSING,
        document_id=row.document_id,
        tenant=row.tenant,
        place=kept.key,
        details={"status": row.status.value},
    )
    await run.settle(finding)


async def _judge_abandoned(run: Run, suspect: _Abandoned) -> None:
    """Puts begun under the key of an upload that was given up: a store may tell of them by their exact key alone."""
    async for put in run.objects.unfinished(suspect.row.object_key):
        finding = Finding(
            fault=Fault.UNFINISHED_PUT,
            document_id=suspect.row.document_id,
            tenant=suspect.row.tenant,
            place=suspect.row.object_key,
        )
        await run.settle(finding, partial(run.objects.abort, put))
