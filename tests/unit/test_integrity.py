"""The integrity step's verdicts, and a decision that waited for it; what is written with every change of state."""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import structlog

from domain.antivirus import ScanResult, ScanVerdict
from domain.documents import Decision, Document
from domain.errors import (
    AntivirusLimitExceeded,
    AntivirusUnavailable,
    DPJError,
    EnvelopeInvalid,
    IntegrityMismatch,
    KeyringUnavailable,
    ObjectMissing,
    ObjectStoreUnavailable,
    WrongKey,
)
from domain.events import DocumentQuarantined, DocumentRejected, DocumentValidated, DocumentVerified, Event
from domain.lifecycle import Status
from domain.refusals import TransitionRefused
from processors.documents.decisions import apply_decision
from processors.documents.transitions import Origin, canonical_json
from processors.events.integrity import ACTOR, IntegrityProcessor
from tests.support.builders import NOW, FixedClock
from tests.support.fakes_archiving import MemoryContent, stored, uploaded, validated
from tests.support.memory import MemoryDatabase
from tests.support.processor_bench import DocumentBench


class Bench(DocumentBench):
    def __init__(self, **changes: Any) -> None:
        self.database, self.content = MemoryDatabase(), MemoryContent()
        self.first = replace(stored(), **changes)
        self.database.put(self.first)
        self.processor = IntegrityProcessor(self.database, self.content, FixedClock())


async def test_what_was_received_is_verified() -> None:
    bench = Bench()
    event = uploaded(bench.first)
    await bench.run(event)
    assert (bench.document.status, bench.document.sequence) == (Status.VERIFIED, 3)
    (said,) = bench.database.events()
    assert isinstance(said, DocumentVerified)
    assert (said.sequence, said.sha256, said.actor) == (2, bench.first.sha256, ACTOR)
    assert said.correlation_id == event.correlation_id
    (line,) = bench.database.audited()
    assert (line.sequence, line.old_state, line.new_state) == (3, '{"status":"STORED"}', '{"status":"VERIFIED"}')


@pytest.mark.parametrize("content", [b"", b"other", b"x" * 1033])
async def test_other_bytes_are_quarantined(content: bytes) -> None:
    bench = Bench()
    bench.content.content = content
    await bench.run(uploaded(bench.first))
    assert (bench.document.status, bench.document.failure_code) == (Status.QUARANTINED, "integrity_mismatch")
    (said,) = bench.database.events()
    assert isinstance(said, DocumentQuarantined)
    assert said.reason_code == "integrity_mismatch"


@pytest.mark.parametrize("damage", [EnvelopeInvalid, WrongKey, ObjectMissing, IntegrityMismatch])
async def test_damage_is_a_verdict(damage: type[DPJError]) -> None:
    bench = Bench(pending_decision=Decision(Status.VALIDATED, "u-validator", NOW, ""))
    bench.content.error = damage()
    await bench.run(uploaded(bench.first))
    assert (bench.document.status, bench.document.failure_code) == (Status.QUARANTINED, damage.code)
    assert bench.document.pending_decision is None
    assert [entry.type for entry in bench.database.rows.timeline] == ["QUARANTINED"]


@pytest.mark.parametrize("away", [ObjectStoreUnavailable, KeyringUnavailable])
async def test_away_is_no_verdict(away: type[DPJError]) -> None:
    bench = Bench()
    bench.content.error = away()
    with pytest.raises(away):
        await bench.processor.process(uploaded(bench.first))
    assert bench.document == bench.first


@pytest.mark.parametrize(
    ("to", "event_type", "note"),
    [
        (Status.VALIDATED, DocumentValidated, "fine"),
        (Status.VALIDATED, DocumentValidated, ""),
        (Status.REJECTED, DocumentRejected, "blurred"),
    ],
)
async def test_a_decision_that_waited_is_carried_out_with_the_verdict(
    to: Status, event_type: type[Event], note: str
) -> None:
    earlier = NOW - timedelta(minutes=1)
    bench = Bench(pending_decision=Decision(to, "u-validator", earlier, note))
    before = bench.database.transactions
    await bench.run(uploaded(bench.first))
    assert bench.database.transactions == before + 2
    document = bench.document
    assert (document.status, document.validator_id, document.decided_at) == (to, "u-validator", earlier)
    assert (document.pending_decision, document.sequence) == (None, 5)
    text = document.validation_comment if to is Status.VALIDATED else document.rejection_reason
    assert text == (note or None)
    verified, decided = bench.database.events()
    assert isinstance(verified, DocumentVerified)
    assert isinstance(decided, event_type)
    assert [verified.sequence, decided.sequence] == [2, 4]
    assert (decided.actor, getattr(decided, "comment_code", "")) == ("u-validator", "NOTED" if note else "NONE")
    assert "blurred" not in repr(bench.database.rows.outbox)
    assert [line.sequence for line in bench.database.audited()] == [3, 5]


async def test_run_twice_is_one_verdict() -> None:
    bench = Bench()
    event = uploaded(bench.first)
    commits = [await bench.processor.process(event), await bench.processor.process(event)]
    for commit in commits:
        async with bench.database.transaction() as work:
            await commit(work)
    await bench.run(event)
    assert len(bench.database.events()) == 1


async def test_a_passed_document_is_not_quarantined() -> None:
    bench = Bench()
    event = uploaded(bench.first)
    late = await bench.processor.give_up(event, "unexpected_failure")
    await bench.run(event)
    async with bench.database.transaction() as work:
        await late(work)
    assert bench.document.status is Status.VERIFIED


async def test_giving_up_quarantines() -> None:
    bench = Bench()
    commit = await bench.processor.give_up(uploaded(bench.first), "unexpected_failure")
    async with bench.database.transaction() as work:
        await commit(work)
    assert (bench.document.status, bench.document.failure_code) == (Status.QUARANTINED, "unexpected_failure")


async def test_other_events_are_a_defect() -> None:
    bench = Bench()
    with pytest.raises(TypeError):
        await bench.processor.process(validated(bench.first))


async def test_no_decision_from_a_state_that_has_none() -> None:
    bench = Bench()
    decision = Decision(Status.VALIDATED, "u-validator", NOW, "")
    origin = Origin(actor="u-validator", at=NOW, correlation_id=bench.first.correlation_id)
    with pytest.raises(TransitionRefused):
        async with bench.database.transaction() as work:
            await apply_decision(work, bench.first, decision, origin)
    assert bench.database.rows.outbox == []


def test_equal_values_are_equal_bytes() -> None:
    assert canonical_json({"b": 1, "a": "é"}) == canonical_json({"a": "é", "b": 1}) == '{"a":"é","b":1}'


# --- antivirus --------------------------------------------------------------------------------------------------------


class Engine:
    """Gives one verdict, or raises, after it has read everything (or stopped early)."""

    def __init__(self, outcome: ScanVerdict | DPJError, *, early: bool = False) -> None:
        self.outcome = outcome
        self.early = early
        self.seen = b""

    async def scan(self, content: AsyncIterable[bytes], document: Document) -> ScanVerdict:
        async for piece in content:
            self.seen += piece
            if self.early:
                break
        if isinstance(self.outcome, DPJError):
            raise self.outcome
        return self.outcome


def scanned_by(engine: Engine) -> Bench:
    bench = Bench()
    bench.processor = IntegrityProcessor(bench.database, bench.content, FixedClock(), engine)
    return bench


async def test_the_antivirus_sees_all_of_it_before_it_is_verified() -> None:
    engine = Engine(ScanVerdict(ScanResult.CLEAN))
    bench = scanned_by(engine)
    await bench.run(uploaded(bench.first))
    assert bench.document.status is Status.VERIFIED
    assert engine.seen == bench.content.content
    (entry,) = bench.database.rows.timeline
    assert entry.details["antivirus"] == "clean"


async def test_without_an_antivirus_the_timeline_says_so() -> None:
    bench = Bench()
    await bench.run(uploaded(bench.first))
    (entry,) = bench.database.rows.timeline
    assert entry.details["antivirus"] == "not_scanned"


@pytest.mark.parametrize(
    ("finding", "code"), [(ScanResult.INFECTED, "malware_found"), (ScanResult.UNSCANNABLE, "content_unscannable")]
)
async def test_what_the_antivirus_condemns_is_quarantined(finding: ScanResult, code: str) -> None:
    bench = scanned_by(Engine(ScanVerdict(finding, "Some.Thing")))
    with structlog.testing.capture_logs() as logs:
        await bench.run(uploaded(bench.first))
    assert (bench.document.status, bench.document.failure_code) == (Status.QUARANTINED, code)
    (said,) = bench.database.events()
    assert isinstance(said, DocumentQuarantined)
    assert said.reason_code == code
    (told,) = [line for line in logs if line["event"] == "document_condemned"]
    assert (told["log_level"], told["code"], told["signature"]) == ("error", code, "Some.Thing")
    assert "Some.Thing" not in canonical_json([entry.details for entry in bench.database.rows.timeline])


@pytest.mark.parametrize("error", [AntivirusUnavailable, AntivirusLimitExceeded])
async def test_what_the_antivirus_has_not_judged_waits(error: type[DPJError]) -> None:
    bench = scanned_by(Engine(error(), early=True))
    with pytest.raises(AntivirusUnavailable):
        await bench.processor.process(uploaded(bench.first))
    assert bench.document.status is Status.STORED
    assert bench.database.events() == []


async def test_a_document_that_differs_is_not_cleared_by_its_scan() -> None:
    bench = scanned_by(Engine(ScanVerdict(ScanResult.INFECTED, "Some.Thing")))
    bench.content.content = b"other"
    await bench.run(uploaded(bench.first))
    assert bench.document.failure_code == "integrity_mismatch"
