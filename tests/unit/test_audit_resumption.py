"""Resuming a chain behind its log: what is proved before anything is written, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from crypto.signatures import verifies
from domain.audit_chain import ChainEntry, ChainHead, StoredEntry, event_of, genesis, head_after
from domain.checkpoints import SignedCheckpoint
from domain.errors import AuditConflict, CheckpointConflict
from domain.events import AuditRecorded
from domain.merkle import RightEdge, leaf_hash
from processors.audit import resumption
from processors.audit.resumption import AuditResumption, Resumption
from tests.support.audit_histories import checkpoints_of
from tests.support.audit_lines import MemoryAuditStore, a_chain, chain_of
from tests.support.builders import FixedClock
from tests.support.memory_audit_trees import MemoryCheckpointStore, MemoryLocks, MemorySigner

TENANT = "acme"


@dataclass
class Held:
    handed_over: ChainHead
    pending: Sequence[ChainEntry] = ()


class Rebuild:
    """A chain's rows in memory; ``finished`` is what they end at."""

    def __init__(self, held: Held) -> None:
        self.held = held
        self.above: int | None = None
        self.in_tree: list[int] = []
        self.behind: list[int] = []
        self.places: list[int] = []
        self.signed: list[int] = []
        self.finished: tuple[ChainHead, list[AuditRecorded]] | None = None
        self._edge = RightEdge()

    async def hold(self, tenant: str) -> Held:
        assert tenant == TENANT
        return self.held

    async def clear(self, tenant: str, above: int) -> None:
        self.above = above

    async def extend(self, entries: Sequence[ChainEntry], *, above: int, in_tree: bool) -> None:
        assert above == self.above
        (self.in_tree if in_tree else self.behind).extend(entry.seq for entry in entries)
        self.places += [entry.seq for entry in entries if entry.seq > above]
        for entry in entries:
            self._edge.add(leaf_hash(entry.body))

    async def checkpoint(self, signed: SignedCheckpoint, last_hash: str) -> None:
        if signed.checkpoint.root != self._edge.root.hex():
            raise CheckpointConflict
        self.signed.append(signed.checkpoint.size)

    async def finish(self, head: ChainHead, lines: Sequence[AuditRecorded]) -> None:
        self.finished = head, list(lines)


class Bench:
    """A log of ten entries, signed at four and eight; the database handed over ``known`` of them."""

    def __init__(self, known: int = 3, *, pending: Sequence[ChainEntry] = (), length: int = 10) -> None:
        self.chain = a_chain(length)
        self.log, self.store, self.signer = MemoryAuditStore(), MemoryCheckpointStore(), MemorySigner()
        self.sizes = [size for size in (4, 8) if size <= length]
        base = head_after(self.chain[known - 1]) if known else genesis(TENANT)
        self.rebuild = Rebuild(Held(base, pending))
        self.lines: list[AuditRecorded] = []
        self.committed = False

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async def add(line: AuditRecorded) -> None:
            self.lines.append(line)

        yield SimpleNamespace(chain_rebuild=self.rebuild, outbox=SimpleNamespace(add=add))
        self.committed = True

    async def resume(self, *, apply: bool = True) -> Resumption:
        await self.log.add(self.chain)
        for one in checkpoints_of(self.chain, self.sizes, self.signer):
            await self.store.put(TENANT, one.checkpoint.size, one.content)
        return await self.go_on(apply=apply)

    async def go_on(self, *, apply: bool = True) -> Resumption:
        database: Any = SimpleNamespace(transaction=self.transaction, lock=MemoryLocks().lock)
        parts = (database, self.log, self.store, self.signer, verifies, FixedClock())
        return await AuditResumption(*parts, "u-operator").resume(TENANT, "INC-7", apply=apply)


@pytest.mark.parametrize("page", [1, 3, 1000])
async def test_the_chain_ends_where_the_log_does(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(resumption, "PAGE", page)
    bench = Bench()
    done = await bench.resume()
    assert (done.handed_over, done.last, done.signed, done.rechained, done.known) == (3, 10, 8, 0, 0)
    assert bench.rebuild.in_tree == list(range(1, 9))
    assert bench.rebuild.behind == [9, 10]
    assert bench.rebuild.places == list(range(4, 11))
    assert bench.rebuild.signed == [4, 8]
    assert bench.rebuild.finished == (head_after(bench.chain[-1]), [])
    assert bench.committed
    (line,) = bench.lines
    assert (line.action, line.tenant, line.actor) == ("audit.resumed", TENANT, "u-operator")
    assert line.details == '{"from":3,"reason":"INC-7","rechained":0,"signed":8,"to":10}'


async def test_what_was_chained_since_keeps_its_event_unless_the_log_has_it() -> None:
    again = Bench()
    new = [event_of(entry) for entry in a_chain(2)]
    known = event_of(again.chain[6])
    fork = chain_of([*[event_of(entry) for entry in again.chain[:3]], new[0], known, new[1]])[3:]
    again.rebuild.held = Held(head_after(again.chain[2]), fork)
    done = await again.resume()
    assert (done.rechained, done.known) == (2, 1)
    assert again.rebuild.finished is not None
    assert again.rebuild.finished[1] == new
    assert "2 lines get new places, 1 were in the log" in done.line


async def test_a_database_that_lost_everything_goes_on_too() -> None:
    bench = Bench(known=0)
    assert (await bench.resume()).handed_over == 0
    assert bench.rebuild.places == list(range(1, 11))


async def test_a_log_without_checkpoints_is_gone_on_with() -> None:
    bench = Bench()
    bench.sizes = []
    assert (await bench.resume()).signed == 0
    assert bench.rebuild.behind == list(range(1, 11))


async def test_who_is_not_behind_is_left_alone() -> None:
    bench = Bench(known=10)
    done = await bench.resume()
    assert not done.needed
    assert "not behind" in done.line
    assert (bench.rebuild.above, bench.rebuild.finished, bench.lines, bench.committed) == (None, None, [], False)


async def test_there_may_be_nothing_at_all() -> None:
    bench = Bench(known=0, length=0)
    bench.sizes = []
    assert not (await bench.go_on()).needed


async def test_a_dry_run_commits_nothing() -> None:
    bench = Bench()
    assert (await bench.resume(apply=False)).needed
    assert (bench.committed, bench.lines) == (False, [])


async def refused(bench: Bench, why: type[Exception], words: str | None) -> None:
    with pytest.raises(why, match=words):
        await bench.go_on()
    assert (bench.rebuild.finished, bench.committed) == (None, False)


async def test_another_history_is_refused() -> None:
    bench = Bench()
    await bench.resume()
    for base in (ChainHead(TENANT, 3, "0" * 64), ChainHead(TENANT, 0, "0" * 64)):
        bench.rebuild, bench.committed = Rebuild(Held(base)), False
        await refused(bench, AuditConflict, "different histories")


async def test_a_log_that_is_too_short_is_refused() -> None:
    bench = Bench(known=9)
    await bench.resume()
    for most, words in ((7, "fewer entries than were signed"), (8, "fewer entries than the database handed over")):
        bench.rebuild, bench.committed = Rebuild(bench.rebuild.held), False
        kept = bench.log.kept
        bench.log.kept = {key: one for key, one in kept.items() if key[1] <= most}
        await refused(bench, AuditConflict, words)
        bench.log.kept = kept


async def test_a_log_that_is_damaged_is_refused() -> None:
    bench = Bench()
    await bench.resume()
    kept, key = dict(bench.log.kept), (TENANT, 6)
    entry = kept[key].entry
    gone = {other: one for other, one in kept.items() if other != key}
    for wrong in (
        gone,
        kept | {key: StoredEntry(replace(entry, body=entry.body + b" "), faithful=True)},
        kept | {key: StoredEntry(entry, faithful=False)},
    ):
        bench.rebuild, bench.committed, bench.log.kept = Rebuild(bench.rebuild.held), False, wrong
        await refused(bench, AuditConflict, "entry 6")
    bench.log.kept = {other: one for other, one in kept.items() if other[1] != 9}
    bench.rebuild = Rebuild(bench.rebuild.held)
    await refused(bench, AuditConflict, "entry 9")


async def test_a_log_that_is_not_what_was_signed_is_refused() -> None:
    bench = Bench()
    await bench.resume()
    other = Bench()
    bench.log.kept = {(TENANT, entry.seq): StoredEntry(entry, faithful=True) for entry in other.chain}
    bench.rebuild, bench.committed = Rebuild(Held(head_after(other.chain[2]))), False
    await refused(bench, CheckpointConflict, None)


async def test_a_checkpoint_that_is_missing_or_not_ours_is_refused() -> None:
    bench = Bench()
    await bench.resume()
    bench.rebuild, bench.committed = Rebuild(bench.rebuild.held), False
    kept = dict(bench.store.kept)
    bench.store.kept = {key: one for key, one in kept.items() if key[1] != 4}
    await refused(bench, CheckpointConflict, "does not follow")
    bench.store.kept = kept
    bench.signer = MemorySigner(2)
    await refused(bench, CheckpointConflict, "no key of ours")


def test_an_entry_gives_back_its_event() -> None:
    lines = [event_of(entry) for entry in a_chain(3)]
    assert chain_of(lines) == chain_of([event_of(entry) for entry in chain_of(lines)])


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"event_id": 7}', b"no"])
def test_what_is_no_entry_of_ours_gives_none(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"entry|Expecting"):
        event_of(replace(a_chain(1)[0], body=body))
