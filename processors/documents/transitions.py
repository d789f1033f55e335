"""The one way a document changes state: row, timeline, events and audit line, in the same transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4, uuid5

from domain.documents import Document, TimelineEntry
from domain.events import AuditRecorded, DocumentEvent
from domain.lifecycle import Status
from processors.ports.documents import Transition
from processors.ports.work import Commit, HasDocuments, StateWork, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who caused something, when, and in which conversation. ``actor`` is pseudonymous; address and agent come sealed.

    ``cause``: the event whose processing this is. What follows from an event has ids that derive from it, so that a history that is
    played again, from a database that was restored to before, says the same things and no new ones. None: an act of somebody, which is
    new each time.
    """

    actor: str
    at: datetime
    correlation_id: UUID
    cause: UUID | None = None
    ip_sealed: str | None = field(default=None, repr=False)
    user_agent_sealed: str | None = field(default=None, repr=False)


#: Builds the event of a transition from its common fields; ``lambda common: DocumentVerified(**common, ...)``.
EventBuilder = Callable[[dict[str, Any]], DocumentEvent]


_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def canonical_json(value: Mapping[str, Any]) -> str:
    """Sorted keys, no spaces, UTF-8 text: the same value is always the same bytes."""
    return _CANONICAL.encode(value)


async def transition(
    work: StateWork,
    document: Document,
    to: Status,
    origin: Origin,
    *,
    events: Sequence[EventBuilder] = (),
    details: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Document:
    """Move a locked ``document`` to ``to`` with ``changes`` to its fields, and say so everywhere it is owed.

    Raises TransitionRefused (lifecycle table) or StateChanged (the row is no longer what ``document`` says).
    """
    change = plan_transition(document, to, origin, events=events, details=details, **changes)
    await work.documents.update(change.old, change.new)
    await work.timeline.add(change.entry)
    for event in change.events:
        await work.outbox.add(event)
    return change.new


def plan_transition(
    document: Document,
    to: Status,
    origin: Origin,
    *,
    events: Sequence[EventBuilder] = (),
    details: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Transition:
    """What ``transition`` writes, for who writes it in one go. Raises TransitionRefused."""
    moved = document.moved(to, at=origin.at, sequence=document.sequence + len(events) + 1, **changes)
    entry = TimelineEntry(
        document_id=document.id,
        dossier_id=document.dossier_id,
        type=to.value,
        actor=origin.actor,
        at=origin.at,
        details=dict(details or {}),
    )
    first = document.sequence + 1
    owed = [build(_common(document, to, origin, sequence)) for sequence, build in enumerate(events, first)]
    audit = audit_line(
        origin,
        document.tenant,
        "document",
        str(document.id),
        f"document.{to.value.lower()}",
        sequence=moved.sequence,
        details=details,
        old_state={"status": document.status.value},
        new_state={"status": to.value},
    )
    return Transition(document, moved, entry, (*owed, audit))


def _common(document: Document, to: Status, origin: Origin, sequence: int) -> dict[str, Any]:
    return {
        "event_id": _id_of(origin, f"{to.value}/{sequence}"),
        "sequence": sequence,
        "occurred_at": origin.at,
        "correlation_id": origin.correlation_id,
        "tenant": document.tenant,
        "document_id": document.id,
        "actor": origin.actor,
    }


def _id_of(origin: Origin, what: str) -> UUID:
    """RFC 9562, version 5, in the name space of the cause: the number in the document's sequence tells what a repeated try does anew from
    what a repeated history does again."""
    return uuid4() if origin.cause is None else uuid5(origin.cause, what)


def audit_line(
    origin: Origin,
    tenant: str,
    entity_type: str,
    entity_id: str,
    action: str,
    *,
    sequence: int = 0,
    details: Mapping[str, Any] | None = None,
    old_state: Mapping[str, Any] | None = None,
    new_state: Mapping[str, Any] | None = None,
) -> AuditRecorded:
    """One line for the audit log; an action that changes no state (a read) has sequence 0."""
    return AuditRecorded(
        event_id=_id_of(origin, f"{entity_type}/{entity_id}/{action}/{sequence}"),
        sequence=sequence,
        occurred_at=origin.at,
        correlation_id=origin.correlation_id,
        tenant=tenant,
        actor=origin.actor,
        entity_type=entity_type,
        entity_id=entity_id,
        action=action,
        details=canonical_json(details or {}),
        old_state=None if old_state is None else canonical_json(old_state),
        new_state=None if new_state is None else canonical_json(new_state),
        ip_sealed=origin.ip_sealed,
        user_agent_sealed=origin.user_agent_sealed,
    )


async def update_fields(work: HasDocuments, document: Document, at: datetime, **changes: Any) -> Document:
    """Change fields of a locked document without a change of state."""
    changed = replace(document, updated_at=at, **changes)
    await work.documents.update(document, changed)
    return changed


@dataclass(frozen=True, slots=True)
class SharedCommit:
    """A commit that may share its transaction with those of other events: it only adds rows, of which no other transaction
    has a part, and no events. Many are then written at the cost of one."""

    write: Commit

    async def __call__(self, work: Work) -> None:
        await self.write(work)


async def _commit_nothing(_: Work) -> None: ...


#: The commit of a processor that owes nothing: what its event asks for is done, or no longer wanted.
NOTHING_TO_COMMIT: Final[Commit] = SharedCommit(_commit_nothing)
