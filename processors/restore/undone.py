"""Acts that the audit log tells and a restored PostgreSQL has forgotten, done again: erasures, legal holds, longer retentions.

Each is one transaction that looks at the row again; done twice, the second time changes nothing. What an erasure asked for was allowed when
it was asked for: a hold or a retention that the restored rows show is older than that, and keeps nothing. What it says anew has ids that
derive from the recorded act, so that a second try says nothing twice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from domain.documents import Document, TimelineEntry
from domain.erasure import LegalBasis
from domain.errors import UnexpectedFailure
from domain.lifecycle import ATTEMPTS, ERASURE_STATES
from domain.refusals import DocumentNotFound
from domain.restores import ERASING, DocumentHistory
from domain.retention import LegalHold, retention_end
from processors.documents.transitions import Origin, audit_line, update_fields
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.retention.erasure_request import ErasureRequestWork, destroy_keys

#: The basis of an erasure whose entry names none that we know.
_UNSAID: Final = LegalBasis.RETENTION_ENDED


class UndoneActs:
    """``actor`` is the pseudonym of the operator who has them done again."""

    def __init__(self, database: Transactions[ErasureRequestWork], clock: Clock, actor: str) -> None:
        self._database = database
        self._clock = clock
        self._actor = actor

    async def erase(self, history: DocumentHistory) -> bool:
        """Destroy the document's keys and personal texts again; False if it is going or gone. What lies outside PostgreSQL is deleted by
        whoever carries out erasures. Raises DatabaseUnavailable, or UnexpectedFailure for a state that none may be erased from."""
        act = history.last(ERASING)
        if act is None:
            raise UnexpectedFailure("An erasure that the log does not tell of.")
        origin = Origin(actor=self._actor, at=self._clock.now(), correlation_id=act.correlation_id, cause=act.event_id)
        async with self._database.transaction() as work:
            document = await _live(work, history)
            if document is None:
                return False
            end = retention_end(document, await work.types.get(document.type_code))
            document = await _erasable(work, document, origin)
            reason = act.text("reason") or "RESTORE"
            await destroy_keys(work, document, origin, reason[:64], _basis(act.text("legal_basis")), end)
        return True

    async def keep(self, history: DocumentHistory) -> bool:
        """Legal holds that stood, and the end that the retention was extended to, stand again; False if they do."""
        at = self._clock.now()
        async with self._database.transaction() as work:
            document = await _live(work, history)
            if document is None:
                return False
            known = {hold.reference: hold for hold in await work.holds.of(document.id)}
            details: dict[str, str] = {}
            for reference, act in history.standing_holds.items():
                if reference in known and known[reference].set_at >= act.at:
                    continue
                reason = (act.text("reason") or "RESTORE")[:64]
                hold = LegalHold(reference=reference, reason=reason, set_by=act.actor, set_at=act.at)
                await work.holds.put(document.id, hold)
                details[f"hold {reference}"] = reason
            until = history.kept_until
            if until is not None and (document.expires_at is None or document.expires_at < until):
                document = await update_fields(work, document, at, expires_at=until)
                details["until"] = until.isoformat()
            if not details:
                return False
            origin = Origin(actor=self._actor, at=at, correlation_id=document.correlation_id)
            entry = TimelineEntry(
                document_id=document.id,
                dossier_id=document.dossier_id,
                type="RETENTION_RESTORED",
                actor=self._actor,
                at=at,
                details=details,
            )
            await work.timeline.add(entry)
            action = "document.retention.restored"
            await work.outbox.add(
                audit_line(origin, document.tenant, "document", str(document.id), action, details=details)
            )
        return True


async def _live(work: ErasureRequestWork, history: DocumentHistory) -> Document | None:
    """The row, locked, if it is this document's and shows it as one that is there."""
    try:
        document = await work.documents.lock(history.document_id)
    except DocumentNotFound:
        return None
    gone = document.tenant != history.tenant or document.status in ERASURE_STATES | ATTEMPTS
    return None if gone else document


async def _erasable(work: ErasureRequestWork, document: Document, origin: Origin) -> Document:
    """A hold that stands in the restored row was lifted before the erasure was asked for."""
    for hold in await work.holds.of(document.id):
        if hold.lifted_at is None:
            lifted = replace(hold, lifted_by=origin.actor, lifted_at=origin.at, lifted_reason="RESTORE")
            await work.holds.put(document.id, lifted)
    return document


def _basis(text: str | None) -> LegalBasis:
    try:
        return LegalBasis(text)
    except ValueError:
        return _UNSAID
