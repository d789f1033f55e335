"""Erasures, legal holds and retentions that a restored database has forgotten are done again, once."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from domain.documents import Document
from domain.erasure import LegalBasis
from domain.errors import UnexpectedFailure
from domain.lifecycle import Status
from domain.restores import DocumentHistory, RecordedAct
from domain.retention import LegalHold
from domain.subjects import SubjectKey, subject_of
from processors.restore.undone import UndoneActs
from tests.support.builders import NOW, FixedClock, a_document, a_type
from tests.support.memory import MemoryDatabase
from tests.unit.test_restores import act


class Bench:
    def __init__(self) -> None:
        self.clock = FixedClock(NOW + timedelta(days=1))
        self.database = MemoryDatabase(self.clock)
        self.database.put(a_type("CNI"))
        self.acts = UndoneActs(self.database, self.clock, "u-op")

    def add(self, status: Status = Status.ARCHIVED, **changes: object) -> Document:
        document = a_document(status=status, **changes)
        self.database.put(document)
        self.database.rows.subject_keys[subject_of(document)] = SubjectKey("wrapped")
        return document

    def now(self, document: Document) -> Document:
        return self.database.rows.documents[document.id]


def of(document: Document, *acts: RecordedAct) -> DocumentHistory:
    return DocumentHistory(document.id, document.tenant, acts)


ERASING = act("erasing", 9, reason="T-1", legal_basis="COURT_ORDER")
HOLD = act("legal_hold.set", 0, seconds=20, reference="CASE-1", reason="LITIGATION")
UNTIL = act("retention.extended", 0, seconds=25, until="2090-01-01T00:00:00+00:00")


async def test_an_erasure_is_begun_again_with_its_reason_and_its_basis() -> None:
    bench = Bench()
    document = bench.add()
    assert await bench.acts.erase(of(document, ERASING))
    row = bench.now(document)
    assert (row.status, row.wrapped_key, row.original_name) == (Status.ERASING, None, "")
    erasure, _ = bench.database.rows.erasures[document.id]
    assert (erasure.reason, erasure.basis, erasure.actor) == ("T-1", LegalBasis.COURT_ORDER, "u-op")
    assert bench.database.rows.subject_keys[subject_of(document)].wrapped is None
    (line,) = bench.database.audited()
    assert (line.action, line.correlation_id) == ("document.erasing", ERASING.correlation_id)


async def test_it_is_done_once() -> None:
    bench = Bench()
    document = bench.add()
    await bench.acts.erase(of(document, ERASING))
    rows = bench.database.rows
    assert not await bench.acts.erase(of(document, ERASING))
    assert bench.database.audited() == [line for line in rows.outbox if line in bench.database.audited()]
    assert len(bench.database.audited()) == 1


async def test_the_same_restore_twice_says_the_same_line() -> None:
    one, two = Bench(), Bench()
    document = one.add()
    two.add(id=document.id)
    await one.acts.erase(of(document, ERASING))
    await two.acts.erase(of(document, ERASING))
    assert one.database.audited()[0].event_id == two.database.audited()[0].event_id


async def test_what_kept_the_restored_row_keeps_nothing() -> None:
    """The hold was lifted and the time was over when the erasure was asked for."""
    bench = Bench()
    document = bench.add(expires_at=NOW.replace(year=2099))
    bench.database.rows.holds[document.id, "C"] = LegalHold(reference="C", reason="R", set_by="u", set_at=NOW)
    lifted = LegalHold(
        reference="D", reason="R", set_by="u", set_at=NOW, lifted_at=NOW, lifted_by="u", lifted_reason="R"
    )
    bench.database.rows.holds[document.id, "D"] = lifted
    assert await bench.acts.erase(of(document, ERASING))
    holds = bench.database.rows.holds
    assert holds[document.id, "C"].lifted_at == bench.clock.at
    assert holds[document.id, "D"] == lifted


@pytest.mark.parametrize(
    ("details", "basis"), [({}, LegalBasis.RETENTION_ENDED), ({"legal_basis": "X"}, LegalBasis.RETENTION_ENDED)]
)
async def test_an_entry_that_says_too_little(details: dict[str, str], basis: LegalBasis) -> None:
    bench = Bench()
    document = bench.add()
    assert await bench.acts.erase(of(document, act("erasing", 9, **details)))
    erasure, _ = bench.database.rows.erasures[document.id]
    assert (erasure.reason, erasure.basis) == ("RESTORE", basis)


async def test_nothing_is_erased_that_the_log_does_not_tell_of() -> None:
    bench = Bench()
    document = bench.add()
    with pytest.raises(UnexpectedFailure):
        await bench.acts.erase(of(document, act("stored", 2)))
    assert bench.now(document).status is Status.ARCHIVED


async def test_nothing_is_erased_of_another_tenant_of_no_row_and_of_an_upload_under_way() -> None:
    bench = Bench()
    other, pending = bench.add(tenant="other"), bench.add(Status.PENDING)
    assert not await bench.acts.erase(DocumentHistory(other.id, "acme", (ERASING,)))
    assert not await bench.acts.erase(of(pending, ERASING))
    assert not await bench.acts.erase(DocumentHistory(UUID(int=1), "acme", (ERASING,)))
    assert not bench.database.rows.erasures


async def test_holds_and_retentions_stand_again_once() -> None:
    bench = Bench()
    document = bench.add(expires_at=NOW)
    assert await bench.acts.keep(of(document, HOLD, UNTIL))
    hold = bench.database.rows.holds[document.id, "CASE-1"]
    assert (hold.reason, hold.set_by, hold.set_at, hold.lifted_at) == ("LITIGATION", "u-1", HOLD.at, None)
    assert bench.now(document).expires_at == NOW.replace(year=2090, month=1, day=1, hour=0)
    (line,) = bench.database.audited()
    assert line.action == "document.retention.restored"
    assert not await bench.acts.keep(of(document, HOLD, UNTIL))
    assert len(bench.database.audited()) == 1


async def test_a_hold_that_was_lifted_since_stays_lifted() -> None:
    bench = Bench()
    document = bench.add()
    lifted = LegalHold(
        reference="CASE-1", reason="R", set_by="u", set_at=HOLD.at, lifted_at=NOW, lifted_by="u", lifted_reason="R"
    )
    bench.database.rows.holds[document.id, "CASE-1"] = lifted
    assert not await bench.acts.keep(of(document, HOLD))
    assert bench.database.rows.holds[document.id, "CASE-1"] == lifted


async def test_nothing_is_kept_of_what_is_gone_and_no_retention_is_made_shorter() -> None:
    bench = Bench()
    gone, long = bench.add(Status.ERASED), bench.add(expires_at=NOW.replace(year=2095))
    assert not await bench.acts.keep(of(gone, HOLD))
    assert not await bench.acts.keep(of(long, UNTIL))
    assert bench.now(long).expires_at == NOW.replace(year=2095)
