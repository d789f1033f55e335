"""Carrying out a validation or rejection on a document that is VERIFIED.

Used by the API when a person decides, and by the integrity step when the decision came while the document was STORED.
"""

from __future__ import annotations

from domain.documents import Decision, Document
from domain.events import DocumentRejected, DocumentValidated
from domain.lifecycle import Status
from processors.documents.transitions import Origin, transition
from processors.ports.work import StateWork

NOTED = "NOTED"
NO_NOTE = "NONE"


async def apply_decision(work: StateWork, document: Document, decision: Decision, origin: Origin) -> Document:
    """Move a locked VERIFIED ``document`` to what ``decision`` says. Raises TransitionRefused from any other state."""
    code = NOTED if decision.note else NO_NOTE
    note = decision.note or None
    validated = decision.to is Status.VALIDATED
    event_type = DocumentValidated if validated else DocumentRejected
    return await transition(
        work,
        document,
        decision.to,
        origin,
        events=[lambda common: event_type(**common, validator=decision.actor, comment_code=code)],
        details={"comment": code},
        validator_id=decision.actor,
        decided_at=decision.at,
        pending_decision=None,
        **({"validation_comment": note} if validated else {"rejection_reason": note}),
    )
