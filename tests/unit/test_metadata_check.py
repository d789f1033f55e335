"""Extended metadata that a store has lost are told by reconciling, and made again from the content."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

import pytest

from domain.documents import Document
from domain.lifecycle import Status
from domain.reconciliation import DiscrepancyKind
from processors.reconcile import metadata
from processors.reconcile.metadata import MetadataCheck
from processors.reconcile.run import Reconciliation, RepairMode
from tests.support.fakes_reconcile import GRACE, ReconcileBench


class Bench(ReconcileBench):
    def __init__(self) -> None:
        super().__init__()
        self.held: set[UUID] = set()
        self.asked = 0
        part = MetadataCheck(self, self)
        self.reconcile = Reconciliation(
            self.database, self.inventory, self.objects, self.clock, {"metadata": part}, grace_seconds=GRACE
        )

    async def page(self, after: UUID, limit: int) -> Sequence[tuple[UUID, str]]:
        rows = self.database.rows
        found = sorted({document_id for document_id, _ in rows.renditions if document_id > after})
        return [(document_id, rows.documents[document_id].tenant) for document_id in found[:limit]]

    async def known(self, ids: Sequence[UUID]) -> Collection[UUID]:
        self.asked += 1
        return self.held & set(ids)

    def rendered(self) -> Document:
        document = self.add(Status.VERIFIED)
        self.thumbnail(document)
        return document


async def test_a_document_with_thumbnails_and_no_metadata_is_told() -> None:
    bench = Bench()
    lost, known = bench.rendered(), bench.rendered()
    bench.add(Status.VERIFIED)
    bench.held.add(known.id)
    report = await bench.run(RepairMode.ALL)
    assert [(one.fault, one.document_id, one.repaired) for one in report.findings] == [
        (DiscrepancyKind.METADATA_MISSING, lost.id, False)
    ]
    assert bench.database.audited() == []


async def test_one_question_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "PAGE", 3)
    bench = Bench()
    for _ in range(7):
        bench.rendered()
    report = await bench.run()
    assert report.found[DiscrepancyKind.METADATA_MISSING] == 7
    assert bench.asked == 3


async def test_what_was_erased_meanwhile_lacks_nothing() -> None:
    bench = Bench()
    document = bench.rendered()

    def erased(document_id: UUID) -> None:
        bench.database.rows.renditions.clear()

    bench.inventory.on_get = erased
    assert (await bench.run()).findings == []
    bench.inventory.on_get = lambda _: None
    bench.thumbnail(document)
    page = await bench.page(UUID(int=0), 9)
    del bench.database.rows.documents[document.id]

    async def stale(after: UUID, _: int) -> Sequence[tuple[UUID, str]]:
        return page if after == UUID(int=0) else []

    bench.page = stale  # type: ignore[method-assign]
    assert (await bench.run()).findings == []
