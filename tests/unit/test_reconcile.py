"""What rows, objects and the GED's copies say of each other: found, looked at again, repaired where a row decides."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import structlog

from domain.errors import DatabaseUnavailable, DocumentBusy, GedUnavailable, ObjectStoreUnavailable
from domain.lifecycle import Status
from domain.reconciliation import DiscrepancyKind, Repair, document_of_key
from processors.events.archive_copies import location
from processors.reconcile.run import LOCK, RepairMode
from tests.support.builders import NOW
from tests.support.fakes_archiving import CONTENT
from tests.support.fakes_reconcile import OLD, YOUNG, ReconcileBench, key_of, only
from tests.support.memory_inbox import InboxRow

EVERY_RUN = pytest.mark.parametrize("repairs", list(RepairMode))


@pytest.fixture
def bench() -> ReconcileBench:
    return ReconcileBench()


@EVERY_RUN
async def test_what_agrees_is_clean_and_stays(bench: ReconcileBench, repairs: RepairMode) -> None:
    stored = [bench.add(status) for status in Status if status.value not in {"PENDING", "ARCHIVED"}]
    stored.append(bench.add(Status.PENDING))
    archived = bench.archive()
    thumbnails = [bench.thumbnail(archived, box) for box in (256, 1024)]
    objects = dict(bench.objects.objects)
    report = await bench.run(repairs)
    assert (report.is_clean, report.findings, report.found.total()) == (True, [], 0)
    assert (report.rows, report.objects, report.copies) == (len(stored) + 1, len(objects), 1)
    assert bench.objects.objects == objects
    assert {one.object_key for one in thumbnails} <= set(objects)
    assert bench.details() == []
    assert bench.database.locked == [LOCK]
    assert bench.progress[0].done == 0
    assert (bench.progress[-2].done, bench.progress[-2].of, bench.progress[-2].rows) == (16, 16, report.rows)


# --- uploads ---------------------------------------------------------------------------------------------------------


async def test_an_upload_whose_lease_ran_out_is_told(bench: ReconcileBench) -> None:
    document = bench.add(Status.PENDING)
    bench.lease(document, -1)
    bench.put(document.object_key)
    report = await bench.run()
    finding = only(report)
    assert (finding.fault, finding.place, finding.repaired) == (
        DiscrepancyKind.EXPIRED_UPLOAD,
        document.object_key,
        False,
    )
    assert not report.is_clean
    assert bench.database.rows.documents[document.id].status is Status.PENDING
    assert document.object_key in bench.objects.objects


@pytest.mark.parametrize("repairs", [RepairMode.SAFE, RepairMode.ALL])
async def test_an_upload_whose_lease_ran_out_is_abandoned_and_leaves_nothing(
    bench: ReconcileBench, repairs: RepairMode
) -> None:
    expired = [bench.add(Status.PENDING) for _ in range(103)]
    for document in expired:
        bench.lease(document, -1)
        bench.put(document.object_key, at=NOW)
        bench.objects.begin(document.object_key, NOW)
    alive = bench.add(Status.PENDING)
    bench.put(alive.object_key)
    report = await bench.run(repairs)
    assert report.is_clean
    assert report.repaired == {DiscrepancyKind.EXPIRED_UPLOAD: 103}
    assert {row.status for row in bench.database.rows.documents.values() if row.id != alive.id} == {Status.ABANDONED}
    assert (list(bench.objects.objects), bench.objects.begun) == ([alive.object_key], {})
    assert sorted(bench.details()) == sorted(("acme", str(one.id), "reconcile.expired_upload") for one in expired)


async def test_a_row_is_abandoned_before_its_object_is_deleted(bench: ReconcileBench) -> None:
    document = bench.add(Status.PENDING)
    bench.lease(document, -1)
    bench.put(document.object_key)
    bench.database.faults = ["rollback"]
    with pytest.raises(DatabaseUnavailable):
        await bench.run(RepairMode.SAFE)
    assert document.object_key in bench.objects.objects
    bench.objects.away = True
    report = await bench.run(RepairMode.SAFE)
    assert set(report.failed_parts.values()) == {ObjectStoreUnavailable.code}
    assert not report.is_clean
    bench.objects.away = False
    assert bench.database.rows.documents[document.id].status is Status.ABANDONED
    assert only(await bench.run(RepairMode.SAFE)).fault is DiscrepancyKind.LEFT_OBJECT
    assert bench.objects.objects == {}


@EVERY_RUN
@pytest.mark.parametrize("why", ["young", "leased", "foreign", "rendering"])
async def test_puts_that_may_still_end_are_left(bench: ReconcileBench, repairs: RepairMode, why: str) -> None:
    document = bench.add(Status.STORED if why == "rendering" else Status.PENDING)
    if why == "rendering":
        _claim(bench, document.id)
    if why == "young":
        bench.lease(document, -1)
        await bench.run(RepairMode.SAFE)
        bench.database.rows.outbox.clear()
    key = "backups/monday" if why == "foreign" else document.object_key
    bench.objects.begin(key, YOUNG if why == "young" else OLD)
    if why == "young":
        del bench.database.rows.documents[document.id]
    assert (await bench.run(repairs)).is_clean
    assert len(bench.objects.begun) == 1


@pytest.mark.parametrize("why", ["stored", "no row", "no key"])
async def test_puts_that_nobody_will_end_are_removed(bench: ReconcileBench, why: str) -> None:
    document = bench.add()
    if why == "no row":
        del bench.database.rows.documents[document.id]
        bench.objects.objects.clear()
    bench.objects.begin(None if why == "no key" else document.object_key)
    assert only(await bench.run()).fault is DiscrepancyKind.UNFINISHED_PUT
    assert len(bench.objects.begun) == 1
    report = await bench.run(RepairMode.SAFE)
    assert report.is_clean
    assert bench.objects.begun == {}
    assert [action for _, _, action in bench.details()] == ["reconcile.unfinished_put"]


async def test_puts_of_abandoned_uploads_are_found_by_their_exact_key(bench: ReconcileBench) -> None:
    document = bench.add(Status.ABANDONED)
    bench.objects.by_key_only = True
    bench.objects.begin(document.object_key, YOUNG)
    assert only(await bench.run(RepairMode.SAFE)).repaired
    assert bench.objects.begun == {}


# --- objects without rows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Status.ABANDONED, Status.ERASING, Status.ERASED])
async def test_objects_whose_row_says_that_they_are_gone_are_removed(bench: ReconcileBench, status: Status) -> None:
    document = bench.add(status)
    for key in (document.object_key, f"{document.object_key}.thumbnail-256.aa"):
        bench.put(key)
    report = await bench.run()
    assert report.found == {DiscrepancyKind.LEFT_OBJECT: 2}
    assert len(bench.objects.objects) == 2
    report = await bench.run(RepairMode.SAFE)
    assert report.is_clean
    assert bench.objects.objects == {}
    assert bench.details() == [("acme", str(document.id), "reconcile.left_object")] * 2


async def test_thumbnails_that_no_row_names_are_removed_once_nobody_renders(bench: ReconcileBench) -> None:
    document = bench.add(Status.VERIFIED)
    kept = bench.thumbnail(document)
    bench.put(f"{document.object_key}.thumbnail-256.superseded")
    _claim(bench, document.id)
    assert (await bench.run(RepairMode.ALL)).is_clean
    bench.database.rows.inbox.clear()
    assert (await bench.run(RepairMode.SAFE)).repaired == {DiscrepancyKind.LEFT_OBJECT: 1}
    assert set(bench.objects.objects) == {document.object_key, kept.object_key}


async def test_an_object_of_another_attempt_is_removed(bench: ReconcileBench) -> None:
    document = bench.add()
    bench.put(key_of(document.id))
    assert (await bench.run(RepairMode.SAFE)).repaired == {DiscrepancyKind.LEFT_OBJECT: 1}
    assert set(bench.objects.objects) == {document.object_key}


async def test_objects_that_no_row_knows_are_removed_for_a_person_only(bench: ReconcileBench) -> None:
    key = key_of(uuid4())
    bench.put(key)
    for repairs in (RepairMode.NONE, RepairMode.SAFE):
        report = await bench.run(repairs)
        assert (only(report).fault, only(report).repaired, report.is_clean) == (
            DiscrepancyKind.UNKNOWN_OBJECT,
            False,
            False,
        )
    report = await bench.run(RepairMode.ALL)
    assert report.is_clean
    assert bench.objects.objects == {}
    assert bench.details() == [("system", str(document_of_key(key)), "reconcile.unknown_object")]


@pytest.mark.parametrize("key", ["documents/aa/notes.txt", "documents/ab/cd000000-0000-4000-8000-000000000000/x"])
async def test_what_is_not_of_our_making_is_never_touched(bench: ReconcileBench, key: str) -> None:
    bench.put(key)
    report = await bench.run(RepairMode.ALL)
    assert (only(report).fault, only(report).repaired) == (DiscrepancyKind.FOREIGN_OBJECT, False)
    assert key in bench.objects.objects


@EVERY_RUN
async def test_young_objects_are_not_looked_at(bench: ReconcileBench, repairs: RepairMode) -> None:
    bench.put(key_of(uuid4()), at=YOUNG)
    bench.put(bench.add(Status.ABANDONED).object_key, at=YOUNG)
    bench.put("documents/aa/x", at=YOUNG)
    assert (await bench.run(repairs)).is_clean
    assert len(bench.objects.objects) == 3


async def test_a_row_that_appears_meanwhile_keeps_its_object(bench: ReconcileBench) -> None:
    document = bench.add(Status.PENDING)
    bench.put(document.object_key)
    row = bench.database.rows.documents.pop(document.id)
    bench.inventory.on_get = lambda _id: bench.database.put(row)
    assert (await bench.run(RepairMode.ALL)).is_clean
    assert document.object_key in bench.objects.objects


async def test_the_last_look_is_right_before_the_deletion(bench: ReconcileBench) -> None:
    document = bench.add(Status.PENDING)
    bench.put(document.object_key)
    row = bench.database.rows.documents.pop(document.id)
    looks: list[UUID] = []

    def look(document_id: UUID) -> None:
        looks.append(document_id)
        if len(looks) == 2:
            bench.database.put(row)

    bench.inventory.on_get = look
    await bench.run(RepairMode.ALL)
    assert document.object_key in bench.objects.objects


async def test_an_object_that_goes_meanwhile_is_no_finding(bench: ReconcileBench) -> None:
    document = bench.add(Status.ABANDONED)
    bench.put(document.object_key)
    bench.inventory.on_get = lambda _id: bench.objects.objects.clear()
    assert (await bench.run()).is_clean


async def test_an_object_that_cannot_be_deleted_is_told(bench: ReconcileBench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: str) -> None:
        raise ObjectStoreUnavailable

    bench.put(bench.add(Status.ABANDONED).object_key)
    monkeypatch.setattr(bench.objects, "delete", refuse)
    report = await bench.run(RepairMode.SAFE)
    assert (only(report).repaired, only(report).failed) == (False, ObjectStoreUnavailable.code)
    assert not report.is_clean


# --- rows without objects ----------------------------------------------------------------------------------------------


@EVERY_RUN
async def test_a_document_without_its_object_is_told_and_never_touched(
    bench: ReconcileBench, repairs: RepairMode
) -> None:
    document, thumbnailed = bench.add(Status.VERIFIED), bench.add(Status.VERIFIED)
    thumbnail = bench.thumbnail(thumbnailed)
    del bench.objects.objects[document.object_key], bench.objects.objects[thumbnail.object_key]
    before = dict(bench.database.rows.documents)
    with structlog.testing.capture_logs() as logs:
        report = await bench.run(repairs)
    assert {finding.fault: finding.place for finding in report.findings} == {
        DiscrepancyKind.CONTENT_MISSING: document.object_key,
        DiscrepancyKind.THUMBNAIL_MISSING: thumbnail.object_key,
    }
    assert not report.is_clean
    assert {line["log_level"] for line in logs if line["event"] == "reconcile_found"} == {"error"}
    assert bench.database.rows.documents == before
    assert bench.details() == []


@pytest.mark.parametrize("content", [b"SEALED", b"sealed and more", b""])
async def test_a_document_with_another_object_is_told(bench: ReconcileBench, content: bytes) -> None:
    document = bench.add()
    bench.put(document.object_key, content)
    report = await bench.run(RepairMode.ALL)
    assert only(report).fault is DiscrepancyKind.CONTENT_DIFFERS
    assert bench.objects.objects[document.object_key] == content


async def test_a_quarantined_document_is_known_to_be_damaged(bench: ReconcileBench) -> None:
    missing, damaged = bench.add(Status.QUARANTINED), bench.add(Status.QUARANTINED)
    del bench.objects.objects[missing.object_key]
    bench.put(damaged.object_key, b"damaged")
    assert (await bench.run(RepairMode.ALL)).is_clean
    assert damaged.object_key in bench.objects.objects


async def test_a_row_that_is_erased_meanwhile_lacks_nothing(bench: ReconcileBench) -> None:
    document = bench.add()
    del bench.objects.objects[document.object_key]
    looks: list[UUID] = []

    def erase(document_id: UUID) -> None:
        looks.append(document_id)
        if len(looks) == 2:
            bench.database.put(replace(document, status=Status.ERASING))

    bench.inventory.on_get = erase
    assert (await bench.run()).is_clean
    bench.inventory.on_get = lambda _id: None
    bench.database.put(document)
    assert not (await bench.run()).is_clean


async def test_a_put_that_ends_meanwhile_lacks_nothing(bench: ReconcileBench) -> None:
    document = bench.add()
    content = bench.objects.objects.pop(document.object_key)
    bench.inventory.on_get = lambda _id: bench.objects.objects.update({document.object_key: content})
    assert (await bench.run()).is_clean


# --- the walk ----------------------------------------------------------------------------------------------------------


async def test_many_pages_and_batches(bench: ReconcileBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processors.reconcile.object_store.PAGE", 3)
    monkeypatch.setattr("processors.reconcile.object_store.BATCH", 2)
    documents = [bench.add(id=UUID(int=(digit << 124) + number)) for digit in (0, 7, 15) for number in range(1, 9)]
    lacking = {one.id for one in documents[::3]}
    for document in documents[::3]:
        del bench.objects.objects[document.object_key]
    left = {bench.add(Status.ABANDONED).object_key for _ in range(7)}
    for key in left:
        bench.put(key)
    report = await bench.run(RepairMode.SAFE)
    assert {one.document_id for one in report.findings if one.fault is DiscrepancyKind.CONTENT_MISSING} == lacking
    assert {one.place for one in report.findings if one.repaired} == left
    assert (report.rows, report.found.total()) == (31, len(lacking) + 7)
    assert bench.inventory.pages >= 13 + 3 * 3


async def test_of_many_findings_the_first_are_listed_and_all_are_counted(
    bench: ReconcileBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processors.reconcile.run.MAX_LISTED_FINDINGS", 2)
    for _ in range(5):
        bench.put(bench.add(Status.ABANDONED).object_key)
    report = await bench.run()
    assert (len(report.findings), report.found.total()) == (2, 5)


# --- one at a time, whole or not at all --------------------------------------------------------------------------------


async def test_one_run_at_a_time(bench: ReconcileBench) -> None:
    async with bench.database.lock(LOCK):
        with pytest.raises(DocumentBusy):
            await bench.run()


async def test_who_lost_the_lock_removes_nothing(bench: ReconcileBench) -> None:
    key = bench.add(Status.ABANDONED).object_key
    bench.put(key)
    bench.database.lost_locks = {LOCK}
    with pytest.raises(DatabaseUnavailable):
        await bench.run(RepairMode.SAFE)
    assert key in bench.objects.objects


async def test_no_deletion_without_its_audit_line(bench: ReconcileBench) -> None:
    key = bench.add(Status.ABANDONED).object_key
    bench.put(key)
    bench.database.faults = [None, "rollback"]
    with pytest.raises(DatabaseUnavailable):
        await bench.run(RepairMode.SAFE)
    assert key in bench.objects.objects


async def test_a_run_that_is_cancelled_lets_the_next_one_go_on(bench: ReconcileBench) -> None:
    bench.put(bench.add(Status.ABANDONED).object_key)
    running = asyncio.create_task(bench.run(RepairMode.SAFE))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (await bench.run(RepairMode.SAFE)).is_clean
    assert bench.objects.objects == {}


# --- the GED -----------------------------------------------------------------------------------------------------------


def _double(bench: ReconcileBench, **changes: object) -> tuple[str, str]:
    """Ids of the recorded copy and of another one."""
    document = bench.archive(**changes)
    folder, name = location(document)
    return document.ged_id or "", bench.ged.put((*folder, name), CONTENT)


async def test_a_second_copy_is_told_and_removed(bench: ReconcileBench) -> None:
    recorded, double = _double(bench)
    bench.archive()
    report = await bench.run()
    assert (only(report).fault, only(report).place, report.copies) == (DiscrepancyKind.GED_DOUBLE, double, 2)
    assert len(bench.ged.documents()) == 3
    assert (await bench.run(RepairMode.SAFE)).is_clean
    assert recorded in {held.id for _, held in bench.ged.documents()}
    assert double not in {held.id for _, held in bench.ged.documents()}
    assert [action for _, _, action in bench.details()] == ["reconcile.ged_double"]


async def test_no_copy_is_removed_if_the_recorded_one_is_not_whole(bench: ReconcileBench) -> None:
    recorded, _ = _double(bench)
    next(held for _, held in bench.ged.documents() if held.id == recorded).content = CONTENT[::-1]
    report = await bench.run(RepairMode.ALL)
    assert (only(report).repaired, only(report).failed) == (False, "archive_mismatch")
    assert len(bench.ged.documents()) == 2


async def test_a_copy_that_is_gone_is_told(bench: ReconcileBench) -> None:
    recorded, _ = _double(bench)
    await bench.ged.delete(recorded)
    report = await bench.run(RepairMode.ALL)
    assert (only(report).fault, only(report).place) == (DiscrepancyKind.GED_MISSING, recorded)
    assert len(bench.ged.documents()) == 1


async def test_what_was_archived_long_ago_is_not_looked_at(bench: ReconcileBench) -> None:
    _double(bench, archived_at=NOW - timedelta(hours=25))
    report = await bench.run(RepairMode.ALL)
    assert (report.is_clean, report.copies) == (True, 0)


async def test_copies_are_looked_at_in_pages_and_by_folder(
    bench: ReconcileBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processors.reconcile.ged.PAGE", 2)
    dossier = uuid4()
    for _ in range(5):
        bench.archive(dossier_id=dossier)
    _double(bench)
    assert (await bench.run()).copies == 6
    assert bench.ged.calls.count("children") <= 4


async def test_a_ged_that_is_away_keeps_nothing_else_from_being_done(bench: ReconcileBench) -> None:
    bench.archive()
    bench.put(bench.add(Status.ABANDONED).object_key)
    bench.ged.crash = {"children": GedUnavailable()}
    report = await bench.run(RepairMode.SAFE)
    assert (report.failed_parts, report.is_clean) == ({"GED": GedUnavailable.code}, False)
    assert report.repaired == {DiscrepancyKind.LEFT_OBJECT: 1}


def test_every_fault_says_who_may_repair_it() -> None:
    assert {fault for fault in DiscrepancyKind if fault.repair is Repair.NONE} == {
        DiscrepancyKind.FOREIGN_OBJECT,
        DiscrepancyKind.CONTENT_MISSING,
        DiscrepancyKind.CONTENT_DIFFERS,
        DiscrepancyKind.THUMBNAIL_MISSING,
        DiscrepancyKind.GED_MISSING,
        DiscrepancyKind.METADATA_MISSING,
    }


def _claim(bench: ReconcileBench, document_id: UUID) -> None:
    row = InboxRow(str(document_id), "CLAIMED", uuid4(), bench.clock.at - timedelta(hours=1))
    bench.database.rows.inbox["renditions", uuid4()] = row


async def test_what_an_earlier_run_has_looked_at_is_not_asked_for_again(bench: ReconcileBench) -> None:
    document = bench.add(Status.ABANDONED)
    bench.objects.by_key_only = True
    bench.objects.begin(document.object_key, YOUNG)
    bench.database.rows.documents[document.id] = replace(document, updated_at=OLD - timedelta(days=1))
    assert (await bench.reconcile.run(RepairMode.SAFE, recent_seconds=60)).is_clean
    assert len(bench.objects.begun) == 1
    assert only(await bench.reconcile.run(RepairMode.SAFE)).repaired
    assert bench.objects.begun == {}


@pytest.mark.parametrize("name", ["abc (copy)", ".tmp", "-x", "a/b", ""])
def test_names_that_we_never_give_are_not_ours(name: str) -> None:
    folder = "documents/3f/3f2504e0-4f89-41d3-9a0c-0305e82c3301"
    assert document_of_key(f"{folder}/abc.thumbnail-256.0f") is not None
    assert document_of_key(f"{folder}/{name}") is None
