"""Revoking tokens, and knowing which are revoked without asking anybody at each request.

Every process keeps a copy of all revocations and looks every ``POLL_SECONDS`` whether the store has others. A copy that could
not be compared for ``MAX_AGE_SECONDS`` decides nothing: the request waits for one more look, and is refused if that fails. So
a revoked token is accepted at most ``MAX_AGE_SECONDS`` + ``REFRESH_TIMEOUT_SECONDS`` after the store took its revocation, whatever is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from domain.errors import RevocationsUnavailable
from domain.refusals import MetadataInvalid, OperatorBound, TokenAlreadyExpired
from domain.revocations import RevocableClaim, Revocation, RevocationSnapshot, mark_of
from processors.documents.callers import Caller, Origins
from processors.documents.transitions import Origin, audit_line
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.personal_data import PersonalData
from processors.ports.work import HasLinks, HasOutbox

POLL_SECONDS: Final = 1.0
#: From the start of a look: one that hangs does not make the copy look younger than it is.
MAX_AGE_SECONDS: Final = 3.0
REFRESH_TIMEOUT_SECONDS: Final = 1.5
#: The whole copy is read this often even if the store says that nothing changed: it forgets what is over.
FULL_READ_SECONDS: Final = 60.0
MAX_CLAIM: Final = 255
#: A token is taken for so long beyond its expiry, because clocks differ. Its revocation is taken for as long, and kept for longer.
TAKEN_BEYOND_EXPIRY: Final = timedelta(seconds=5)
EXPIRY_MARGIN: Final = timedelta(seconds=60)


class Revocations(Protocol):
    """Where revocations are kept. Raises RevocationsUnavailable."""

    async def add(self, revocations: Sequence[Revocation]) -> None:
        """All or none; one that is there already is kept for the longer of both times."""
        ...

    async def version(self) -> int:
        """Another number after each ``add``, greater or less."""
        ...

    async def active(self) -> RevocationSnapshot:
        """What is not over yet."""
        ...


class RevokedTokens:
    """This process's copy. ``refresh`` every ``POLL_SECONDS`` keeps it fresh; without, it is renewed by those who need it."""

    def __init__(self, store: Revocations, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._version: int | None = None
        self._until: Mapping[str, datetime] = {}
        self._refreshed_at = float("-inf")
        self._read_whole_at = float("-inf")
        self._refresh_task: asyncio.Task[None] | None = None

    @property
    def is_fresh(self) -> bool:
        return self._monotonic() - self._refreshed_at <= MAX_AGE_SECONDS

    async def any_of(self, marks: Sequence[str]) -> bool:
        """Whether one of the marks is revoked. Raises RevocationsUnavailable where nobody can know."""
        if not self.is_fresh:
            await self.refresh()
        return any(mark in self._until for mark in marks)

    async def refresh(self) -> None:
        """Compare the copy with the store; callers of the same moment share one look. Raises RevocationsUnavailable."""
        if self._refresh_task is None or self._refresh_task.done():
            self._refresh_task = asyncio.create_task(self._compare())
            self._refresh_task.add_done_callback(_retrieve_error)
        try:
            async with asyncio.timeout(REFRESH_TIMEOUT_SECONDS):
                await asyncio.shield(self._refresh_task)
        except TimeoutError:
            raise RevocationsUnavailable("The revocation store does not answer in time.") from None

    async def _compare(self) -> None:
        began = self._monotonic()
        async with asyncio.timeout(REFRESH_TIMEOUT_SECONDS):
            if began - self._read_whole_at >= FULL_READ_SECONDS or await self._store.version() != self._version:
                revoked = await self._store.active()
                self._version, self._until, self._read_whole_at = revoked.version, revoked.until, began
        self._refreshed_at = began


def _retrieve_error(refreshing: asyncio.Task[None]) -> None:
    """A look that all who waited for it have given up on may fail unheard."""
    if not refreshing.cancelled():
        refreshing.exception()


class RevocationWork(HasLinks, HasOutbox, Protocol):
    """What revoking a token needs of a transaction."""


class TokenRevocation:
    """The act of revoking; on record before it takes effect, and safe to repeat.

    Links made with what is revoked are revoked in the same transaction. One that is made in the moments until every process knows
    is refused by its marks: so a revocation is kept for as long as a link may be good, too.
    """

    def __init__(
        self,
        store: Revocations,
        database: Transactions[RevocationWork],
        personal: PersonalData,
        clock: Clock,
        *,
        longest_token: float,
        longest_session: float,
        longest_link: float,
    ) -> None:
        """Seconds that a token may be valid, the provider may renew a session's tokens, and a link may be good, at most."""
        self._store = store
        self._database = database
        self._origins = Origins(personal, clock)
        self._clock = clock
        self._longest = timedelta(seconds=longest_token)
        self._sessions = timedelta(seconds=longest_session)
        self._links = timedelta(seconds=longest_link)

    async def revoke_for_caller(
        self, caller: Caller, claims: Mapping[RevocableClaim, str], until: datetime | None = None
    ) -> datetime:
        """Revoke tokens for an operator of the API; when the revocation ends. Raises MetadataInvalid, or TokenAlreadyExpired where
        ``until`` has passed: who names such a time by mistake shall not think that a token is refused for as long as it counts;
        OperatorBound for one who is bound to tenants, because nobody can tell whose token an id is."""
        if caller.bound_to is not None:
            raise OperatorBound("A token may be any tenant's, and you are bound to some.")
        if until is not None and until + TAKEN_BEYOND_EXPIRY <= self._clock.now():
            raise TokenAlreadyExpired("The time expires_at has passed.")
        return await self.revoke(self._origins.of(caller), caller.tenant, claims, until)

    async def revoke(
        self, origin: Origin, tenant: str, claims: Mapping[RevocableClaim, str], until: datetime | None = None
    ) -> datetime:
        """When the last of the revocations ends. ``tenant`` is whose audit log says so. ``until``: when the token expires, if that
        is known. A session is not over with one of its tokens. Raises MetadataInvalid for claims that no token has."""
        if not claims or not all(1 <= len(value) <= MAX_CLAIM for value in claims.values()):
            raise MetadataInvalid(f"Name a token id or a session id of 1 to {MAX_CLAIM} characters.")
        now = self._clock.now()
        revocations = [
            Revocation(mark_of(claim, value), self._end(claim, now, until)) for claim, value in claims.items()
        ]
        async with self._database.transaction() as work:
            for revocation in revocations:
                kind, _, digest = revocation.mark.partition(":")
                links = await work.links.revoke_made_with(revocation.mark, now)
                details = {"claim": kind, "until": revocation.until.isoformat(), "links": str(links)}
                await work.outbox.add(audit_line(origin, tenant, "token", digest, "token.revoked", details=details))
        await self._store.add(revocations)
        return max(revocation.until for revocation in revocations)

    def _end(self, claim: RevocableClaim, now: datetime, until: datetime | None) -> datetime:
        over = now + self._longest
        if claim is RevocableClaim.SESSION:
            over += self._sessions  # its last token is issued at its end
        elif until is not None:
            over = min(until, over)
        return max(over, now + self._links) + EXPIRY_MARGIN
