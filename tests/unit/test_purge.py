"""Purging: what is due is erased, longest due first, at a rate; what is held, extended or gone since is passed over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from domain.documents import Document
from domain.errors import RegistryUnavailable
from domain.lifecycle import Status
from domain.retention import DueDocumentCount, LegalHold
from processors.retention.purge import PeriodicPurge, Purge
from tests.support.builders import NOW, FixedClock, a_document, a_type
from tests.support.memory import MemoryDatabase
from tests.support.memory_erasure import MemoryDueDocuments, MemoryPeriodicJobs


class Bench:
    def __init__(self) -> None:
        self.clock = FixedClock()
        self.database = MemoryDatabase(self.clock)
        self.database.put(a_type("CNI"), a_type("RIB", retention_years=1))
        self.slept: list[float] = []
        self.due = MemoryDueDocuments(self.database)
        self.purge = Purge(self.database, self.due, self.clock, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def add(self, days_over: float, status: Status = Status.ARCHIVED, **changes: object) -> Document:
        document = a_document(status=status, expires_at=NOW - timedelta(days=days_over), **changes)
        self.database.put(document)
        return document

    def status(self, document: Document) -> Status:
        return self.database.rows.documents[document.id].status


async def test_a_survey_changes_nothing_and_counts() -> None:
    bench = Bench()
    bench.add(3)
    bench.add(1, tenant="other")
    held = bench.add(2)
    bench.add(-1)
    bench.database.rows.holds[held.id, "C"] = LegalHold(reference="C", reason="R", set_by="u", set_at=NOW)
    before = bench.database.rows
    groups = await bench.purge.survey()
    assert [(one.tenant, one.count, one.held) for one in groups] == [("acme", 2, 1), ("other", 1, 0)]
    assert groups[0].oldest == NOW - timedelta(days=3)
    assert bench.database.rows is before


async def test_what_is_due_is_erased_longest_due_first_at_the_rate() -> None:
    bench = Bench()
    one, two, later = bench.add(1), bench.add(5), bench.add(-1)
    unarchived = bench.add(0, Status.REJECTED, type_code="RIB")
    never = replace(unarchived, expires_at=None, deposited_at=NOW - timedelta(days=800))
    bench.database.put(never)
    assert await bench.purge.run(per_second=4) == 3
    assert bench.slept == [0.25] * 3
    assert list(bench.database.rows.erasures) == [never.id, two.id, one.id]
    assert bench.status(later) is Status.ARCHIVED
    lines = bench.database.audited()
    assert {(line.action, line.actor) for line in lines} == {("document.erasing", "system:purge")}
    assert all('"legal_basis":"RETENTION_ENDED"' in line.details for line in lines)
    assert await bench.purge.run(per_second=4) == 0


async def test_a_limit_holds() -> None:
    bench = Bench()
    for _ in range(3):
        bench.add(1)
    assert await bench.purge.run(per_second=100, limit=2) == 2
    assert len(bench.database.rows.erasures) == 2
    assert await bench.purge.run(per_second=100, limit=2) == 1


async def test_what_changed_since_the_list_was_made_is_passed_over() -> None:
    bench = Bench()
    extended, held, gone, due = bench.add(4), bench.add(3), bench.add(2), bench.add(1)
    listed = bench.due.next

    async def meanwhile(after: object, limit: int) -> object:
        page = await listed(None, limit) if after is None else ()
        longer = NOW + timedelta(days=1)
        bench.database.put(replace(extended, expires_at=longer), replace(gone, status=Status.ERASING, wrapped_key=None))
        bench.database.rows.holds[held.id, "C"] = LegalHold(reference="C", reason="R", set_by="u", set_at=NOW)
        return page

    vars(bench.due)["next"] = meanwhile
    assert await bench.purge.run(per_second=100) == 1
    assert (bench.status(extended), bench.status(held)) == (Status.ARCHIVED, Status.ARCHIVED)
    assert list(bench.database.rows.erasures) == [due.id]


async def test_a_document_that_vanished_is_passed_over() -> None:
    bench = Bench()
    bench.add(1)
    assert await bench.purge._begin(uuid4()) is False


DAY = 86_400.0


class Regular(Bench):
    """A purge a day, as processes have it that share a database."""

    def __init__(self) -> None:
        super().__init__()
        self.work = MemoryPeriodicJobs(self.clock)
        self.told: list[int] = []
        self.away = False

    def process(self, interval: float = DAY) -> PeriodicPurge:
        return PeriodicPurge(
            self.purge, self.work, interval=interval, per_second=100, may_run=self._may_run, on_survey=self._tell
        )

    async def _may_run(self) -> None:
        if self.away:
            raise RegistryUnavailable

    def _tell(self, groups: Sequence[DueDocumentCount]) -> None:
        self.told.append(sum(group.count for group in groups))

    @property
    def erased(self) -> int:
        return len(self.database.rows.erasures)


async def test_the_first_regular_purge_is_a_dry_run_and_the_next_one_an_interval_later_erases() -> None:
    bench = Regular()
    bench.add(1)
    with capture_logs() as logs:
        await bench.process().run_if_due()
    assert [entry["event"] for entry in logs] == ["purge_due", "purge_dry_run"]
    assert (logs[0]["tenant"], logs[0]["type_code"], logs[0]["documents"], logs[0]["held"]) == ("acme", "CNI", 1, 0)
    bench.clock.move(DAY - 1)
    await bench.process().run_if_due()
    assert bench.erased == 0
    bench.clock.move(1)
    with capture_logs() as logs:
        await bench.process().run_if_due()
    assert bench.erased == 1
    assert [entry["event"] for entry in logs] == ["purge_due", "erasure_asked_for", "purge_finished"]
    assert bench.told == [1, 1, 1, 0]


async def test_processes_that_are_started_anew_all_the_time_purge_all_the_same_and_no_more_often() -> None:
    bench = Regular()
    await bench.work.mark_done("purge")
    for _ in range(8):
        bench.add(1)
        bench.clock.move(DAY / 4)
        await bench.process().run_if_due()
    assert bench.erased == 8
    assert bench.told == [1, 2, 3, 4, 0, 1, 2, 3, 4, 0]


async def test_one_that_could_not_run_is_due_at_the_next_turn() -> None:
    bench = Regular()
    await bench.work.mark_done("purge")
    bench.add(1)
    bench.clock.move(DAY)
    bench.away = True
    with pytest.raises(RegistryUnavailable):
        await bench.process().run_if_due()
    assert bench.erased == 0
    bench.away = False
    await bench.process().run_if_due()
    assert bench.erased == 1


async def test_without_an_interval_it_only_tells() -> None:
    bench = Regular()
    bench.add(1)
    for _ in range(2):
        await bench.process(0).run_if_due()
        bench.clock.move(DAY)
    assert (bench.erased, bench.told) == (0, [1, 1])
