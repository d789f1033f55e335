"""A person's decision about a document: validate it, or reject it with a reason.

On VERIFIED it takes effect at once; on STORED it is recorded, and the integrity step carries it out when it has verified
the content.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from domain.documents import Decision, Document, TimelineEntry
from domain.lifecycle import ATTEMPTS, Status
from domain.refusals import DepositorDecides, DocumentNotFound, MetadataInvalid, TransitionRefused
from domain.shared.crash_points import reach
from processors.documents.callers import Caller, Origins
from processors.documents.decisions import NO_NOTE, NOTED, apply_decision
from processors.documents.personal_texts import PersonalTexts
from processors.documents.transitions import Origin, audit_line, update_fields
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.personal_data import PersonalData
from processors.ports.work import AuditWork, HasDocumentTypes, StateWork

MAX_NOTE: Final = 2000


@dataclass(frozen=True, slots=True)
class Decided:
    """``pending``: recorded, to take effect once the document is verified."""

    document: Document
    pending: bool


class DecisionWork(StateWork, AuditWork, HasDocumentTypes, Protocol):
    """What deciding about a document needs of a transaction."""


class Validation:
    """Decisions by validators, on documents of their own tenant.

    ``duties_separated``: nobody decides about what he deposited himself, where the document's type does not say otherwise. A rejection
    is a decision, too: it ends a document, which then is never archived.
    """

    def __init__(
        self,
        database: Transactions[DecisionWork],
        personal: PersonalData,
        texts: PersonalTexts,
        clock: Clock,
        *,
        duties_separated: bool = False,
    ) -> None:
        self._database = database
        self._texts = texts
        self._duties_separated = duties_separated
        self._origins = Origins(personal, clock)

    async def validate(self, caller: Caller, document_id: UUID, comment: str | None) -> Decided:
        """Raises DocumentNotFound, DepositorDecides, MetadataInvalid (comment too long) or TransitionRefused."""
        return await self._decide(caller, document_id, Status.VALIDATED, _checked(comment))

    async def reject(self, caller: Caller, document_id: UUID, reason: str) -> Decided:
        """Raises DocumentNotFound, DepositorDecides, MetadataInvalid (no reason, or too long a one) or TransitionRefused."""
        if not reason.strip():
            raise MetadataInvalid("A rejection needs a reason.")
        return await self._decide(caller, document_id, Status.REJECTED, _checked(reason))

    async def _decide(self, caller: Caller, document_id: UUID, to: Status, note: str) -> Decided:
        origin = self._origins.bare(caller)
        async with self._database.transaction() as work:
            document = await work.documents.lock(document_id)
            if document.tenant != caller.tenant or document.status in ATTEMPTS:
                raise DocumentNotFound
            await self._refuse_depositor(work, document, origin.actor)
            if document.status not in {Status.VERIFIED, Status.STORED}:
                # Said here and not by the table: it lets ARCHIVE_FAILED become VALIDATED, which is an operator's re-drive. And before
                # the note is sealed: an erased document has no key for it.
                raise TransitionRefused(f"A document that is {document.status.value} cannot become {to.value}.")
            origin = await self._origins.sealed(work, document, caller, origin)
            decision = Decision(to=to, actor=origin.actor, at=origin.at, note=self._texts.note(document, note))
            if document.status is Status.VERIFIED:
                decided = Decided(await apply_decision(work, document, decision, origin), pending=False)
            elif self._is_recorded(document, decision, note):
                decided = Decided(document, pending=True)
            else:
                decided = Decided(await _record(work, document, decision, origin), pending=True)
        reach("decision.committed")
        return decided

    async def _refuse_depositor(self, work: DecisionWork, document: Document, actor: str) -> None:
        """Raises DepositorDecides. Both pseudonyms are of the same key, which is never replaced, and no erasure empties the row's."""
        if document.depositor_id != actor:
            return
        said = (await work.types.get(document.type_code)).duties_separated
        if self._duties_separated if said is None else said:
            raise DepositorDecides("You have deposited this document yourself.")

    def _is_recorded(self, document: Document, decision: Decision, note: str) -> bool:
        """Whether the same person decided the same before: that changes nothing. Raises TransitionRefused for any other one."""
        held = document.pending_decision
        if held is None:
            return False
        said = self._texts.opened_note(document, held.note)
        if (held.to, held.actor, said) == (decision.to, decision.actor, note):
            return True
        raise TransitionRefused("Another decision is recorded and waits for the document to be verified.")


async def _record(work: StateWork, document: Document, decision: Decision, origin: Origin) -> Document:
    """Keep the decision for the integrity step."""
    changed = await update_fields(work, document, origin.at, pending_decision=decision)
    details = {"decision": decision.to.value, "comment": NOTED if decision.note else NO_NOTE}
    await work.timeline.add(
        TimelineEntry(
            document_id=document.id,
            dossier_id=document.dossier_id,
            type="DECISION_RECORDED",
            actor=origin.actor,
            at=origin.at,
            details=details,
        )
    )
    await work.outbox.add(
        audit_line(origin, document.tenant, "document", str(document.id), "document.decision.recorded", details=details)
    )
    return changed


def _checked(note: str | None) -> str:
    text = (note or "").strip()
    if len(text) > MAX_NOTE:
        raise MetadataInvalid(f"A comment or reason has at most {MAX_NOTE} characters.")
    return text
