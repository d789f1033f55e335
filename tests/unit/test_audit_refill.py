"""An audit log that lost entries gets back what PostgreSQL and Kafka still have and what is proved; the rest is named by its numbers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from domain.audit_chain import ChainEntry, StoredEntry, hash_of
from domain.errors import DocumentBusy
from domain.events import AuditRecorded
from domain.merkle import leaf_hash
from operations.restore import refill
from operations.restore.refill import AuditRefill, TenantRefill
from processors.restore.refilling import ChainRefill
from tests.support.audit_lines import MemoryAuditStore, a_line, chain_of
from tests.support.memory_audit_trees import MemoryLocks


class Bench:
    """A chain of ``length``; ``log`` is empty, ``lines`` has all events, ``sources`` all places and leaves."""

    def __init__(self, folder: Path, length: int = 6, tenants: Sequence[str] = ("acme",)) -> None:
        self.lines = [a_line(tenant) for tenant in tenants for _ in range(length)]
        self.chains = {
            tenant: chain_of([line for line in self.lines if line.tenant == tenant], tenant) for tenant in tenants
        }
        self.chain = self.chains[tenants[0]]
        self.known_places = [(entry.tenant, entry.seq, entry.event_id) for one in self.chains.values() for entry in one]
        self.known_bodies: list[tuple[str, int, bytes]] = []
        self.known_hashes: dict[int, str] = {}
        self.without_leaves: set[int] = set()
        self.log = MemoryAuditStore()
        self.locks = MemoryLocks()
        self.refill = AuditRefill(self.log, self, self.read, self.locks, folder)  # type: ignore[arg-type]

    async def handed_over(self) -> Mapping[str, int]:
        return {tenant: len(chain) for tenant, chain in self.chains.items()}

    async def places(self) -> AsyncGenerator[tuple[str, int, UUID], None]:
        for place in self.known_places:
            yield place

    async def bodies(self) -> AsyncGenerator[tuple[str, int, bytes], None]:
        for body in self.known_bodies:
            yield body

    async def leaves(self, tenant: str, first: int, last: int) -> Mapping[int, bytes]:
        entries = self.chains[tenant][first - 1 : last]
        return {entry.seq: leaf_hash(entry.body) for entry in entries if entry.seq not in self.without_leaves}

    async def hashes(self, tenant: str) -> Mapping[int, str]:
        return self.known_hashes if tenant == "acme" else {}

    async def read(self) -> AsyncGenerator[AuditRecorded, None]:
        for line in reversed(self.lines):
            yield line

    def forget(self, *numbers: int) -> None:
        """Kafka has these events no more."""
        gone = {entry.event_id for entry in self.chain if entry.seq in numbers}
        self.lines = [line for line in self.lines if line.event_id not in gone]

    def keep(self, *numbers: int) -> None:
        """The log has these."""
        for entry in self.chain:
            if entry.seq in numbers:
                self.log.kept[entry.tenant, entry.seq] = _stored(entry)

    def whole(self, number: int) -> None:
        """PostgreSQL has this entry."""
        self.known_bodies.append(("acme", number, self.chain[number - 1].body))

    def numbers(self, tenant: str = "acme") -> list[int]:
        return sorted(seq for owner, seq in self.log.kept if owner == tenant)


def _stored(entry: ChainEntry) -> StoredEntry:
    return StoredEntry(entry, faithful=True)


async def test_an_emptied_log_is_filled_again_for_every_tenant(tmp_path: Path) -> None:
    bench = Bench(tmp_path, tenants=("acme", "acme-2", "b"))
    planned = await bench.refill.run(apply=False)
    assert [(one.tenant, one.missing, one.found, one.gone) for one in planned] == [
        ("acme", 6, 6, 0), ("acme-2", 6, 6, 0), ("b", 6, 6, 0),
    ]  # fmt: skip
    assert not bench.log.kept
    await bench.refill.run(apply=True)
    for tenant, chain in bench.chains.items():
        assert [bench.log.kept[tenant, entry.seq].entry for entry in chain] == chain
    assert await bench.refill.run(apply=True) == []


async def test_a_log_that_was_restored_to_before_goes_on_from_there(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.keep(1, 2, 3)
    bench.forget(1, 2, 3)
    (found,) = await bench.refill.run(apply=True)
    assert (found.missing, found.found, found.lost) == (3, 3, [])
    assert bench.numbers() == [1, 2, 3, 4, 5, 6]


async def test_what_nobody_has_is_named_and_so_is_what_follows_until_an_entry_is_known(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 9)
    bench.forget(2, 7)
    bench.whole(4)
    bench.keep(9)
    (found,) = await bench.refill.run(apply=True)
    assert bench.numbers() == [1, 4, 5, 6, 9]
    assert (found.missing, found.found, found.gone, found.lost) == (8, 4, 4, [(2, 3), (7, 8)])


async def test_behind_a_gap_the_chain_goes_on_from_a_hash_that_the_database_has(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.forget(2)
    bench.known_hashes[3] = bench.chain[2].hash
    (found,) = await bench.refill.run(apply=True)
    assert bench.numbers() == [1, 4, 5, 6]
    assert found.lost == [(2, 3)]


async def test_what_is_not_the_one_that_was_there_is_not_put_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    forged = {bench.chain[1].event_id}
    bench.lines = [replace(line, actor="mallory") if line.event_id in forged else line for line in bench.lines]
    (found,) = await bench.refill.run(apply=True)
    assert bench.numbers() == [1]
    assert found.lost == [(2, 6)]


async def test_a_place_that_is_not_known_any_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.known_places = [place for place in bench.known_places if place[1] > 2]
    (found,) = await bench.refill.run(apply=True)
    assert found.lost == [(1, 6)]


async def test_memory_and_batches_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refill, "BATCH", 4)
    monkeypatch.setattr(refill, "LEAVES", 3)
    monkeypatch.setattr(refill, "NAMED_RANGES", 1)
    bench = Bench(tmp_path, 10)
    bench.keep(3)
    bench.forget(2, 5)
    (found,) = await bench.refill.run(apply=True)
    assert all(size <= 4 for size in bench.log.batches)
    assert found.lost == [(2, 2)]  # of two ranges, both are counted
    assert found.gone == 1 + 6


async def test_entries_on_their_way_are_waited_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.locks.held.add("audit-flush/acme")
    with pytest.raises(DocumentBusy):
        await bench.refill.run(apply=True)


# --- one number after another --------------------------------------------------------------------------------------------


CHAIN = chain_of([a_line(event_id=uuid4()) for _ in range(3)])


def a_refill(**hashes: str) -> ChainRefill:
    return ChainRefill("acme", {int(name[1:]): one for name, one in hashes.items()})


def test_without_a_leaf_the_hash_that_is_known_proves_an_entry() -> None:
    entry = CHAIN[0]
    assert a_refill(n1=entry.hash).make(1, None, body=entry.body) == entry
    assert a_refill(n1="0" * 64).make(1, None, body=entry.body) is None
    assert a_refill().make(1, None, body=entry.body) is None


@pytest.mark.parametrize("body", [b"no json", b"[]", b'{"event_id":"x"}', CHAIN[1].body])
def test_a_body_that_is_not_of_that_number_is_none(body: bytes) -> None:
    assert a_refill(n1=hash_of(body)).make(1, leaf_hash(body), body=body) is None


def test_a_line_of_another_tenant_is_none() -> None:
    assert a_refill().make(1, leaf_hash(CHAIN[0].body), line=a_line("other")) is None
    assert a_refill().make(1, leaf_hash(CHAIN[0].body)) is None


def test_ranges_grow() -> None:
    found = TenantRefill("acme", 9)
    for seq in (1, 2, 3, 7):
        found.lose(seq)
    assert found.lost == [(1, 3), (7, 7)]
