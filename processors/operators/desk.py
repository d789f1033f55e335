"""The operators' desk: who a caller is as an operator, and what of the acts it may see and do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from domain.batches import ActRequest, Batch, BatchItem, Plan
from domain.dead_letter_index import DeadLetterGroup, IndexedLetter
from domain.orders import Order
from domain.pauses import Pause
from processors.documents.callers import Caller, actor_of
from processors.documents.pagination import DEFAULT_LIMIT, Cursors, Page, decode_cursor, page_of
from processors.operators.batches import Batches, Confirmation, Operator
from processors.operators.pauses import ConsumerPauses
from processors.ports.clock import Clock
from processors.ports.orders import OrderQueries
from processors.ports.personal_data import PersonalData


def _number_of(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**63:
        raise ValueError
    return number


#: Of letters, by their numbers in the index.
_CURSORS: Final = Cursors[int](str, _number_of)


class LetterQueries(Protocol):
    """See ``storage.postgres.delivery.dead_letter_index``. Raises DatabaseUnavailable."""

    async def groups(
        self, *, tenants: Sequence[str] | None = None, since: datetime | None = None
    ) -> Sequence[DeadLetterGroup]: ...

    async def page(
        self,
        consumer: str,
        code: str,
        error_class: str,
        *,
        after: tuple[datetime, int] | None = None,
        limit: int = 100,
        tenants: Sequence[str] | None = None,
    ) -> Sequence[IndexedLetter]: ...


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """An order, as the operator whose pseudonym is ``reader`` sees it."""

    order: Order
    reader: str

    @property
    def is_own(self) -> bool:
        """Whether the reader gave it: then he may withdraw it, and another one has to confirm it."""
        return self.order.ordered_by == self.reader


class OperatorDesk:
    """Acts in the name of callers. An operator that is bound to tenants sees and acts on their things alone."""

    def __init__(
        self,
        batches: Batches,
        pauses: ConsumerPauses,
        letters: LetterQueries,
        orders: OrderQueries,
        personal: PersonalData,
        clock: Clock,
    ) -> None:
        self._batches = batches
        self._orders = orders
        self._pauses = pauses
        self._letters = letters
        self._personal = personal
        self._clock = clock

    def operator(self, caller: Caller) -> Operator:
        """The caller's pseudonym and bounds."""
        tenants = caller.visible_tenants()
        actor = actor_of(self._personal, caller.tenant, caller.subject)
        return Operator(actor=actor, tenants=None if tenants is None else tuple(sorted(tenants)))

    # --- dead letters ------------------------------------------------------------------------------------------------

    async def groups(self, caller: Caller, since: datetime | None = None) -> Sequence[DeadLetterGroup]:
        """Open letters by consumer, code and class."""
        return await self._letters.groups(tenants=self.operator(caller).tenants, since=since)

    async def letters(
        self, caller: Caller, consumer: str, code: str, error_class: str, *, cursor: str | None, limit: int
    ) -> Page[IndexedLetter]:
        """Open letters of one group, oldest first. Raises CursorInvalid."""
        found = await self._letters.page(
            consumer,
            code,
            error_class,
            after=_CURSORS.decode(cursor),
            limit=limit + 1,
            tenants=self.operator(caller).tenants,
        )
        return _CURSORS.page_of(found, limit, lambda letter: (letter.made_at, letter.number))

    # --- plans and batches -------------------------------------------------------------------------------------------

    async def plan(self, caller: Caller, request: ActRequest) -> Plan:
        """See ``Batches.plan``."""
        return await self._batches.plan(self.operator(caller), request)

    async def confirm(
        self, caller: Caller, request: ActRequest, confirmation: Confirmation, key: str | None = None
    ) -> Batch:
        """See ``Batches.confirm``. ``key``: the caller's own name for the request."""
        who = self.operator(caller)
        if key is not None:
            # Keyed, because a key is a stranger's text.
            named = UUID(hex=self._personal.pseudonym("batch", f"{who.actor}/{key}")[:32])
            confirmation = confirmation.named(named)
        return await self._batches.confirm(who, request, confirmation)

    async def batches(self, caller: Caller, limit: int) -> Sequence[Batch]:
        """See ``Batches.list``."""
        return await self._batches.list(self.operator(caller), limit)

    async def batch(self, caller: Caller, batch_id: UUID) -> Batch:
        """See ``Batches.get``."""
        return await self._batches.get(self.operator(caller), batch_id)

    async def items(self, caller: Caller, batch_id: UUID, *, after: int, limit: int) -> Sequence[BatchItem]:
        """See ``Batches.items``."""
        return await self._batches.items(self.operator(caller), batch_id, after=after, limit=limit)

    async def go_on(self, caller: Caller, batch_id: UUID) -> Batch:
        """See ``Batches.go_on``."""
        return await self._batches.go_on(self.operator(caller), batch_id)

    async def stop(self, caller: Caller, batch_id: UUID) -> Batch:
        """See ``Batches.stop``."""
        return await self._batches.stop(self.operator(caller), batch_id)

    async def second(self, caller: Caller, batch_id: UUID) -> Batch:
        """See ``Batches.second``."""
        return await self._batches.second(self.operator(caller), batch_id)

    # --- orders ------------------------------------------------------------------------------------------------------

    async def orders(self, caller: Caller, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[OpenOrder]:
        """Orders that wait for their second person, or that he confirmed and were cut off, oldest first. Raises CursorInvalid."""
        who, after = self.operator(caller), decode_cursor(cursor)
        found = [OpenOrder(one, who.actor) for one in await self._orders.open(who.tenants, after, limit + 1)]
        return page_of(found, limit, lambda one: (one.order.ordered_at, one.order.id))

    # --- pauses ------------------------------------------------------------------------------------------------------

    async def pauses(self, caller: Caller) -> Sequence[Pause]:  # noqa: ARG002 - who may ask at all may know of all
        """Pauses that count now."""
        return list((await self._pauses.paused()).values())

    async def pause(self, caller: Caller, consumer: str, minutes: int, reason: str) -> Pause:
        """See ``ConsumerPauses.pause``."""
        until = self._clock.now() + timedelta(minutes=minutes)
        return await self._pauses.pause(self.operator(caller), consumer, until, reason)

    async def resume(self, caller: Caller, consumer: str, reason: str) -> Pause:
        """See ``ConsumerPauses.resume``."""
        return await self._pauses.resume(self.operator(caller), consumer, reason)
