"""Checkpoints are taken when they are due, once each, whatever fails between two steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from crypto.signatures import verifies
from domain.audit_chain import ChainEntry, StoredEntry
from domain.checkpoints import Checkpoint, PublicKey, first_previous, signed_checkpoint_of
from domain.errors import CheckpointConflict, CheckpointStoreUnavailable, KeyringUnavailable
from domain.merkle import RightEdge, TileId, leaf_hash
from processors.audit.checkpoints import AuditCheckpointer
from tests.support.audit_histories import signed
from tests.support.audit_lines import MemoryAuditStore, MemoryUnflushedEntries, a_chain
from tests.support.builders import NOW
from tests.support.memory_audit_trees import MemoryAuditTrees, MemoryCheckpointStore, MemoryLocks, MemorySigner


@dataclass
class Site:
    """A checkpointer that is due after 10 entries or 60 seconds, and all around it."""

    trees: MemoryAuditTrees = field(default_factory=MemoryAuditTrees)
    signer: MemorySigner = field(default_factory=MemorySigner)
    store: MemoryCheckpointStore = field(default_factory=MemoryCheckpointStore)
    history: MemoryAuditStore = field(default_factory=MemoryAuditStore)
    pending: MemoryUnflushedEntries = field(default_factory=MemoryUnflushedEntries)
    locks: MemoryLocks = field(default_factory=MemoryLocks)
    seconds: float = 0.0

    def now(self):
        return NOW + timedelta(seconds=self.seconds)

    @property
    def checkpointer(self) -> AuditCheckpointer:
        """A new process's."""
        return AuditCheckpointer(
            self.trees,
            self.signer,
            verifies,
            self.store,
            self.history,
            self.pending,
            self.locks,
            self,
            entries=10,
            seconds=60,
        )

    def stored(self, tenant: str = "acme") -> list[Checkpoint]:
        return [
            signed_checkpoint_of(one).checkpoint
            for (owner, _), versions in sorted(self.store.kept.items())
            for one in versions
            if owner == tenant
        ]


def root_of(entries: Sequence[ChainEntry]) -> str:
    edge = RightEdge()
    for entry in entries:
        edge.add(leaf_hash(entry.body))
    return edge.root.hex()


async def test_the_first_is_taken_at_once_and_later_ones_when_due() -> None:
    site, chain = Site(), a_chain(30)
    assert await site.checkpointer.run_once() == 0
    site.trees.chained(chain[:3])
    assert await site.checkpointer.run_once() == 3
    site.trees.chained(chain[3:7])
    assert await site.checkpointer.run_once() == 0
    site.seconds = 60
    assert await site.checkpointer.run_once() == 4
    site.trees.chained(chain[7:17])
    assert await site.checkpointer.run_once() == 10
    site.seconds = 600
    assert await site.checkpointer.run_once() == 0
    first, second, third = site.stored()
    assert [one.size for one in (first, second, third)] == [3, 7, 17]
    assert [one.root for one in (first, second, third)] == [root_of(chain[:size]) for size in (3, 7, 17)]
    assert [first.previous, second.previous, third.previous] == [first_previous("acme"), first.hash, second.hash]
    assert [one.time for one in (first, second)] == [NOW, NOW + timedelta(seconds=60)]


async def test_each_tenant_has_its_own() -> None:
    site = Site()
    site.trees.chained(a_chain(3))
    site.trees.chained(a_chain(2, "other"))
    assert await site.checkpointer.run_once() == 5
    assert [one.size for one in site.stored()] == [3]
    assert [one.tenant for one in site.stored("other")] == ["other"]


@pytest.mark.parametrize("fails", ["sign", "put", "put and kept"])
async def test_what_fails_between_two_steps_is_finished_and_nothing_else_signed(fails: str) -> None:
    site, chain = Site(), a_chain(9)
    site.trees.chained(chain[:4])
    error = KeyringUnavailable if fails == "sign" else CheckpointStoreUnavailable
    site.signer.away, site.store.away, site.store.silent = fails == "sign", fails == "put", fails == "put and kept"
    with pytest.raises(error):
        await site.checkpointer.run_once()
    site.trees.chained(chain[4:])
    site.seconds = 7
    assert await site.checkpointer.run_once() > 0
    [made] = site.stored()
    assert (made.size, made.time, made.root) == (4, NOW, root_of(chain[:4]))
    assert len(set(site.signer.signed)) == 1
    site.seconds = 70
    assert await site.checkpointer.run_once() == 5
    assert [one.size for one in site.stored()] == [4, 9]


async def test_another_at_the_tenant_is_left_alone() -> None:
    site = Site()
    site.trees.chained(a_chain(3))
    site.locks.held = {"audit-checkpoint/acme"}
    assert await site.checkpointer.run_once() == 0
    assert site.stored() == []


async def test_chains_that_are_older_than_the_trees_are_read_once() -> None:
    """From the audit log what is there, from PostgreSQL what still waits, up to where leaves begin."""
    site, chain = Site(), a_chain(2_600)
    site.trees.chained(chain[:2_590], with_leaves=False)
    site.trees.chained(chain[2_590:])
    site.history.kept = {("acme", entry.seq): StoredEntry(entry, faithful=True) for entry in chain[:2_300]}
    site.pending.waiting = list(chain[2_300:])
    assert await site.checkpointer.run_once() == 2_600
    assert site.stored()[0].root == root_of(chain)


@pytest.mark.parametrize("gone", [{5}, {1}, {20}])
async def test_an_old_chain_with_a_gap_is_not_signed(gone: set[int]) -> None:
    site, chain = Site(), a_chain(20)
    site.trees.chained(chain, with_leaves=False)
    site.history.kept = {("acme", one.seq): StoredEntry(one, faithful=True) for one in chain if one.seq not in gone}
    with pytest.raises(CheckpointConflict):
        await site.checkpointer.run_once()
    assert site.stored() == []


async def test_an_old_chain_that_does_not_link_is_not_signed_and_others_are() -> None:
    site, chain = Site(), a_chain(5)
    chain[2] = replace(chain[2], body=chain[2].body.replace(b"u-1", b"u-2"))
    site.trees.chained(chain, with_leaves=False)
    site.pending.waiting = list(chain)
    site.trees.chained(a_chain(2, "other"))
    with capture_logs() as logs, pytest.raises(CheckpointConflict):
        await site.checkpointer.run_once()
    assert [(one["event"], one["tenant"]) for one in logs if one["log_level"] == "error"] == [
        ("audit_checkpoint_refused", "acme")
    ]
    assert site.stored() == []
    assert len(site.stored("other")) == 1


# --- a database that is not what was signed --------------------------------------------------------------------------


async def taken(chain: Sequence[ChainEntry]) -> Site:
    """Checkpoints of 4 and 8 entries, and a ninth entry to be signed."""
    site = Site()
    for number, part in enumerate((chain[:4], chain[4:8], chain[8:])):
        site.seconds = 100 * number
        site.trees.chained(part)
        if number < 2:
            await site.checkpointer.run_once()
    return site


async def test_a_tree_that_was_altered_is_not_signed() -> None:
    site = await taken(a_chain(9))
    site.trees.of("acme").edge[0] = leaf_hash(b"another")
    with pytest.raises(CheckpointConflict):
        await site.checkpointer.run_once()
    assert len(site.stored()) == 2


async def test_a_history_rewritten_with_its_tree_is_not_signed() -> None:
    """Whoever writes all tables anew still lacks what the checkpoint store has."""
    site, forged = await taken(a_chain(9)), await taken(a_chain(9))
    site.trees = forged.trees
    with pytest.raises(CheckpointConflict):
        await site.checkpointer.run_once()
    site.trees = MemoryAuditTrees()
    site.trees.chained(a_chain(20))
    with pytest.raises(CheckpointConflict):
        await site.checkpointer.run_once()
    assert [one.size for one in site.stored()] == [4, 8]


async def test_a_database_restored_from_before_does_not_fork() -> None:
    chain = a_chain(9)
    site = await taken(chain)
    site.trees = MemoryAuditTrees()
    site.trees.chained(chain[:4])
    older = Site(trees=site.trees, store=MemoryCheckpointStore())
    await older.checkpointer.run_once()
    site.trees.chained(chain[4:9])
    site.seconds = 1_000
    with pytest.raises(CheckpointConflict, match="restored"):
        await site.checkpointer.run_once()
    assert [one.size for one in site.stored()] == [4, 8]


@pytest.mark.parametrize("kept", ["another", "none", "both", "junk", "forged", "misfiled"])
async def test_a_store_that_lost_or_changed_its_checkpoint_is_told(kept: str) -> None:
    site = await taken(a_chain(9))
    mine = site.store.kept["acme", 8]
    [another] = (await taken(a_chain(9))).store.kept["acme", 8]
    if kept == "none":
        del site.store.kept["acme", 8]
    else:
        site.store.kept["acme", 8] = {
            "another": [another],
            "both": [*mine, another],
            "junk": [b"junk"],
            "forged": [replace(signed_checkpoint_of(mine[0]), signature=bytes(64)).content],
            "misfiled": site.store.kept["acme", 4],
        }[kept]
    with pytest.raises(CheckpointConflict):
        await site.checkpointer.run_once()
    assert len(set(site.signer.signed)) == 2


async def test_a_key_that_another_process_rotated_to_is_looked_for_once_more() -> None:
    site = await taken(a_chain(9))
    site.signer = Rotated(MemorySigner(7))
    site.store.kept["acme", 8] = [signed(site.stored()[1], site.signer.new).content]
    assert await site.checkpointer.run_once() == 1


class Rotated(MemorySigner):
    """Knows of ``new`` once it has looked."""

    def __init__(self, new: MemorySigner) -> None:
        super().__init__()
        self.new, self.keys = new, [self.public]

    async def check(self) -> None:
        self.keys.append(self.new.public)

    async def public_keys(self) -> Sequence[PublicKey]:
        return self.keys


# --- a checkpoint on record that is not ours -------------------------------------------------------------------------


async def unfinished(chain: Sequence[ChainEntry]) -> Site:
    """Checkpoints of 4 and 8 entries, and one of 9 on record that nobody signed yet."""
    site = await taken(chain)
    site.signer.away = 1
    with pytest.raises(KeyringUnavailable):
        await site.checkpointer.run_once()
    assert site.trees.of("acme").size == 9
    return site


FORGED: list[dict[str, Any]] = [
    {"tenant": "other"},
    {"previous": "ab" * 32},
    {"previous": first_previous("acme")},
    {"time": NOW + timedelta(seconds=100)},
    {"time": NOW - timedelta(days=365)},
    {"time": NOW + timedelta(days=365)},
    {"root": "ab" * 32},
    {"size": 10},
]


@pytest.mark.parametrize("forged", FORGED)
async def test_a_checkpoint_on_record_is_not_signed_unless_it_follows(forged: dict[str, Any]) -> None:
    """Whoever writes the row between fixing and signing has nothing signed by it."""
    site = await unfinished(a_chain(9))
    tree = site.trees.of("acme")
    tree.made[-1] = replace(tree.made[-1], **forged)
    with capture_logs() as logs, pytest.raises(CheckpointConflict):
        await site.checkpointer.run_once()
    assert "audit_checkpoint_refused" in [one["event"] for one in logs]
    assert [one.size for one in site.stored()] == [4, 8]
    assert len(set(site.signer.signed)) == 2


@pytest.mark.parametrize("with_tiles", [False, True])
async def test_a_tree_forged_together_with_its_checkpoint_is_not_signed(with_tiles: bool) -> None:
    """Right edge, row and even tiles of another history, which names the right checkpoint as the one before."""
    site, other = await unfinished(a_chain(9)), await unfinished(a_chain(9))
    tree, forged = site.trees.of("acme"), other.trees.of("acme")
    tree.edge = forged.edge
    tree.made[-1] = replace(tree.made[-1], root=forged.made[-1].root)
    if with_tiles:
        tree.tiles = forged.tiles
    with pytest.raises(CheckpointConflict):
        await site.checkpointer.run_once()
    assert [one.size for one in site.stored()] == [4, 8]


async def test_a_first_checkpoint_is_only_signed_where_the_store_has_none() -> None:
    """The rows of earlier checkpoints are gone: what is on record can't be the first."""
    site = await unfinished(a_chain(9))
    tree = site.trees.of("acme")
    tree.made = [replace(tree.made[-1], previous=first_previous("acme"))]
    with pytest.raises(CheckpointConflict):
        await site.checkpointer.run_once()
    tree.made = []
    with pytest.raises(CheckpointConflict):
        await site.checkpointer.run_once()
    assert [one.size for one in site.stored()] == [4, 8]


async def test_a_row_that_was_taken_away_does_not_make_an_older_one_the_newest() -> None:
    site = await unfinished(a_chain(9))
    tree = site.trees.of("acme")
    tree.made = [tree.made[0], replace(tree.made[2], previous=tree.made[0].hash)]
    with pytest.raises(CheckpointConflict, match="lacks a checkpoint"):
        await site.checkpointer.run_once()
    assert [one.size for one in site.stored()] == [4, 8]


async def test_an_unfinished_one_is_finished_if_nobody_touched_it() -> None:
    site = await unfinished(a_chain(9))
    assert await site.checkpointer.run_once() > 0
    assert [one.size for one in site.stored()] == [4, 8, 9]


async def test_a_proof_spans_many_tiles() -> None:
    site, chain = Site(), a_chain(1_200)
    for number, (first, end) in enumerate(((0, 300), (300, 301), (301, 1_200))):
        site.seconds = 100 * number
        site.trees.chained(chain[first:end])
        assert await site.checkpointer.run_once() == end - first
    site.trees.of("acme").tiles.pop(TileId(1, 0))
    site.trees.chained(a_chain(1_201)[1_200:])
    site.seconds = 1_000
    with pytest.raises(CheckpointConflict):
        await site.checkpointer.run_once()


async def test_a_clock_that_is_a_little_behind_makes_no_conflict() -> None:
    site = await taken(a_chain(9))
    site.trees.chained(a_chain(30)[9:])
    site.seconds = 70  # the newest is of second 100
    assert await site.checkpointer.run_once() == 22
    third = site.stored()[2]
    assert third.time == NOW + timedelta(seconds=100, microseconds=1)
    site.seconds = 30
    with pytest.raises(CheckpointConflict, match="future"):
        await site.checkpointer.run_once()


# --- rows that would keep a tenant from being due --------------------------------------------------------------------


@pytest.mark.parametrize("done", ["size", "time", "row", "head"])
async def test_rows_that_nothing_of_ours_wrote_are_told(done: str) -> None:
    site = await taken(a_chain(9))
    tree = site.trees.of("acme")
    if done == "size":
        tree.size = 10**15
    elif done == "time":
        tree.made[-1] = replace(tree.made[-1], time=NOW + timedelta(days=36_500))
    elif done == "row":
        tree.made = []
    else:
        tree.head = 2
    with pytest.raises((CheckpointConflict, ValueError)):  # the adapter tells of what is no edge
        await site.checkpointer.run_once()
