"""A mail as it is rendered, and as it is sent."""

from __future__ import annotations

from dataclasses import dataclass, field

from domain.documents import Language


@dataclass(frozen=True, slots=True)
class RenderedMail:
    """``subject`` is one line; ``text`` and ``html`` say the same thing twice, for readers of either."""

    subject: str
    text: str = field(repr=False)
    html: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMail:
    """``message_id`` comes with its angle brackets (RFC 5322 section 3.6.4) and is the same each time the mail is sent."""

    message_id: str
    to: str = field(repr=False)
    language: Language
    content: RenderedMail = field(repr=False)
