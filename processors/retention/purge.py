"""Erasing what need not be kept any more: documents whose retention has ended and that no legal hold keeps.

Each purge is preceded by a survey, which changes nothing and says what there is to come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

import structlog

from domain.lifecycle import ERASURE_STATES
from domain.refusals import DocumentNotFound, LegalHoldStands, RetentionRunning, TransitionRefused
from domain.retention import DueDocumentCount
from processors.documents.transitions import Origin
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.erasure import DueDocuments, PeriodicJobs
from processors.ports.restores import MayDelete, unguarded
from processors.retention.erasure_request import PURGED, ErasureRequestWork, begin_erasure

ACTOR: Final = "system:purge"
PAGE: Final = 200
#: Under which its last end is kept.
WORK: Final = "purge"

_log = structlog.get_logger()


class Purge:
    """``sleep`` waits between two documents, in seconds. ``may_delete`` is awaited before each page of them, and raises if nothing may be
    deleted now."""

    def __init__(
        self,
        database: Transactions[ErasureRequestWork],
        due: DueDocuments,
        clock: Clock,
        *,
        actor: str = ACTOR,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        may_delete: MayDelete = unguarded,
    ) -> None:
        self._may_delete = may_delete
        self._database = database
        self._due = due
        self._clock = clock
        self._actor = actor
        self._sleep = sleep

    async def survey(self) -> Sequence[DueDocumentCount]:
        """What is due, by tenant and type. Raises DatabaseUnavailable."""
        return await self._due.survey()

    async def run(self, *, per_second: float, limit: int | None = None) -> int:
        """Ask for the erasure of what is due, longest due first; gives of how many. Raises DatabaseUnavailable and what
        ``may_delete`` raises.

        Each is a transaction of its own that looks at the document again: cut off anywhere, the next run goes on.
        """
        asked = 0
        after: tuple[datetime, UUID] | None = None
        while page := await self._due.next(after, PAGE):
            await self._may_delete()
            for end, document_id in page:
                if limit is not None and asked >= limit:
                    return asked
                if await self._begin(document_id):
                    asked += 1
                    await self._sleep(1 / per_second)
                after = (end, document_id)
        return asked

    async def _begin(self, document_id: UUID) -> bool:
        """False if it is not due any more: extended, held or gone since."""
        origin = Origin(actor=self._actor, at=self._clock.now(), correlation_id=uuid4())
        try:
            async with self._database.transaction() as work:
                document = await work.documents.lock(document_id)
                if document.status in ERASURE_STATES:
                    return False
                await begin_erasure(work, document, origin, PURGED, None)
        except (DocumentNotFound, TransitionRefused, LegalHoldStands, RetentionRunning) as refusal:
            _log.info("purge_passed_over", document_id=str(document_id), code=refusal.code)
            return False
        return True


class PeriodicPurge:
    """A purge every ``interval`` seconds, whichever process has its turn then; with 0 it only tells what is due.

    The very first one of a site is a dry run: people have ``interval`` to see what they switched on.

    ``may_run`` is awaited before anything is erased. ``on_survey`` gets each survey.
    """

    def __init__(
        self,
        purge: Purge,
        work: PeriodicJobs,
        *,
        interval: float,
        per_second: float,
        may_run: Callable[[], Awaitable[None]],
        on_survey: Callable[[Sequence[DueDocumentCount]], None],
    ) -> None:
        self._purge = purge
        self._work = work
        self._interval = interval
        self._per_second = per_second
        self._may_run = may_run
        self._on_survey = on_survey

    async def run_if_due(self) -> None:
        """Often: tell what is due, and erase it if the last purge is long enough ago. One that is cut off is due again at once.

        Raises DatabaseUnavailable and what ``may_run`` raises.
        """
        groups = await self._purge.survey()
        self._on_survey(groups)
        if not self._interval:
            return
        age = await self._work.age(WORK)
        if age is not None and age < self._interval:
            return
        for group in groups:
            _log.info(
                "purge_due",
                tenant=group.tenant,
                type_code=group.type_code,
                documents=group.count,
                held=group.held,
                oldest=group.oldest.isoformat(timespec="seconds"),
            )
        if age is None:
            await self._work.mark_done(WORK)
            _log.info("purge_dry_run", seconds=self._interval)
            return
        await self._may_run()
        asked = await self._purge.run(per_second=self._per_second)
        await self._work.mark_done(WORK)
        _log.info("purge_finished", documents=asked)
        if asked:
            self._on_survey(await self._purge.survey())
