"""Reconciling after an erasure: what a late worker or a late GED put back is found and removed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.documents import Document
from domain.lifecycle import Status
from domain.reconciliation import DiscrepancyKind
from processors.events.archive_copies import CopyRemover, location
from processors.reconcile.erased import ErasedDocumentsCheck
from processors.reconcile.run import Reconciliation, RepairMode
from tests.support.builders import NOW, FixedClock, a_document
from tests.support.fakes_archiving import MemoryGed
from tests.support.fakes_reconcile import ReconciledStore
from tests.support.memory import MemoryDatabase
from tests.support.memory_inventory import MemoryInventory


class Facts:
    def __init__(self) -> None:
        self.held: dict[UUID, Any] = {}

    async def get(self, document_id: UUID) -> Any:
        return self.held.get(document_id)

    async def delete(self, document_id: UUID, tenant: str) -> None:
        self.held.pop(document_id, None)


class Bench:
    def __init__(self) -> None:
        self.clock = FixedClock()
        self.database, self.ged, self.facts = MemoryDatabase(self.clock), MemoryGed(), Facts()
        part = ErasedDocumentsCheck(self.ged, CopyRemover(self.database, self.ged), self.facts, hours=24)
        inventory = MemoryInventory(self.database)
        self.reconcile = Reconciliation(
            self.database, inventory, ReconciledStore(), self.clock, {"erased": part}, grace_seconds=60
        )

    def erased(self, hours_ago: float = 1) -> Document:
        document = a_document(status=Status.ERASED, updated_at=NOW - timedelta(hours=hours_ago))
        self.database.put(document)
        return document

    def leave(self, document: Document) -> None:
        folder, name = location(document)
        self.ged.put((*folder, name), b"left")
        self.facts.held[document.id] = {"pages": 1}


@pytest.mark.parametrize("repairs", [RepairMode.NONE, RepairMode.SAFE])
async def test_what_was_left_is_told_and_removed(repairs: RepairMode) -> None:
    bench = Bench()
    left, clean, old = bench.erased(), bench.erased(), bench.erased(hours_ago=25)
    bench.leave(left)
    bench.leave(old)
    report = await bench.reconcile.run(repairs)
    assert dict(report.found) == {DiscrepancyKind.LEFT_COPY: 1, DiscrepancyKind.LEFT_METADATA: 1}
    assert report.is_clean is (repairs is RepairMode.SAFE)
    assert (left.id in bench.facts.held) is (repairs is RepairMode.NONE)
    assert len(bench.ged.documents()) == (2 if repairs is RepairMode.NONE else 1)
    assert clean.id not in bench.facts.held
    if repairs is RepairMode.SAFE:
        actions = [line.action for line in bench.database.audited()]
        assert actions == ["reconcile.left_copy", "reconcile.left_metadata"]
        assert not (await bench.reconcile.run(repairs)).found


async def test_a_copy_that_was_moved_is_found_by_its_id() -> None:
    bench = Bench()
    left = bench.erased()
    moved = bench.ged.put(("dpj", "cases", "renamed.pdf"), b"left")
    bench.database.put(replace(left, ged_id=moved))
    report = await bench.reconcile.run(RepairMode.SAFE)
    assert report.repaired[DiscrepancyKind.LEFT_COPY] == 1
    assert bench.ged.documents() == []
    assert not (await bench.reconcile.run(RepairMode.SAFE)).found


async def test_many_are_looked_at_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processors.reconcile.erased.PAGE", 2)
    bench = Bench()
    for _ in range(5):
        bench.leave(bench.erased())
    report = await bench.reconcile.run(RepairMode.SAFE)
    assert report.repaired[DiscrepancyKind.LEFT_COPY] == 5
