"""Pausing a consumer: an operator's act with a reason and an end, and ending it before its time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol
from uuid import uuid4

from domain.audit_chain import SYSTEM_TENANT
from domain.consumers import CONSUMERS
from domain.pauses import LONGEST, Pause
from domain.refusals import ConsumerUnknown, OperatorBound, ParameterInvalid, PauseRefused
from processors.documents.transitions import Origin, audit_line
from processors.operators.batches import Operator
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.work import HasOutbox, HasPauses


class PauseQueries(Protocol):
    async def paused(self) -> Mapping[str, Pause]:
        """Pauses that count now, by consumer. Raises DatabaseUnavailable."""
        ...


class PauseWork(HasPauses, HasOutbox, Protocol):
    """A pause and the audit line that says so, or neither."""


class ConsumerPauses:
    """Raises DatabaseUnavailable; OperatorBound for who is bound to tenants: a consumer works for all of them."""

    def __init__(self, database: Transactions[PauseWork], queries: PauseQueries, clock: Clock) -> None:
        self._database = database
        self._queries = queries
        self._clock = clock

    async def paused(self) -> Mapping[str, Pause]:
        """Pauses that count now, by consumer."""
        return await self._queries.paused()

    async def pause(self, who: Operator, consumer: str, until: datetime, reason: str) -> Pause:
        """Have a consumer take no event until then, 24 hours from now at most. Who repeats it for the same reason gets the
        same pause.

        Raises ConsumerUnknown, ParameterInvalid, PauseRefused.
        """
        _check(who, consumer)
        now = self._clock.now()
        if not now < until <= now + LONGEST:
            raise ParameterInvalid("A pause ends in the future, and 24 hours from now at the latest.")
        pause = Pause(consumer=consumer, by=who.actor, reason=reason, since=now, until=until)
        async with self._database.transaction() as work:
            if await work.pauses.pause(pause):
                details = {"reason": reason, "until": until.isoformat()}
                await self._put_on_record(work, who, consumer, "consumer.paused", details)
                return pause
        standing = (await self.paused()).get(consumer)
        if standing is None or (standing.by, standing.reason) != (pause.by, pause.reason):
            raise PauseRefused("It is paused already: resume it first.")
        return standing

    async def resume(self, who: Operator, consumer: str, reason: str) -> Pause:
        """End a pause before its time. Raises ConsumerUnknown, PauseRefused."""
        _check(who, consumer)
        async with self._database.transaction() as work:
            ended = await work.pauses.resume(consumer, who.actor)
            if ended is None:
                raise PauseRefused("It is not paused.")
            details = {"reason": reason, "paused_by": ended.by}
            await self._put_on_record(work, who, consumer, "consumer.resumed", details)
        return ended

    async def _put_on_record(
        self, work: HasOutbox, who: Operator, consumer: str, action: str, details: Mapping[str, str]
    ) -> None:
        origin = Origin(actor=who.actor, at=self._clock.now(), correlation_id=uuid4())
        await work.outbox.add(audit_line(origin, SYSTEM_TENANT, "consumer", consumer, action, details=details))


def _check(who: Operator, consumer: str) -> None:
    if who.tenants is not None:
        raise OperatorBound("A consumer works for all tenants, and you are bound to some.")
    if consumer not in CONSUMERS:
        raise ConsumerUnknown(f"Consumers are {', '.join(CONSUMERS)}.")
