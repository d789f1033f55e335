"""Archiving: plan, copy, state; erasure that comes in between; failure on record."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from domain.archive import GedDocument, GedObject
from domain.errors import DocumentBusy, GedUnavailable
from domain.events import DocumentArchived
from domain.lifecycle import Status
from domain.retention import retention_end, years_after
from processors.events.archive_copies import ArchiveCopies
from processors.events.archiving import ArchivingProcessor
from tests.support.builders import NOW, FixedClock, a_type
from tests.support.fakes_archiving import MemoryContent, MemoryGed, rejected, stored, uploaded, validated
from tests.support.memory import MemoryDatabase
from tests.support.processor_bench import DocumentBench


class Bench(DocumentBench):
    def __init__(self, status: Status = Status.VALIDATED, *, years: int = 10, archived: bool = True) -> None:
        self.database, self.ged, self.clock = MemoryDatabase(), MemoryGed(), FixedClock()
        self.first = stored(status=status)
        self.database.put(self.first, a_type(archived=archived, retention_years=years))
        copies = ArchiveCopies(self.database, MemoryContent(), self.ged)
        self.processor = ArchivingProcessor(self.database, copies, self.clock)

    def set(self, status: Status) -> None:
        self.database.put(replace(self.document, status=status))

    @property
    def timeline(self) -> list[str]:
        return [entry.type for entry in self.database.rows.timeline]


async def test_a_validated_document_is_archived() -> None:
    bench = Bench()
    event = validated(bench.first)
    await bench.run(event)
    document = bench.document
    ((_, held),) = bench.ged.documents()
    assert (document.status, document.ged_id, document.archived_at) == (Status.ARCHIVED, held.id, NOW)
    assert document.expires_at == datetime(2036, 3, 1, 12, tzinfo=UTC)
    assert (document.archive_planned, document.retention_years) == (True, 10)
    (said,) = bench.database.events()
    assert isinstance(said, DocumentArchived)
    assert (said.ged_id, said.ged_path, said.retention_years) == (document.ged_id, document.ged_path, 10)
    assert (said.sha256, said.correlation_id) == (document.sha256, event.correlation_id)
    assert bench.timeline == ["ARCHIVED"]
    assert [line.action for line in bench.database.audited()] == ["document.archived"]


async def test_an_archive_made_on_29_february_is_not_kept_too_short() -> None:
    bench = Bench(years=5)
    bench.clock.at = datetime(2028, 2, 29, 23, tzinfo=UTC)
    await bench.run(validated(bench.first))
    assert bench.document.expires_at == datetime(2033, 3, 1, 23, tzinfo=UTC)


async def test_run_twice_is_one_copy_one_event() -> None:
    bench = Bench()
    event = validated(bench.first)
    first, second = await bench.processor.process(event), await bench.processor.process(event)
    for commit in (first, second):
        async with bench.database.transaction() as work:
            await commit(work)
    await bench.run(event)
    assert len(bench.ged.documents()) == len(bench.database.events()) == 1


async def test_a_crash_before_the_commit_is_made_good_by_the_next_try() -> None:
    bench = Bench()
    event = validated(bench.first)
    await bench.processor.process(event)
    assert bench.document == bench.first
    await bench.run(event)
    assert bench.document.status is Status.ARCHIVED
    assert len(bench.ged.documents()) == 1


@pytest.mark.parametrize("status", [Status.ERASING, Status.ERASED])
async def test_a_copy_of_a_document_being_erased_is_removed(status: Status) -> None:
    bench = Bench()
    event = validated(bench.first)
    await bench.processor.process(event)
    bench.set(status)
    await bench.run(event)
    assert bench.ged.documents() == []
    await bench.run(event)
    assert bench.document.status is status


async def test_erasure_that_begins_during_the_write_is_seen_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    create = bench.ged.create

    async def create_and_erase(
        folder: Sequence[str], document: GedDocument, content: AsyncIterable[bytes]
    ) -> GedObject | None:
        made = await create(folder, document, content)
        bench.set(Status.ERASING)
        return made

    monkeypatch.setattr(bench.ged, "create", create_and_erase)
    await bench.run(validated(bench.first))
    assert bench.ged.documents() == []
    assert bench.database.events() == []


async def test_erasure_that_begins_after_the_last_look_makes_us_try_again() -> None:
    bench = Bench()
    event = validated(bench.first)
    commit = await bench.processor.process(event)
    bench.set(Status.ERASING)
    with pytest.raises(DocumentBusy):
        async with bench.database.transaction() as work:
            await commit(work)
    await bench.run(event)
    assert bench.ged.documents() == []


async def test_a_type_that_is_not_archived_ends_validated() -> None:
    bench = Bench(archived=False)
    await bench.run(validated(bench.first))
    assert bench.document.status is Status.VALIDATED
    assert (bench.document.archive_planned, bench.document.retention_years) == (False, 10)
    assert bench.timeline == ["ARCHIVE_NOT_PLANNED"]
    assert bench.ged.calls == []
    bench.database.put(a_type(archived=True, retention_years=1))
    await bench.run(validated(bench.first))
    assert bench.timeline == ["ARCHIVE_NOT_PLANNED"]
    assert retention_end(bench.document, a_type(retention_years=1)) == years_after(NOW, 10)


async def test_years_that_are_recorded_already_hold_though_nothing_is_planned_yet() -> None:
    """The type's rule was made shorter after the deposit: the database has written the longer one to the row."""
    bench = Bench(Status.STORED, years=1)
    bench.database.put(replace(bench.document, retention_years=9))
    await bench.run(uploaded(bench.first))
    assert (bench.document.archive_planned, bench.document.retention_years) == (True, 9)


async def test_a_rule_that_is_made_shorter_during_the_archiving_does_not_hold() -> None:
    bench = Bench(years=1)
    commit = await bench.processor.process(validated(bench.first))
    bench.database.put(replace(bench.document, retention_years=9))
    async with bench.database.transaction() as work:
        await commit(work)
    assert (bench.document.retention_years, bench.document.expires_at) == (9, years_after(NOW, 9))


async def test_an_upload_is_planned_once_and_the_plan_holds() -> None:
    bench = Bench(Status.STORED, years=7)
    for _ in range(2):
        await bench.run(uploaded(bench.first))
    assert (bench.document.archive_planned, bench.document.retention_years) == (True, 7)
    assert bench.timeline == ["ARCHIVE_PLANNED"]
    bench.database.put(a_type(retention_years=1))
    bench.set(Status.VALIDATED)
    await bench.run(validated(bench.first))
    assert bench.document.retention_years == 7


async def test_a_document_being_erased_is_not_planned() -> None:
    bench = Bench(Status.ERASING)
    await bench.run(uploaded(bench.first))
    assert bench.timeline == []


async def test_away_is_the_callers_to_repeat() -> None:
    bench = Bench()
    bench.ged.crash = {"create": GedUnavailable()}
    with pytest.raises(GedUnavailable):
        await bench.processor.process(validated(bench.first))
    assert bench.document == bench.first


async def test_giving_up_is_on_record() -> None:
    bench = Bench()
    event = validated(bench.first)
    for _ in range(2):
        await bench.give_up(event, "archive_refused")
    assert (bench.document.status, bench.document.failure_code) == (Status.ARCHIVE_FAILED, "archive_refused")
    (entry,) = bench.database.rows.timeline
    assert (entry.type, entry.details) == ("ARCHIVE_FAILED", {"code": "archive_refused"})
    await bench.run(event)
    assert bench.ged.calls == []


async def test_giving_up_a_plan_changes_nothing() -> None:
    bench = Bench(Status.STORED)
    await bench.give_up(uploaded(bench.first), "archive_refused")
    assert bench.document == bench.first


async def test_other_events_are_a_defect() -> None:
    bench = Bench()
    with pytest.raises(TypeError):
        await bench.processor.process(rejected(bench.first))
