"""Administration of the keys of documents' personal texts: status, rotate, reseal, retire.

Resealing walks the rows of each older key by id, beside live traffic, opens their texts and seals them under the current keys, look-ups
included, and writes by compare-and-set on the row. Rows from before there were such keys are sealed by the same walk. A row that was
sealed anew is no longer found under its old key, so a run that was cut off anywhere simply starts again.

Every act has a line in the audit log before it is done, and one that says how it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import UUID, uuid4

from domain.audit_chain import SYSTEM_TENANT
from domain.documents import Document
from domain.errors import PersonalKeyMissing, WrongKey
from domain.events import AuditRecorded
from domain.orders import Order, OrderedAct
from domain.personal_texts import AnswerCursor, ColumnUse, CurrentKeys, StoredTexts
from domain.refusals import PersonalKeyInUse
from processors.documents.personal_texts import PersonalTexts
from processors.documents.second_person import OrderWork, SecondPerson
from processors.documents.transitions import Origin, audit_line
from processors.operators.keys import MAX_PASSES, PASS_PAUSE, Throttle
from processors.ports.clock import Clock
from processors.ports.database import HeldLock, LockingTransactions
from processors.ports.restores import MayDelete, unguarded

LOCK: Final = "personal-keys"
#: Kept answers that are looked at in one transaction.
ANSWERS: Final = 500
SEALING: Final = "sealing"
LOOKUP: Final = "lookup"
_RETIREMENT: Final = OrderedAct.PERSONAL_KEY_RETIREMENT


class ColumnKeyStore(Protocol):
    """The keys themselves, as an operator changes them. Key ids, the current one first. Raises KeyringUnavailable."""

    async def sealing(self) -> Sequence[str]: ...

    async def lookups(self) -> Sequence[str]: ...

    async def add(self, *, lookup: bool, first: bool) -> str:
        """Make a key; its id. ``first``: it is the current one from now on, else it only opens."""
        ...

    async def promote(self, key: str, *, lookup: bool) -> None:
        """Make a key that is there the current one."""
        ...

    async def remove(self, key: str, *, lookup: bool) -> None:
        """Forget a key that is not the current one."""
        ...


class SealedColumnRows(Protocol):
    """Rows with texts. Raises DatabaseUnavailable."""

    async def uses(self) -> Sequence[ColumnUse]: ...

    async def page(self, use: ColumnUse, after: UUID | None, limit: int) -> Sequence[StoredTexts]:
        """In the order of document ids, from just after ``after``."""
        ...

    async def replace(self, pairs: Sequence[tuple[StoredTexts, Document]]) -> int:
        """How many were replaced. Those that were written since, or are held by somebody now, are left."""
        ...

    async def retire(self, *, key: str | None = None, lookup: str | None = None) -> None:
        """From now on nobody can write a row under that key. Raises PersonalKeyInUse, and nothing is changed, if one is."""
        ...

    async def forget_answers(self, after: AnswerCursor | None, limit: int) -> tuple[int, AnswerCursor | None]:
        """Rid answers that are kept for uploads of personal texts: of how many, and where to go on (None: that was the end)."""
        ...


@dataclass(slots=True)
class Resealing:
    """How far a run is. ``failed``: document ids and codes of rows whose texts do not open."""

    keys: CurrentKeys
    of: int = 0
    seen: int = 0
    sealed: int = 0
    answers: int = 0
    failed: dict[UUID, str] = field(default_factory=dict)
    remaining: int = 0


@dataclass(frozen=True, slots=True)
class PersonalKeyState:
    """Key ids, the current ones first, and what is under each."""

    sealing: Sequence[str]
    lookups: Sequence[str]
    uses: Sequence[ColumnUse]


OnResealProgress = Callable[[Resealing], None]


class PersonalKeyAdministration:
    """Acts of the operator whose pseudonym is ``actor``."""

    def __init__(
        self,
        keys: ColumnKeyStore,
        kept: SealedColumnRows,
        texts: PersonalTexts,
        database: LockingTransactions[OrderWork],
        clock: Clock,
        actor: str,
        second_person: SecondPerson | None = None,
        may_delete: MayDelete = unguarded,
    ) -> None:
        """``may_delete`` is awaited before a key is forgotten, and raises if nothing may be deleted now."""
        self._may_delete = may_delete
        self._keys = keys
        self._rows = kept
        self._texts = texts
        self._database = database
        self._clock = clock
        self._actor = actor
        self._second_person = second_person or SecondPerson()

    @property
    def needs_second_person(self) -> bool:
        """Whether a key is retired by ``order_retirement`` and another operator's ``retire``."""
        return self._second_person.required

    async def status(self) -> PersonalKeyState:
        return PersonalKeyState(await self._keys.sealing(), await self._keys.lookups(), await self._rows.uses())

    async def rotate(self, *, lookup: bool = False, stage: bool = False, to: str | None = None) -> str:
        """A new key, or the one called ``to``, is the current one; with ``stage`` a new one only opens. Its id.

        Raises PersonalKeyMissing if there is no ``to``.
        """
        async with self._database.lock(LOCK):
            kind = LOOKUP if lookup else SEALING
            await self._audit("personal_key.rotating", {"kind": kind, "staged": stage, "to": to})
            if to is None:
                made = await self._keys.add(lookup=lookup, first=not stage)
            elif to in (await self._keys.lookups() if lookup else await self._keys.sealing()):
                await self._keys.promote(to, lookup=lookup)
                made = to
            else:
                raise PersonalKeyMissing("There is no key of that id.")
            await self._audit("personal_key.rotated", {"kind": kind, "staged": stage, "key": made})
        return made

    async def reseal(self, pace: Throttle, on_progress: OnResealProgress) -> Resealing:
        """Seal all that is under older keys, or not sealed yet, under the current ones.

        Raises the transient error of what is away: what was sealed until then stays so.
        """
        async with self._database.lock(LOCK) as held:
            state = await self.status()
            run = Resealing(CurrentKeys(state.sealing[0], state.lookups[0]))
            uses = _older(state.uses, run.keys)
            run.of = sum(use.documents for use in uses)
            await self._audit("personal_key.resealing", {**_said(run.keys), "documents": run.of})
            for walk in range(MAX_PASSES):
                if walk:
                    await pace.wait(PASS_PAUSE)
                for use in uses:
                    await self._walk_rows(use, run, pace, on_progress, held)
                uses = _older(await self._rows.uses(), run.keys)
                run.remaining = sum(use.documents for use in uses)
                if run.remaining <= len(run.failed):
                    break
            await self._forget_answers(run, pace, held)
            on_progress(run)
            ended = {**_said(run.keys), "sealed": run.sealed, "left": run.remaining, "failed": len(run.failed)}
            await self._audit("personal_key.resealed", ended)
        return run

    async def order_retirement(self, key: str) -> Order:
        """Order what another operator has to confirm by ``retire``. Raises PersonalKeyInUse, PersonalKeyMissing."""
        async with self._database.lock(LOCK):
            kind = await self._retirable(key)
            async with self._database.transaction() as work:
                said = {"kind": kind, "key": key}
                return await self._second_person.order(work, _RETIREMENT, key, SYSTEM_TENANT, said, self._origin())

    async def withdraw_retirement(self, key: str, order_id: UUID) -> Order:
        """Take back what this operator ordered. Raises OrderNotFound, OrderNotYours, or OrderConfirmed."""
        async with self._database.lock(LOCK), self._database.transaction() as work:
            return await self._second_person.withdraw(work, _RETIREMENT, key, order_id, self._origin())

    async def retire(self, key: str, *, apply: bool, order_id: UUID | None = None) -> str:
        """Forget the key of that id, for good; "sealing" or "lookup", which it was.

        Without ``apply`` only looks whether anything is in the way. ``order_id``: of the order that this confirms; cut off after that, it is
        repeated with the same id, by anybody. Raises PersonalKeyInUse, PersonalKeyMissing, OrderNotFound, SecondPersonNeeded, or
        RestoreUnderWay.
        """
        async with self._database.lock(LOCK):
            kind = await self._retirable(key)
            if not apply:
                return kind
            await self._may_delete()
            order = await self._second_person.confirmed_if_needed(
                self._database, _RETIREMENT, key, order_id, self._origin()
            )
            await self._audit("personal_key.retiring", {"kind": kind, "key": key})
            lookup = kind == LOOKUP
            await (self._rows.retire(lookup=key) if lookup else self._rows.retire(key=key))
            await self._keys.remove(key, lookup=lookup)
            async with self._database.transaction() as work:
                await work.outbox.add(self._line("personal_key.retired", {"kind": kind, "key": key}))
                if order is not None:
                    await work.orders.remove(order)
        return kind

    async def _retirable(self, key: str) -> str:
        """ "sealing" or "lookup", which it is. Raises PersonalKeyInUse, PersonalKeyMissing."""
        state = await self.status()
        if key not in (*state.sealing, *state.lookups):
            raise PersonalKeyMissing("There is no key of that id.")
        lookup = key in state.lookups
        if key == (state.lookups if lookup else state.sealing)[0]:
            raise PersonalKeyInUse("This is the current key; make another one the first.")
        count = sum(use.documents for use in state.uses if key == (use.lookup if lookup else use.key))
        if count:
            raise PersonalKeyInUse(f"{count} documents are still under this key.")
        return LOOKUP if lookup else SEALING

    async def _walk_rows(
        self, use: ColumnUse, run: Resealing, pace: Throttle, on_progress: OnResealProgress, held: HeldLock
    ) -> None:
        after: UUID | None = None
        while page := await self._rows.page(use, after, pace.batch):
            after = page[-1].document.id
            await held.check()
            pairs = []
            for kept in page:
                try:
                    pairs.append((kept, self._texts.resealed(kept.document)))
                except (WrongKey, PersonalKeyMissing) as error:
                    run.failed[kept.document.id] = error.code
            run.sealed += await self._rows.replace(pairs)
            run.seen += len(page)
            on_progress(run)
            await pace.after(len(page))

    async def _forget_answers(self, run: Resealing, pace: Throttle, held: HeldLock) -> None:
        after: AnswerCursor | None = None
        while True:
            await held.check()
            forgotten, after = await self._rows.forget_answers(after, ANSWERS)
            run.answers += forgotten
            if after is None:
                return
            await pace.after(forgotten)

    async def _audit(self, action: str, details: Mapping[str, object]) -> None:
        async with self._database.transaction() as work:
            await work.outbox.add(self._line(action, details))

    def _line(self, action: str, details: Mapping[str, object]) -> AuditRecorded:
        return audit_line(self._origin(), SYSTEM_TENANT, "key", "personal", action, details=details)

    def _origin(self) -> Origin:
        return Origin(actor=self._actor, at=self._clock.now(), correlation_id=uuid4())


def _older(uses: Sequence[ColumnUse], keys: CurrentKeys) -> Sequence[ColumnUse]:
    return [use for use in uses if (use.key, use.lookup) != (keys.sealing, keys.lookup)]


def _said(keys: CurrentKeys) -> dict[str, object]:
    return {"key": keys.sealing, "lookup": keys.lookup}
