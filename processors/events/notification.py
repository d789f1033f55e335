"""Mails to the depositor: a receipt, and one for each decision about the document; of a quarantine the operators are told too.

At least once: a second mail is possible only if we die between the mail server's acceptance and our commit, and it then
has the Message-ID of the first. What was sent is a row of ``notifications``, named by event and template.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol
from uuid import uuid5

from domain.documents import Document, Language, TimelineEntry
from domain.events import (
    DocumentArchived,
    DocumentEvent,
    DocumentQuarantined,
    DocumentRejected,
    DocumentUploaded,
    DocumentValidated,
    Event,
)
from domain.lifecycle import ERASURE_STATES
from domain.mail import OutgoingMail, RenderedMail
from domain.records import NotificationRecord
from domain.shared.crash_points import reach
from processors.documents.personal_texts import PersonalTexts
from processors.documents.transitions import NOTHING_TO_COMMIT
from processors.events.operator_mails import OperatorMails
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.mail import MailSender
from processors.ports.work import Commit, HasDocuments, HasDocumentTypes, HasDossiers, HasNotifications, HasTimeline

ACTOR: Final = "system:notification"
FAILED: Final = "NOTIFICATION_FAILED"

TEMPLATES: Final[Mapping[type[Event], str]] = {
    DocumentUploaded: "receipt",
    DocumentValidated: "validated",
    DocumentRejected: "rejected",
    DocumentQuarantined: "quarantined",
    DocumentArchived: "archived",
}


class MailRenderer(Protocol):
    def render(self, template: str, language: Language, values: Mapping[str, Any]) -> RenderedMail: ...


class NotificationWork(HasDocuments, HasTimeline, HasDossiers, HasDocumentTypes, HasNotifications, Protocol):
    """What writing to a depositor needs of a transaction."""


class NotificationProcessor:
    """Consumer ``notification``. ``mail_domain`` is the right-hand side of our Message-IDs; without ``operators`` only depositors
    are written to."""

    consumer: Final = "notification"
    handles: Final[tuple[type[Event], ...]] = tuple(TEMPLATES)

    def __init__(
        self,
        database: Transactions[NotificationWork],
        texts: PersonalTexts,
        renderer: MailRenderer,
        sender: MailSender,
        clock: Clock,
        *,
        mail_domain: str,
        operators: OperatorMails | None = None,
    ) -> None:
        self._database = database
        self._texts = texts
        self._renderer = renderer
        self._sender = sender
        self._clock = clock
        self._mail_domain = mail_domain
        self._operators = operators

    async def process(self, event: Event) -> Commit:
        """Raises MailUnavailable, MailRefused, DatabaseUnavailable, WrongKey (a sealed text can't be opened), or KeyringUnavailable
        (its key is not here)."""
        event = _document_event(event)
        if self._operators is not None and isinstance(event, DocumentQuarantined):
            # First: nobody else is told if the depositor's own address is refused.
            await self._operators.notify(event)
        async with self._database.transaction() as work:
            # The attempt is written down before it is made, so that attempts which never came back count too.
            document = await work.documents.lock(event.document_id)
            record = await self._record(work, document, event)
            if record.status == "SENT" or document.status in ERASURE_STATES:
                return NOTHING_TO_COMMIT
            record = replace(record, status="PENDING", attempt=record.attempt + 1)
            await work.notifications.put(record)
            values = await _values(work, document, event) | self._said(document)
        reach("notification.attempted")
        content = self._renderer.render(record.template, document.language, values)
        await self._sender.send(
            OutgoingMail(
                message_id=record.message_id,
                to=self._texts.email(document),
                language=document.language,
                content=content,
            )
        )
        reach("notification.sent")
        return partial(_sent, record, self._clock.now())

    def _said(self, document: Document) -> dict[str, Any]:
        """The personal texts of the mail."""
        return {
            "file_name": self._texts.file_name(document),
            "depositor_name": self._texts.depositor_name(document) or "",
            "reason": self._texts.opened_note(document, document.rejection_reason) or "",
        }

    async def give_up(self, event: Event, code: str) -> Commit:
        """The mail counts as FAILED; the document's own state is not touched by a mail that can't be delivered."""
        return partial(self._fail, _document_event(event), code)

    async def _fail(self, event: DocumentEvent, code: str, work: NotificationWork) -> None:
        document = await work.documents.lock(event.document_id)
        record = await self._record(work, document, event)
        if record.status == "SENT":
            return
        await work.notifications.put(replace(record, status="FAILED"))
        await work.timeline.add(
            TimelineEntry(
                document_id=document.id,
                dossier_id=document.dossier_id,
                type=FAILED,
                actor=ACTOR,
                at=self._clock.now(),
                details={"template": record.template, "code": code},
            )
        )

    async def _record(self, work: NotificationWork, document: Document, event: DocumentEvent) -> NotificationRecord:
        """The row of this event's mail as it is, or as it would first be written."""
        template = TEMPLATES[type(event)]
        notification_id = uuid5(event.event_id, template)
        return await work.notifications.get(notification_id) or NotificationRecord(
            id=notification_id,
            document_id=document.id,
            dossier_id=document.dossier_id,
            event_id=event.event_id,
            channel="EMAIL",
            template=template,
            language=document.language.value,
            payload={"document_id": str(document.id), "type_code": document.type_code},
            message_id=f"<{notification_id}@{self._mail_domain}>",
            status="PENDING",
            attempt=0,
            sent_at=None,
        )


def _document_event(event: Event) -> DocumentEvent:
    if type(event) not in TEMPLATES or not isinstance(event, DocumentEvent):
        raise TypeError(f"notification does not handle {type(event).__name__}")
    return event


async def _values(work: NotificationWork, document: Document, event: DocumentEvent) -> dict[str, Any]:
    """What the templates may say, personal texts apart. The reason of a quarantine is not among it: it could help whoever sent
    malware."""
    dossier = await work.dossiers.get(document.tenant, document.dossier_id)
    rule = await work.types.get(document.type_code)
    return {
        "reference": str(document.id),
        "type_label": rule.label,
        "dossier_number": dossier.number,
        "deposited_at": document.deposited_at or document.created_at,
        "occurred_at": event.occurred_at,
        "size": document.size or 0,
        "sha256": document.sha256 or "",
        "to_be_archived": rule.archived if document.archive_planned is None else document.archive_planned,
        "retention_years": event.retention_years if isinstance(event, DocumentArchived) else document.retention_years,
    }


async def _sent(record: NotificationRecord, at: datetime, work: HasNotifications) -> None:
    await work.notifications.put(replace(record, status="SENT", sent_at=at))
