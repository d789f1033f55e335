"""The check and the steps of a repair, over stores in memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.audit_chain import ChainEntry
from domain.errors import AuditConflict, BrokerUnavailable, DatabaseUnavailable, GedUnavailable, ObjectMissing
from domain.events import AuditRecorded
from domain.lifecycle import Status
from domain.reconciliation import DiscrepancyKind, ReconcileFinding
from domain.restores import Difference, DocumentHistory, RestoredRow, RestoredStore
from operations.audit.checkpoints import SignedHistory
from operations.external_sort import ExternalSort
from operations.restore import check as checking
from operations.restore.check import (
    RestoreReport,
    RestoreSources,
    add_reconciled,
    add_refill,
    compare_documents,
    look,
    read_all,
)
from operations.restore.refill import TenantRefill
from operations.restore.repair import STEPS, RepairParts, RestoreRepair
from processors.audit.resumption import Resumption
from processors.reconcile.owed_events import OwedReport
from processors.reconcile.run import ReconcileReport, RepairMode
from processors.restore.rows import NotRebuildable
from tests.support.audit_histories import checkpoints_of
from tests.support.audit_lines import MemoryAuditStore, a_line, chain_of
from tests.support.builders import FixedClock
from tests.support.memory_audit_trees import MemorySigner
from tests.support.memory_restores import MemoryRestores

SHA256 = "ab" * 32


def told(document_id: UUID, action: str, sequence: int, tenant: str = "acme", **details: Any) -> AuditRecorded:
    return a_line(
        tenant,
        entity_id=str(document_id),
        action=f"document.{action}",
        sequence=sequence,
        details=json.dumps(details),
    )


class Stores:
    """A log, rows, and Kafka's lines; ``handed_over`` says how far the database thinks that it is."""

    def __init__(self, folder: Path) -> None:
        self.log = MemoryAuditStore()
        self.rows_: dict[UUID, RestoredRow] = {}
        self.in_kafka: list[AuditRecorded] = []
        self.kafka_away = False
        self.given: dict[str, int] = {}
        self.signed_: dict[str, SignedHistory] = {}
        self.chain: list[ChainEntry] = []
        self.sources = RestoreSources(
            log=self.log,
            rows=self,
            handed_over=self.handed_over,
            signed=self.signed,
            lines=self.lines,
            folder=folder,
        )

    async def write(self, *lines: AuditRecorded) -> None:
        self.chain = chain_of(lines)
        await self.log.add(self.chain)
        self.given["acme"] = len(lines)

    async def handed_over(self) -> Mapping[str, int]:
        return dict(self.given)

    async def signed(self) -> Mapping[str, SignedHistory]:
        return self.signed_

    async def lines(self) -> AsyncGenerator[AuditRecorded, None]:
        if self.kafka_away:
            raise BrokerUnavailable
        for line in self.in_kafka:
            yield line

    async def rows(self, ids: Sequence[UUID]) -> Mapping[UUID, RestoredRow]:
        return {one: self.rows_[one] for one in ids if one in self.rows_}

    def row(self, document_id: UUID, status: Status, sequence: int = 2) -> None:
        self.rows_[document_id] = RestoredRow(
            document_id=document_id, tenant="acme", status=status, sequence=sequence, expires_at=None
        )

    async def checked(self) -> RestoreReport:
        report = RestoreReport()
        with ExternalSort(self.sources.folder) as sorting:
            await read_all(self.sources, sorting, report)
            await compare_documents(self.sources, sorting, report)
        return report


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return Stores(tmp_path)


async def test_what_the_log_tells_and_no_row_does_is_named_for_the_portals(stores: Stores) -> None:
    lost, there, archived, odd = uuid4(), uuid4(), uuid4(), "no-id"
    await stores.write(
        told(lost, "stored", 2, sha256=SHA256, size=7, type="CNI"),
        told(there, "stored", 2, sha256=SHA256),
        told(archived, "stored", 2),
        told(archived, "archived", 8, sha256=SHA256),
        a_line(entity_id=odd, action="document.stored"),
        a_line(entity_type="key", entity_id=str(uuid4()), action="document.stored"),
        a_line(entity_id=str(uuid4()), action="document.read"),
    )
    stores.row(there, Status.VERIFIED)
    report = await stores.checked()
    assert dict(report.count) == {
        Difference.DOCUMENT_LOST: 1,
        Difference.ARCHIVED_WITHOUT_ROW: 1,
        Difference.MAIL_SENT: 3,
    }
    (item,) = report.items[Difference.DOCUMENT_LOST]
    assert item["document_id"] == str(lost)
    assert (item["tenant"], item["sha256"], item["size"], item["row"]) == ("acme", SHA256, 7, None)
    assert item["deposited_at"].startswith("2026-03-01T12:00")
    assert report.documents == 3
    assert not report.is_clean


async def test_kafka_tells_of_what_no_log_has(stores: Stores) -> None:
    lost, both = uuid4(), uuid4()
    line = told(both, "stored", 2)
    await stores.write(line)
    stores.row(both, Status.STORED)
    stores.in_kafka = [told(lost, "stored", 2, sha256=SHA256), line, a_line(action="document.read")]
    report = await stores.checked()
    (item,) = report.items[Difference.DOCUMENT_LOST]
    assert (item["document_id"], item["in_log"]) == (str(lost), False)
    stores.kafka_away = True
    report = await stores.checked()
    assert report.failed == {"audit lines in Kafka": "broker_unavailable"}
    assert not report.is_clean


async def test_a_chain_that_is_behind_its_log_and_a_log_that_lacks_entries(stores: Stores) -> None:
    lines = [told(uuid4(), "verified", 4) for _ in range(5)]
    await stores.write(*lines)
    stores.given["acme"] = 3
    report = await stores.checked()
    assert report.items[Difference.CHAIN_BEHIND] == [{"tenant": "acme", "from": 3, "to": 5}]
    stores.given["acme"] = 5
    del stores.log.kept["acme", 4]
    report = await stores.checked()
    assert report.short == ["acme"]
    assert not report.count
    add_refill(report, [TenantRefill("acme", 5, missing=1, found=1)])
    assert report.count == Counter({Difference.ENTRY_MISSING: 1})


async def test_a_hole_behind_the_restored_head_is_told(stores: Stores) -> None:
    await stores.write(*(told(uuid4(), "verified", 4) for _ in range(5)))
    del stores.log.kept["acme", 4]
    for head in (2, 3):
        stores.given["acme"] = head
        report = await stores.checked()
        assert report.items[Difference.LOG_BROKEN] == [{"tenant": "acme", "seq": 4, "reason": "MISSING"}]
        assert report.short == []
        assert not report.is_clean


async def test_nothing_is_believed_behind_a_fault_and_of_what_was_not_signed(stores: Stores) -> None:
    erased = uuid4()
    await stores.write(told(erased, "stored", 2), told(erased, "erasing", 3))
    stores.row(erased, Status.STORED)
    assert Difference.ERASURE_UNDONE in (await stores.checked()).count
    # Somebody who can write the log, and nothing else, had the whole of it made anew.
    signed = checkpoints_of(chain_of([told(erased, "stored", 2), a_line()]), [2], MemorySigner())
    stores.signed_["acme"] = SignedHistory(tuple(one.checkpoint for one in signed))
    report = await stores.checked()
    (item,) = report.items[Difference.LOG_BROKEN]
    assert item == {"tenant": "acme", "seq": 1, "reason": "REWRITTEN"}


async def test_a_log_that_is_shorter_than_what_was_signed(stores: Stores) -> None:
    chain = chain_of([told(uuid4(), "verified", 4) for _ in range(5)])
    signed = checkpoints_of(chain, [5], MemorySigner())
    stores.signed_["acme"] = SignedHistory(tuple(one.checkpoint for one in signed))
    report = await stores.checked()
    assert report.items[Difference.LOG_BROKEN] == [{"tenant": "acme", "seq": 1, "reason": "SHORTER_THAN_SIGNED"}]


async def test_lists_are_bounded_and_counts_are_not(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "LISTED", 2)
    monkeypatch.setattr(checking, "BATCH", 2)
    await stores.write(*(told(uuid4(), "stored", 2) for _ in range(5)))
    seen: list[str] = []
    report = RestoreReport()
    with ExternalSort(stores.sources.folder) as sorting:
        counted: list[int] = []
        await read_all(stores.sources, sorting, report, counted.append)
        await compare_documents(stores.sources, sorting, report, lambda kind, _: seen.append(kind.value))
    assert (report.count[Difference.DOCUMENT_LOST], len(report.items[Difference.DOCUMENT_LOST])) == (5, 2)
    assert (len(seen), counted[-1]) == (5, 5)


async def test_what_reconciling_finds_is_told_in_a_restores_words() -> None:
    found = ReconcileReport(RepairMode.NONE, failed_parts={"GED": "ged_unavailable"})
    for fault in (DiscrepancyKind.UNKNOWN_OBJECT, DiscrepancyKind.LEFT_COPY, DiscrepancyKind.EXPIRED_UPLOAD):
        found.add(ReconcileFinding(fault=fault, document_id=UUID(int=1), tenant="acme", place="p"))
    report = RestoreReport()
    add_reconciled(report, found)
    assert dict(report.count) == {Difference.OBJECT_WITHOUT_ROW: 1, Difference.ERASED_LEFT: 1}
    assert report.failed == {"reconcile GED": "ged_unavailable"}


async def test_a_part_that_cannot_look_is_named_and_without_the_database_nothing_is_known() -> None:
    report = RestoreReport()

    async def ged() -> None:
        raise GedUnavailable

    async def conflict() -> None:
        raise AuditConflict("The log has fewer entries.")

    async def database() -> None:
        raise DatabaseUnavailable

    await look(report, "GED", ged)
    await look(report, "log", conflict)
    assert report.failed == {"GED": "ged_unavailable", "log": "The log has fewer entries."}
    with pytest.raises(DatabaseUnavailable):
        await look(report, "database", database)


def test_mails_that_went_out_are_nothing_to_be_done() -> None:
    report = RestoreReport()
    report.add(Difference.MAIL_SENT, {})
    assert report.is_clean


# --- the steps -------------------------------------------------------------------------------------------------------------


class Undone:
    """Does acts again by changing the rows; ``error`` is raised instead."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.error: Exception | None = None
        self.kept: list[UUID] = []

    async def erase(self, history: DocumentHistory) -> bool:
        if self.error is not None:
            raise self.error
        self.stores.row(history.document_id, Status.ERASING, 9)
        return True

    async def keep(self, history: DocumentHistory) -> bool:
        self.kept.append(history.document_id)
        return True


class Rows:
    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.error: Exception | None = None

    async def rebuild(self, history: DocumentHistory) -> bool:
        if self.error is not None:
            raise self.error
        self.stores.row(history.document_id, Status.ARCHIVED, 8)
        return True


@dataclass
class Chain:
    error: Exception | None = None
    asked: int = 0

    async def resume(self, tenant: str, reason: str, *, apply: bool) -> Resumption:
        assert reason == "T-1"
        self.asked += 1
        if self.error is not None:
            raise self.error
        return Resumption(tenant=tenant, handed_over=1, last=2 + apply, signed=0, rechained=0, known=0)


class Bench:
    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.clock = FixedClock()
        self.restores = MemoryRestores(self.clock)
        self.undone, self.rows, self.chain = Undone(stores), Rows(stores), Chain()
        self.refills: list[TenantRefill] = []
        self.lost_metadata: dict[UUID, bool | Exception] = {}
        self.owed = OwedReport()
        self.erased = ReconcileReport(RepairMode.SAFE)
        self.erasures_run = 0
        self.lines: list[AuditRecorded] = []

    def parts(self, **changes: Any) -> RepairParts:
        base: dict[str, Any] = {
            "sources": self.stores.sources,
            "restores": self.restores,
            "undone": self.undone,
            "eraser": self,
            "erased": self,
            "resumption": self.chain,
            "refill": self,
            "rows": self.rows,
            "rendered": self,
            "metadata": self,
            "descriptions": self,
            "owed": self,
            "database": self,
            "clock": self.clock,
            "actor": "u-op",
            "events_after": 60.0,
        }
        return RepairParts(**{**base, **changes})

    async def run_once(self, limit: int = 100) -> int:
        self.erasures_run += 1
        return 0

    async def run(self, repairs: RepairMode | None = None, *, apply: bool = False) -> Any:
        return self.erased if isinstance(repairs, RepairMode) else self.refills

    async def page(self, after: UUID, _: int) -> Sequence[tuple[UUID, str]]:
        return [(one, "acme") for one in sorted(self.lost_metadata)] if after == UUID(int=0) else []

    async def known(self, _: Sequence[UUID]) -> set[UUID]:
        return {one for one, outcome in self.lost_metadata.items() if outcome is None}

    async def describe(self, document_id: UUID) -> bool:
        outcome = self.lost_metadata[document_id]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def look(self, *, after_seconds: float) -> OwedReport:
        assert after_seconds == 60.0
        return self.owed

    async def re_emit(self, lost: Sequence[Any], actor: str, *, reason: str, apply: bool) -> int:
        assert (actor, reason) == ("u-op", "restore")
        return len(lost)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        outbox = self

        class Work:
            @property
            def outbox(self) -> Any:
                return outbox

        yield Work()

    async def add(self, line: AuditRecorded) -> None:
        self.lines.append(line)

    async def repaired(self, *steps: str, apply: bool = True, **changes: Any) -> dict[str, tuple[int, list[str]]]:
        report = RestoreReport()
        with ExternalSort(self.stores.sources.folder) as sorting:
            await read_all(self.stores.sources, sorting, report)
            repair = RestoreRepair(self.parts(**changes), sorting, report, "T-1")
            results = await repair.run(steps or STEPS, apply=apply)
        return {one.step: (one.done, one.left) for one in results}


ERASED, ARCHIVED, HELD = UUID(int=1), UUID(int=2), UUID(int=3)


@pytest.fixture
async def bench(stores: Stores) -> Bench:
    await stores.write(
        told(ERASED, "stored", 2),
        told(ERASED, "erasing", 3, reason="R"),
        told(ARCHIVED, "stored", 2),
        told(ARCHIVED, "archived", 8),
        told(HELD, "legal_hold.set", 0, reference="C", reason="R"),
    )
    stores.row(ERASED, Status.VERIFIED)
    stores.row(HELD, Status.VERIFIED)
    made = Bench(stores)
    await made.restores.open(RestoredStore.POSTGRESQL, "u", "R")
    return made


async def test_a_dry_run_counts_and_changes_nothing(bench: Bench) -> None:
    rows = dict(bench.stores.rows_)
    found = await bench.repaired(apply=False)
    assert {step: done for step, (done, _) in found.items()} == {
        "erasures": 1, "holds": 1, "chain": 0, "log": 0, "rows": 1, "metadata": 0, "events": 0,
    }  # fmt: skip
    assert (bench.stores.rows_, bench.lines, bench.erasures_run) == (rows, [], 0)
    assert not bench.restores.kept[RestoredStore.POSTGRESQL].erasures_done


async def test_steps_come_in_their_order_and_again_nothing_is_left(bench: Bench) -> None:
    found = await bench.repaired()
    assert tuple(found) == STEPS
    assert [done for done, left in found.values() if left] == []
    assert bench.stores.rows_[ERASED].status is Status.ERASING
    assert bench.stores.rows_[ARCHIVED].status is Status.ARCHIVED
    assert bench.undone.kept == [HELD]
    assert bench.restores.kept[RestoredStore.POSTGRESQL].erasures_done
    (line,) = bench.lines
    assert (line.action, line.actor, line.tenant) == ("restore.repaired", "u-op", "system")
    assert json.loads(line.details)["erasures"] == {"done": 1, "left": 0}
    again = await bench.repaired("erasures", "rows")
    assert [done for done, _ in again.values()] == [0, 0]


async def test_while_an_erasure_is_not_done_no_row_comes_back_and_nothing_is_served(bench: Bench) -> None:
    bench.undone.error = ObjectMissing("It will not go.")
    found = await bench.repaired()
    assert found["erasures"] == (0, [f"{ERASED}: It will not go."])
    assert found["rows"] == (0, ["erasures are to be done first"])
    assert ARCHIVED not in bench.stores.rows_
    assert not bench.restores.kept[RestoredStore.POSTGRESQL].erasures_done


async def test_an_erasure_is_not_done_while_its_log_is_broken(bench: Bench) -> None:
    bench.stores.given["acme"] = 0
    del bench.stores.log.kept["acme", 1]
    signed = checkpoints_of(bench.stores.chain, [5], MemorySigner())
    bench.stores.signed_["acme"] = SignedHistory(tuple(one.checkpoint for one in signed))
    found = await bench.repaired("erasures")
    assert "dpj audit verify" in found["erasures"][1][0]
    assert not bench.restores.kept[RestoredStore.POSTGRESQL].erasures_done


async def test_what_an_erasure_has_left_outside_is_named_and_keeps_nothing_from_being_served(bench: Bench) -> None:
    bench.erased.add(
        ReconcileFinding(
            fault=DiscrepancyKind.LEFT_COPY, document_id=ERASED, tenant="acme", place="g", failed="archive_refused"
        )
    )
    bench.erased.failed_parts["erased"] = "ged_unavailable"
    found = await bench.repaired("erasures")
    assert found["erasures"][1] == [f"{ERASED}: left_copy archive_refused", "erased: ged_unavailable"]
    assert bench.restores.kept[RestoredStore.POSTGRESQL].erasures_done


async def test_an_erasure_without_a_row_is_for_a_person(bench: Bench) -> None:
    del bench.stores.rows_[ERASED]
    found = await bench.repaired("erasures")
    assert "look at the GED" in found["erasures"][1][0]
    assert bench.restores.kept[RestoredStore.POSTGRESQL].erasures_done


async def test_a_row_that_cannot_be_made_again_is_named_and_others_go_on(bench: Bench) -> None:
    bench.rows.error = NotRebuildable("the log does not say its SHA-256")
    found = await bench.repaired("rows", "events")
    assert found["rows"] == (0, [f"{ARCHIVED}: the log does not say its SHA-256"])
    assert found["events"] == (0, [])


async def test_chains_go_on_and_a_refusal_is_named(bench: Bench) -> None:
    bench.stores.given["acme"] = 3
    assert (await bench.repaired("chain"))["chain"] == (1, [])
    bench.chain.error = AuditConflict("Other histories.")
    assert (await bench.repaired("chain"))["chain"] == (0, ["acme: Other histories."])


async def test_entries_are_put_back_and_the_rest_is_named(bench: Bench) -> None:
    bench.refills = [TenantRefill("acme", 9, missing=5, found=2, lost=[(2, 3), (7, 7)])]
    assert (await bench.repaired("log"))["log"] == (0, [])  # the log lacks nothing that it was given
    bench.stores.given["acme"] = 9
    found = await bench.repaired("log")
    assert found["log"] == (2, ["acme: entries that nobody has any more: 2 to 3, 7"])
    assert (await bench.repaired("log", refill=None))["log"] == (0, [])


async def test_metadata_are_made_again_and_the_rest_is_named(bench: Bench) -> None:
    bench.lost_metadata = {UUID(int=5): True, UUID(int=6): False, UUID(int=7): ObjectMissing("Gone.")}
    assert (await bench.repaired("metadata", apply=False))["metadata"] == (3, [])
    done, left = (await bench.repaired("metadata"))["metadata"]
    assert done == 1
    assert left == [f"{UUID(int=6)}: its file says nothing any more", f"{UUID(int=7)}: Gone."]


async def test_a_broker_that_is_away_and_a_step_that_meets_an_outage(bench: Bench) -> None:
    bench.owed.known = False
    assert "broker_unavailable" in (await bench.repaired("events"))["events"][1][0]
    bench.rows.error = DatabaseUnavailable()
    with pytest.raises(DatabaseUnavailable):
        await bench.repaired("rows")

    async def refused(*_: Any, **__: Any) -> Any:
        raise GedUnavailable

    bench.run = refused  # type: ignore[method-assign]
    assert "ged_unavailable" in (await bench.repaired("erasures"))["erasures"][1][0]
