"""Events that somebody must still finish and that Kafka brings no more."""

from __future__ import annotations

from domain.errors import BrokerUnavailable
from domain.owed_events import LostEvent
from domain.reconciliation import DiscrepancyKind, ReconcileFinding
from domain.shared.ids import uuid_or_none
from processors.reconcile.owed_events import OwedEvents
from processors.reconcile.run import ACTOR, ReconcileRun, RepairMode


class LostEventsCheck:
    """Tells lost events, and has them sent again. ``after_seconds``: how long an event must have been published."""

    def __init__(self, owed: OwedEvents, *, after_seconds: float) -> None:
        self._owed = owed
        self._after_seconds = after_seconds

    async def check(self, run: ReconcileRun) -> None:
        """Raises BrokerUnavailable: without Kafka nothing is known to be lost, and nothing not to be."""
        report = await self._owed.look(after_seconds=self._after_seconds)
        if not report.known:
            raise BrokerUnavailable
        for lost in report.lost:

            async def send_again(lost: LostEvent = lost) -> None:
                await self._owed.re_emit([lost], ACTOR, reason="reconcile")

            goes = lost.goes_by_itself or run.repairs is RepairMode.ALL
            await run.settle(_finding(lost), send_again if goes else None)


def _finding(lost: LostEvent) -> ReconcileFinding:
    event = lost.event
    return ReconcileFinding(
        fault=DiscrepancyKind.EVENT_LOST,
        document_id=uuid_or_none(event.key),
        tenant=None,
        place=f"{event.topic} {event.event_id}",
        details={"consumers": " ".join(lost.consumers), "published_at": event.published_at.isoformat()},
    )
