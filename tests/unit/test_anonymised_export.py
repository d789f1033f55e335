"""An anonymised export over memory: its files, its order, its manifest, its audit lines, and what becomes of one that is cut off."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from crypto.export_pseudonyms import ExportPseudonyms
from domain.anonymising import DocumentRow, Sizes, TimelineRow, Times
from domain.audit_chain import head_after
from domain.errors import AuditConflict, AuditStoreUnavailable
from operations.export.anonymised_export import PAGE, AnonymisedExport, ExportProgress, ExportRequest, ExportResult
from tests.support.audit_lines import MemoryAuditStore, MemoryUnflushedEntries, a_line, chain_of
from tests.support.memory import MemoryDatabase
from tests.unit.test_anonymising import a_row

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


class MemoryExportRows:
    """Rows, page by page."""

    def __init__(self, documents: Sequence[DocumentRow], timeline: Sequence[TimelineRow]) -> None:
        self._documents = sorted(documents, key=lambda row: row.id)
        self._timeline = sorted(timeline, key=lambda row: (row.document_id, row.rank))

    async def count(self, tenant: str) -> int:
        return len(self._documents)

    async def types(self) -> frozenset[str]:
        return frozenset({"CNI"})

    async def documents(self, tenant: str, after: UUID, limit: int) -> Sequence[DocumentRow]:
        return [row for row in self._documents if row.id > after][:limit]

    async def timeline(
        self, documents: Sequence[UUID], after: tuple[UUID, int] | None, limit: int
    ) -> Sequence[TimelineRow]:
        found = [row for row in self._timeline if row.document_id in documents]
        return [row for row in found if after is None or (row.document_id, row.rank) > after][:limit]


class Bench:
    """``count`` documents with three entries each in timeline and audit log, the last ten entries of that still waiting."""

    def __init__(self, count: int = 40) -> None:
        self.documents = [a_row(client=f"C-{number}") for number in range(count)]
        self.timeline = [
            TimelineRow(document_id=row.id, rank=number, type=kind, actor=row.depositor, at=AT, details={})
            for row in self.documents
            for number, kind in enumerate(("STORED", "VERIFIED", "ARCHIVED"), 1)
        ]
        lines = [
            a_line(entity_id=str(row.id), action=f"document.{kind}", sequence=number)
            for number, kind in enumerate(("stored", "verified", "archived"), 1)
            for row in self.documents
        ]
        chain = chain_of(lines)
        self.store = MemoryAuditStore()
        self.chain = chain
        self.pending = MemoryUnflushedEntries(chain[-10:], {"acme": head_after(chain[-1])} if chain else {})
        self.database = MemoryDatabase()

    async def run(self, folder: Path, tell: Any = lambda _: None, **wanted: Any) -> ExportResult:
        if self.chain[:-10] and not self.store.kept:
            await self.store.add(self.chain[:-10])
        rows = MemoryExportRows(self.documents, self.timeline)
        export = AnonymisedExport(
            rows, self.store, self.pending, self.database, self.database.clock, "u-operator", run_bytes=5_000
        )
        with ExportPseudonyms() as pseudonyms:
            asked = ExportRequest(tenant="acme", folder=folder, role="operator", reason="TEST-1", **wanted)
            return await export.run(asked, pseudonyms, tell)


def lines_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def modes_of(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


async def test_all_of_it_is_there_and_belongs_together(tmp_path: Path) -> None:
    bench = Bench()
    written = await bench.run(tmp_path / "out")
    assert written.lines == {"documents.jsonl": 40, "timeline.jsonl": 120, "audit.jsonl": 120}
    documents, timeline, audit = (lines_of(tmp_path / "out", name) for name in written.lines)
    known = {line["document"] for line in documents}
    assert len(known) == 40
    for number, line in enumerate(timeline):
        assert (line["position"], line["type"]) == (number % 3 + 1, ("STORED", "VERIFIED", "ARCHIVED")[number % 3])
        assert line["document"] == timeline[number - number % 3]["document"]
    assert {line["document"] for line in timeline} == known
    assert [line["event_number"] for line in audit] == [1, 2, 3] * 40
    assert {line["entity"] for line in audit} == known


async def test_two_exports_have_nothing_in_common_by_which_they_could_be_joined(tmp_path: Path) -> None:
    bench = Bench()
    for name in ("one", "two"):
        await bench.run(tmp_path / name)
    one, two = (lines_of(tmp_path / name, "documents.jsonl") for name in ("one", "two"))
    for field in ("document", "dossier", "client", "depositor"):
        assert not {line[field] for line in one} & {line[field] for line in two}
    order = [
        [line["document"] for line in lines_of(tmp_path / "one", name)]
        for name in ("documents.jsonl", "timeline.jsonl")
    ]
    assert order[0] == list(dict.fromkeys(order[1]))


async def test_the_order_is_not_that_of_production(tmp_path: Path) -> None:
    bench = Bench()
    bench.documents = [
        replace(row, size=number) for number, row in enumerate(sorted(bench.documents, key=lambda r: r.id))
    ]
    found = []
    for name in ("one", "two"):
        await bench.run(tmp_path / name)
        found.append([line["size"] for line in lines_of(tmp_path / name, "documents.jsonl")])
    assert sorted(found[0]) == sorted(found[1]) == list(range(40))
    assert found[0] != found[1]
    assert list(range(40)) not in found


async def test_the_manifest_names_every_file_and_nothing_of_production(tmp_path: Path) -> None:
    written = await Bench().run(tmp_path, times=Times.SHIFTED, sizes=Sizes.ROUNDED)
    text = (tmp_path / "manifest.json").read_text()
    manifest = json.loads(text)
    assert (manifest["export"], manifest["times"], manifest["sizes"]) == (str(written.id), "shifted", "rounded")
    for name, said in manifest["files"].items():
        content = (tmp_path / name).read_bytes()
        assert said == {
            "lines": content.count(b"\n"),
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    for secret in ("acme", "TEST-1", "u-operator"):
        assert secret not in text
    assert modes_of(tmp_path) == dict.fromkeys([*written.lines, "manifest.json"], 0o600)


async def test_the_act_is_on_record_before_and_after_it(tmp_path: Path) -> None:
    bench = Bench(2)
    written = await bench.run(tmp_path)
    begun, ended = bench.database.audited()
    assert [begun.action, ended.action] == ["export.anonymised", "export.anonymised.completed"]
    assert {line.entity_id for line in (begun, ended)} == {str(written.id)}
    assert {(line.tenant, line.actor, line.entity_type) for line in (begun, ended)} == {
        ("acme", "u-operator", "export")
    }
    assert json.loads(begun.details) == {"reason": "TEST-1", "role": "operator", "times": "day", "sizes": "exact"}
    assert json.loads(ended.details)["documents.jsonl"] == 2


async def test_one_that_is_cut_off_has_no_manifest_and_no_other_goes_into_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench()

    async def away(*_: object) -> Any:
        raise AuditStoreUnavailable

    monkeypatch.setattr(bench.pending, "first", away)
    with pytest.raises(AuditStoreUnavailable):
        await bench.run(tmp_path)
    assert not (tmp_path / "manifest.json").exists()
    assert [line.action for line in bench.database.audited()] == ["export.anonymised"]
    with pytest.raises(FileExistsError):
        await Bench().run(tmp_path)


async def test_nothing_at_all_is_an_export_too(tmp_path: Path) -> None:
    written = await Bench(0).run(tmp_path)
    assert set(written.lines.values()) == {0}


async def test_an_entry_that_is_none_ends_it(tmp_path: Path) -> None:
    bench = Bench()
    bench.chain[3] = replace(bench.chain[3], body=b"[]")
    with pytest.raises(AuditConflict):
        await bench.run(tmp_path)


async def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def tell(progress: ExportProgress) -> None:
        assert (progress.of_documents, progress.of_entries) == (PAGE + 1, 3 * (PAGE + 1))
        told.append((progress.documents, progress.entries))

    await Bench(PAGE + 1).run(tmp_path, tell)
    assert told[0] == (PAGE, 0)
    assert told[-1] == (PAGE + 1, 3 * (PAGE + 1))
    assert told == sorted(told)


async def test_a_long_timeline_is_numbered_across_pages(tmp_path: Path) -> None:
    bench = Bench(2)
    row = bench.documents[0]
    bench.timeline = [
        TimelineRow(document_id=row.id, rank=number, type="NOTE", actor="x", at=AT, details={})
        for number in range(1, 2 * PAGE + 2)
    ]
    await bench.run(tmp_path)
    positions = [line["position"] for line in lines_of(tmp_path, "timeline.jsonl")]
    assert positions == list(range(1, 2 * PAGE + 2))
