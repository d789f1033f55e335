"""A state of a document without its entry in the audit log is found, however whole the chain is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from domain.audit_chain import ChainEntry, head_after
from operations.audit.timelines import GRACE, RECORDED, TimelineCheck
from operations.audit.verify import AuditReport, verify_audit
from operations.external_sort import ExternalSort
from tests.support.audit_lines import MemoryAuditStore, MemoryUnflushedEntries, a_line, chain_of
from tests.support.builders import NOW

FIRST, SECOND = "0b0f2ac4-2f0c-4c3e-8d65-5a7c4c0c1f57", "1b0f2ac4-2f0c-4c3e-8d65-5a7c4c0c1f57"


class Timelines:
    def __init__(self, *states: tuple[str, str]) -> None:
        self.told = states
        self.asked: list[str] = []

    async def settled_before(self, grace: timedelta) -> datetime:
        assert grace == GRACE
        self.asked.append("settled")
        return NOW

    async def states(self, tenant: str, before: datetime) -> AsyncGenerator[tuple[str, str], None]:
        assert (tenant, before) == ("acme", NOW)
        self.asked.append("states")
        for one in self.told:
            yield one


def entries(*said: tuple[str, str]) -> list[ChainEntry]:
    return chain_of([a_line(entity_id=document, action=f"document.{state.lower()}") for document, state in said])


async def report(chain: Sequence[ChainEntry], timelines: Timelines) -> AuditReport:
    store = MemoryAuditStore()
    await store.add(chain)
    heads = MemoryUnflushedEntries(known={"acme": head_after(chain[-1])})
    return await verify_audit(store, heads, None, None, None, timelines)


WHOLE = [
    (FIRST, "STORED"),
    (FIRST, "VERIFIED"),
    (SECOND, "STORED"),
    (FIRST, "ARCHIVE_FAILED"),
    (FIRST, "ARCHIVE_FAILED"),
]


async def test_a_log_with_an_entry_for_every_state_is_intact() -> None:
    timelines = Timelines(*reversed(WHOLE))
    assert (await report(entries(*WHOLE), timelines)).intact
    assert timelines.asked == ["settled", "states"]  # what the log has by then had its time before


async def test_more_entries_than_states_are_no_finding() -> None:
    """As after a restore of the database: the log knows more."""
    assert (await report(entries(*WHOLE), Timelines())).intact


@pytest.mark.parametrize("gone", range(5))
async def test_each_state_without_its_entry_is_found(gone: int) -> None:
    told = await report(entries(*WHOLE[:gone], *WHOLE[gone + 1 :]), Timelines(*WHOLE))
    assert not told.intact
    document, state = WHOLE[gone]
    assert told.report_lines[1:] == [
        f"acme: ENTRY_MISSING: states that documents came to have no entry: {document} {state}"
    ]


async def test_many_are_counted_and_the_first_named() -> None:
    states = [(f"{number:08d}-2f0c-4c3e-8d65-5a7c4c0c1f57", "STORED") for number in range(50)]
    told = await report(entries((FIRST, "STORED")), Timelines(*states))
    assert told.report_lines[1].endswith(f"{states[2][0]} STORED, and 47 more")


async def test_an_entry_about_something_else_stands_for_no_state() -> None:
    chain = chain_of(
        [
            a_line(entity_id=FIRST, action="document.stored", entity_type="token"),
            a_line(entity_id=FIRST, action="document.read"),
            a_line(entity_id=FIRST, action="dossier.created", details='{"action":"document.stored"}'),
        ]
    )
    assert not (await report(chain, Timelines((FIRST, "STORED")))).intact


async def test_a_strange_id_does_not_upset_the_order(tmp_path: Path) -> None:
    with ExternalSort(tmp_path) as sorting:
        check = TimelineCheck("acme", Timelines((FIRST, "STORED")), NOW, sorting)
        for one in entries(("a\tb", "STORED"), ("a\nb", "STORED"), (FIRST, "STORED")):
            check.observe(one)
        assert await check.finding() is None


def test_every_state_but_those_of_uploads_is_recorded() -> None:
    assert set(RECORDED) == {
        *("document.stored", "document.verified", "document.quarantined", "document.validated", "document.rejected"),
        *("document.archived", "document.archive_failed", "document.erasing", "document.erased"),
    }
