"""The audit log as one hash chain per tenant: each entry names the hash of the one before, so nothing can change unseen.

An entry is canonical JSON (sorted keys, no spaces, UTF-8); its hash is SHA-256 of those bytes, which hold the previous
hash and the number. The chain covers personal fields in their sealed form: erasing their key leaves it verifiable.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final
from uuid import UUID

from domain.events import AuditRecorded

FORMAT: Final = 1
#: Whose chain has what concerns no tenant: acts on keys, on tokens, on things whose document is not known.
SYSTEM_TENANT: Final = "system"


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The last entry of a tenant's chain: its number, 0 for an empty chain, and its hash."""

    tenant: str
    seq: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainEntry:
    """One entry. ``body`` is its canonical JSON; ``hash`` the SHA-256 of ``body`` in lower-case hex."""

    tenant: str
    seq: int
    event_id: UUID
    body: bytes = field(repr=False)
    hash: str

    def fields(self) -> dict[str, Any]:
        """What ``body`` says. Raises ValueError if it is not a JSON object."""
        try:
            value = json.loads(self.body)
        except RecursionError:
            raise ValueError("an entry is not nested that deep") from None
        if not isinstance(value, dict):
            raise ValueError("an entry is a JSON object")  # noqa: TRY004 - the bytes are wrong, not a caller's type
        return value


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry as the audit store holds it; ``faithful``: the fields stored beside ``body`` for queries say the same."""

    entry: ChainEntry
    faithful: bool


class ChainBreak(Enum):
    """What is wrong: an entry is not there, is not what was written, does not follow the one before, or is filed wrongly;
    is no part of the chain; or the chain as a whole does not end at its head, or has none, or is not what was signed."""

    MISSING = "MISSING"
    ALTERED = "ALTERED"
    UNLINKED = "UNLINKED"
    MISLABELLED = "MISLABELLED"
    SURPLUS = "SURPLUS"
    HEAD_DIFFERS = "HEAD_DIFFERS"
    HEAD_MISSING = "HEAD_MISSING"
    REWRITTEN = "REWRITTEN"


@dataclass(frozen=True, slots=True)
class ChainFault:
    """Where a chain first breaks, and how."""

    seq: int
    reason: ChainBreak


def genesis(tenant: str) -> ChainHead:
    """The head of a chain without entries; its hash differs per tenant, so that chains can't be swapped."""
    return ChainHead(tenant, 0, hashlib.sha256(f"dpj-audit-chain|{FORMAT}|{tenant}".encode()).hexdigest())


def entry_of(event: AuditRecorded, head: ChainHead) -> ChainEntry:
    """The entry that follows ``head``: the same event after the same head is always the same bytes.

    Raises ValueError for an event of another tenant.
    """
    if event.tenant != head.tenant:
        raise ValueError("an event belongs to its own tenant's chain")
    body = json.dumps(
        {
            "v": FORMAT,
            "tenant": event.tenant,
            "seq": head.seq + 1,
            "prev": head.hash,
            "event_id": str(event.event_id),
            "event_sequence": event.sequence,
            "correlation_id": str(event.correlation_id),
            "entity_type": event.entity_type,
            "entity_id": event.entity_id,
            "action": event.action,
            "actor": event.actor,
            "at": _timestamp(event.occurred_at),
            "ip_sealed": event.ip_sealed,
            "user_agent_sealed": event.user_agent_sealed,
            "details": event.details,
            "old_state": event.old_state,
            "new_state": event.new_state,
        },
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    ).encode()
    return ChainEntry(tenant=event.tenant, seq=head.seq + 1, event_id=event.event_id, body=body, hash=hash_of(body))


def event_of(entry: ChainEntry) -> AuditRecorded:
    """The event that ``entry_of`` made the entry of. Raises ValueError if it is not one of ours."""
    fields = entry.fields()
    try:
        return AuditRecorded(
            event_id=UUID(fields["event_id"]),
            sequence=fields["event_sequence"],
            occurred_at=datetime.fromisoformat(fields["at"]),
            correlation_id=UUID(fields["correlation_id"]),
            tenant=fields["tenant"],
            actor=fields["actor"],
            **{name: fields[name] for name in _SAME},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("an entry of another form") from error


#: Fields that an entry has under the names and in the form that the event has them.
_SAME: Final = (
    *("entity_type", "entity_id", "action", "details"),
    *("old_state", "new_state", "ip_sealed", "user_agent_sealed"),
)


def hash_of(body: bytes) -> str:
    """An entry's hash."""
    return hashlib.sha256(body).hexdigest()


def head_after(entry: ChainEntry) -> ChainHead:
    """The head once ``entry`` is the last."""
    return ChainHead(entry.tenant, entry.seq, entry.hash)


class ChainCheck:
    """Verifies a chain entry by entry, in order of ``seq``, from its genesis or from a head that is trusted."""

    def __init__(self, start: ChainHead) -> None:
        self.head = start
        self.fault: ChainFault | None = None

    def add(self, entry: ChainEntry, *, faithful: bool = True) -> ChainFault | None:
        """Take the next entry (see StoredEntry for ``faithful``); the fault, if the chain is broken here or was before."""
        if self.fault is None:
            reason = self._broken(entry) or (None if faithful else ChainBreak.ALTERED)
            if reason is None:
                self.head = head_after(entry)
            else:
                self.fault = ChainFault(self.head.seq + 1, reason)
        return self.fault

    def _broken(self, entry: ChainEntry) -> ChainBreak | None:
        if entry.seq != self.head.seq + 1:
            return ChainBreak.MISSING
        if hash_of(entry.body) != entry.hash:
            return ChainBreak.ALTERED
        try:
            fields = entry.fields()
        except ValueError:
            return ChainBreak.ALTERED
        if fields.get("prev") != self.head.hash:
            return ChainBreak.UNLINKED
        labels = (entry.tenant, entry.seq, str(entry.event_id))
        if (
            fields.get("tenant"),
            fields.get("seq"),
            fields.get("event_id"),
        ) != labels or entry.tenant != self.head.tenant:
            return ChainBreak.MISLABELLED
        return None


def verify(tenant: str, entries: Iterable[ChainEntry]) -> ChainFault | None:
    """The first fault of a whole chain given in order; None if every entry holds."""
    check = ChainCheck(genesis(tenant))
    for entry in entries:
        if check.add(entry) is not None:
            break
    return check.fault


def _timestamp(at: datetime) -> str:
    """ISO 8601 in UTC with microseconds, always of one form."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
