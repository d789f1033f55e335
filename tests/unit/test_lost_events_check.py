"""Reconciling tells lost events, and has them sent again as far as it may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from domain.errors import BrokerUnavailable
from domain.owed_events import MOST_RE_EMISSIONS, LostEvent
from domain.reconciliation import DiscrepancyKind, ReconcileFinding, Repair
from processors.reconcile.lost_events import LostEventsCheck
from processors.reconcile.owed_events import OwedReport
from processors.reconcile.run import RepairMode
from tests.unit.test_owed_events import owed


class Run:
    def __init__(self, repairs: RepairMode) -> None:
        self.repairs = repairs
        self.found: list[ReconcileFinding] = []

    async def settle(self, finding: ReconcileFinding, repair: Callable[[], Awaitable[object]] | None = None) -> None:
        self.found.append(finding)
        if repair is not None and self.repairs.include(finding.fault):
            await repair()


async def checked(repairs: RepairMode, *lost: LostEvent, known: bool = True) -> tuple[Run, list[int]]:
    sent: list[int] = []

    async def look(*, after_seconds: float) -> OwedReport:
        assert after_seconds == 60
        report = OwedReport(known=known)
        for one in lost:
            report.add(one)
        return report

    async def re_emit(events: list[LostEvent], actor: str, *, reason: str) -> int:
        assert (actor, reason) == ("system:reconcile", "reconcile")
        sent.extend(one.event.row_id for one in events)
        return len(events)

    run: Any = Run(repairs)
    use: Any = SimpleNamespace(look=look, re_emit=re_emit)
    await LostEventsCheck(use, after_seconds=60).check(run)
    return run, sent


FRESH = LostEvent(owed(1), ("integrity",))
TIRED = LostEvent(owed(2, re_emissions=MOST_RE_EMISSIONS, key="token-1"), ("audit",))


@pytest.mark.parametrize(("repairs", "sent"), [(RepairMode.NONE, []), (RepairMode.SAFE, [1]), (RepairMode.ALL, [1, 2])])
async def test_what_may_be_sent_again_is(repairs: RepairMode, sent: list[int]) -> None:
    run, done = await checked(repairs, FRESH, TIRED)
    assert done == sent
    assert [finding.fault for finding in run.found] == [DiscrepancyKind.EVENT_LOST] * 2
    assert DiscrepancyKind.EVENT_LOST.repair is Repair.SAFE


async def test_a_finding_names_the_document_the_event_and_who_lacks_it() -> None:
    run, _ = await checked(RepairMode.NONE, FRESH, TIRED)
    first, second = run.found
    assert first.document_id == UUID(FRESH.event.key)
    assert first.place == f"dpj.document.uploaded {FRESH.event.event_id}"
    assert first.details["consumers"] == "integrity"
    assert second.document_id is None


async def test_without_kafka_the_part_was_not_looked_at() -> None:
    with pytest.raises(BrokerUnavailable):
        await checked(RepairMode.SAFE, replace(FRESH), known=False)
