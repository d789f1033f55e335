"""Nothing is deleted while a restore is being looked at, and no document is served that was erased before it.

A restore is on record in PostgreSQL (``processors.ports.restores``): an operator puts it there, or whoever finds that the database is behind
what lies outside of it. It is behind where the audit log has an entry that the database neither handed over nor has waiting, or where the
checkpoint store has one that we signed and the database never took. Rows that lag are those of the very database that is in question, so
nothing in it is believed.

To ask costs a question per tenant. So it is asked when the database is new (another server, one started anew, or another table of chains), and
twice again: a writer may have had entries in hand as the database went back. After that it is asked about seldom.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Protocol

import structlog

from domain.audit_chain import ChainEntry, StoredEntry
from domain.errors import RestoreUnderWay, Transient
from domain.restores import OpenRestore, RestoredStore
from processors.ports.restores import Restores

ACTOR: Final = "system:restore"
BEHIND: Final = "DATABASE_BEHIND"
#: How long after it became another the database is looked at again: when what was under way has mostly ended, and when all of it has.
LOOKS_AFTER: Final = (40.0, 120.0)
#: How often a database that is the same as before is looked at all the same.
AGAIN_SECONDS: Final = 600.0
#: How long what is on record is believed before it is read again, for who asks at every request.
KEEP_SECONDS: Final = 2.0
#: How long a request may be held up by the look at the log that a new start of the database server asks for.
LOOK_SECONDS: Final = 3.0

_log = structlog.get_logger()


class AheadLog(Protocol):
    """The audit log, where it is another store than the database. Raises AuditStoreUnavailable."""

    def entries(self, tenant: str, after: int, up_to: int) -> AsyncGenerator[StoredEntry, None]: ...

    async def tenants(self) -> Sequence[str]: ...


class AheadCheckpoints(Protocol):
    """The checkpoint store. Raises CheckpointStoreUnavailable."""

    async def tenants(self) -> Sequence[str]: ...

    async def sizes(self, tenant: str, first: int, limit: int) -> Sequence[int]: ...


#: Whether what the checkpoint store has of a tenant under a size is a checkpoint that we signed. Raises CheckpointStoreUnavailable or
#: KeyringUnavailable.
IsSigned = Callable[[str, int], Awaitable[bool]]


class ChainRows(Protocol):
    """Chains as the database has them. Raises DatabaseUnavailable."""

    async def handed_over(self) -> Mapping[str, int]:
        """By tenant, the number of the last entry that the log has by the database's word."""
        ...

    async def first(self, tenant: str, limit: int, after: int = 0) -> Sequence[ChainEntry]: ...


class TakenCheckpoints(Protocol):
    async def newest(self) -> Mapping[str, int]:
        """The size of the newest checkpoint that the database ever took, signed or not, by tenant. Raises DatabaseUnavailable."""
        ...


class RestoreGuard:
    """``log`` and ``checkpoints`` give the stores when they are first asked: not every process needs their clients otherwise. ``log`` None: the
    audit log is in the database, and was restored with it; then the checkpoints alone can tell."""

    def __init__(
        self,
        restores: Restores,
        chains: ChainRows,
        taken: TakenCheckpoints,
        log: Callable[[], AheadLog] | None,
        checkpoints: Callable[[], AheadCheckpoints],
        is_signed: IsSigned,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._restores = restores
        self._chains = chains
        self._taken = taken
        self._log = log
        self._checkpoints = checkpoints
        self._is_signed = is_signed
        self._clock = clock
        #: The database that was last found not to be behind, when it first was, and when it is to be looked at again.
        self._sound: str | None = None
        self._sound_since = self._due_at = 0.0

    async def look(self) -> Sequence[OpenRestore]:
        """Restores that are open. One of PostgreSQL is put on record first if nobody did and the database is behind.

        Raises DatabaseUnavailable, AuditStoreUnavailable or CheckpointStoreUnavailable: then nobody knows.
        """
        state = await self._restores.state()
        known = next((one for one in state.open if one.store is RestoredStore.POSTGRESQL), None)
        # Restored once more, from a backup that was made meanwhile, it says itself what was done before.
        if known is not None and (known.erasures_done_at is None or state.server_started < known.erasures_done_at):
            return state.open
        if state.incarnation == self._sound and self._clock() < self._due_at:
            return state.open
        tenant = await self._behind()
        if tenant is None:
            self._found_sound(state.incarnation)
            return state.open
        self._sound = None
        await self._restores.open(RestoredStore.POSTGRESQL, ACTOR, BEHIND)
        _log.error("restore_found", store=RestoredStore.POSTGRESQL.value, tenant=tenant)
        return (await self._restores.state()).open

    async def is_behind(self) -> bool:
        """Whether the database is behind now, whatever is on record. Raises as ``look``."""
        return await self._behind() is not None

    async def check(self) -> None:
        """Raises RestoreUnderWay while a restore is open, and what ``look`` raises: who is about to delete waits in either case."""
        _refuse(await self.look())

    async def recheck(self) -> None:
        """As ``check``, by what is on record alone: for who has looked a moment ago."""
        _refuse((await self._restores.state()).open)

    def _found_sound(self, incarnation: str) -> None:
        now = self._clock()
        if incarnation != self._sound:
            self._sound, self._sound_since = incarnation, now
        looks = (self._sound_since + seconds for seconds in LOOKS_AFTER)
        self._due_at = next((at for at in looks if at > now), now + AGAIN_SECONDS)

    async def _behind(self) -> str | None:
        """A tenant whose chain goes on outside of the database."""
        if self._log is not None:
            log = self._log()
            handed_over = await self._chains.handed_over()
            for tenant in sorted({*handed_over, *await log.tenants()}):
                if await self._is_behind_log(log, tenant, handed_over.get(tenant, 0)):
                    return tenant
        try:
            return await self._behind_checkpoints()
        except Transient:
            if self._log is None:
                raise
            return None  # the log has told already

    async def _is_behind_log(self, log: AheadLog, tenant: str, handed_over: int) -> bool:
        async with aclosing(log.entries(tenant, handed_over, handed_over + 1)) as entries:
            following = [stored.entry async for stored in entries]
        if not following:
            return False
        # Read once more, in this order: it was added to the log before it is forgotten here, and forgotten while we looked.
        waiting = await self._chains.first(tenant, 1, handed_over)
        if waiting and waiting[0].seq == following[0].seq:
            return waiting[0].hash != following[0].hash
        return (await self._chains.handed_over()).get(tenant, 0) <= handed_over

    async def _behind_checkpoints(self) -> str | None:
        store = self._checkpoints()
        newest = await self._taken.newest()
        for tenant in sorted({*newest, *await store.tenants()}):
            ahead = await store.sizes(tenant, newest.get(tenant, 0) + 1, 1)
            # What somebody else put there tells nothing of us. The database takes a checkpoint before the store gets it.
            if not ahead or not await self._is_signed(tenant, ahead[0]):
                continue
            if (await self._taken.newest()).get(tenant, 0) < ahead[0]:
                return tenant
        return None


def _refuse(found: Sequence[OpenRestore]) -> None:
    if found:
        raise RestoreUnderWay("A restore is being looked at: nothing is deleted. See: dpj restore check")


class ServingGate:
    """Keeps documents from being served while a restored database may show what was erased.

    Reads what is on record every ``KEEP_SECONDS``, and looks at the log itself whenever the database server was started anew: whoever
    restores it starts it. While the log is away nobody knows, and documents are served: an outage of the log stops nothing else.
    """

    def __init__(self, restores: Restores, guard: RestoreGuard, clock: Callable[[], float] = time.monotonic) -> None:
        self._restores = restores
        self._guard = guard
        self._clock = clock
        self._lock = asyncio.Lock()
        self._read_at: float | None = None
        self._looked_for: str | None = None
        self._closed = False

    async def check(self) -> None:
        """Raises RestoreUnderWay or DatabaseUnavailable."""
        async with self._lock:
            if self._read_at is None or self._clock() - self._read_at >= KEEP_SECONDS:
                await self._read()
                self._read_at = self._clock()
        if self._closed:
            raise RestoreUnderWay(
                "The database was restored: what was erased since its backup is to be erased again first."
            )

    async def _read(self) -> None:
        state = await self._restores.state()
        found: Sequence[OpenRestore] = state.open
        if state.incarnation != self._looked_for:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    found = await self._guard.look()
                self._looked_for = state.incarnation
            except (Transient, TimeoutError):
                _log.warning("restore_not_looked_for")
        self._closed = any(one.keeps_from_serving for one in found)
