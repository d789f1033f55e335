"""Sessions of people at the console: opened after a sign-in, kept on the server, ended by time, by the person, or by the provider.

The cookie holds 256 random bits and nothing else; the table holds their SHA-256. So neither the table nor a backup of it lets anybody in,
and a session that is removed is over at once, whatever a browser keeps.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from uuid import uuid4

from domain.documents import Role
from domain.sessions import StoredSession, subject_mark
from identity.tokens import Identity, RevocationCheck
from processors.documents.callers import Caller, Origins, actor_of
from processors.documents.transitions import Origin, audit_line
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.personal_data import PersonalData
from processors.ports.work import HasConsoleSessions, HasOutbox

#: Bytes of a cookie's value, as NIST SP 800-63B asks for at the least 64 bits.
SECRET_BYTES: Final = 32
#: That somebody is still there is written down at most so often, in seconds.
TOUCH_SECONDS: Final = 60.0
_ENTITY: Final = "console_session"


class SessionWork(HasConsoleSessions, HasOutbox, Protocol):
    """A session and the audit line that tells of it."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session that counts now. ``authenticated_at``: when its person last said who he is, None if nobody knows; ``acr``: how well."""

    identity: Identity
    opened_at: datetime
    ends_at: datetime
    authenticated_at: datetime | None = None
    acr: str = ""

    def is_fresh(self, now: datetime, within: timedelta, acr: str = "") -> bool:
        """Whether its person said so within that time, in the authentication context ``acr`` if one is asked for."""
        at = self.authenticated_at
        return at is not None and now - at <= within and (not acr or self.acr == acr)


class Sessions:
    """``longest``: seconds from the sign-in to the end of a session. ``idle``: seconds after which one that nobody uses is over."""

    def __init__(
        self,
        database: Transactions[SessionWork],
        personal: PersonalData,
        clock: Clock,
        *,
        revoked: RevocationCheck,
        longest: float,
        idle: float,
    ) -> None:
        self._database = database
        self._personal = personal
        self._origins = Origins(personal, clock)
        self._clock = clock
        self._revoked = revoked
        self._longest = timedelta(seconds=longest)
        self._idle = timedelta(seconds=idle)

    async def open(
        self,
        identity: Identity,
        *,
        authenticated_at: datetime | None = None,
        acr: str = "",
        ip: str | None = None,
        user_agent: str | None = None,
    ) -> str:
        """Begin a session; gives the cookie's value. The sign-in is in the audit log with it, or there is none. Raises
        DatabaseUnavailable."""
        value, now = secrets.token_urlsafe(SECRET_BYTES), self._clock.now()
        session = StoredSession(
            digest=digest_of(value),
            identity_sealed=self._personal.seal(_written(identity, authenticated_at, acr)),
            marks=(*identity.marks, subject_mark(identity.subject)),
            opened_at=now,
            seen_at=now,
            ends_at=now + self._longest,
        )
        caller = Caller(
            subject=identity.subject,
            tenant=identity.tenant,
            roles=identity.roles,
            correlation_id=uuid4(),
            ip=ip,
            user_agent=user_agent,
        )
        async with self._database.transaction() as work:
            await work.sessions.add(session)
            await self._audit(work, identity, self._origins.of(caller), "console.signed_in")
        return value

    async def find(self, value: str, *, active: bool = True) -> Session | None:
        """The session of a cookie's value, if it counts. ``active``: a person did something; what a page does by itself keeps nobody
        signed in. Raises DatabaseUnavailable or RevocationsUnavailable."""
        digest, now = digest_of(value), self._clock.now()
        async with self._database.transaction() as work:
            found = await work.sessions.find(digest)
            if found is None:
                return None
            if now >= found.ends_at or now - found.seen_at >= self._idle:
                await work.sessions.remove(digest)
                return None
            if active and (now - found.seen_at).total_seconds() >= TOUCH_SECONDS:
                await work.sessions.touch(digest, now)
        identity, authenticated_at, acr = _read(self._personal.unseal(found.identity_sealed))
        if await self._revoked.any_of(identity.marks):
            return None
        return Session(identity, found.opened_at, found.ends_at, authenticated_at, acr)

    async def close(self, value: str) -> None:
        """End the session of a cookie's value, if there is one. Raises DatabaseUnavailable."""
        async with self._database.transaction() as work:
            if found := await work.sessions.remove(digest_of(value)):
                await self._audit_end(work, found, "console.signed_out")

    async def close_marked(self, marks: Sequence[str]) -> int:
        """End all sessions that the identity provider says are over; gives how many. Raises DatabaseUnavailable."""
        async with self._database.transaction() as work:
            found = await work.sessions.remove_marked(marks)
            for one in found:
                await self._audit_end(work, one, "console.signed_out_by_provider")
        return len(found)

    async def _audit_end(self, work: SessionWork, session: StoredSession, action: str) -> None:
        identity, _, _ = _read(self._personal.unseal(session.identity_sealed))
        actor = actor_of(self._personal, identity.tenant, identity.subject)
        origin = Origin(actor=actor, at=self._clock.now(), correlation_id=uuid4())
        await self._audit(work, identity, origin, action)

    @staticmethod
    async def _audit(work: SessionWork, identity: Identity, origin: Origin, action: str) -> None:
        details = {"roles": " ".join(sorted(role.value for role in identity.roles))}
        await work.outbox.add(audit_line(origin, identity.tenant, _ENTITY, origin.actor, action, details=details))


def digest_of(value: str) -> bytes:
    """What a cookie's value is kept as. No salt: the value is random."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()


def _written(identity: Identity, authenticated_at: datetime | None, acr: str) -> str:
    return json.dumps(
        {
            "subject": identity.subject,
            "tenant": identity.tenant,
            "roles": sorted(role.value for role in identity.roles),
            "bound_to": None if identity.bound_to is None else sorted(identity.bound_to),
            "marks": list(identity.marks),
            "authenticated_at": authenticated_at and authenticated_at.isoformat(),
            "acr": acr,
        }
    )


def _read(text: str) -> tuple[Identity, datetime | None, str]:
    """Sessions of an earlier release do not say when their person said who he is."""
    said: Mapping[str, Any] = json.loads(text)
    identity = Identity(
        subject=said["subject"],
        tenant=said["tenant"],
        roles=frozenset(Role(name) for name in said["roles"]),
        marks=tuple(said["marks"]),
        bound_to=None if said["bound_to"] is None else frozenset(said["bound_to"]),
    )
    at = said.get("authenticated_at")
    return identity, None if at is None else datetime.fromisoformat(at), said.get("acr", "")
