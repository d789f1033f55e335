"""Audit: every AuditRecorded gets its place in its tenant's chain, and the entries move on to the audit store in batches.

Three steps, so that a chain never forks, no line waits for another, and the audit store may be away for hours: delivery's
transaction has the line wait; the chainer gives the oldest waiting lines their places, many in one transaction; the flusher
copies entries to the store, oldest first, and only forgets what the store confirmed. A crash anywhere repeats a step, and
each takes a repetition as one. Lines of one entity are chained in their own order, because delivery has the next of them
wait only when the one before does; lines of different entities in about the order in which they arrived.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

import structlog

from domain.audit_chain import ChainEntry
from domain.errors import DocumentBusy, DPJError, Transient
from domain.events import AuditRecorded, Event
from domain.shared.crash_points import reach
from domain.shared.waiting import until_stopped
from processors.documents.transitions import NOTHING_TO_COMMIT, SharedCommit
from processors.ports.audit import AuditStore
from processors.ports.database import Locks
from processors.ports.work import Commit, HasAuditChains

log = structlog.get_logger()

BATCH: Final = 1_000
IDLE_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 2.0
#: What a step waits for that trying again does not mend.
FOR_OPERATOR: Final = "operator"


class UnchainedLines(Protocol):
    """Lines that have no place yet. Raises DatabaseUnavailable."""

    async def tenants(self) -> Sequence[str]:
        """Those with lines that wait."""
        ...

    async def chain(self, tenant: str, limit: int) -> int:
        """Give the tenant's oldest lines, at most ``limit``, the next places of its chain: all of them, or none.

        Gives how many lines wait no longer; 0 too while another is at this chain.
        """
        ...


class UnflushedEntries(Protocol):
    """Entries that have their place and wait for the audit store. Raises DatabaseUnavailable."""

    async def tenants(self) -> Sequence[str]: ...

    async def first(self, tenant: str, limit: int) -> Sequence[ChainEntry]:
        """Oldest first."""
        ...

    async def remove(self, tenant: str, up_to: int) -> None:
        """Forget the entries up to and including number ``up_to``."""
        ...


class AuditProcessor:
    """Consumer ``audit``."""

    consumer: Final = "audit"
    handles: tuple[type[Event], ...] = (AuditRecorded,)

    async def process(self, event: Event) -> Commit:
        """Nothing outside the transaction; the line itself is all there is."""
        if not isinstance(event, AuditRecorded):
            raise TypeError("the audit consumer takes AuditRecorded only")
        line = event

        async def commit(work: HasAuditChains) -> None:
            await work.audit_chains.append(line)

        return SharedCommit(commit)

    async def give_up(self, event: Event, code: str) -> Commit:  # noqa: ARG002 - a line that can't be chained changes no document
        """The dead letter keeps the line; there is no state to change."""
        return NOTHING_TO_COMMIT


class AuditStep(ABC):
    """A step that runs by itself. ``waiting_for`` names the dependency that holds it up now, for metrics and /readyz; None
    when nothing does."""

    def __init__(self, step: str, *, refused: str) -> None:
        self._step: Final = step
        self._refused: Final = refused
        self.waiting_for: str | None = None

    def needs_operator(self) -> bool:
        """Whether it stands until somebody has looked."""
        return self.waiting_for == FOR_OPERATOR

    @abstractmethod
    async def run_once(self) -> int:
        """Move what waits now; gives how much moved."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Move until told to stop, then once more, so that little waits for the next start."""
        await until_stopped(stopping, self._turn)
        with suppress(DPJError):
            await self.run_once()

    async def _turn(self) -> float:
        seconds = IDLE_SECONDS
        try:
            if await self.run_once():
                seconds = 0.0
            self.waiting_for = None
        except Transient as error:
            if self.waiting_for != error.waiting_for:
                log.warning(
                    "audit_step_waiting", step=self._step, waiting_for=error.waiting_for, error=type(error).__name__
                )
            self.waiting_for = error.waiting_for
            seconds = RETRY_SECONDS
        except DPJError:
            self.waiting_for = FOR_OPERATOR
            seconds = RETRY_SECONDS
        except Exception as error:  # noqa: BLE001 - what waits stays where it is; the other steps go on meanwhile
            self.waiting_for = FOR_OPERATOR
            log.error("audit_step_failed", step=self._step, error=type(error).__name__)
            seconds = RETRY_SECONDS
        return seconds

    async def _each(
        self, tenants: Sequence[str], step: Callable[[str], Awaitable[int]]
    ) -> tuple[int, Exception | None]:
        """``step`` for every tenant: what moved in all, and the first defect or refusal, which stops no other tenant."""
        moved = 0
        refusal: Exception | None = None
        for tenant in tenants:
            try:
                moved += await step(tenant)
            except DocumentBusy:
                continue  # another process is at it
            except Transient:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this tenant's
                code = error.code if isinstance(error, DPJError) else type(error).__name__
                log.error(self._refused, tenant=tenant, code=code)
                refusal = refusal or error
        return moved, refusal


class AuditChainer(AuditStep):
    """Gives waiting lines their places; one at a time is at a tenant's chain, whichever process it runs in."""

    def __init__(self, waiting: UnchainedLines, *, batch: int = BATCH) -> None:
        super().__init__("chain", refused="audit_chain_refused")
        self._waiting = waiting
        self._batch: Final = batch

    async def run_once(self) -> int:
        """One batch for each tenant; gives how many lines wait no longer. A defect is raised only where nothing else moved."""
        moved, defect = await self._each(
            await self._waiting.tenants(), lambda tenant: self._waiting.chain(tenant, self._batch)
        )
        if defect is not None and not moved:
            raise defect
        return moved


class AuditFlusher(AuditStep):
    """Moves waiting entries to the audit store; one flusher per tenant at a time, whichever process it runs in."""

    def __init__(self, pending: UnflushedEntries, store: AuditStore, locks: Locks, *, batch: int = BATCH) -> None:
        super().__init__("flush", refused="audit_flush_refused")
        self._pending = pending
        self._store = store
        self._locks = locks
        self._batch: Final = batch

    async def run_once(self) -> int:
        return await self.flush()

    async def flush(self) -> int:
        """Move what waits now, a batch per tenant at a time; gives how many entries moved.

        Every tenant is tried: one whose entries are refused is logged, keeps them here and does not stop the others. The
        first refusal is raised at the end.
        """
        moved, refusal = await self._each(await self._pending.tenants(), self._flush_tenant)
        if refusal is not None:
            raise refusal
        return moved

    async def _flush_tenant(self, tenant: str) -> int:
        moved = 0
        async with self._locks.lock(f"audit-flush/{tenant}"):
            while entries := await self._pending.first(tenant, self._batch):
                await self._store.add(entries)
                reach("audit.stored")
                await self._pending.remove(tenant, entries[-1].seq)
                moved += len(entries)
                if len(entries) < self._batch:
                    break
        return moved
