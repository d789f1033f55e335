"""Erasing: what one request destroys, what the worker deletes, the receipt; refusals, repetitions, cuts at every step."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from domain.documents import Decision, Document, Role
from domain.erasure import LegalBasis, RetentionPeriods
from domain.errors import ArchiveRefused, DocumentBusy, GedUnavailable
from domain.events import DocumentErased
from domain.lifecycle import TRANSITIONS, Status
from domain.refusals import (
    DocumentGone,
    DocumentNotFound,
    ErasureReceiptNotFound,
    LegalHoldStands,
    RetentionRunning,
    TransitionRefused,
)
from domain.shared import crash_points
from domain.subjects import SubjectKey, subject_of
from processors.documents.callers import Caller
from processors.events.archive_copies import CopyRemover, location
from processors.retention.erasure_execution import ErasureExecutor
from processors.retention.erasure_request import ErasureRequests
from processors.retention.legal_holds import RetentionActions
from tests.support.builders import FixedClock, a_rendition, a_type
from tests.support.fakes_archiving import CONTENT, MemoryGed, PlainSeals, stored
from tests.support.fakes_content import MemoryObjectStore
from tests.support.interleaving import at
from tests.support.memory import MemoryDatabase
from tests.support.memory_audit_trees import MemorySigner
from tests.support.memory_erasure import MemoryErasureQueue
from tests.support.memory_inbox import InboxRow

POINTS = ("erasure.claimed", "erasure.objects", "erasure.copies", "erasure.metadata", "erasure.signed")
BASIS = LegalBasis.GDPR_17_1_B


class MemoryFacts:
    """Extended metadata by document."""

    def __init__(self) -> None:
        self.held: set[UUID] = set()

    async def delete(self, document_id: UUID, tenant: str) -> None:
        self.held.discard(document_id)


class Died(Exception):
    """The process ended here."""


class Bench:
    """An archived document with all that can belong to one, in every store."""

    def __init__(self, status: Status = Status.ARCHIVED, **changes: object) -> None:
        self.clock = FixedClock()
        self.database = MemoryDatabase(self.clock)
        self.objects, self.ged, self.facts = MemoryObjectStore(), MemoryGed(), MemoryFacts()
        self.signer = MemorySigner()
        self.queue = MemoryErasureQueue(self.database)
        base = stored(
            status=status,
            original_name="Durand-passeport.pdf",
            tags=("durand",),
            metadata={"numero": "12AB"},
            validation_comment="Vu avec M. Durand",
            rejection_reason="Durand illisible",
            pending_decision=Decision(Status.VALIDATED, "u-v", self.clock.at, "pour Durand"),
            ged_id="g-1",
            ged_path="/dpj/x",
            **changes,
        )
        self.first = base
        self.database.put(base, a_type())
        for key in (base.object_key, f"{base.object_key}.thumbnail-256.aa", f"{base.object_key}.thumbnail-1024.zz"):
            self.objects.objects[key] = b"sealed"
        self.objects.objects["documents/other"] = b"stays"
        self.database.rows.renditions[base.id, "thumbnail-256"] = a_rendition(base)
        folder, name = location(base)
        self.ged.put((*folder, name), CONTENT)
        self.facts.held.add(base.id)
        self.erasure_requests = ErasureRequests(self.database, PlainSeals(), self.clock)
        self.retention = RetentionActions(self.database, PlainSeals(), self.clock)
        self.eraser = self.another()

    def another(self) -> ErasureExecutor:
        remover = CopyRemover(self.database, self.ged)
        kept = RetentionPeriods(topic_days=30, backup_days=90, row_days=60, key_hours=72)
        return ErasureExecutor(
            self.database, self.queue, self.objects, remover, self.facts, self.signer, self.clock, kept
        )  # fmt: skip

    @property
    def document(self) -> Document:
        return self.database.rows.documents[self.first.id]

    async def request(self, basis: LegalBasis | None = BASIS) -> None:
        await self.erasure_requests.request(operator(), self.first.id, "TICKET-1", basis)

    def nothing_is_left(self) -> bool:
        left = [key for key in self.objects.objects if key != "documents/other"]
        return not (left or self.ged.documents() or self.facts.held or self.database.rows.renditions)


def operator(*roles: Role, tenant: str = "bank") -> Caller:
    return Caller(
        subject="op", tenant=tenant, roles=frozenset(roles or (Role.OPERATOR,)), correlation_id=uuid4(), ip="192.0.2.1"
    )


async def test_the_request_destroys_the_key_and_what_is_personal() -> None:
    bench = Bench()
    await bench.request()
    document = bench.document
    assert (document.status, document.wrapped_key, document.ged_id) == (Status.ERASING, None, "g-1")
    assert "urand" not in str(asdict(document))
    assert document.depositor_email_sealed == ""
    assert (document.tags, document.metadata, document.pending_decision) == ((), {}, None)
    assert bench.database.rows.renditions == {}
    (line,) = bench.database.audited()
    assert (line.action, line.actor, line.tenant) == ("document.erasing", "actor-bank/op", document.tenant)
    assert json.loads(line.details) == {"legal_basis": "GDPR_17_1_B", "reason": "TICKET-1"}
    assert "urand" not in str(asdict(replace(bench.database.rows, subject_keys={})))


async def test_the_worker_deletes_everything_and_says_so() -> None:
    bench = Bench()
    await bench.request()
    assert await bench.eraser.run_once() == 1
    assert bench.nothing_is_left()
    assert bench.objects.objects == {"documents/other": b"stays"}
    assert bench.document.status is Status.ERASED
    (said,) = bench.database.events()
    assert isinstance(said, DocumentErased)
    assert (said.legal_basis_code, said.actor) == ("GDPR_17_1_B", "system:erasure")
    assert [entry.type for entry in bench.database.rows.timeline] == ["ERASING", "ERASED"]
    assert await bench.eraser.run_once() == 0


async def test_the_receipt_is_signed_and_says_what_was_destroyed_and_what_remains() -> None:
    bench = Bench()
    await bench.request()
    with pytest.raises(ErasureReceiptNotFound):
        await bench.erasure_requests.receipt(operator(), bench.first.id)
    bench.clock.move(60)
    await bench.eraser.run_once()
    receipt = await bench.erasure_requests.receipt(operator(Role.AUDITOR), bench.first.id)
    assert receipt.key_id == bench.signer.public.id
    said = receipt.fields()
    assert said["document"]["id"] == str(bench.first.id)
    assert said["document"]["sha256"] == bench.first.sha256
    assert said["request"]["legal_basis"] == "GDPR_17_1_B"
    destroyed = {one["what"]: one for one in said["destroyed"]}
    assert destroyed["data_key"]["key"]["scheme"] == "local-aes-256-gcm"
    assert destroyed["data_key"]["at"] < destroyed["content"]["at"]
    assert destroyed["thumbnails"]["keys"] == [f"{bench.first.object_key}.thumbnail-256.aa"]
    assert destroyed["archived_copy"]["id"] == "g-1"
    assert "original_name" in destroyed["personal_fields"]["fields"]
    assert destroyed["subject_key"]["at"] == destroyed["data_key"]["at"]
    remains = {one["what"]: one for one in said["remains"]}
    ends = {what: one["until"][:10] for what, one in remains.items() if one["until"]}
    assert ends == {
        "events": "2026-04-02",  # 30 days, and the segment's
        "backups": "2026-05-30",
        "outbox_and_inbox": "2026-05-01",
        "idempotency_keys": "2026-03-05",
    }
    assert remains.keys() >= {"dossier_events", "notifications", "legal_holds", "erasure", "subject_key_row", "dossier"}
    assert "bin" in remains["deleted_copy"]["where"]
    assert all(one["why"] for one in remains.values())
    assert "urand" not in json.dumps(said)


async def test_what_an_earlier_release_was_asked_for_destroys_the_subjects_key_too() -> None:
    """It began the erasure and knew no such key; an operator has looked at the document meanwhile."""
    bench = Bench()
    await bench.request()
    bench.database.rows.subject_keys[subject_of(bench.first)] = SubjectKey("key")
    bench.clock.move(60)
    await bench.eraser.run_once()
    assert bench.database.rows.subject_keys[subject_of(bench.first)] == SubjectKey(None, bench.clock.at)
    receipt = await bench.erasure_requests.receipt(operator(), bench.first.id)
    (said,) = (one for one in receipt.fields()["destroyed"] if one["what"] == "subject_key")
    assert said["at"] == bench.clock.at.isoformat(timespec="microseconds")


async def test_asked_for_twice_it_is_done_once() -> None:
    bench = Bench()
    await bench.request()
    again = await bench.erasure_requests.request(operator(), bench.first.id, "TICKET-2", None)
    assert (again.document.status, again.complete) == (Status.ERASING, False)
    await bench.eraser.run_once()
    done = await bench.erasure_requests.request(operator(), bench.first.id, "TICKET-2", None)
    assert (done.document.status, done.complete) == (Status.ERASED, True)
    assert len(bench.database.events()) == 1
    actions = [line.action for line in bench.database.audited()]
    assert actions.count("document.erase.repeated") == 2


async def test_a_legal_hold_stands_above_every_basis() -> None:
    bench = Bench()
    await bench.retention.set_hold(operator(), bench.first.id, "CASE-1", "LITIGATION")
    await bench.retention.set_hold(operator(), bench.first.id, "CASE-2", "TAX")
    await bench.retention.lift_hold(operator(), bench.first.id, "CASE-1", "CLOSED")
    with pytest.raises(LegalHoldStands):
        await bench.request(LegalBasis.COURT_ORDER)
    assert bench.document.status is Status.ARCHIVED
    await bench.retention.lift_hold(operator(), bench.first.id, "CASE-2", "CLOSED")
    await bench.request()
    with pytest.raises(DocumentGone):
        await bench.retention.set_hold(operator(), bench.first.id, "CASE-3", "LATE")


@pytest.mark.parametrize("basis", [None, LegalBasis.RETENTION_ENDED])
async def test_before_the_retention_ends_a_basis_must_be_stated(basis: LegalBasis | None) -> None:
    bench = Bench(expires_at=FixedClock().at + timedelta(days=1))
    with pytest.raises(RetentionRunning):
        await bench.request(basis)
    bench.clock.move(86_400)
    await bench.request(basis)
    assert bench.database.rows.erasures[bench.first.id][0].basis is LegalBasis.RETENTION_ENDED


async def test_what_was_never_archived_is_kept_from_its_deposit_on() -> None:
    bench = Bench(Status.REJECTED)
    bench.database.put(a_type(retention_years=2))
    bench.clock.move(731 * 86_400 - 60)
    with pytest.raises(RetentionRunning):
        await bench.request(None)
    bench.clock.move(60)
    await bench.request(None)


@pytest.mark.parametrize("status", list(Status))
async def test_every_state_that_the_table_lets_go_can_be_erased(status: Status) -> None:
    bench = Bench(status)
    if Status.ERASING in TRANSITIONS[status]:
        await bench.request()
        assert await bench.eraser.run_once() == 1
        assert bench.document.status is Status.ERASED
    elif status not in {Status.ERASING, Status.ERASED}:
        with pytest.raises(TransitionRefused):
            await bench.request()


async def test_a_document_that_the_caller_may_not_see_is_not_found() -> None:
    bench = Bench()
    with pytest.raises(DocumentNotFound):
        await bench.erasure_requests.request(operator(Role.PORTAL), bench.first.id, "T", BASIS)
    with pytest.raises(DocumentNotFound):
        await bench.erasure_requests.receipt(operator(Role.PORTAL), bench.first.id)


@pytest.mark.parametrize("point", POINTS)
async def test_cut_off_anywhere_the_next_try_ends_it(point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    await bench.request()

    def die(name: str) -> None:
        raise Died(name)

    monkeypatch.setattr(crash_points, "_armed", {point: 1})
    monkeypatch.setattr(crash_points, "_strike", die)
    monkeypatch.setattr(bench.queue, "postpone", _nothing)  # who is dead puts nothing off
    await bench.eraser.run_once()
    monkeypatch.setattr(crash_points, "_armed", {})
    assert bench.document.status is Status.ERASING
    (key,) = bench.database.rows.subject_keys.values()
    assert (key.wrapped, key.destroyed_at) == (None, bench.clock.at)
    assert await bench.another().run_once() == 0  # the lease of the dead one holds
    bench.clock.move(31)
    assert await bench.another().run_once() == 1
    assert bench.nothing_is_left()
    assert bench.document.status is Status.ERASED
    assert len(bench.database.events()) == 1


async def _nothing(*_: object) -> None: ...


@pytest.mark.parametrize("point", POINTS)
async def test_two_workers_at_one_erasure_complete_it_once(point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins where the first one stands, and is through before it goes on."""
    bench = Bench()
    await bench.request()

    async def overtake() -> None:
        bench.clock.move(31)
        assert await bench.another().run_once() == 1

    at(bench, point, overtake, monkeypatch)
    assert await bench.eraser.run_once() == 0
    assert bench.document.status is Status.ERASED
    assert bench.nothing_is_left()
    assert len(bench.database.events()) == 1


@pytest.mark.parametrize(
    ("fail", "code", "pause"),
    [("ged", "ged_unavailable", 11), ("signer", "keyring_unavailable", 11), ("refused", "archive_refused", 301)],
)
async def test_what_is_away_holds_up_its_own_document_alone(fail: str, code: str, pause: float) -> None:
    bench = Bench()
    await bench.request()
    if fail == "signer":
        bench.signer.away = 1
    else:
        bench.ged.crash = {"delete": GedUnavailable() if fail == "ged" else ArchiveRefused()}
    other = stored(status=Status.STORED)
    bench.database.put(other)
    await bench.erasure_requests.request(operator(), other.id, "T", BASIS)
    assert await bench.eraser.run_once() == 1
    assert bench.queue.postponed == [code]
    assert (await bench.queue.waiting()).count == 1
    bench.clock.move(pause)
    assert await bench.eraser.run_once() == 1
    assert bench.nothing_is_left()


async def test_a_defect_at_one_document_is_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    await bench.request()

    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.facts, "delete", broken)
    assert await bench.eraser.run_once() == 0
    assert bench.queue.postponed == ["unexpected_failure"]


@pytest.mark.parametrize("consumer", ["archiving", "renditions"])
async def test_it_waits_for_who_is_at_work_on_the_document(consumer: str) -> None:
    bench = Bench()
    until = bench.clock.at + timedelta(seconds=60)
    bench.database.rows.inbox[consumer, uuid4()] = InboxRow(str(bench.first.id), "CLAIMED", uuid4(), until)
    await bench.request()
    assert await bench.eraser.run_once() == 0
    assert bench.queue.postponed == [DocumentBusy.code]
    assert bench.first.object_key in bench.objects.objects
    assert bench.document.wrapped_key is None
    bench.clock.move(61)  # whoever it was is gone
    assert await bench.eraser.run_once() == 1


async def test_a_retention_is_extended_and_never_shortened() -> None:
    bench = Bench(expires_at=FixedClock().at + timedelta(days=10))
    before = bench.document.expires_at
    assert before is not None
    later = before + timedelta(days=5)
    kept = await bench.retention.extend(operator(), bench.first.id, later, "AUDIT-9")
    assert kept.until == bench.document.expires_at == later
    await bench.retention.extend(operator(), bench.first.id, later, "AUDIT-9")
    for earlier in (before, later - timedelta(seconds=1)):
        with pytest.raises(Exception, match="retention"):
            await bench.retention.extend(operator(), bench.first.id, earlier, "NO")
    extended = [line for line in bench.database.audited() if line.action == "document.retention.extended"]
    assert len(extended) == 1


async def test_a_hold_is_set_once_and_stands_again_after_it_was_lifted() -> None:
    bench = Bench()
    for _ in range(2):
        kept = await bench.retention.set_hold(operator(), bench.first.id, "CASE-1", "LITIGATION")
    assert [hold.lifted_at for hold in kept.holds] == [None]
    for _ in range(2):
        kept = await bench.retention.lift_hold(operator(), bench.first.id, "CASE-1", "CLOSED")
    assert [hold.lifted_reason for hold in kept.holds] == ["CLOSED"]
    kept = await bench.retention.set_hold(operator(), bench.first.id, "CASE-1", "REOPENED")
    assert [(hold.reason, hold.lifted_at) for hold in kept.holds] == [("REOPENED", None)]
    said = [line.action for line in bench.database.audited()]
    assert said == ["document.legal_hold.set", "document.legal_hold.lifted", "document.legal_hold.set"]
    assert (await bench.retention.read(operator(Role.AUDITOR), bench.first.id)).holds == kept.holds
