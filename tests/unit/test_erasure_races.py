"""An erasure beside each worker that may be at the same document: whichever comes first, there is one end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from domain.archive import GedObject
from domain.documents import Role
from domain.erasure import LegalBasis
from domain.errors import DPJError, ObjectMissing
from domain.events import Event
from domain.lifecycle import Status
from domain.refusals import DocumentGone, TransitionRefused
from processors.documents.transitions import Origin
from processors.documents.validation import Validation
from processors.events.archive_copies import ArchiveCopies, location
from processors.events.archiving import ArchivingProcessor
from processors.events.integrity import IntegrityProcessor
from processors.events.notification import NotificationProcessor
from processors.operators.dead_letters import _Refusal, reinstate
from tests.support.fakes_archiving import MemoryContent, MemoryMails, PlainSeals, uploaded, validated
from tests.support.fakes_intake import PDF, IntakeBench
from tests.support.fakes_personal_texts import plain_texts
from tests.support.interleaving import at
from tests.support.memory_inbox import InboxRow
from tests.unit.test_erasure import POINTS, Bench, operator

ARCHIVING = (
    "archiving.locked",
    "archiving.attempted",
    "archiving.created",
    "archiving.compared",
    "archiving.copied",
)


class Died(Exception):
    """The process ended here."""


class Race(Bench):
    """A validated document, not archived yet, with a worker of each kind."""

    def __init__(self, status: Status = Status.VALIDATED) -> None:
        super().__init__(status)
        self.ged.objects = self.ged.objects[:1]  # no copy yet
        self.content = MemoryContent()
        self.copies = ArchiveCopies(self.database, self.content, self.ged)
        self.archiving = ArchivingProcessor(self.database, self.copies, self.clock)
        self.event = validated(self.document)

    async def archive(self) -> bool:
        """One delivery of the event, as a worker makes it; False if it will be tried again."""
        try:
            commit = await self.archiving.process(self.event)
            async with self.database.transaction() as work:
                await commit(work)
        except DPJError:
            return False
        return True

    async def erase(self) -> None:
        await self.request()
        await self.eraser.run_once()

    async def come_to_rest(self, *, redelivered: bool) -> None:
        """All that is repeated is repeated until nothing is left to do."""
        done = not redelivered
        for _ in range(10):
            self.clock.move(31)
            done = done or await self.archive()
            await self.eraser.run_once()
            if done and self.document.status is Status.ERASED:
                return
        raise AssertionError(f"{self.document.status} {self.queue.postponed}")


@pytest.mark.parametrize("point", ARCHIVING)
async def test_an_erasure_while_archiving_is_there_leaves_no_copy(point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    race = Race()
    at(race, point, race.erase, monkeypatch)
    await race.archive()
    await race.come_to_rest(redelivered=True)
    assert race.ged.documents() == []
    assert race.nothing_is_left()
    assert race.database.rows.ged_attempts == {}
    assert {type(event).__name__ for event in race.database.events()} == {"DocumentErased"}


@pytest.mark.parametrize("point", ARCHIVING)
@pytest.mark.parametrize("redelivered", [True, False])
async def test_archiving_that_dies_there_leaves_no_copy(
    point: str, redelivered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the event never comes back: the open attempt tells the erasure of the copy."""
    race = Race()

    async def die() -> None:
        raise Died

    at(race, point, die, monkeypatch)
    with pytest.raises(Died):
        await race.archive()
    await race.erase()
    await race.come_to_rest(redelivered=redelivered)
    assert race.ged.documents() == []
    assert race.database.rows.ged_attempts == {}


@pytest.mark.parametrize("point", POINTS)
async def test_archiving_while_an_erasure_is_there_leaves_no_copy(point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archiving worker read the document before the erasure began, and its claim is lost: nobody waits for it."""
    race = Race()
    go_on, waiting = asyncio.Event(), asyncio.Event()
    find = race.ged.find

    async def late(path: Sequence[str]) -> GedObject | None:
        if not waiting.is_set():
            waiting.set()
            await go_on.wait()
        return await find(path)

    monkeypatch.setattr(race.ged, "find", late)
    archiving = asyncio.create_task(race.archive())
    await waiting.wait()
    await race.request()

    async def archive() -> None:
        go_on.set()
        await archiving

    at(race, point, archive, monkeypatch)
    await race.eraser.run_once()
    assert race.document.status is Status.ERASED
    assert race.ged.documents() == []
    assert await race.archive()  # delivered again
    assert race.ged.documents() == []


async def test_a_copy_that_appears_late_is_waited_for() -> None:
    """The creation was sent whole, its sender died, and the GED completes it only now."""
    race = Race()
    async with race.database.transaction() as work:
        await work.ged_attempts.begin(race.first.id, uuid4(), 20)
    await race.erase()
    assert race.queue.postponed == ["ged_outcome_unknown"]
    commit = await race.copies.put(replace(race.first, id=uuid4()), 10)  # makes the folder
    await race.ged.delete(commit.ged_id)
    folder, name = location(race.first)
    race.ged.put((*folder, name), b"late")
    race.clock.move(11)
    await race.eraser.run_once()
    assert race.document.status is Status.ERASED
    assert race.ged.documents() == []


async def test_content_that_goes_away_under_archiving_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    race = Race()
    race.content.error = ObjectMissing()
    at(race, "archiving.attempted", race.request, monkeypatch)
    assert await race.archive()
    assert race.document.status is Status.ERASING
    other = Race()
    other.content.error = ObjectMissing()
    with pytest.raises(ObjectMissing):
        await other.archiving.process(other.event)


async def test_an_archived_document_is_erased_with_its_recorded_copy() -> None:
    race = Race()
    assert await race.archive()
    assert race.document.status is Status.ARCHIVED
    await race.erase()
    assert race.document.status is Status.ERASED
    assert race.ged.documents() == []


# --- The other workers -----------------------------------------------------------------------------------------------


async def _run(processor: IntegrityProcessor | NotificationProcessor, race: Race, event: Event) -> None:
    commit = await processor.process(event)
    async with race.database.transaction() as work:
        await commit(work)


@pytest.mark.parametrize("damaged", [True, False])
async def test_integrity_that_read_before_the_erasure_changes_nothing(damaged: bool) -> None:
    race = Race(Status.STORED)
    processor = IntegrityProcessor(race.database, race.content, race.clock)
    if damaged:
        race.content.error = ObjectMissing()  # the erasure's own deletion looks like that
    commit = await processor.process(uploaded(race.document))
    await race.erase()
    async with race.database.transaction() as work:
        await commit(work)
    assert race.document.status is Status.ERASED
    assert [type(event).__name__ for event in race.database.events()] == ["DocumentErased"]
    await _run(processor, race, uploaded(race.document))


async def test_a_mail_after_the_erasure_is_not_sent() -> None:
    race = Race()
    mails = MemoryMails()
    processor = NotificationProcessor(race.database, plain_texts(), mails, mails, race.clock, mail_domain="dpj.example")
    await race.request()
    await _run(processor, race, race.event)
    assert mails.sent == []


async def test_a_decision_after_the_erasure_is_refused() -> None:
    race = Race(Status.VERIFIED)
    validation = Validation(race.database, PlainSeals(), plain_texts(), race.clock)
    await race.request()
    caller = operator(Role.VALIDATOR, tenant=race.first.tenant)
    with pytest.raises(TransitionRefused):
        await validation.validate(caller, race.first.id, "trop tard")
    assert "trop tard" not in repr(race.database.rows)


@pytest.mark.parametrize("consumer", ["archiving", "integrity", "renditions", "notification"])
async def test_a_dead_letter_of_an_erased_document_is_not_redriven(consumer: str) -> None:
    race = Race(Status.ARCHIVE_FAILED)
    await race.request()
    origin = Origin(actor="op", at=race.clock.at, correlation_id=uuid4())
    with pytest.raises(_Refusal, match="ERASING"):
        async with race.database.transaction() as work:
            await reinstate(work, consumer, race.event, origin)


async def test_a_claim_that_ran_out_is_not_waited_for() -> None:
    race = Race()
    past = race.clock.at - timedelta(seconds=1)
    race.database.rows.inbox["renditions", uuid4()] = InboxRow(str(race.first.id), "CLAIMED", uuid4(), past)
    await race.erase()
    assert race.document.status is Status.ERASED


# --- Uploads ---------------------------------------------------------------------------------------------------------


async def test_a_later_version_of_an_erased_document_is_a_document_of_its_own() -> None:
    bench = IntakeBench()
    first = await bench.stored(Status.VERIFIED)
    await bench.erasure_requests.request(bench.caller(Role.OPERATOR), first.id, "T-1", LegalBasis.GDPR_17_1_B)
    receipt = await bench.receive(parent_id=first.id)
    assert (receipt.status, receipt.body["version"], receipt.body["status"]) == (201, 2, "STORED")
    assert bench.database.rows.documents[first.id].status is Status.ERASING


async def test_a_repeated_upload_does_not_bring_an_erased_document_back() -> None:
    bench = IntakeBench()
    receipt = await bench.receive(idempotency_key="k-1")
    (document,) = bench.database.rows.documents.values()
    await bench.erasure_requests.request(bench.caller(Role.OPERATOR), document.id, "T-1", LegalBasis.GDPR_17_1_B)
    with pytest.raises(DocumentGone):
        await bench.receive(PDF, idempotency_key="k-1")
    assert len(bench.database.rows.documents) == 1
    ((held, _),) = bench.database.rows.keys.values()
    assert (held.response, held.content_sha256, held.metadata_fingerprint) == (None, None, "")
    assert receipt.status == 201
