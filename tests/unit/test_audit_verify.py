"""The walk along audit chains: what holds, what is broken, what is only on its way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import pytest

from domain.audit_chain import ChainBreak, ChainEntry, ChainHead, StoredEntry, head_after
from operations.audit import verify as audit_verify
from operations.audit.verify import verify_audit
from tests.support.audit_lines import MemoryAuditStore, MemoryUnflushedEntries, a_chain


def site_of(
    *chains: Sequence[ChainEntry], in_store: int | None = None
) -> tuple[MemoryAuditStore, MemoryUnflushedEntries]:
    """All chains with their heads; the first ``in_store`` entries of each (default: all) in the store, the rest waiting."""
    store, waiting = MemoryAuditStore(), MemoryUnflushedEntries()
    for chain in chains:
        moved = len(chain) if in_store is None else in_store
        for entry in chain[:moved]:
            store.kept[entry.tenant, entry.seq] = StoredEntry(entry, faithful=True)
        waiting.waiting += chain[moved:]
        waiting.known[chain[-1].tenant] = head_after(chain[-1])
    return store, waiting


async def test_whole_chains_are_intact() -> None:
    store, waiting = site_of(a_chain(7), a_chain(3, "other"))
    report = await verify_audit(store, waiting)
    assert report.intact
    assert report.lines == ["acme: intact, 7 entries", "other: intact, 3 entries"]
    assert report.detail == "2 chains, 10 entries, each linked to the one before and to its head"
    assert report.document["intact"] is True
    assert report.document["chains"][0] == {
        "tenant": "acme",
        "verified": 7,
        "expected": 7,
        "waiting": 0,
        "broken_at": None,
        "reason": None,
        "signed": 0,
        "checkpoints": 0,
        "checkpoint_time": None,
        "findings": [],
    }


async def test_one_tenant_alone() -> None:
    report = await verify_audit(*site_of(a_chain(2), a_chain(3, "other")), "other")
    assert [chain.tenant for chain in report.chains] == ["other"]


async def test_nothing_yet_is_intact() -> None:
    report = await verify_audit(MemoryAuditStore(), MemoryUnflushedEntries())
    assert report.intact
    assert report.lines == ["There is no audit chain yet."]


@pytest.mark.parametrize("in_store", [0, 4])
async def test_entries_on_their_way_belong_to_the_chain(in_store: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_verify, "PAGE", 3)
    report = await verify_audit(*site_of(a_chain(9), in_store=in_store))
    assert report.intact
    assert report.lines == [f"acme: intact, 9 entries, {9 - in_store} waiting"]


async def test_lines_without_a_place_are_waiting_also_of_a_tenant_without_a_chain() -> None:
    store, waiting = site_of(a_chain(4), in_store=3)
    waiting.lines = {"acme": 5, "newcomer": 2}
    report = await verify_audit(store, waiting)
    assert report.intact
    assert report.lines == ["acme: intact, 4 entries, 6 waiting", "newcomer: intact, 0 entries, 2 waiting"]


async def test_entries_in_both_places_count_once() -> None:
    chain = a_chain(6)
    store, waiting = site_of(chain)
    waiting.waiting = chain[2:4]
    report = await verify_audit(store, waiting)
    assert report.intact
    assert report.chains[0].verified == 6


async def test_what_is_added_meanwhile_is_left_for_the_next_time() -> None:
    chain = a_chain(6)
    store, waiting = site_of(chain, in_store=3)
    waiting.known["acme"] = head_after(chain[4])
    report = await verify_audit(store, waiting)
    assert report.intact
    assert report.chains[0].verified == 5


async def test_entries_that_move_to_the_store_while_it_is_read_are_followed() -> None:
    chain = a_chain(6)
    store, waiting = site_of(chain, in_store=2)

    class Moving(MemoryAuditStore):
        async def entries(self, tenant: str, after: int, up_to: int) -> AsyncGenerator[StoredEntry, None]:
            async for stored in super().entries(tenant, after, up_to):
                yield stored
            for entry in waiting.waiting:
                self.kept[entry.tenant, entry.seq] = StoredEntry(entry, faithful=True)
            waiting.waiting = []

    report = await verify_audit(Moving(store.kept), waiting)
    assert report.intact
    assert report.chains[0].verified == 6


@pytest.mark.parametrize("gone", [1, 3, 5])
async def test_a_removed_entry_is_found(gone: int) -> None:
    store, waiting = site_of(a_chain(5))
    del store.kept["acme", gone]
    report = await verify_audit(store, waiting)
    assert not report.intact
    assert report.chains[0].fault is not None
    assert (report.chains[0].fault.seq, report.chains[0].fault.reason) == (gone, ChainBreak.MISSING)
    assert report.lines == [f"acme: BROKEN at entry {gone} of 5 (MISSING)"]
    assert report.detail == f"1 of 1 chains broken; first acme: BROKEN at entry {gone} of 5 (MISSING)"
    assert report.document["chains"][0]["reason"] == "MISSING"


async def test_an_altered_entry_is_found_in_the_store_and_while_it_waits() -> None:
    chain = a_chain(4)
    altered = replace(chain[2], body=chain[2].body + b" ")
    for in_store in (4, 0):
        report = await verify_audit(*site_of([*chain[:2], altered, chain[3]], in_store=in_store))
        assert report.lines == ["acme: BROKEN at entry 3 of 4 (ALTERED)"]


async def test_fields_beside_the_entry_that_say_something_else_are_found() -> None:
    store, waiting = site_of(a_chain(4))
    store.kept["acme", 2] = StoredEntry(store.kept["acme", 2].entry, faithful=False)
    assert (await verify_audit(store, waiting)).lines == ["acme: BROKEN at entry 2 of 4 (ALTERED)"]


async def test_a_chain_rewritten_from_some_entry_on_does_not_end_at_its_head() -> None:
    store, waiting = site_of(a_chain(4))
    waiting.known["acme"] = ChainHead("acme", 4, "0" * 64)
    assert (await verify_audit(store, waiting)).lines == ["acme: BROKEN at entry 4 of 4 (HEAD_DIFFERS)"]


async def test_a_chain_without_a_head_is_found() -> None:
    store, waiting = site_of(a_chain(4))
    waiting.known.clear()
    assert (await verify_audit(store, waiting)).lines == ["acme: BROKEN at entry 1 of 0 (HEAD_MISSING)"]


@pytest.mark.parametrize(("number", "named"), [(-3, -3), (0, 0), (5, 5), (99, 99)])
async def test_an_entry_beside_the_chain_is_found(number: int, named: int) -> None:
    store, waiting = site_of(a_chain(4))
    store.kept["acme", number] = StoredEntry(replace(a_chain(1)[0], seq=number), faithful=True)
    assert (await verify_audit(store, waiting)).lines == [f"acme: BROKEN at entry {named} of 4 (SURPLUS)"]


async def test_entries_that_came_after_the_look_at_the_head_are_no_surplus() -> None:
    chain = a_chain(6)
    store, _ = site_of(chain)

    class Growing(MemoryUnflushedEntries):
        async def heads(self) -> Sequence[ChainHead]:
            seen, self.known = list(self.known.values()), {"acme": head_after(chain[5])}
            return seen

    report = await verify_audit(store, Growing(known={"acme": head_after(chain[3])}))
    assert report.lines == ["acme: intact, 4 entries"]
    store.kept["acme", 7] = StoredEntry(replace(chain[5], seq=7), faithful=True)
    report = await verify_audit(store, Growing(known={"acme": head_after(chain[3])}))
    assert report.lines == ["acme: BROKEN at entry 7 of 4 (SURPLUS)"]


@pytest.mark.parametrize("faithful", [True, False])
async def test_something_else_in_the_place_of_a_waiting_entry_is_found(faithful: bool) -> None:
    chain = a_chain(6)
    store, waiting = site_of(chain, in_store=2)
    store.kept["acme", 3] = StoredEntry(chain[2], faithful=True)  # copied, not yet forgotten: as it should be
    other = chain[4] if not faithful else replace(a_chain(1)[0], seq=5)
    store.kept["acme", 5] = StoredEntry(other, faithful=faithful)
    report = await verify_audit(store, waiting)
    assert report.lines == ["acme: BROKEN at entry 5 of 6 (ALTERED)"]
    assert report.chains[0].verified == 4


async def test_a_waiting_entry_that_is_broken_before_the_replaced_one_is_named_first() -> None:
    chain = a_chain(6)
    store, waiting = site_of([*chain[:3], replace(chain[3], body=b"{}"), *chain[4:]], in_store=2)
    store.kept["acme", 5] = StoredEntry(replace(a_chain(1)[0], seq=5), faithful=True)
    assert (await verify_audit(store, waiting)).lines == ["acme: BROKEN at entry 4 of 6 (ALTERED)"]


async def test_a_tenant_that_begins_meanwhile_is_not_without_a_head() -> None:
    store, waiting = site_of(a_chain(2))
    newcomer = a_chain(1, "newcomer")[0]

    class Beginning(MemoryAuditStore):
        async def tenants(self) -> Sequence[str]:
            before = await super().tenants()
            self.kept["newcomer", 1] = StoredEntry(newcomer, faithful=True)
            waiting.known["newcomer"] = head_after(newcomer)
            return before

    assert (await verify_audit(Beginning(store.kept), waiting)).intact
