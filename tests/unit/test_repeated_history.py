"""A history that is played again, from a database restored to before, says the same under the same ids; a new act is a new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from domain.documents import Decision, Document
from domain.events import Event
from domain.lifecycle import Status
from processors.documents.decisions import apply_decision
from processors.documents.transitions import Origin
from processors.events.archive_copies import ArchiveCopies
from processors.events.archiving import ArchivingProcessor
from processors.events.integrity import IntegrityProcessor
from tests.support.builders import NOW, FixedClock, a_type
from tests.support.fakes_archiving import MemoryContent, MemoryGed, stored, uploaded, validated
from tests.support.memory import MemoryDatabase
from tests.support.processor_bench import DocumentBench


class Bench(DocumentBench):
    """A database as a backup has it: one document, nothing said yet."""

    def __init__(self, backup: Document, ged: MemoryGed | None = None) -> None:
        self.database, self.clock = MemoryDatabase(), FixedClock()
        self.first = backup
        self.database.put(backup, a_type(archived=True, retention_years=10))
        self.content = MemoryContent()
        self.integrity = IntegrityProcessor(self.database, self.content, self.clock)
        copies = ArchiveCopies(self.database, self.content, ged or MemoryGed())
        self.archiving = ArchivingProcessor(self.database, copies, self.clock)

    @property
    def said(self) -> Sequence[UUID]:
        """Ids of the events and of the audit lines, in order."""
        return [one.event_id for one in (*self.database.events(), *self.database.audited())]

    async def verified(self, event: Event) -> Bench:
        self.processor = self.integrity
        await self.run(event)
        return self

    async def archived(self, event: Event) -> Bench:
        self.processor = self.archiving
        await self.run(event)
        return self


async def test_what_follows_from_an_event_has_the_same_ids_whenever_it_is_processed() -> None:
    backup = stored()
    event = uploaded(backup)
    first = await Bench(backup).verified(event)
    again = Bench(backup)
    again.clock.at = NOW + timedelta(days=2)
    await again.verified(event)
    assert first.said == again.said
    assert len(set(first.said)) == len(first.said) == 2


async def test_so_it_is_with_a_decision_that_waited() -> None:
    backup = replace(stored(), pending_decision=Decision(to=Status.VALIDATED, actor="u-validator", at=NOW, note=""))
    event = uploaded(backup)
    first, again = await Bench(backup).verified(event), await Bench(backup).verified(event)
    assert first.said == again.said
    assert len(set(first.said)) == 4


async def test_so_it_is_with_an_archiving() -> None:
    backup, ged = stored(status=Status.VALIDATED), MemoryGed()
    event = validated(backup)
    first, again = await Bench(backup, ged).archived(event), await Bench(backup, ged).archived(event)
    assert first.said == again.said
    assert len(set(first.said)) == 2


async def test_another_verdict_is_another_fact() -> None:
    backup = stored()
    event = uploaded(backup)
    sound, damaged = Bench(backup), Bench(backup)
    damaged.content.content = b"other"
    await sound.verified(event)
    await damaged.verified(event)
    assert damaged.document.status is Status.QUARANTINED
    assert not set(sound.said) & set(damaged.said)


async def test_another_event_is_another_cause() -> None:
    backup = stored()
    first, other = await Bench(backup).verified(uploaded(backup)), await Bench(backup).verified(uploaded(backup))
    assert not set(first.said) & set(other.said)


async def test_a_second_failure_after_an_operator_sent_the_event_again_is_on_record_too() -> None:
    bench = Bench(stored(status=Status.VALIDATED))
    event = validated(bench.first)
    bench.processor = bench.archiving
    await bench.give_up(event, "ged_refused")
    # As an operator's redrive does: one step further in the document's sequence.
    failed = bench.document
    bench.database.put(replace(failed, status=Status.VALIDATED, sequence=failed.sequence + 1))
    await bench.give_up(event, "ged_refused")
    assert [line.action for line in bench.database.audited()] == ["document.archive_failed"] * 2
    assert len(set(bench.said)) == 2


async def test_what_a_person_does_again_after_a_restore_is_a_new_act() -> None:
    backup = stored(status=Status.VERIFIED)
    decision = Decision(to=Status.VALIDATED, actor="u-validator", at=NOW, note="")
    said: list[UUID] = []
    for _ in range(2):
        bench = Bench(backup)
        origin = Origin(actor="u-validator", at=NOW, correlation_id=backup.id)
        async with bench.database.transaction() as work:
            await apply_decision(work, await work.documents.lock(backup.id), decision, origin)
        said += bench.said
    assert len(set(said)) == len(said) == 4
