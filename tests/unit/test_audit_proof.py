"""Chains held against their checkpoints: what links but was never signed is found and named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from crypto.signatures import verifies
from domain.audit_chain import ChainEntry, StoredEntry, hash_of, head_after
from domain.checkpoints import SignedCheckpoint
from operations.audit.checkpoints import read_signed
from operations.audit.overdue import OverdueCheck
from operations.audit.verify import AuditReport, verify_audit
from tests.support.audit_histories import checkpoints_of, signed
from tests.support.audit_lines import MemoryAuditStore, MemoryUnflushedEntries, a_chain
from tests.support.builders import NOW
from tests.support.memory_audit_trees import MemoryCheckpointStore, MemorySigner

SIZES = [4, 9, 12]


class Site:
    """A log of twelve entries and its checkpoints."""

    def __init__(self) -> None:
        self.signer = MemorySigner()
        self.chain = a_chain(12)
        self.honest = checkpoints_of(self.chain, SIZES, self.signer)
        self.checkpoints = MemoryCheckpointStore()
        self.put(self.honest)
        self.hold(self.chain)
        self.recorded = [(one.checkpoint.size, one.checkpoint.hash) for one in self.honest]
        self.at = NOW + timedelta(minutes=13)

    def now(self) -> datetime:
        return self.at

    def put(self, checkpoints: Sequence[SignedCheckpoint]) -> None:
        for one in checkpoints:
            made = one.checkpoint
            self.checkpoints.kept.setdefault((made.tenant, made.size), []).append(one.content)

    def hold(self, chain: Sequence[ChainEntry]) -> None:
        """Both databases say that this is the log."""
        self.store = MemoryAuditStore({("acme", entry.seq): StoredEntry(entry, faithful=True) for entry in chain})
        self.heads = MemoryUnflushedEntries(known={"acme": head_after(chain[-1])} if chain else {})

    async def verify(self) -> AuditReport:
        keys = {self.signer.public.id: self.signer.public}
        proof = {"acme": await read_signed(self.checkpoints, keys, verifies, "acme", self.recorded)}
        overdue = OverdueCheck(self.checkpoints, self.store, self.heads, self, seconds=150, pause=0)
        return await verify_audit(self.store, self.heads, None, proof, overdue)

    async def findings(self) -> list[tuple[str, int]]:
        report = await self.verify()
        found = [(one.kind, one.at) for chain in report.chains for one in chain.findings]
        assert report.intact == (not found)
        assert len(report.report_lines) == len(report.lines) + len(found)
        return found


@pytest.fixture
def site() -> Site:
    return Site()


async def test_what_was_signed_is_intact(site: Site) -> None:
    report = await site.verify()
    newest = "the newest of 2026-03-01T12:12:00Z"
    assert report.report_lines == [f"acme: intact, 12 entries, 12 of them signed by 3 checkpoints, {newest}"]
    assert report.document["chains"][0]["signed"] == 12
    assert report.document["chains"][0]["checkpoint_time"] == "2026-03-01T12:12:00+00:00"


async def test_entries_after_the_newest_checkpoint_are_the_chains_alone(site: Site) -> None:
    unsigned(site)
    newest = "the newest of 2026-03-01T12:09:00Z"
    assert (await site.verify()).report_lines == [
        f"acme: intact, 12 entries, 9 of them signed by 2 checkpoints, {newest}"
    ]


async def test_a_history_that_was_rewritten_in_both_databases(site: Site) -> None:
    site.hold(a_chain(12))
    assert await site.findings() == [("REWRITTEN", 1)]
    longer = a_chain(30)
    site.hold(longer)
    assert (await site.verify()).report_lines == [
        "acme: BROKEN at entry 1 of 30 (REWRITTEN)",
        "acme: REWRITTEN: entries from 1 on follow from each other, but are not those that were signed",
    ]


async def test_a_log_that_was_cut_in_both_databases(site: Site) -> None:
    site.hold(site.chain[:7])
    assert await site.findings() == [("TRUNCATED", 8)]
    site.hold([])
    assert await site.findings() == [("TRUNCATED", 1)]


async def test_an_end_rewritten_since_the_last_checkpoint_that_holds(site: Site) -> None:
    other = replace(site.chain[11], body=site.chain[11].body.replace(b"u-1", b"u-2"))
    forged = replace(other, hash=hash_of(other.body))
    site.hold([*site.chain[:11], forged])
    assert await site.findings() == [("REWRITTEN", 10)]


def in_store(*changes: tuple[int, int | None]) -> Callable[[Site], None]:
    """At each number of the audit store the entry of another number, or none."""

    def change(site: Site) -> None:
        held = dict(site.store.kept)
        for place, taken in changes:
            if taken is None:
                del site.store.kept["acme", place]
            else:
                entry = replace(held["acme", taken].entry, seq=place)
                site.store.kept["acme", place] = StoredEntry(entry, faithful=True)

    return change


def edit(site: Site) -> None:
    entry = site.store.kept["acme", 5].entry
    site.store.kept["acme", 5] = StoredEntry(replace(entry, body=entry.body + b" "), faithful=True)


def edit_with_its_hash(site: Site) -> None:
    entry = site.store.kept["acme", 5].entry
    body = entry.body.replace(b"u-1", b"u-2")
    digest = hash_of(body)
    site.store.kept["acme", 5] = StoredEntry(replace(entry, body=body, hash=digest), faithful=True)


def lose_the_head(site: Site) -> None:
    site.heads.known.clear()


def move_the_head(site: Site) -> None:
    site.heads.known["acme"] = head_after(a_chain(12)[-1])


@pytest.mark.parametrize(
    ("done", "named"),
    [
        (edit, ("EDITED", 5)),
        (edit_with_its_hash, ("EDITED", 5)),
        (in_store((5, None)), ("DELETED", 5)),
        (in_store((1, None)), ("DELETED", 1)),
        (in_store((12, None), (11, None)), ("TRUNCATED", 11)),
        (in_store((5, 6), (6, 5)), ("REORDERED", 5)),
        (in_store((1, 12), (12, 1)), ("REORDERED", 1)),
        (in_store((13, 12)), ("INSERTED", 13)),
        (lose_the_head, ("HEAD_MISSING", 1)),
        (move_the_head, ("REWRITTEN", 12)),
    ],
)
async def test_what_is_done_in_one_database_is_named(
    site: Site, done: Callable[[Site], None], named: tuple[str, int]
) -> None:
    done(site)
    assert named in await site.findings()


# --- checkpoints -----------------------------------------------------------------------------------------------------


async def test_forks(site: Site) -> None:
    made = site.honest[1].checkpoint
    site.put([signed(replace(made, root="ab" * 32), site.signer)])
    assert ("FORKED", 9) in await site.findings()
    site.checkpoints.kept["acme", 9].pop()
    site.put([signed(replace(made, size=10, root="ab" * 32), site.signer)])
    assert ("FORKED", 10) in await site.findings()


async def test_one_body_signed_by_two_keys_is_no_fork(site: Site) -> None:
    new = MemorySigner(7)
    site.put([signed(site.honest[1].checkpoint, new)])
    keys = {signer.public.id: signer.public for signer in (site.signer, new)}
    found = await read_signed(site.checkpoints, keys, verifies, "acme")
    assert (len(found.checkpoints), found.findings) == (3, ())


async def test_a_checkpoint_that_is_gone(site: Site) -> None:
    del site.checkpoints.kept["acme", 9]
    assert await site.findings() == [("CHECKPOINT_MISSING", 12), ("CHECKPOINT_MISSING", 9)]
    site.recorded.clear()
    assert await site.findings() == [("CHECKPOINT_MISSING", 12)]


@pytest.mark.parametrize("content", ["junk", "unsigned", "stranger", "misfiled", "other tenant"])
async def test_a_checkpoint_that_does_not_count(site: Site, content: str) -> None:
    honest = site.honest[2]
    site.checkpoints.kept["acme", 12] = [
        {
            "junk": b"{}\n",
            "unsigned": replace(honest, signature=bytes(64)).content,
            "stranger": signed(honest.checkpoint, MemorySigner(3)).content,
            "misfiled": site.honest[1].content,
            "other tenant": signed(replace(honest.checkpoint, tenant="other"), site.signer).content,
        }[content]
    ]
    assert ("CHECKPOINT_INVALID", 12) in await site.findings()


async def test_checkpoints_alone_tell_of_a_tenant_that_is_gone_everywhere_else(site: Site) -> None:
    site.store.kept.clear()
    site.heads.known.clear()
    assert await site.findings() == [("TRUNCATED", 1)]


# --- a store that has less than the database knows of ----------------------------------------------------------------


async def test_an_empty_store_is_no_proof(site: Site) -> None:
    site.checkpoints.kept.clear()
    assert ("CHECKPOINT_MISSING", 4) in await site.findings()
    assert (await site.verify()).report_lines[1] == (
        "acme: CHECKPOINT_MISSING: the database says that the checkpoint of 4 entries is signed, and the store does not have it, "
        "and so with 2 more"
    )


async def test_another_than_the_recorded_one_is_told(site: Site) -> None:
    site.recorded[2] = (12, "ab" * 32)
    assert await site.findings() == [("CHECKPOINT_MISSING", 12)]


# --- checkpoints that come no more -----------------------------------------------------------------------------------


def unsigned(site: Site) -> None:
    """Twelve entries, nine of them signed at minute 9."""
    del site.checkpoints.kept["acme", 12]
    del site.recorded[2]


async def test_entries_that_nobody_signs_are_told(site: Site) -> None:
    unsigned(site)
    site.at = NOW + timedelta(minutes=14)
    assert await site.findings() == []
    site.at = NOW + timedelta(minutes=14, seconds=1)
    assert await site.findings() == [("UNSIGNED", 10)]
    assert (await site.verify()).report_lines[1] == (
        "acme: UNSIGNED: entries 10 to 12 are not signed, and the newest checkpoint is of 2026-03-01T12:09:00Z: "
        "the audit worker does not run, or something keeps it from signing"
    )


async def test_where_all_is_signed_nothing_is_overdue(site: Site) -> None:
    site.at = NOW + timedelta(days=900)
    assert await site.findings() == []


async def test_a_chain_that_was_never_signed(site: Site) -> None:
    site.checkpoints.kept.clear()
    site.recorded.clear()
    site.at = NOW + timedelta(minutes=4)
    assert await site.findings() == []
    for minutes in (6, -6):  # an entry from later than now was dated by nobody honest
        site.at = NOW + timedelta(minutes=minutes)
        assert await site.findings() == [("UNSIGNED", 1)]


async def test_an_entry_after_a_long_silence_is_signed_in_a_moment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    unsigned(site)
    site.at = NOW + timedelta(days=3)
    looks = 0

    async def sizes(tenant: str, first: int, limit: int) -> Sequence[int]:
        nonlocal looks
        looks += first == 10 and limit == 1
        if looks == 3:
            site.put(site.honest[2:])
        return await real(tenant, first, limit)

    real = site.checkpoints.sizes
    monkeypatch.setattr(site.checkpoints, "sizes", sizes)
    assert await site.findings() == []
    assert looks == 3
