"""An export for whoever may not see production: a tenant's documents, their timelines and audit entries as JSON lines, anonymised.

``documents.jsonl``, ``timeline.jsonl``, ``audit.jsonl``; fields are those of ``domain.anonymising.Anonymiser``. Lines stand in the order of their
pseudonyms, those of one document or entity together in their own order: an order that came from production would be a way back to it.
``manifest.json`` comes last and whole: a folder without it is of an export that did not end. It is read page by page and sorted in
files, in memory that does not grow with what there is; live traffic goes on beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import UUID, uuid4

from domain.anonymising import FORMAT, Anonymiser, DocumentRow, Line, Pseudonyms, Sizes, TimelineRow, Times
from domain.audit_chain import ChainHead
from domain.errors import AuditConflict
from operations.audit.export import EntryReader, UnflushedEntryReader, entries_of
from operations.external_sort import RUN_BYTES, ExternalSort
from processors.documents.transitions import Origin, audit_line
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.work import HasOutbox

PAGE: Final = 500
DOCUMENTS: Final = "documents.jsonl"
TIMELINE: Final = "timeline.jsonl"
AUDIT: Final = "audit.jsonl"
MANIFEST: Final = "manifest.json"
#: Times are shifted by at least one of these and by less than the other, in days.
SHIFT_DAYS: Final = (30, 730)


class ExportRows(Protocol):
    """Raises DatabaseUnavailable."""

    async def count(self, tenant: str) -> int:
        """How many documents there are now."""
        ...

    async def types(self) -> frozenset[str]: ...

    async def documents(self, tenant: str, after: UUID, limit: int) -> Sequence[DocumentRow]:
        """By id, from just after ``after``."""
        ...

    async def timeline(
        self, documents: Sequence[UUID], after: tuple[UUID, int] | None, limit: int
    ) -> Sequence[TimelineRow]:
        """Of these documents, by (document, rank), from just after ``after``."""
        ...


class UnflushedHeads(UnflushedEntryReader, Protocol):
    async def heads(self) -> Sequence[ChainHead]: ...


@dataclass(slots=True)
class ExportProgress:
    """How many documents and audit entries were read, of how many there were at the start."""

    documents: int = 0
    entries: int = 0
    of_documents: int = 0
    of_entries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """``role`` and ``reason`` go into the audit log with who asks."""

    tenant: str
    folder: Path
    role: str
    reason: str
    times: Times = Times.DAY
    sizes: Sizes = Sizes.EXACT


@dataclass(frozen=True, slots=True)
class ExportResult:
    """``lines`` by file. ``id`` names the export in its manifest and in the audit log, and nothing else."""

    id: UUID
    folder: str
    lines: Mapping[str, int]


@dataclass(slots=True)
class _File:
    """A file as it is written."""

    file: Any
    digest: Any = field(default_factory=hashlib.sha256)
    lines: int = 0
    size: int = 0

    def write(self, line: bytes) -> None:
        self.file.write(line)
        self.digest.update(line)
        self.lines += 1
        self.size += len(line)

    def close(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()


class AnonymisedExport:
    """Acts of the operator whose pseudonym is ``actor``."""

    def __init__(
        self,
        rows: ExportRows,
        reader: EntryReader,
        pending: UnflushedHeads,
        database: Transactions[HasOutbox],
        clock: Clock,
        actor: str,
        *,
        run_bytes: int = RUN_BYTES,
    ) -> None:
        self._rows = rows
        self._reader = reader
        self._pending = pending
        self._database = database
        self._clock = clock
        self._actor = actor
        self._run_bytes = run_bytes

    async def run(
        self,
        wanted: ExportRequest,
        pseudonyms: Pseudonyms,
        on_progress: Callable[[ExportProgress], None] = lambda _progress: None,
    ) -> ExportResult:
        """Write the files into ``wanted.folder``, which is made. ``pseudonyms`` are this export's own; have them forgotten after it.

        Raises FileExistsError if the folder holds anything, DatabaseUnavailable, AuditStoreUnavailable, or AuditConflict at an entry that
        can't be read.
        """
        folder = _made(wanted.folder)
        export_id, conversation = uuid4(), uuid4()
        kinds = {"times": wanted.times.value, "sizes": wanted.sizes.value}
        await self._put_on_record(wanted, export_id, conversation, "export.anonymised", kinds)
        heads = {head.tenant: head.seq for head in await self._pending.heads()}
        progress = ExportProgress(
            of_documents=await self._rows.count(wanted.tenant), of_entries=heads.get(wanted.tenant, 0)
        )
        anonymiser = Anonymiser(pseudonyms, await self._rows.types(), wanted.times, wanted.sizes, _shift())
        files: dict[str, _File] = {}
        with self._sorted(folder) as documents, self._sorted(folder) as timeline:
            async with aclosing(self._document_rows(wanted.tenant, progress, on_progress)) as rows:
                async for row, position in rows:
                    if isinstance(row, DocumentRow):
                        _add(documents, anonymiser.order(str(row.id)), anonymiser.document(row))
                    else:
                        key = f"{anonymiser.order(str(row.document_id))}{position:010}"
                        _add(timeline, key, anonymiser.timeline(row, position))
            files[DOCUMENTS] = _written(folder / DOCUMENTS, documents)
            files[TIMELINE] = _written(folder / TIMELINE, timeline)
        with self._sorted(folder) as audit:
            await self._audit(wanted.tenant, anonymiser, audit, progress, on_progress)
            files[AUDIT] = _written(folder / AUDIT, audit)
        _write_manifest(folder, _manifest(export_id, self._clock.now(), wanted, files))
        lines = {name: file.lines for name, file in files.items()}
        await self._put_on_record(wanted, export_id, conversation, "export.anonymised.completed", lines)
        return ExportResult(export_id, str(folder), lines)

    def _sorted(self, folder: Path) -> ExternalSort:
        return ExternalSort(folder, run_bytes=self._run_bytes)

    async def _document_rows(
        self, tenant: str, progress: ExportProgress, on_progress: Callable[[ExportProgress], None]
    ) -> AsyncGenerator[tuple[DocumentRow | TimelineRow, int], None]:
        """Documents, and timeline entries with their numbers."""
        after = UUID(int=0)
        while page := await self._rows.documents(tenant, after, PAGE):
            for document in page:
                yield document, 0
            position, before, last = 0, UUID(int=0), None
            while entries := await self._rows.timeline([document.id for document in page], last, PAGE):
                for entry in entries:
                    position = position + 1 if entry.document_id == before else 1
                    before = entry.document_id
                    yield entry, position
                last = (entries[-1].document_id, entries[-1].rank)
            after = page[-1].id
            progress.documents += len(page)
            on_progress(progress)

    async def _audit(
        self,
        tenant: str,
        anonymiser: Anonymiser,
        audit: ExternalSort,
        progress: ExportProgress,
        on_progress: Callable[[ExportProgress], None],
    ) -> None:
        async with aclosing(entries_of(self._reader, self._pending, tenant, progress.of_entries)) as entries:
            async for stored in entries:
                try:
                    fields = stored.entry.fields()
                    key = f"{anonymiser.order(str(fields['entity_id']))}{stored.entry.seq:019}"
                    _add(audit, key, anonymiser.audit(fields))
                except (ValueError, KeyError, TypeError):
                    raise AuditConflict(f"Entry {stored.entry.seq} is not what was written.") from None
                progress.entries += 1
                if progress.entries % PAGE == 0:
                    on_progress(progress)
        on_progress(progress)

    async def _put_on_record(
        self, wanted: ExportRequest, export_id: UUID, conversation: UUID, action: str, details: Mapping[str, Any]
    ) -> None:
        origin = Origin(actor=self._actor, at=self._clock.now(), correlation_id=conversation)
        all_details = {"reason": wanted.reason, "role": wanted.role, **details}
        async with self._database.transaction() as work:
            await work.outbox.add(
                audit_line(origin, wanted.tenant, "export", str(export_id), action, details=all_details)
            )


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(17, "The folder is not empty", str(folder))
    return folder


def _shift() -> timedelta:
    first, last = SHIFT_DAYS
    return timedelta(seconds=first * 86_400 + secrets.randbelow((last - first) * 86_400))


def _add(lines: ExternalSort, key: str, line: Line) -> None:
    lines.add(key, json.dumps(line, sort_keys=True, separators=(",", ":")).encode())


def _written(path: Path, lines: ExternalSort) -> _File:
    with ExitStack() as opened:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        file = _File(os.fdopen(descriptor, "wb"))
        opened.callback(file.close)
        for line in lines:
            file.write(line)
    return file


def _manifest(export_id: UUID, now: datetime, wanted: ExportRequest, files: Mapping[str, _File]) -> dict[str, Any]:
    return {
        "v": FORMAT,
        "type": "dpj-anonymised-export",
        "export": str(export_id),
        "made_on": now.astimezone(UTC).date().isoformat(),
        "times": wanted.times.value,
        "sizes": wanted.sizes.value,
        "files": {
            name: {"lines": file.lines, "bytes": file.size, "sha256": file.digest.hexdigest()}
            for name, file in files.items()
        },
    }


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    partial = folder / f"{MANIFEST}.part"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(manifest, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.rename(folder / MANIFEST)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
