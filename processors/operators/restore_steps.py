"""Looking at a restore and putting it right as acts: what the leading relay finds and does is kept with the batch, item by item.

A look has one item for each kind of difference, and its note says how many there are. A repair has one item for each step; its plan is
what the newest look that was finished has found. A step that was cut off is taken up again by the relay that leads then: it finds what is
left to do. So it is not one transaction, as other items are; the result is written once the step is over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from domain.act_notes import note, read_note
from domain.batches import Act, ActionResult, ActRequest, Batch, BatchItem, Selection
from domain.refusals import RestoreNotLookedAt
from domain.restores import REPAIRED_BY, Difference
from processors.operators.act_kinds import Attempt, Try
from processors.operators.dead_letters import OperatorWork
from processors.ports.clock import Clock
from processors.ports.database import Transactions

STEPS: Final = tuple(dict.fromkeys(step for step in REPAIRED_BY.values() if step))
#: How long a repair is planned by the same look.
LOOK_COUNTS: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class RestoreFindings:
    """``counts``: how many of each kind. ``unseen``: kinds that nobody could look for, and the code of why."""

    counts: Mapping[Difference, int]
    unseen: Mapping[Difference, str]


#: Goes through all stores. Raises DatabaseUnavailable.
LookAtRestore = Callable[[], Awaitable[RestoreFindings]]
#: Does a step in the name of an actor for a reason: how many were put right, and how many are left. Raises DatabaseUnavailable.
RepairStep = Callable[[str, str, str], Awaitable[tuple[int, int]]]


class LastBatches(Protocol):
    """See ``storage.postgres.batches.PostgresBatchQueries``. Raises DatabaseUnavailable."""

    async def last_done(self, act: Act) -> Batch | None: ...

    async def items(self, batch_id: UUID, *, after: int = 0, limit: int = 100) -> Sequence[BatchItem]: ...


@dataclass(frozen=True, slots=True)
class LastLook:
    """What the newest look has found, and when."""

    batch: Batch
    at: datetime
    notes: Mapping[Difference, str]

    def count(self, kind: Difference) -> int | None:
        """None if nobody could look."""
        return count_in(self.notes.get(kind, ""))


def count_in(text: str) -> int | None:
    """The count in a note of a look; None if nobody could look."""
    found = read_note(text)
    if found is None or found[0] not in {"differs", "differs_not"}:
        return None
    return int(found[1].get("count", "0"))


async def last_look(batches: LastBatches) -> LastLook | None:
    """The newest look that was finished. Raises DatabaseUnavailable."""
    batch = await batches.last_done(Act.CHECK_RESTORE)
    if batch is None or batch.changed_at is None:
        return None
    items = await batches.items(batch.id)
    known = {kind.value: kind for kind in Difference}
    return LastLook(batch, batch.changed_at, {known[one.name]: one.note for one in items if one.name in known})


class RestoreLooks:
    """Kinds of differences, by their values. One look is made for all items that are prepared together."""

    def __init__(self, look: LookAtRestore, database: Transactions[OperatorWork]) -> None:
        self._look = look
        self._database = database

    async def select(self, request: ActRequest, tenants: Sequence[str] | None) -> Selection:  # noqa: ARG002
        return Selection([kind.value for kind in Difference])

    async def prepare(
        self,
        request: ActRequest,  # noqa: ARG002
        names: Sequence[str],
        tenants: Sequence[str] | None,  # noqa: ARG002 - see OF_ALL_TENANTS
    ) -> Mapping[str, Attempt]:
        found: list[RestoreFindings] = []

        def attempt_at(kind: Difference) -> Attempt:
            async def attempt(how: Try) -> ActionResult:
                if not how.apply:
                    return ActionResult("done", note("is_looked_for"))
                if not found:
                    found.append(await self._look())
                if (code := found[0].unseen.get(kind)) is not None:
                    return ActionResult("refused", note("not_looked_for", code=code))
                count = found[0].counts.get(kind, 0)
                return await _written(
                    self._database, how, note("differs", count=count) if count else note("differs_not")
                )

            return attempt

        return {kind.value: attempt_at(kind) for kind in Difference if kind.value in names}


class RestoreRepairs:
    """Steps, by their names."""

    def __init__(
        self, batches: LastBatches, repair: RepairStep, database: Transactions[OperatorWork], clock: Clock
    ) -> None:
        self._batches = batches
        self._repair = repair
        self._database = database
        self._clock = clock

    async def select(self, request: ActRequest, tenants: Sequence[str] | None) -> Selection:  # noqa: ARG002
        last = await last_look(self._batches)
        if last is None or self._clock.now() - last.at > LOOK_COUNTS:
            raise RestoreNotLookedAt("Nobody has looked in the last hour: check the restore first.")
        return Selection(STEPS)

    async def prepare(
        self,
        request: ActRequest,  # noqa: ARG002
        names: Sequence[str],
        tenants: Sequence[str] | None,  # noqa: ARG002 - see OF_ALL_TENANTS
    ) -> Mapping[str, Attempt]:
        last = await last_look(self._batches)
        return {step: self._on_step(step, last) for step in STEPS if step in names}

    def _on_step(self, step: str, last: LastLook | None) -> Attempt:
        async def attempt(how: Try) -> ActionResult:
            if how.apply:
                done, left = await self._repair(step, how.actions.actor, how.reason)
                return await _written(self._database, how, note("put_right", count=done, left=left))
            counts = [None if last is None else last.count(kind) for kind, by in REPAIRED_BY.items() if by == step]
            if None in counts:
                return ActionResult("refused", note("not_looked_for", code="unknown"))
            count = sum(one or 0 for one in counts)
            return (
                ActionResult("done", note("differs", count=count))
                if count
                else ActionResult("handled", note("differs_not"))
            )

        return attempt


async def _written(database: Transactions[OperatorWork], how: Try, said: str) -> ActionResult:
    """The result of something that is over, on record with the batch."""
    if how.also is not None:
        async with database.transaction() as work:
            await how.also(work, said)
    return ActionResult("done", said)
