"""Who did what, and why: people's acts, read from the audit log.

A chain is read by its numbers, which every store of the log has an index for, from its end backwards in windows of a fixed size. So a
page costs the same however long the log is, and needs no index that each line would pay for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from domain.audit_chain import ChainEntry
from domain.checkpoints import ChainState
from operations.audit.export import EntryReader, UnflushedEntryReader, entries_of

#: Entries that one page looks through.
WINDOW: Final = 2_000
#: How an act's name begins; what only reads is none, and what a document's depositor or the pipeline does is none.
_ACTS: Final = (
    *("console.", "event.", "dead_letter.", "outbox.", "token.", "key.", "personal_key.", "export.", "subject."),
    *(
        "restore.",
        "reconcile.",
        "audit.",
        "tenant.",
        "operation.",
        "consumer.",
        "dead_letters.",
        "batch.",
        "document_type.",
    ),
    *("document.erase", "document.erasure", "document.legal_hold.", "document.retention.", "document.search"),
    *("document.decision.", "document.validated", "document.rejected", "document.link.revoked"),
)
_READ: Final = ".read"
_SYSTEM: Final = "system:"


class ChainStates(Protocol):
    """How far chains are. Raises DatabaseUnavailable."""

    async def page(self, tenants: frozenset[str] | None, after: str, limit: int) -> Sequence[ChainState]:
        """Chains by tenant, from just after ``after``; ``tenants`` None: all."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """``actor`` is a pseudonym. ``details`` are codes, numbers and ids. ``faithful``: whether the store's row says what its entry does."""

    seq: int
    at: datetime
    actor: str
    action: str
    entity_type: str
    entity_id: str
    details: Mapping[str, Any]
    faithful: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ActPage:
    """The acts among the entries ``first`` to ``last`` of a chain, newest first; ``unreadable``: entries that are none of ours."""

    first: int
    last: int
    acts: Sequence[Act]
    unreadable: int


class ActsReader:
    """``reader`` is the audit log; ``pending`` has what waits for it."""

    def __init__(self, reader: EntryReader, pending: UnflushedEntryReader) -> None:
        self._reader = reader
        self._pending = pending

    async def page(self, tenant: str, last: int) -> ActPage:
        """The window of the chain of ``tenant`` that ends with entry ``last``. Raises AuditStoreUnavailable or DatabaseUnavailable."""
        first = max(1, last - WINDOW + 1)
        found: list[Act] = []
        unreadable = 0
        async with aclosing(entries_of(self._reader, self._pending, tenant, last, after=first - 1)) as entries:
            async for stored in entries:
                try:
                    act = _act(stored.entry, faithful=stored.faithful)
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    unreadable += 1
                    continue
                if act is not None:
                    found.append(act)
        return ActPage(first=first, last=last, acts=found[::-1], unreadable=unreadable)


def is_act(action: str, actor: str) -> bool:
    """Whether a person did that, and did not only look."""
    return action.startswith(_ACTS) and not action.endswith(_READ) and not actor.startswith(_SYSTEM)


def _act(entry: ChainEntry, *, faithful: bool) -> Act | None:
    """None for what is no act. Raises for what is no entry of ours."""
    fields = entry.fields()
    action, actor = str(fields["action"]), str(fields["actor"])
    if not is_act(action, actor):
        return None
    details = json.loads(fields["details"])
    return Act(
        seq=entry.seq,
        at=datetime.fromisoformat(fields["at"]),
        actor=actor,
        action=action,
        entity_type=str(fields["entity_type"]),
        entity_id=str(fields["entity_id"]),
        details=details if isinstance(details, dict) else {},
        faithful=faithful,
    )
