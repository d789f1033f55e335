"""Walks audit chains from their first entry to their head: the proof that no line of the audit log was changed or removed.

The head lives in PostgreSQL and the entries in MongoDB, so that who rewrites one of them is found out by the other. (On a site with
both in PostgreSQL nobody finds that one out so.) The signed checkpoints live where neither database's people can write, so that who
rewrites both is found out too.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

from domain.audit_chain import ChainBreak, ChainCheck, ChainEntry, ChainFault, ChainHead, StoredEntry, genesis
from operations.audit.checkpoints import NOTHING_SIGNED, AuditFinding, SignedCheck, SignedHistory
from operations.audit.overdue import OverdueCheck
from operations.audit.timelines import GRACE, TimelineCheck, Timelines
from operations.external_sort import ExternalSort

PAGE: Final = 1_000
TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


class AuditReader(Protocol):
    """The audit store. Raises AuditStoreUnavailable, or DatabaseUnavailable where it is in the database."""

    def entries(self, tenant: str, after: int, up_to: int) -> AsyncGenerator[StoredEntry, None]:
        """Entries numbered above ``after`` and not above ``up_to``, in order."""
        ...

    async def outside(self, tenant: str, last: int) -> tuple[int, int] | None:
        """Lowest and highest number of what is filed under ``tenant`` but not as 1 to ``last``; 0 stands for no number."""
        ...

    async def tenants(self) -> Sequence[str]: ...


class ChainHeads(Protocol):
    """Heads, and the entries on their way to the audit store. Raises DatabaseUnavailable."""

    async def heads(self) -> Sequence[ChainHead]: ...

    async def unplaced(self) -> Mapping[str, int]:
        """How many lines wait for their place, by tenant."""
        ...

    async def first(self, tenant: str, limit: int, after: int = 0) -> Sequence[ChainEntry]:
        """The oldest waiting entries numbered above ``after``, in order."""
        ...


#: What a verification of all chains that found nothing is kept as (``storage.postgres.periodic_jobs``).
AUDIT_VERIFIED: Final = "audit verified"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReport:
    """One tenant's chain: how many entries verified, of how many the head names, and where it first breaks.

    ``waiting`` counts what is not in the audit store yet: verified entries, and lines that have no place so far. ``signed`` is the size
    of the newest of ``checkpoints``, and ``newest`` its time. ``findings`` name what was done, to the chain or to its checkpoints.
    """

    tenant: str
    verified: int
    expected: int
    waiting: int
    fault: ChainFault | None
    signed: int = 0
    checkpoints: int = 0
    newest: datetime | None = None
    findings: tuple[AuditFinding, ...] = ()

    @property
    def intact(self) -> bool:
        return self.fault is None and not self.findings

    @property
    def line(self) -> str:
        if self.fault is not None:
            return f"{self.tenant}: BROKEN at entry {self.fault.seq} of {self.expected} ({self.fault.reason.value})"
        waiting = f", {self.waiting} waiting" if self.waiting else ""
        signed = ""
        if self.newest is not None:
            signed = (
                f", {self.signed} of them signed by {self.checkpoints} checkpoints, the newest of {self.newest:{TIME}}"
            )
        if self.findings:
            return f"{self.tenant}: NOT PROVEN, {self.verified} entries follow from each other{waiting}{signed}"
        return f"{self.tenant}: intact, {self.verified} entries{waiting}{signed}"


@dataclass(frozen=True, slots=True)
class AuditReport:
    """All chains that were looked at."""

    chains: tuple[ChainReport, ...]

    @property
    def intact(self) -> bool:
        return all(chain.intact for chain in self.chains)

    @property
    def detail(self) -> str:
        """One sentence for a summary."""
        broken = [chain for chain in self.chains if not chain.intact]
        if broken:
            return f"{len(broken)} of {len(self.chains)} chains broken; first {broken[0].line}"
        entries = sum(chain.verified for chain in self.chains)
        chains = "1 chain" if len(self.chains) == 1 else f"{len(self.chains)} chains"
        return f"{chains}, {entries} entries, each linked to the one before and to its head"

    @property
    def lines(self) -> list[str]:
        """One for each chain."""
        return [chain.line for chain in self.chains] or ["There is no audit chain yet."]

    @property
    def report_lines(self) -> list[str]:
        """``lines``, and one for each finding."""
        return [*self.lines, *(finding.line for chain in self.chains for finding in chain.findings)]

    @property
    def document(self) -> dict[str, Any]:
        return {
            "intact": self.intact,
            "chains": [
                {
                    "tenant": chain.tenant,
                    "verified": chain.verified,
                    "expected": chain.expected,
                    "waiting": chain.waiting,
                    "broken_at": chain.fault and chain.fault.seq,
                    "reason": chain.fault and chain.fault.reason.value,
                    "signed": chain.signed,
                    "checkpoints": chain.checkpoints,
                    "checkpoint_time": chain.newest and chain.newest.isoformat(),
                    "findings": [{"kind": one.kind, "at": one.at, "text": one.text} for one in chain.findings],
                }
                for chain in self.chains
            ],
        }


async def verify_audit(
    reader: AuditReader,
    heads: ChainHeads,
    tenant: str | None = None,
    signed: Mapping[str, SignedHistory] | None = None,
    overdue: OverdueCheck | None = None,
    timelines: Timelines | None = None,
) -> AuditReport:
    """Verify the chain of ``tenant``, or all, and hold it against what was ``signed``, which must have been read before; with
    ``overdue``, also say where nothing is signed any more; with ``timelines``, which states of documents have no entry.

    May run beside writers: what is added meanwhile is left for the next time. Raises AuditStoreUnavailable or DatabaseUnavailable.
    """
    signed = signed or {}
    settled = await timelines.settled_before(GRACE) if timelines is not None else None
    # In this order: what is in the store had its head before, and what had its head waited for its place before.
    unplaced = await heads.unplaced()
    stored = set(await reader.tenants())
    known = {head.tenant: head for head in await heads.heads()}
    reports = []
    for name in sorted(set(known) | stored | set(unplaced) | set(signed)):
        if tenant in {None, name}:
            proof = signed.get(name, NOTHING_SIGNED)
            head = known.get(name) or (None if name in stored else genesis(name))
            with ExternalSort(Path(tempfile.gettempdir())) as sorting:
                check = None
                if timelines is not None and settled is not None:
                    check = TimelineCheck(name, timelines, settled, sorting)
                report = await _report(reader, heads, name, head, proof, check)
                findings = [*await _named(reader, report, proof), *proof.findings]
                # A chain that breaks was not read to its end.
                missing = await check.finding() if check is not None and report.fault is None else None
                findings += [missing] if missing is not None else []
            late = overdue and await overdue.finding(name, report.expected, proof)
            findings += [late] if late else []
            reports.append(
                replace(
                    report,
                    waiting=report.waiting + unplaced.get(name, 0),
                    signed=proof.size,
                    checkpoints=len(proof.checkpoints),
                    newest=proof.time,
                    findings=tuple(findings),
                )
            )
    return AuditReport(tuple(reports))


async def _report(
    reader: AuditReader,
    heads: ChainHeads,
    name: str,
    head: ChainHead | None,
    proof: SignedHistory,
    timeline: TimelineCheck | None,
) -> ChainReport:
    if head is None:
        return _headless(name)
    observe = None if timeline is None else timeline.observe
    return await _verify_chain(reader, heads, head, SignedCheck(genesis(name), proof.checkpoints, observe))


async def _named(reader: AuditReader, report: ChainReport, proof: SignedHistory) -> list[AuditFinding]:
    """What was done, as far as it shows: the chain's fault, and signed entries that the chain no longer has."""
    found = []
    if report.fault is not None:
        kind, at, text = await _kind_of(reader, report, report.fault)
        found.append(AuditFinding(report.tenant, kind, at, text))
    if report.expected < proof.size:
        text = f"the chain ends at entry {report.expected}; {proof.size} are signed"
        found.append(AuditFinding(report.tenant, "TRUNCATED", report.expected + 1, text))
    return found


async def _kind_of(reader: AuditReader, report: ChainReport, fault: ChainFault) -> tuple[str, int, str]:
    seq = fault.seq
    if fault.reason is ChainBreak.MISSING:
        if await _first_from(reader, report.tenant, seq, report.expected) is None:
            return "TRUNCATED", seq, f"the log ends at entry {seq - 1} of {report.expected}"
        return "DELETED", seq, f"entry {seq} is missing"
    if fault.reason in {ChainBreak.UNLINKED, ChainBreak.MISLABELLED}:
        held = await _first_from(reader, report.tenant, seq, seq)
        if held is not None and _number_in(held.entry) != seq:
            return "REORDERED", seq, f"in the place of entry {seq} stands another one"
        return "EDITED", max(seq - 1, 1), f"entry {max(seq - 1, 1)} is not the one that entry {seq} names"
    if fault.reason is ChainBreak.SURPLUS:
        return "INSERTED", seq, f"what is filed as entry {seq} is no part of the chain"
    if fault.reason is ChainBreak.HEAD_MISSING:
        return "HEAD_MISSING", seq, "the database has entries of this tenant, and no head of their chain"
    if fault.reason is ChainBreak.HEAD_DIFFERS:
        return "REWRITTEN", seq, f"the entries follow from each other, but the last one, {seq}, is not the head's"
    if fault.reason is ChainBreak.REWRITTEN:
        return "REWRITTEN", seq, f"entries from {seq} on follow from each other, but are not those that were signed"
    return "EDITED", seq, f"entry {seq} is not what was written"


async def _first_from(reader: AuditReader, tenant: str, seq: int, up_to: int) -> StoredEntry | None:
    async with aclosing(reader.entries(tenant, seq - 1, up_to)) as entries:
        async for stored in entries:
            return stored
    return None


def _number_in(entry: ChainEntry) -> Any:
    try:
        return entry.fields().get("seq")
    except ValueError:
        return None


def _headless(tenant: str) -> ChainReport:
    fault = ChainFault(1, ChainBreak.HEAD_MISSING)
    return ChainReport(tenant=tenant, verified=0, expected=0, waiting=0, fault=fault)


async def _verify_chain(reader: AuditReader, heads: ChainHeads, head: ChainHead, check: SignedCheck) -> ChainReport:
    waited = 0
    while check.fault is None and check.head.seq < head.seq:
        before = check.head.seq
        waiting = await heads.first(head.tenant, PAGE, before)
        if waiting and waiting[0].seq == before + 1:
            replaced = await _replaced(reader, waiting)
            waited += _walk(check, waiting, head.seq if replaced is None else min(head.seq, replaced - 1))
            if replaced is not None and check.fault is None:
                check.fault = ChainFault(replaced, ChainBreak.ALTERED)
            continue
        # All below the oldest that waits is in the store; what is above may be on its way there this moment.
        settled = min(head.seq, waiting[0].seq - 1) if waiting else head.seq
        async with aclosing(reader.entries(head.tenant, before, settled)) as entries:
            async for stored in entries:
                if check.add(stored.entry, faithful=stored.faithful) is not None:
                    break
        if check.fault is None and check.head.seq < settled:
            check.fault = ChainFault(check.head.seq + 1, ChainBreak.MISSING)
    fault = check.fault
    if fault is None and check.head != head:
        fault = ChainFault(head.seq, ChainBreak.HEAD_DIFFERS)
    if fault is None:
        fault = await _surplus(reader, heads, head)
    return ChainReport(tenant=head.tenant, verified=check.head.seq, expected=head.seq, waiting=waited, fault=fault)


async def _replaced(reader: AuditReader, waiting: Sequence[ChainEntry]) -> int | None:
    """The first number of ``waiting`` whose place in the store something else has already."""
    expected = {entry.seq: StoredEntry(entry, faithful=True) for entry in waiting}
    tenant, first = waiting[0].tenant, waiting[0].seq
    async with aclosing(reader.entries(tenant, first - 1, waiting[-1].seq)) as entries:
        async for stored in entries:
            if expected.get(stored.entry.seq) != stored:
                return max(first, stored.entry.seq)
    return None


async def _surplus(reader: AuditReader, heads: ChainHeads, head: ChainHead) -> ChainFault | None:
    """What the store has beside the chain. Numbers above ``head`` are right if the chain has grown to them meanwhile."""
    outside = await reader.outside(head.tenant, head.seq)
    if outside is None:
        return None
    newest = max((now.seq for now in await heads.heads() if now.tenant == head.tenant), default=head.seq)
    lowest, highest = outside
    if lowest < 1:
        return ChainFault(lowest, ChainBreak.SURPLUS)
    return ChainFault(highest, ChainBreak.SURPLUS) if highest > newest else None


def _walk(check: ChainCheck, entries: Sequence[ChainEntry], up_to: int) -> int:
    """How many of ``entries`` verified."""
    before = check.head.seq
    for entry in entries:
        if entry.seq > up_to or check.add(entry) is not None:
            break
    return check.head.seq - before
