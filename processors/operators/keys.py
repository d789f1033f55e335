"""Administration of the key-encryption keys: create, rotate, rewrap, retire, status.

Rewrapping walks the rows of each older version by id, beside live traffic, and replaces each wrapped key by compare-and-set;
objects are never touched. A row that was moved is no longer found under its old version, so a run that was cut off anywhere
simply starts again. Retiring a version is what makes it useless; it is refused while anything is wrapped under it, and
from then on the database takes nothing that is (``WrappedKeys.retire``).

Every act has a line in its tenant's audit log before it is done, and one that says how it ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID, uuid4

from domain.errors import DPJError, TenantKeyMissing, Transient
from domain.events import AuditRecorded
from domain.key_encryption_keys import Canary, KeyState, KeyUse, StoredWrappedKey
from domain.keys import EncryptionContext, WrappedKey, check_tenant_name, is_reserved
from domain.orders import Order, OrderedAct
from domain.refusals import KeyVersionInUse, TenantInvalid
from processors.documents.second_person import SecondPerson
from processors.documents.transitions import Origin, audit_line
from processors.ports.clock import Clock
from processors.ports.database import HeldLock, LockingTransactions
from processors.ports.restores import MayDelete, unguarded
from processors.ports.work import HasOrders, HasOutbox, HasTenants

#: Keys in one call to the keyring and one statement: a few milliseconds of each.
BATCH: Final = 200
#: Rows that were held when their turn came are passed over; so many walks look for them again.
MAX_PASSES: Final = 5
PASS_PAUSE: Final = 1.0
#: How far the clocks of two machines may differ.
CLOCK_SKEW: Final = timedelta(minutes=1)
_RETIREMENT: Final = OrderedAct.KEY_RETIREMENT


class TenantKeys(Protocol):
    """The tenants' keys as their keyring holds them. Raises KeyringUnavailable, TenantKeyMissing."""

    async def states(self, tenant: str | None = None) -> Sequence[KeyState]:
        """All keys, the single one too, or that of ``tenant`` if it has one."""
        ...

    async def create(self, tenant: str) -> bool:
        """False if it was there."""
        ...

    async def rotate(self, tenant: str) -> None:
        """Make a new version, which wraps from now on."""
        ...

    async def raise_floor(self, tenant: str, version: int) -> None:
        """Have the keyring open nothing older than ``version`` any more."""
        ...

    async def rewrap(
        self, tenant: str, keys: Sequence[tuple[WrappedKey, EncryptionContext]]
    ) -> Sequence[WrappedKey | DPJError]:
        """Each key under the newest version of the tenant's key, or why not; also keys under the single key."""
        ...


class WrappedKeys(Protocol):
    """Documents' wrapped keys. Raises DatabaseUnavailable."""

    async def uses(self, scheme: str | None = None, names: Sequence[str] = ()) -> Sequence[KeyUse]:
        """Under all keys, or under those of ``scheme`` called ``names``: that costs no look at the others' rows."""
        ...

    async def page(self, use: KeyUse, after: UUID | None, limit: int) -> Sequence[StoredWrappedKey]:
        """In the order of document ids, from just after ``after``."""
        ...

    async def replace(self, pairs: Sequence[tuple[StoredWrappedKey, WrappedKey]]) -> int:
        """How many were replaced. Those that are no longer what they were, or are held by somebody now, are left."""
        ...

    async def retire(self, key: KeyState, version: int, begun_before: datetime | None) -> None:
        """From now on nothing can be kept under older versions than ``version``.

        Raises KeyVersionInUse, and nothing is changed, if something is, or if an upload of the tenant is under way that began
        before ``begun_before``.
        """
        ...


class MovableCanaries(Protocol):
    """See ``processors.resilience.canary_keyring``. Raises DatabaseUnavailable."""

    async def of(self, scheme: str, key_name: str) -> Sequence[Canary]: ...

    async def move(self, old: Canary, new: Canary) -> None:
        """Keep ``new`` unless its version has one, then forget ``old``."""
        ...


@dataclass(slots=True)
class Rewrapping:
    """How far a rewrapping of a tenant's keys is. ``failed``: document ids and codes of keys that could not be rewrapped."""

    tenant: str
    key: str
    version: int
    of: int = 0
    seen: int = 0
    moved: int = 0
    canaries: int = 0
    failed: dict[UUID, str] = field(default_factory=dict)
    remaining: int = 0


OnRewrapProgress = Callable[[Rewrapping], None]


class Throttle:
    """At most ``rate`` keys per second. ``monotonic`` gives seconds, ``sleep`` waits for some."""

    def __init__(self, rate: float, monotonic: Callable[[], float], sleep: Callable[[float], Awaitable[None]]) -> None:
        self._rate = rate
        self._monotonic = monotonic
        self._sleep = sleep
        self._free_at = 0.0

    @property
    def batch(self) -> int:
        """How many keys at once: no more than a second's."""
        return max(1, min(BATCH, int(self._rate)))

    async def wait(self, seconds: float) -> None:
        await self._sleep(seconds)

    async def after(self, keys: int) -> None:
        """Wait until so many keys have had their time."""
        now = self._monotonic()
        self._free_at = max(now, self._free_at) + keys / self._rate
        if self._free_at > now:
            await self._sleep(self._free_at - now)


class KeyWork(HasOutbox, HasTenants, HasOrders, Protocol):
    """What acts on keys need of a transaction."""


class KeyAdministration:
    """Acts of the operator whose pseudonym is ``actor``."""

    def __init__(
        self,
        keys: TenantKeys,
        wrapped: WrappedKeys,
        canaries: MovableCanaries,
        database: LockingTransactions[KeyWork],
        clock: Clock,
        actor: str,
        second_person: SecondPerson | None = None,
        may_delete: MayDelete = unguarded,
    ) -> None:
        """``may_delete`` is awaited before versions are made useless, and raises if nothing may be now."""
        self._may_delete = may_delete
        self._keys = keys
        self._wrapped = wrapped
        self._canaries = canaries
        self._database = database
        self._clock = clock
        self._actor = actor
        self._second_person = second_person or SecondPerson()

    @property
    def needs_second_person(self) -> bool:
        """Whether a key is retired by ``order_retirement`` and another operator's ``retire``."""
        return self._second_person.required

    async def create(self, tenant: str) -> bool:
        """Make the tenant and its key; False if there was a key. Raises TenantInvalid.

        The tenant is known as soon as its key is there, and not before. Where a process died between the two, or a release before made
        the key, a repetition makes the tenant known.
        """
        check_tenant_name(tenant)
        if is_reserved(tenant):
            raise TenantInvalid(
                "This name is the site's own, in capitals, too: what concerns no tenant is audited under it."
            )
        made = False
        if not await self._keys.states(tenant):
            await self._audit(tenant, "key.creating", {})
            made = await self._keys.create(tenant)
        async with self._database.transaction() as work:
            if await work.tenants.add(tenant, self._actor) or made:
                await work.outbox.add(self._line(tenant, "key.created", {"made": made}))
        return made

    async def rotate(self, tenant: str) -> KeyState:
        """A new version of the tenant's key, which wraps from now on. Raises TenantKeyMissing."""
        async with self._database.lock(_lock(tenant)):
            before = await self._state(tenant)
            await self._audit(tenant, "key.rotating", {"from_version": before.latest})
            await self._keys.rotate(tenant)
            after = await self._state(tenant)
            await self._audit(tenant, "key.rotated", {"from_version": before.latest, "version": after.latest})
        return after

    async def tenants(self) -> Sequence[str]:
        """Those that have a key."""
        return [state.tenant for state in await self._keys.states() if state.tenant is not None]

    async def status(self) -> tuple[Sequence[KeyState], Sequence[KeyUse]]:
        """All keys, and what is wrapped under each version."""
        return await self._keys.states(), await self._wrapped.uses()

    async def rewrap(self, tenant: str, pace: Throttle, on_progress: OnRewrapProgress) -> Rewrapping:
        """Move all that is wrapped under older versions of the tenant's key, or under the single key, to its newest version.

        Raises TenantKeyMissing, or the transient error of what is away: what was moved until then stays so.
        """
        async with self._database.lock(_lock(tenant)) as held:
            state = await self._state(tenant)
            run = Rewrapping(tenant, state.name, state.latest)
            single = {key.name for key in await self._keys.states() if key.tenant is None}
            uses = await self._older(state, single)
            run.of = sum(use.documents for use in uses)
            await self._audit(tenant, "key.rewrapping", {"version": run.version, "documents": run.of})
            for walk in range(MAX_PASSES):
                if walk:
                    await pace.wait(PASS_PAUSE)
                for use in uses:
                    await self._walk_rows(use, run, pace, on_progress, held)
                uses = await self._older(state, single)
                run.remaining = sum(use.documents for use in uses)
                if run.remaining <= len(run.failed):
                    break
            if not run.remaining:
                await self._move_canaries(state, run)
            on_progress(run)
            ended = {"version": run.version, "moved": run.moved, "left": run.remaining, "failed": len(run.failed)}
            await self._audit(tenant, "key.rewrapped", ended)
        return run

    async def order_retirement(self, tenant: str, version: int | None) -> Order:
        """Order what another operator has to confirm by ``retire``. Raises KeyVersionInUse, TenantKeyMissing."""
        async with self._database.lock(_lock(tenant)):
            state = await self._state(tenant)
            version = _below(state, version)
            await self._refuse_if_used(state, version)
            async with self._database.transaction() as work:
                said = {"below_version": version}
                return await self._second_person.order(work, _RETIREMENT, tenant, tenant, said, self._origin())

    async def withdraw_retirement(self, tenant: str, order_id: UUID) -> Order:
        """Take back what this operator ordered. Raises OrderNotFound, OrderNotYours, or OrderConfirmed."""
        async with self._database.lock(_lock(tenant)), self._database.transaction() as work:
            return await self._second_person.withdraw(work, _RETIREMENT, tenant, order_id, self._origin())

    async def retire(self, tenant: str, version: int | None, *, apply: bool, order_id: UUID | None = None) -> KeyState:
        """Make versions older than ``version`` (the newest, if None) useless for good.

        Without ``apply`` only looks whether anything is in the way. ``order_id``: of the order that this confirms, which says the
        version. Cut off after that, it is repeated with the same id, by anybody. Raises KeyVersionInUse, TenantKeyMissing, OrderNotFound,
        SecondPersonNeeded, or RestoreUnderWay.
        """
        async with self._database.lock(_lock(tenant)):
            state = await self._state(tenant)
            if not apply:
                await self._refuse_if_used(state, _below(state, version))
                return state
            await self._may_delete()
            order = await self._second_person.confirmed_if_needed(
                self._database, _RETIREMENT, tenant, order_id, self._origin()
            )
            version = _below(state, version if order is None else order.parameters["below_version"])
            await self._audit(tenant, "key.retiring", {"below_version": version})
            made = state.versions.get(version)
            # Whoever began after the newest version was there, by whatever clock, has wrapped under it.
            await self._wrapped.retire(state, version, None if made is None else made + CLOCK_SKEW)
            await self._keys.raise_floor(tenant, version)
            async with self._database.transaction() as work:
                await work.outbox.add(self._line(tenant, "key.retired", {"below_version": version}))
                if order is not None:
                    await work.orders.remove(order)
            return await self._state(tenant)

    async def _refuse_if_used(self, state: KeyState, version: int) -> None:
        for use in await self._wrapped.uses(state.scheme, [state.name]):
            if use.version < version:
                raise KeyVersionInUse(f"{use.documents} documents are still wrapped under version {use.version}.")
        for canary in await self._canaries.of(state.scheme, state.name):
            if canary.wrapped.key_version < version:
                raise KeyVersionInUse(f"A canary is still wrapped under version {canary.wrapped.key_version}.")

    async def _state(self, tenant: str) -> KeyState:
        states = await self._keys.states(tenant)
        if not states:
            raise TenantKeyMissing("Nobody has created a key for this tenant.")
        return states[0]

    async def _older(self, state: KeyState, single: set[str]) -> Sequence[KeyUse]:
        """What is wrapped for the tenant by this keyring, but not under its key's newest version."""

        def is_older(use: KeyUse) -> bool:
            return use.tenant == state.tenant and (use.name in single or use.version < state.latest)

        return [use for use in await self._wrapped.uses(state.scheme, [state.name, *single]) if is_older(use)]

    async def _walk_rows(
        self, use: KeyUse, run: Rewrapping, pace: Throttle, on_progress: OnRewrapProgress, held: HeldLock
    ) -> None:
        after: UUID | None = None
        while page := await self._wrapped.page(use, after, pace.batch):
            after = page[-1].document_id
            await held.check()
            answers = await self._keys.rewrap(run.tenant, [(kept.wrapped, kept.context) for kept in page])
            pairs = []
            for kept, answer in zip(page, answers, strict=True):
                if isinstance(answer, Transient) and answer.outage:
                    raise answer
                if isinstance(answer, DPJError):
                    run.failed[kept.document_id] = answer.code
                else:
                    pairs.append((kept, answer))
            run.moved += await self._wrapped.replace(pairs)
            run.seen += len(page)
            on_progress(run)
            await pace.after(len(page))

    async def _move_canaries(self, state: KeyState, run: Rewrapping) -> None:
        for canary in await self._canaries.of(state.scheme, state.name):
            if canary.wrapped.key_version >= state.latest:
                continue
            (answer,) = await self._keys.rewrap(run.tenant, [(canary.wrapped, canary.context)])
            if isinstance(answer, DPJError):
                raise answer
            await self._canaries.move(canary, Canary(canary.tenant, answer))
            run.canaries += 1

    async def _audit(self, tenant: str, action: str, details: Mapping[str, object]) -> None:
        async with self._database.transaction() as work:
            await work.outbox.add(self._line(tenant, action, details))

    def _line(self, tenant: str, action: str, details: Mapping[str, object]) -> AuditRecorded:
        return audit_line(self._origin(), tenant, "key", tenant, action, details=details)

    def _origin(self) -> Origin:
        return Origin(actor=self._actor, at=self._clock.now(), correlation_id=uuid4())


def _below(state: KeyState, version: int | None) -> int:
    """The version whose predecessors are to be retired. Raises KeyVersionInUse if the key has no such version."""
    version = state.latest if version is None else version
    if not state.min_decryption <= version <= state.latest:
        raise KeyVersionInUse(f"The key's versions are {state.min_decryption} to {state.latest}.")
    return version


def _lock(tenant: str) -> str:
    return f"keys/{tenant}"
