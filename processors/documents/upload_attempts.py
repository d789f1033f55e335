"""An upload's attempt while it runs: its lease is kept, and when it fails nothing of it stays.

The order is always the row first (ABANDONED, by compare-and-set), then the object: an object is never deleted under a
document that might have been completed. What a crash leaves has an expired lease, and ``AbandonedSweep`` does the same.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from domain.documents import Document
from domain.errors import DPJError, Transient
from domain.lifecycle import Status
from domain.refusals import UploadSuperseded
from domain.shared.crash_points import reach
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.work import HasDocuments, HasIdempotencyKeys, HasUploads

Scope = tuple[str, str, str]

_log = structlog.get_logger()


class DeletableContent(Protocol):
    async def delete(self, object_key: str) -> None:
        """Remove one object; one that is not there is fine."""
        ...


@dataclass(slots=True)
class UploadLease:
    """``lost``: the attempt no longer holds its row, and going on is useless."""

    lost: bool = False

    def check(self) -> None:
        """Raises UploadSuperseded once the lease is lost."""
        if self.lost:
            raise UploadSuperseded("The upload took too long to be kept; it was abandoned.")


@dataclass(frozen=True, slots=True)
class UploadAttempt:
    """A PENDING row and, with an Idempotency-Key, the key's scope (tenant, caller, key)."""

    document: Document
    scope: Scope | None


class UploadWork(HasDocuments, HasUploads, HasIdempotencyKeys, Protocol):
    """What an upload under way needs of a transaction."""


class UploadAttempts:
    """Keeps and discards attempts. ``lease_seconds`` is renewed at a third of its length; ``discard_seconds`` is a deadline."""

    def __init__(
        self,
        database: Transactions[UploadWork],
        content: DeletableContent,
        clock: Clock,
        *,
        lease_seconds: float = 60.0,
        discard_seconds: float = 20.0,
    ) -> None:
        self._database = database
        self._content = content
        self._clock = clock
        self.lease_seconds = lease_seconds
        self._discard_seconds = discard_seconds
        # The loop itself refers to tasks weakly; a discard must outlive the request that was cancelled.
        self._discards: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def with_renewed_lease(self, attempt: UploadAttempt) -> AsyncIterator[UploadLease]:
        """Renews the lease in the background until left."""
        lease = UploadLease()
        keeping: list[asyncio.Task[None]] = []
        # Most uploads end long before their first renewal: they need no task of their own.
        begin = asyncio.get_running_loop().call_later(
            self.lease_seconds / 3, lambda: keeping.append(asyncio.create_task(self._renew_lease(attempt, lease)))
        )
        try:
            yield lease
        finally:
            begin.cancel()
            for task in keeping:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def discard(self, attempt: UploadAttempt) -> None:
        """Leave nothing of a failed attempt. What can't be reached now is left to the sweep; raises nothing of ours."""
        task = asyncio.create_task(self._discard(attempt))
        self._discards.add(task)
        task.add_done_callback(self._discards.discard)
        await asyncio.shield(task)

    async def _renew_lease(self, attempt: UploadAttempt, lease: UploadLease) -> None:
        document = attempt.document
        while True:
            try:
                async with self._database.transaction() as work:
                    await work.uploads.renew(document.id, document.object_key, self.lease_seconds)
                    if attempt.scope is not None:
                        await work.idempotency.renew(attempt.scope, document.object_key, self.lease_seconds)
            except UploadSuperseded:
                lease.lost = True
                return
            except Transient as error:
                _log.warning("upload_lease_not_renewed", document_id=str(document.id), code=error.code)
            await asyncio.sleep(self.lease_seconds / 3)

    async def _discard(self, attempt: UploadAttempt) -> None:
        document = attempt.document
        try:
            async with asyncio.timeout(self._discard_seconds):
                reach("discard.begun")
                if await self._abandon(attempt):
                    reach("discard.abandoned")
                    await self._content.delete(document.object_key)
        except (DPJError, TimeoutError) as error:
            code = error.code if isinstance(error, DPJError) else "timeout"
            _log.warning("upload_left_to_sweep", document_id=str(document.id), code=code)

    async def _abandon(self, attempt: UploadAttempt) -> bool:
        """Whether the row is ABANDONED now. It may have been STORED after all, when only the answer to a commit was lost."""
        document = attempt.document
        try:
            async with self._database.transaction() as work:
                held = await work.uploads.hold(document.id, document.object_key)
                await work.documents.update(held, held.moved(Status.ABANDONED, at=self._clock.now()))
                if attempt.scope is not None:
                    await work.idempotency.release(attempt.scope, document.object_key)
        except UploadSuperseded:
            async with self._database.transaction() as work:
                found = await work.documents.get(document.id)
            return found.status is Status.ABANDONED
        return True


class AbandonedSweep:
    """Removes what crashed uploads left. Run it periodically, in one process or in several.

    Objects that could not be deleted are remembered, at most ``remembered`` of them, and no further rows are abandoned
    before they are gone; what a crash forgets is found by reconciling the store with the rows.
    """

    MAX_PENDING_DELETES: Final = 1000

    def __init__(self, database: Transactions[HasUploads], content: DeletableContent) -> None:
        self._database = database
        self._content = content
        self._to_delete: deque[str] = deque()

    async def run_once(self, limit: int = 100) -> int:
        """Abandon up to ``limit`` expired attempts and delete their objects; gives how many objects were deleted.

        Raises DatabaseUnavailable or ObjectStoreUnavailable; call it again later.
        """
        deleted = await self._delete_pending()
        async with self._database.transaction() as work:
            expired = await work.uploads.abandon_expired(min(limit, self.MAX_PENDING_DELETES))
        reach("sweep.abandoned")
        for document in expired:
            _log.info("upload_abandoned", document_id=str(document.id), tenant=document.tenant)
            self._to_delete.append(document.object_key)
        return deleted + await self._delete_pending()

    async def _delete_pending(self) -> int:
        deleted = 0
        while self._to_delete:
            await self._content.delete(self._to_delete[0])
            self._to_delete.popleft()
            deleted += 1
        return deleted
