"""One whole copy per document in the GED, whatever happened before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest

from domain.documents import Document
from domain.errors import (
    ArchiveMismatch,
    ArchiveRefused,
    DatabaseUnavailable,
    DocumentBusy,
    GedOutcomeUnknown,
    GedUnavailable,
    ObjectStoreUnavailable,
    UnexpectedFailure,
)
from processors.events.archive_copies import ArchiveCopies, location
from tests.support.fakes_archiving import CONTENT, SHA256, MemoryContent, MemoryGed, stored
from tests.support.memory import NOW, MemoryDatabase
from tests.support.simulated_time import SimulatedTimeLoop


class Bench:
    def __init__(self, known_folders: int = 4096) -> None:
        self.database, self.content, self.ged = MemoryDatabase(), MemoryContent(), MemoryGed()
        self.copies = ArchiveCopies(self.database, self.content, self.ged, known_folders=known_folders)


async def test_the_copy_is_where_its_ids_say_and_can_be_found_by_hash_and_id() -> None:
    bench, document = Bench(), stored()
    copy = await bench.copies.put(document, 10)
    ((path, held),) = bench.ged.documents()
    assert path == ("dpj", "acme", "2026", str(document.dossier_id), f"{document.id}.pdf")
    assert copy.ged_path == "/" + "/".join(path)
    assert copy.ged_id == held.id
    assert held.content == CONTENT
    assert held.document is not None
    assert {str(document.id), f"sha256={SHA256}", "retention=10y"} <= set(held.document.description.split())
    assert bench.content.open == 0


@pytest.mark.parametrize("tells_sizes", [True, False])
async def test_a_second_put_adopts_the_copy(tells_sizes: bool) -> None:
    bench, document = Bench(), stored()
    bench.ged.tells_sizes = tells_sizes
    first = await bench.copies.put(document, 10)
    again = ArchiveCopies(bench.database, bench.content, bench.ged)
    assert await again.put(document, 10) == first
    assert await bench.copies.put(document, 10) == first
    assert len(bench.ged.documents()) == 1
    assert bench.ged.calls.count("create") == 1


async def test_many_at_once_make_one_copy_and_each_folder_once() -> None:
    bench, document = Bench(), stored()
    others = [ArchiveCopies(bench.database, bench.content, bench.ged) for _ in range(4)]
    made = await asyncio.gather(*(copies.put(document, 10) for copies in others))
    assert len(set(made)) == 1
    assert len(bench.ged.documents()) == 1
    assert len(bench.ged.folders()) == len(set(bench.ged.folders())) == 5


@pytest.mark.parametrize("left", [b"", CONTENT[:-1], CONTENT + b"x", CONTENT[::-1]])
@pytest.mark.parametrize("tells_sizes", [True, False])
async def test_a_half_written_copy_is_replaced(left: bytes, tells_sizes: bool) -> None:
    bench, document = Bench(), stored()
    bench.ged.tells_sizes = tells_sizes
    folder, name = location(document)
    for depth in range(1, len(folder) + 1):
        await bench.ged.create_folder(folder[:depth])
    bench.ged.put((*folder, name), left)
    await bench.copies.put(document, 10)
    ((_, held),) = bench.ged.documents()
    assert held.content == CONTENT


@pytest.mark.parametrize("crash", ["find", "create_folder", "create", "created", "read"])
async def test_a_crash_at_any_call_leaves_what_the_next_try_completes(crash: str) -> None:
    bench, document = Bench(), stored()
    bench.ged.crash = {crash: GedUnavailable()}
    with pytest.raises(GedUnavailable):
        await bench.copies.put(document, 10)
    assert bench.content.open == 0
    await bench.copies.put(document, 10)
    ((_, held),) = bench.ged.documents()
    assert held.content == CONTENT


async def test_content_that_fails_on_the_way_leaves_no_copy() -> None:
    bench, document = Bench(), stored()
    bench.content.error = ObjectStoreUnavailable()
    with pytest.raises(ObjectStoreUnavailable):
        await bench.copies.put(document, 10)
    assert bench.ged.documents() == []


async def test_a_copy_that_differs_is_deleted_and_refused() -> None:
    bench, document = Bench(), stored()
    bench.ged.mangles = True
    with pytest.raises(ArchiveMismatch):
        await bench.copies.put(document, 10)
    assert bench.ged.documents() == []


async def test_a_lost_folder_is_made_again() -> None:
    bench, document = Bench(), stored()
    await bench.copies.put(document, 10)
    bench.ged.loses_folder_once = True
    await bench.copies.put(replace(stored(), dossier_id=document.dossier_id), 10)
    assert len(bench.ged.documents()) == 1


async def test_a_folder_that_keeps_disappearing_counts_as_away() -> None:
    bench = Bench()
    bench.ged.loses_folders = True
    with pytest.raises(GedUnavailable):
        await bench.copies.put(stored(), 10)


async def test_few_folders_are_remembered() -> None:
    bench = Bench(known_folders=1)
    first, second = stored(), stored()
    await bench.copies.put(first, 10)
    looked = bench.ged.calls.count("find")
    await bench.copies.put(replace(stored(), dossier_id=first.dossier_id), 10)
    assert bench.ged.calls.count("find") == looked + 1
    await bench.copies.put(second, 10)
    bench.database.rows.ged_attempts.clear()  # the copies are recorded
    looked = bench.ged.calls.count("find")
    await bench.copies.put(first, 10)
    assert bench.ged.calls.count("find") == looked + 2


async def test_remove() -> None:
    bench, document = Bench(), stored()
    assert not await bench.copies.remove(document)
    await bench.copies.put(document, 10)
    assert await bench.copies.remove(document)
    assert bench.ged.documents() == []


@pytest.mark.parametrize("in_place", [False, True])
async def test_the_recorded_copy_is_removed_wherever_it_is_by_now(*, in_place: bool) -> None:
    bench, document = Bench(), stored()
    copy = await bench.copies.put(document, 10)
    bench.database.rows.ged_attempts.clear()  # the copy is recorded
    bench.ged.move(copy.ged_id, ("dpj", "cases", "renamed.pdf"))
    if in_place:
        folder, name = location(document)
        bench.ged.put((*folder, name), CONTENT)
    recorded = replace(document, ged_id=copy.ged_id)
    assert await bench.copies.remove(recorded)
    assert bench.ged.documents() == []
    assert not await bench.copies.remove(recorded)


async def test_what_has_the_recorded_id_and_says_that_it_is_another_documents_stays() -> None:
    """A GED that was set up anew counts its ids from the start."""
    bench, document, neighbour = Bench(), stored(), stored()
    copy = await bench.copies.put(neighbour, 10)
    assert not await bench.copies.remove(replace(document, ged_id=copy.ged_id))
    assert not await bench.copies.remove(replace(document, ged_id=bench.ged.objects[0][1].id))  # a folder
    assert [held.id for _, held in bench.ged.documents()] == [copy.ged_id]


async def test_a_copy_whose_description_was_changed_is_removed_all_the_same() -> None:
    bench, document = Bench(), stored()
    moved = bench.ged.put(("dpj", "cases", "contract.pdf"), CONTENT)
    assert await bench.copies.remove(replace(document, ged_id=moved))
    assert bench.ged.documents() == []


async def test_a_document_without_size_is_a_defect() -> None:
    with pytest.raises(UnexpectedFailure):
        await Bench().copies.put(replace(stored(), size=None), 10)


@pytest.mark.parametrize(
    ("tenant", "folder"),
    [
        ("acme-1_x", "acme-1_x"),
        ("a/b", "a~2Fb"),
        ("..", "~2E."),
        ("a~b", "a~7Eb"),
        ("é %", "~C3~A9~20~25"),
        ("a.b", "a.b"),
    ],
)
def test_tenants_have_folders_of_their_own(tenant: str, folder: str) -> None:
    assert location(replace(stored(), tenant=tenant))[0][1] == folder


def test_unknown_media_types_and_undated_deposits() -> None:
    document = replace(stored(), mime_type=None, deposited_at=None)
    folder, name = location(document)
    assert name == f"{document.id}.bin"
    assert folder[2] == "2026"


# --- Creations of unknown outcome ------------------------------------------------------------------------------------


def _another(bench: Bench) -> ArchiveCopies:
    return ArchiveCopies(bench.database, bench.content, bench.ged)


async def test_after_an_unknown_outcome_nothing_is_created_before_it_has_settled() -> None:
    bench, document = Bench(), stored()
    bench.ged.crash = {"create": GedOutcomeUnknown()}
    with pytest.raises(GedOutcomeUnknown):
        await bench.copies.put(document, 10)
    for copies in (bench.copies, _another(bench)):
        with pytest.raises(GedOutcomeUnknown):
            await copies.put(document, 10)
    assert bench.ged.calls.count("create") == 1
    bench.database.clock.move(21)
    await _another(bench).put(document, 10)
    assert len(bench.ged.documents()) == 1


@pytest.mark.parametrize("tells_sizes", [True, False])
async def test_a_creation_that_took_effect_unseen_is_adopted_at_once(tells_sizes: bool) -> None:
    bench, document = Bench(), stored()
    bench.ged.tells_sizes = tells_sizes
    bench.ged.crash = {"created": GedOutcomeUnknown()}
    with pytest.raises(GedOutcomeUnknown):
        await bench.copies.put(document, 10)
    copy = await _another(bench).put(document, 10)
    ((_, held),) = bench.ged.documents()
    assert (copy.ged_id, held.content) == (held.id, CONTENT)
    assert bench.ged.calls.count("create") == 1


async def test_a_crash_during_a_creation_holds_the_next_one_back_until_it_has_settled() -> None:
    bench, document = Bench(), stored()
    bench.ged.crash = {"create": RuntimeError("killed")}
    with pytest.raises(RuntimeError):
        await bench.copies.put(document, 10)
    bench.database.clock.move(29)
    with pytest.raises(GedOutcomeUnknown):
        await _another(bench).put(document, 10)
    bench.database.clock.move(2)
    await _another(bench).put(document, 10)
    assert len(bench.ged.documents()) == 1


@pytest.mark.parametrize("error", [GedUnavailable(), ArchiveRefused()])
async def test_what_surely_had_no_effect_holds_nothing_back(error: Exception) -> None:
    bench, document = Bench(), stored()
    bench.ged.crash = {"create": error}
    with pytest.raises(type(error)):
        await bench.copies.put(document, 10)
    assert bench.database.rows.ged_attempts == {}
    await bench.copies.put(document, 10)
    assert len(bench.ged.documents()) == 1


async def test_of_several_copies_one_whole_one_stays() -> None:
    bench, document = Bench(), stored()
    bench.ged.crash = {"created": GedOutcomeUnknown()}
    with pytest.raises(GedOutcomeUnknown):
        await bench.copies.put(document, 10)
    ((path, _),) = bench.ged.documents()
    bench.ged.put(path, CONTENT)
    bench.ged.put(path, CONTENT[:-1])
    copy = await bench.copies.put(document, 10)
    ((_, held),) = bench.ged.documents()
    assert (copy.ged_id, held.content) == (held.id, CONTENT)


async def test_who_lost_the_lock_creates_nothing() -> None:
    bench, document = Bench(), stored()
    bench.database.lost_locks = {f"ged-document:{document.id}"}
    with pytest.raises(DatabaseUnavailable):
        await bench.copies.put(document, 10)
    assert "create" not in bench.ged.calls
    bench.database.lost_locks.clear()
    await bench.copies.put(document, 10)
    assert len(bench.ged.documents()) == 1


async def test_who_lost_the_lock_of_a_folder_does_not_create_it() -> None:
    bench = Bench()
    bench.database.lost_locks = {"ged-folder:/dpj"}
    with pytest.raises(DatabaseUnavailable):
        await bench.copies.put(stored(), 10)
    assert bench.ged.folders() == [()]


async def test_two_never_create_at_once_even_without_the_lock() -> None:
    bench, document = Bench(), stored()
    await bench.copies.put(stored(dossier_id=document.dossier_id), 10)
    async with bench.database.transaction() as work:
        await work.ged_attempts.begin(document.id, uuid4(), 60)
    with pytest.raises(GedOutcomeUnknown):
        await bench.copies.put(document, 10)
    assert len(bench.ged.documents()) == 1


class SlowContent(MemoryContent):
    """Takes ``seconds`` before its last piece."""

    seconds = 0.2

    async def read(self, document: Document) -> AsyncIterator[bytes]:
        async for piece in super().read(document):
            await asyncio.sleep(self.seconds / 2)
            yield piece


async def test_the_record_is_kept_open_while_a_creation_lasts() -> None:
    bench, document = Bench(), stored()
    copies = ArchiveCopies(bench.database, SlowContent(), bench.ged, attempt_seconds=0.09)
    await copies.put(document, 10)
    assert len(bench.ged.documents()) == 1


async def test_a_creation_whose_record_cannot_be_kept_is_stopped() -> None:
    bench, document = Bench(), stored()
    copies = ArchiveCopies(bench.database, SlowContent(), bench.ged, attempt_seconds=0.09)
    bench.database.faults = [None, None, *["away"] * 20]
    with pytest.raises(GedOutcomeUnknown):
        await copies.put(document, 10)
    assert bench.ged.documents() == []
    assert bench.database.rows.ged_attempts


async def test_a_record_that_another_has_taken_is_not_kept() -> None:
    bench, document = Bench(), stored()
    copies = ArchiveCopies(bench.database, SlowContent(), bench.ged, attempt_seconds=0.09)
    putting = asyncio.create_task(copies.put(document, 10))
    while not bench.database.rows.ged_attempts:
        await asyncio.sleep(0.005)
    other = uuid4()
    bench.database.rows.ged_attempts[document.id] = other, NOW
    with pytest.raises(GedOutcomeUnknown):
        await putting
    assert bench.ged.documents() == []
    assert bench.database.rows.ged_attempts[document.id][0] == other


async def test_a_process_that_was_suspended_does_not_complete_what_it_began() -> None:
    bench, document = Bench(), stored()

    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedTimeLoop)

    class Suspended(MemoryContent):
        async def read(self, document: Document) -> AsyncIterator[bytes]:
            async for piece in super().read(document):
                yield piece
            loop.suspend(0.1)

    copies = ArchiveCopies(bench.database, Suspended(), bench.ged, attempt_seconds=0.09)
    with pytest.raises((DocumentBusy, GedOutcomeUnknown)):
        await copies.put(document, 10)
    assert bench.ged.documents() == []


async def test_removal_waits_for_what_may_still_appear() -> None:
    bench, document = Bench(), stored()
    bench.ged.crash = {"create": GedOutcomeUnknown()}
    with pytest.raises(GedOutcomeUnknown):
        await bench.copies.put(document, 10)
    with pytest.raises(GedOutcomeUnknown):
        await bench.copies.remove(document)
    bench.database.clock.move(21)
    assert not await bench.copies.remove(document)
    assert bench.database.rows.ged_attempts == {}


async def test_removal_takes_every_copy() -> None:
    bench, document = Bench(), stored()
    await bench.copies.put(document, 10)
    ((path, _),) = bench.ged.documents()
    bench.ged.put(path, CONTENT)
    assert await bench.copies.remove(document)
    assert bench.ged.documents() == []
