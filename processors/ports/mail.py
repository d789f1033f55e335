"""The mail server, and the records of what was sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from domain.mail import OutgoingMail
from domain.records import NotificationRecord


class MailSender(Protocol):
    async def send(self, mail: OutgoingMail) -> None:
        """Returns once the server has taken the mail. Raises MailUnavailable (try again) or MailRefused (never)."""
        ...


class Notifications(Protocol):
    async def put(self, record: NotificationRecord) -> None:
        """Insert, or update status, attempt and sent_at of the row with the same id."""
        ...

    async def get(self, notification_id: UUID) -> NotificationRecord | None: ...

    async def of(self, document_id: UUID) -> Sequence[NotificationRecord]:
        """Those about a document, by the time they were sent, those still to be sent last."""
        ...
