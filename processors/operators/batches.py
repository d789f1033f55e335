"""Plan, confirm, carry out: acts of operators on many things.

A plan tells of each thing what a dry run says. Whoever confirms it names its hash: if anything that he read is different by now,
nothing is done (``plan_changed``). What is confirmed is a batch in PostgreSQL. The relay that leads carries it out, item by item; each item
is one transaction of the act, its audit line and its result. So a process that dies, or two that work at once, leave each item done once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Protocol
from uuid import UUID, uuid4

import structlog

from domain.act_notes import note
from domain.audit_chain import SYSTEM_TENANT
from domain.batches import (
    DESTRUCTIVE,
    MOST_ITEMS,
    OF_ALL_TENANTS,
    STOP_AFTER,
    UNDER_WAY,
    Act,
    ActionResult,
    ActRequest,
    Batch,
    BatchItem,
    BatchState,
    Plan,
    PlanItem,
    Selection,
)
from domain.errors import Transient
from domain.refusals import (
    BatchNotFound,
    BatchStateRefused,
    IdempotencyKeyReused,
    NothingToDo,
    OperatorBound,
    ParameterInvalid,
    PlanChanged,
    SecondPersonNeeded,
)
from domain.shared.crash_points import reach
from processors.documents.transitions import Origin, audit_line
from processors.operators.act_kinds import ActKind, LetterIndex, Try
from processors.operators.dead_letters import OperatorActions, OperatorWork
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.work import HasOutbox

log = structlog.get_logger()

#: Items that are prepared together.
CHUNK: Final = 50
#: An item that the plan saw and that is not there any more.
GONE: Final = ActionResult("refused", note("gone"))


class BatchQueries(Protocol):
    """See ``storage.postgres.batches``. Raises DatabaseUnavailable."""

    async def newest(self, limit: int, *, within: Sequence[str] | None = None) -> Sequence[Batch]: ...

    async def find(self, batch_id: UUID) -> Batch | None: ...

    async def items(self, batch_id: UUID, *, after: int = 0, limit: int = 100) -> Sequence[BatchItem]: ...

    async def under_way(self) -> Batch | None: ...

    async def waiting(self, batch_id: UUID, limit: int) -> Sequence[BatchItem]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Who acts: a pseudonym, and the only tenants that exist for them (None: all)."""

    actor: str
    tenants: tuple[str, ...] | None = None


class _ItemDone(Exception):
    """Another process was first, or the batch was stopped: the transaction rolls back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """What whoever confirms a plan says. ``key``: names the batch, so that a repeated request makes no second one (None: a new one).
    ``canary``: so many items first. ``stop_after``: so many equal failures stop the batch. ``second_person``: another operator has to
    confirm it, also where the site asks for none."""

    plan_hash: str
    reason: str
    canary: int | None = None
    stop_after: int = STOP_AFTER
    second_person: bool = False
    key: UUID | None = None

    def named(self, key: UUID) -> Confirmation:
        """The same, for the batch of that id."""
        return replace(self, key=key)


class Batches:
    """What operators ask for. Raises DatabaseUnavailable, BrokerUnavailable, RegistryUnavailable.

    ``second_person``: destructive acts take two persons, and an order waits ``order_hours`` for the second.
    """

    def __init__(
        self,
        database: Transactions[OperatorWork],
        queries: BatchQueries,
        kinds: Mapping[Act, ActKind],
        index: LetterIndex,
        actions: Callable[[str], OperatorActions],
        clock: Clock,
        *,
        second_person: bool = False,
        order_hours: float = 72.0,
    ) -> None:
        self._order_life = timedelta(hours=order_hours)
        self._database = database
        self._queries = queries
        self._kinds = kinds
        self._index = index
        self._actions = actions
        self._clock = clock
        self._second_person = second_person

    # --- plan, confirm -----------------------------------------------------------------------------------------------

    async def plan(self, who: Operator, request: ActRequest) -> Plan:
        """What the request would do now. Raises OperatorBound, ParameterInvalid."""
        if request.act in OF_ALL_TENANTS and who.tenants is not None:
            raise OperatorBound("This concerns all tenants, and you are bound to some.")
        if not 1 <= request.limit <= MOST_ITEMS or len(request.items) > MOST_ITEMS:
            raise ParameterInvalid(f"A plan has 1 to {MOST_ITEMS} items.")
        kind = self._kinds[request.act]
        named = list(dict.fromkeys(request.items))
        selection = Selection(named) if named else await kind.select(request, who.tenants)
        names = named or selection.names[: request.limit]
        how = Try(actions=self._actions(who.actor), reason="PLAN", apply=False)
        items: list[PlanItem] = []
        for first in range(0, len(names), CHUNK):
            chunk = names[first : first + CHUNK]
            attempts = await kind.prepare(request, chunk, who.tenants)
            items += [PlanItem(name, await attempts[name](how) if name in attempts else GONE) for name in chunk]
        more = len(selection.names) > len(names)
        return Plan(request, who.tenants, tuple(items), more=more, left_out=selection.left_out)

    async def confirm(self, who: Operator, request: ActRequest, confirmation: Confirmation) -> Batch:
        """Put the plan on record as a batch, if it is still the one that was read. One that takes a second person waits for him.

        Raises PlanChanged, NothingToDo, IdempotencyKeyReused, and what ``plan`` raises.
        """
        batch_id = confirmation.key or uuid4()
        known = await self._queries.find(batch_id)
        if known is not None:
            return _same(known, who, request, confirmation)
        plan = await self.plan(who, request)
        if plan.hash != confirmation.plan_hash:
            raise PlanChanged("What would be done is not what you have read.")
        to_do = plan.counts.get("done", 0)
        if not to_do:
            raise NothingToDo("Nothing of it would be done.")
        canary = confirmation.canary if confirmation.canary and confirmation.canary < to_do else None
        by_two = confirmation.second_person or (self._second_person and request.act in DESTRUCTIVE)
        batch = Batch(
            id=batch_id,
            request=request,
            plan_hash=plan.hash,
            tenants=who.tenants,
            actor=who.actor,
            reason=confirmation.reason,
            state=BatchState.ORDERED if by_two else BatchState.CANARY if canary else BatchState.RUNNING,
            canary=canary,
            by_two=by_two,
            stop_after=confirmation.stop_after,
        )
        items = [
            BatchItem(
                rank=rank,
                name=item.name,
                forecast=item.forecast.outcome,
                result=None if item.forecast.outcome == "done" else item.forecast.outcome,
                note=item.forecast.note,
                done_at=None,
            )
            for rank, item in enumerate(plan.items, 1)
        ]
        async with self._database.transaction() as work:
            if await work.batches.add(batch, items):
                await self._put_on_record(work, batch, who, "confirmed", {"plan": plan.hash, "items": to_do})
        return await self.get(who, batch_id)

    # --- afterwards --------------------------------------------------------------------------------------------------

    async def list(self, who: Operator, limit: int = 50) -> Sequence[Batch]:
        """The newest batches that this operator may see."""
        return await self._queries.newest(limit, within=who.tenants)

    async def get(self, who: Operator, batch_id: UUID) -> Batch:
        """Raises BatchNotFound, also for one that touches other tenants than the operator's."""
        return _visible(await self._queries.find(batch_id), who)

    async def items(self, who: Operator, batch_id: UUID, *, after: int = 0, limit: int = 100) -> Sequence[BatchItem]:
        """Items behind the rank ``after``, with what came back of those that were redriven. Raises BatchNotFound."""
        batch = await self.get(who, batch_id)
        return await came_back(self._index, batch, await self._queries.items(batch_id, after=after, limit=limit))

    async def go_on(self, who: Operator, batch_id: UUID) -> Batch:
        """Have the rest done, after a look at the canary or a stop. Raises BatchNotFound, BatchStateRefused."""
        return await self._move(who, batch_id, {BatchState.LOOK, BatchState.STOPPED}, BatchState.RUNNING, "continued")

    async def stop(self, who: Operator, batch_id: UUID) -> Batch:
        """Begin no further item. Raises BatchNotFound, BatchStateRefused."""
        before = {BatchState.ORDERED, BatchState.LOOK, *UNDER_WAY}
        return await self._move(who, batch_id, before, BatchState.STOPPED, "stopped", stopped="operator")

    async def second(self, who: Operator, batch_id: UUID) -> Batch:
        """Confirm as the second person. Raises BatchNotFound, BatchStateRefused, or SecondPersonNeeded for who ordered it himself."""
        async with self._database.transaction() as work:
            batch = _visible(await work.batches.get(batch_id), who)
            if batch.state is not BatchState.ORDERED:
                raise BatchStateRefused(f"The batch is {batch.state.value}.")
            if batch.actor == who.actor:
                raise SecondPersonNeeded("You have ordered this yourself.")
            if batch.created_at is not None and batch.created_at + self._order_life < self._clock.now():
                raise BatchStateRefused("The order has expired: plan it again.")
            after = BatchState.CANARY if batch.canary else BatchState.RUNNING
            await work.batches.move(batch_id, {BatchState.ORDERED}, after, second=who.actor)
            await self._put_on_record(work, batch, who, "second_confirmed", {"ordered_by": batch.actor})
        return await self.get(who, batch_id)

    async def _move(
        self,
        who: Operator,
        batch_id: UUID,
        before: set[BatchState],
        after: BatchState,
        what: str,
        *,
        stopped: str | None = None,
    ) -> Batch:
        async with self._database.transaction() as work:
            batch = _visible(await work.batches.get(batch_id), who)
            if batch.by_two and batch.second is None and after in UNDER_WAY:
                raise SecondPersonNeeded("It has not been confirmed by a second person.")
            if not await work.batches.move(batch_id, before, after, stopped=stopped):
                raise BatchStateRefused(f"The batch is {batch.state.value}.")
            await self._put_on_record(work, batch, who, what, {})
        return await self.get(who, batch_id)

    async def _put_on_record(
        self, work: HasOutbox, batch: Batch, who: Operator, what: str, more: Mapping[str, object]
    ) -> None:
        tenant = batch.tenants[0] if batch.tenants is not None and len(batch.tenants) == 1 else SYSTEM_TENANT
        origin = Origin(actor=who.actor, at=self._clock.now(), correlation_id=batch.id)
        details = {"act": batch.request.act.value, "reason": batch.reason, **more}
        await work.outbox.add(audit_line(origin, tenant, "batch", str(batch.id), f"batch.{what}", details=details))


class BatchRunner:
    """Carries batches out, one after another, oldest first."""

    def __init__(
        self,
        database: Transactions[OperatorWork],
        queries: BatchQueries,
        kinds: Mapping[Act, ActKind],
        index: LetterIndex,
        actions: Callable[[str], OperatorActions],
    ) -> None:
        self._database = database
        self._queries = queries
        self._kinds = kinds
        self._index = index
        self._actions = actions

    async def is_needed(self) -> bool:
        """Whether any batch is under way. Raises DatabaseUnavailable."""
        return await self._queries.under_way() is not None

    async def run_once(self, limit: int = CHUNK) -> int:
        """Do up to ``limit`` items of the oldest batch that is under way; gives how many. What is away is waited for by trying again.

        Raises DatabaseUnavailable, BrokerUnavailable, RegistryUnavailable.
        """
        batch = await self._queries.under_way()
        if batch is None:
            return 0
        if batch.state is BatchState.CANARY:
            limit = min(limit, (batch.canary or 0) - await self._tried(batch))
        items = await self._queries.waiting(batch.id, limit) if limit > 0 else ()
        if not items:
            after = BatchState.LOOK if batch.state is BatchState.CANARY else BatchState.DONE
            await self._move(batch, after)
            return 0
        attempts = await self._kinds[batch.request.act].prepare(
            batch.request, [item.name for item in items], batch.tenants
        )
        failures: list[str] = []
        for done, item in enumerate(items, 1):
            attempt = attempts.get(item.name)
            result = await self._do(batch, item, attempt)
            if result is None:
                return done  # stopped, or done by another process
            failures = [*failures, result.note] if result.outcome in {"refused", "failed"} else []
            if len(failures) >= batch.stop_after and len(set(failures[-batch.stop_after :])) == 1:
                await self._move(batch, BatchState.STOPPED, stopped="equal_failures")
                return done
        if await self._returned(batch) >= batch.stop_after:
            await self._move(batch, BatchState.STOPPED, stopped="came_back")
        return len(items)

    async def _do(self, batch: Batch, item: BatchItem, attempt: object) -> ActionResult | None:
        """An item's act with its result, in one transaction; None if it is not ours to do any more."""

        async def also(work: OperatorWork, said: str) -> None:
            reach("batch.item")
            if not await work.batches.record(batch.id, item.rank, "done", said):
                raise _ItemDone

        how = Try(actions=self._actions(batch.actor), reason=batch.reason, apply=True, also=also)
        try:
            result = await attempt(how) if callable(attempt) else GONE
        except _ItemDone:
            return None
        except Transient:
            raise
        except Exception as error:  # noqa: BLE001 - a defect in one item must not hold up the others
            log.error("batch_item_failed", batch=str(batch.id), rank=item.rank, error=type(error).__name__)
            result = ActionResult("failed", type(error).__name__)
        if result.outcome != "done":
            async with self._database.transaction() as work:
                if not await work.batches.record(batch.id, item.rank, result.outcome, result.note):
                    return None
        reach("batch.item_done")
        return result

    async def _tried(self, batch: Batch) -> int:
        """Items that the canary has tried: those that the plan had refused already do not count."""
        items = await self._queries.items(batch.id, limit=MOST_ITEMS)
        return sum(item.result is not None and item.forecast == "done" for item in items)

    async def _returned(self, batch: Batch) -> int:
        """How many of the batch's redriven letters were given up again."""
        if batch.request.act is not Act.REDRIVE:
            return 0
        items = await came_back(self._index, batch, await self._queries.items(batch.id, limit=MOST_ITEMS))
        return sum(item.came_back for item in items)

    async def _move(self, batch: Batch, after: BatchState, *, stopped: str | None = None) -> None:
        async with self._database.transaction() as work:
            await work.batches.move(batch.id, {batch.state}, after, stopped=stopped)
        log.info(
            "batch_moved", batch=str(batch.id), act=batch.request.act.value, state=after.value, code=stopped or "none"
        )


async def came_back(index: LetterIndex, batch: Batch, items: Sequence[BatchItem]) -> Sequence[BatchItem]:
    """The items, those of redriven letters with whether their event was given up again since."""
    if batch.request.act is not Act.REDRIVE:
        return items
    numbers = [int(item.name) for item in items if item.result == "done"]
    back = {str(letter.number) for letter in await index.letters(numbers) if letter.came_back} if numbers else set()
    return [replace(item, came_back=item.name in back) for item in items]


def _visible(batch: Batch | None, who: Operator) -> Batch:
    if batch is None or (
        who.tenants is not None and not (batch.tenants is not None and set(batch.tenants) <= set(who.tenants))
    ):
        raise BatchNotFound
    return batch


def _same(known: Batch, who: Operator, request: ActRequest, confirmation: Confirmation) -> Batch:
    """The batch that a repeated confirmation made. Raises IdempotencyKeyReused if it was another one."""
    if (known.actor, known.request, known.plan_hash) != (who.actor, request, confirmation.plan_hash):
        raise IdempotencyKeyReused
    return _visible(known, who)
