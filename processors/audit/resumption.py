"""The audit log goes on after PostgreSQL was restored to before: the newest state of log and checkpoints becomes the chain's head again.

The log and the locked checkpoints are ahead of the restored tables then. What the database chains on takes numbers that the log has given
already; the log refuses it, and rightly. So the database's rows of the chain are made anew from the log, entry by entry from the first
one: each must follow the one before, every signed checkpoint must be over exactly those entries, and the entry that the database believes
to be the last that it handed over must be the log's. Anything else is refused: then somebody has to look, not to go on.

Lines that the database chained since the restore, and that the log does not have, get new places behind the log's last entry; none is
dropped, and none of the log's is taken back. All is one transaction, with an entry of its own (``audit.resumed``): cut off anywhere,
nothing has happened.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID, uuid4

from domain.audit_chain import ChainCheck, ChainEntry, ChainHead, StoredEntry, event_of, genesis
from domain.checkpoints import SignedCheckpoint, first_previous
from domain.errors import AuditConflict, CheckpointConflict
from processors.audit.signing import VerifySignature
from processors.audit.stored_checkpoints import CheckpointStore, load_stored
from processors.documents.transitions import Origin, audit_line
from processors.ports.clock import Clock
from processors.ports.database import LockingTransactions
from processors.ports.signing import Signer
from processors.ports.work import HasChainRebuild, HasOutbox

PAGE: Final = 1_000


class ResumableLog(Protocol):
    """The audit log. Raises AuditStoreUnavailable, or DatabaseUnavailable where it is in the database."""

    def entries(self, tenant: str, after: int, up_to: int) -> AsyncGenerator[StoredEntry, None]: ...

    async def outside(self, tenant: str, last: int) -> tuple[int, int] | None:
        """Lowest and highest number of what is filed under ``tenant`` but not as 1 to ``last``."""
        ...


class ResumptionWork(HasChainRebuild, HasOutbox, Protocol):
    """The chain's rows, and the line that says so, change together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """What became of a tenant's chain, or would: ``handed_over`` entries were in the log by the database's word, the log has ``last``,
    ``signed`` of them under a checkpoint; ``rechained`` lines get new places, ``known`` were in the log already."""

    tenant: str
    handed_over: int
    last: int
    signed: int
    rechained: int
    known: int

    @property
    def needed(self) -> bool:
        """Whether the log is ahead of the database."""
        return self.last > self.handed_over

    @property
    def line(self) -> str:
        if not self.needed:
            return f"{self.tenant}: the database is not behind its log of {self.last} entries"
        return (
            f"{self.tenant}: from entry {self.handed_over} to {self.last}, {self.signed} of them signed; "
            f"{self.rechained} lines get new places, {self.known} were in the log"
        )


class _NotApplied(Exception):
    """Rolls back what was only tried."""


class AuditResumption:
    """See the module. ``actor`` is the operator's pseudonym."""

    def __init__(
        self,
        database: LockingTransactions[ResumptionWork],
        log: ResumableLog,
        store: CheckpointStore,
        signer: Signer,
        verifies: VerifySignature,
        clock: Clock,
        actor: str,
    ) -> None:
        self._database = database
        self._log = log
        self._store = store
        self._signer = signer
        self._verifies = verifies
        self._clock = clock
        self._actor = actor

    async def resume(self, tenant: str, reason: str, *, apply: bool) -> Resumption:
        """Have the chain of ``tenant`` go on behind its log, or only say what that would be.

        Raises AuditConflict where log and database tell different histories or the log is damaged or too short, CheckpointConflict where
        it is not what was signed, DocumentBusy while a worker is at the chain, and what says that a server is away.
        """
        async with self._database.lock(f"audit-flush/{tenant}"), self._database.lock(f"audit-checkpoint/{tenant}"):
            signed = await self._signed(tenant)
            beyond = await self._log.outside(tenant, 0)
            last = beyond[1] if beyond else 0
            if signed and signed[-1].checkpoint.size > last:
                raise AuditConflict("The log has fewer entries than were signed.")
            done: Resumption | None = None
            try:
                async with self._database.transaction() as work:
                    done = await self._rebuilt(work, tenant, last, signed)
                    if not done.needed or not apply:
                        raise _NotApplied
                    details = {
                        "from": done.handed_over,
                        "to": last,
                        "signed": done.signed,
                        "rechained": done.rechained,
                        "reason": reason,
                    }
                    origin = Origin(actor=self._actor, at=self._clock.now(), correlation_id=uuid4())
                    await work.outbox.add(audit_line(origin, tenant, "key", tenant, "audit.resumed", details=details))
            except _NotApplied:
                pass
            if done is None:
                raise LookupError(tenant)
            return done

    async def _signed(self, tenant: str) -> list[SignedCheckpoint]:
        """All checkpoints of the store, each signed by us and following the one before. Raises CheckpointConflict."""
        found: list[SignedCheckpoint] = []
        previous, after = first_previous(tenant), 0
        while sizes := await self._store.sizes(tenant, after + 1, PAGE):
            for size in sizes:
                one = await load_stored(self._store, self._signer, self._verifies, tenant, size)
                if one is None or one.checkpoint.previous != previous:
                    raise CheckpointConflict("A checkpoint of the store does not follow the one before.")
                previous, after = one.checkpoint.hash, size
                found.append(one)
        return found

    async def _rebuilt(
        self, work: ResumptionWork, tenant: str, last: int, signed: Sequence[SignedCheckpoint]
    ) -> Resumption:
        held = await work.chain_rebuild.hold(tenant)
        base = held.handed_over
        if last < base.seq:
            raise AuditConflict("The log has fewer entries than the database handed over to it.")
        size = signed[-1].checkpoint.size if signed else 0
        if last == base.seq:
            return Resumption(tenant=tenant, handed_over=base.seq, last=last, signed=size, rechained=0, known=0)
        await work.chain_rebuild.clear(tenant, base.seq)
        check = ChainCheck(genesis(tenant))
        _agree(check.head, base)
        told: set[UUID] = set()
        coming = list(reversed(signed))
        while check.head.seq < last:
            stop = coming[-1].checkpoint.size if coming else last
            page = await self._page(check, base, min(stop, check.head.seq + PAGE))
            told |= {entry.event_id for entry in page if entry.seq > base.seq}
            await work.chain_rebuild.extend(page, above=base.seq, in_tree=bool(coming))
            if coming and check.head.seq == coming[-1].checkpoint.size:
                await work.chain_rebuild.checkpoint(coming.pop(), check.head.hash)
        lines = [event_of(entry) for entry in held.pending if entry.event_id not in told]
        await work.chain_rebuild.finish(check.head, lines)
        return Resumption(
            tenant=tenant,
            handed_over=base.seq,
            last=last,
            signed=size,
            rechained=len(lines),
            known=len(held.pending) - len(lines),
        )

    async def _page(self, check: ChainCheck, base: ChainHead, up_to: int) -> list[ChainEntry]:
        """The log's next entries, each verified."""
        page: list[ChainEntry] = []
        async with aclosing(self._log.entries(check.head.tenant, check.head.seq, up_to)) as entries:
            async for stored in entries:
                if check.add(stored.entry, faithful=stored.faithful) is not None:
                    raise AuditConflict(f"The log is broken at entry {check.head.seq + 1}.")
                _agree(check.head, base)
                page.append(stored.entry)
        if check.head.seq != up_to:
            raise AuditConflict(f"The log lacks entry {check.head.seq + 1}.")
        return page


def _agree(head: ChainHead, base: ChainHead) -> None:
    if head.seq == base.seq and head.hash != base.hash:
        raise AuditConflict(f"Log and database tell different histories up to entry {base.seq}.")
