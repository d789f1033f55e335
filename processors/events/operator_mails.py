"""Mails to the operators about quarantined documents: ids and the reason code, nothing personal.

At least once, as every mail: each has a row of ``notifications`` of its own, written before and after, and the same Message-ID
however often it is sent. An address that is refused for good is told in the log and keeps nobody else from being told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol
from uuid import uuid5

import structlog

from domain.documents import Document, Language
from domain.errors import MailRefused
from domain.events import DocumentQuarantined
from domain.mail import OutgoingMail, RenderedMail
from domain.records import NotificationRecord
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.mail import MailSender
from processors.ports.personal_data import PersonalData
from processors.ports.work import HasDocuments, HasDocumentTypes, HasNotifications

TEMPLATE: Final = "operators-quarantine"

_log = structlog.get_logger()


class OperatorMailRenderer(Protocol):
    def render(self, template: str, language: Language, values: Mapping[str, Any]) -> RenderedMail: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRecipients:
    """Who is told, and how: mail addresses, one language for all of them."""

    addresses: Sequence[str] = field(repr=False)
    language: Language


class OperatorMailWork(HasDocuments, HasDocumentTypes, HasNotifications, Protocol):
    """What writing to operators needs of a transaction."""


class OperatorMails:
    """``mail_domain`` is the right-hand side of our Message-IDs."""

    def __init__(
        self,
        database: Transactions[OperatorMailWork],
        personal: PersonalData,
        renderer: OperatorMailRenderer,
        sender: MailSender,
        clock: Clock,
        operators: OperatorRecipients,
        *,
        mail_domain: str,
    ) -> None:
        self._database = database
        self._personal = personal
        self._renderer = renderer
        self._sender = sender
        self._clock = clock
        self._operators = operators
        self._mail_domain = mail_domain

    async def notify(self, event: DocumentQuarantined) -> None:
        """Write to every operator who has not been written to of this event. Raises MailUnavailable, DatabaseUnavailable."""
        for address in self._operators.addresses:
            async with self._database.transaction() as work:
                document = await work.documents.get(event.document_id)
                record = await self._record(work, document, event, address)
                if record.status in {"SENT", "FAILED"}:
                    continue
                record = replace(record, attempt=record.attempt + 1)
                await work.notifications.put(record)
                values = await _values(work, document, event)
            status = await self._sent(record, address, values)
            async with self._database.transaction() as work:
                sent_at = self._clock.now() if status == "SENT" else None
                await work.notifications.put(replace(record, status=status, sent_at=sent_at))

    async def _sent(self, record: NotificationRecord, address: str, values: Mapping[str, Any]) -> str:
        language = self._operators.language
        content = self._renderer.render(TEMPLATE, language, values)
        mail = OutgoingMail(message_id=record.message_id, to=address, language=language, content=content)
        try:
            await self._sender.send(mail)
        except MailRefused:
            _log.error("operator_mail_refused", document_id=str(record.document_id), notification_id=str(record.id))
            return "FAILED"
        return "SENT"

    async def _record(
        self, work: HasNotifications, document: Document, event: DocumentQuarantined, address: str
    ) -> NotificationRecord:
        notification_id = uuid5(event.event_id, f"{TEMPLATE}|{self._personal.pseudonym('operator', address)}")
        return await work.notifications.get(notification_id) or NotificationRecord(
            id=notification_id,
            document_id=document.id,
            dossier_id=document.dossier_id,
            event_id=event.event_id,
            channel="EMAIL",
            template=TEMPLATE,
            language=self._operators.language.value,
            payload={"document_id": str(document.id), "type_code": document.type_code},
            message_id=f"<{notification_id}@{self._mail_domain}>",
            status="PENDING",
            attempt=0,
            sent_at=None,
        )


async def _values(work: HasDocumentTypes, document: Document, event: DocumentQuarantined) -> dict[str, Any]:
    rule = await work.types.get(document.type_code)
    return {
        "reference": str(document.id),
        "tenant": document.tenant,
        "dossier": str(document.dossier_id),
        "type_label": rule.label,
        "deposited_at": document.deposited_at or document.created_at,
        "occurred_at": event.occurred_at,
        "size": document.size or 0,
        "sha256": document.sha256 or "",
        "code": event.reason_code,
    }
