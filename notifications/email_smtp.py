"""Sends mails over SMTP (RFC 5321), as multipart/alternative of plain text and HTML."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime
from enum import Enum
from typing import Final

import aiosmtplib
import idna

from domain.errors import MailRefused, MailUnavailable
from domain.mail import OutgoingMail

#: One plain address (RFC 5321 section 4.5.3.1 for its length); quoted local parts are not supported.
_ADDRESS: Final = re.compile(r"[^\s@<>,;:\"()\[\]\\\x00-\x1f\x7f]{1,64}@[^\s@<>,;:\"()\[\]\\\x00-\x1f\x7f]{1,255}")
_QUIT_SECONDS: Final = 2.0
_CLOSING: Final = 421
_EXCEEDED_STORAGE: Final = 552
_LOGIN_WANTED: Final = frozenset({530, 534, 535, 538})
_POLICY: Final = re.compile(r"\A5\.7\.\d|\brelay", re.IGNORECASE)


class Tls(Enum):
    """How the connection is secured: not at all (a relay on the same host), by STARTTLS, or from its first byte."""

    NONE = "none"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


class SmtpMailSender:
    """``sender`` is our own address and ``sender_name`` what readers see; ``deadline`` seconds bound one whole mail; ``context`` says
    whom to trust over TLS, if not the system's authorities. Without TLS asked for, none is used, whatever the server offers.

    A connection of its own for every mail: relays close idle ones, and the consumer's lanes bound how many there are.
    A refusal of *our* address, login or right to relay is reported as MailUnavailable: it is our set-up that is wrong, for all mails
    alike, and none of them has to be given up for it.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        sender: str,
        sender_name: str = "DPJ",
        user: str | None = None,
        password: str | None = None,
        tls: Tls = Tls.NONE,
        context: ssl.SSLContext | None = None,
        deadline: float = 30.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if (user is None) != (password is None):
            raise ValueError("SMTP login needs both user and password")
        self._host = host
        self._port = port
        self._from = Address(display_name=sender_name, addr_spec=sender)
        self._user = user
        self._password = password
        self._tls = tls
        self._context = context
        self._deadline = deadline
        self._now = now

    async def send(self, mail: OutgoingMail) -> None:
        """Hand the mail to the server. Raises MailUnavailable (4xx, away, slow) or MailRefused (5xx, bad address)."""
        recipient = _address(mail.to)
        message = self._message(mail, recipient)
        client = self._client()
        try:
            async with asyncio.timeout(self._deadline):
                await client.connect()
                await client.send_message(message, sender=self._from.addr_spec, recipients=[recipient])
            # The mail is the server's from here on: no failure to say goodbye may count as a failure to send.
            with suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=_QUIT_SECONDS)
        except aiosmtplib.SMTPRecipientsRefused as refusal:
            raise _translated(refusal.recipients[0]) from None
        except aiosmtplib.SMTPResponseException as refusal:
            raise _translated(refusal) from None
        except (aiosmtplib.SMTPException, OSError):  # TimeoutError is an OSError
            raise MailUnavailable("The mail server can't be reached.") from None
        finally:
            client.close()

    async def check(self) -> None:
        """Raise MailUnavailable if the server does not greet us now."""
        client = self._client()
        try:
            async with asyncio.timeout(self._deadline):
                await client.connect()
        except (aiosmtplib.SMTPException, OSError):
            raise MailUnavailable("The mail server can't be reached.") from None
        finally:
            client.close()

    def _client(self) -> aiosmtplib.SMTP:
        return aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            # The library would ask DNS for our name, blocking the loop.
            local_hostname=socket.gethostname() or "localhost",
            timeout=self._deadline,
            use_tls=self._tls is Tls.IMPLICIT,
            start_tls=self._tls is Tls.STARTTLS,
            tls_context=self._context,
        )

    def _message(self, mail: OutgoingMail, recipient: str) -> EmailMessage:
        message = EmailMessage(policy=SMTP_POLICY)
        try:
            message["From"] = self._from
            message["To"] = Address(addr_spec=recipient)
            message["Subject"] = mail.content.subject
            message["Date"] = format_datetime(self._now())
            message["Message-ID"] = mail.message_id
        except (ValueError, IndexError, MessageError):
            raise MailRefused("The mail's address or subject is malformed.") from None
        # RFC 3834 section 5: no robot answers a robot.
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.content.text, charset="utf-8", cte="quoted-printable")
        message.add_alternative(mail.content.html, subtype="html", charset="utf-8", cte="quoted-printable")
        # Last: setting a content drops the Content- headers that are there.
        message["Content-Language"] = mail.language.value
        return message


def _address(text: str) -> str:
    """The address with its domain in ASCII (RFC 5891), as every server understands it.

    Not by Python's own codec: its RFC 3490 reads ``straße`` as ``strasse``, which is somebody else's domain.
    """
    if len(text) > 254 or not _ADDRESS.fullmatch(text):
        raise MailRefused("The recipient's address is malformed.")
    local, _, domain = text.rpartition("@")
    try:
        local.encode("ascii")
        return f"{local}@{idna.encode(domain, uts46=True).decode('ascii')}"
    except UnicodeError:
        raise MailRefused("The recipient's address is malformed.") from None


def _translated(refusal: aiosmtplib.SMTPResponseException) -> MailUnavailable | MailRefused:
    """5xx about the recipient or the message is for good; 5xx about us, and any 4xx, is not.

    A server that answers 5xx to a recipient because it does not relay for us, or wants a login, speaks of our set-up: by
    its enhanced status code (RFC 3463: X.7, security or policy), its reply code (RFC 4954), or its words.
    """
    at_recipient = isinstance(refusal, aiosmtplib.SMTPRecipientRefused)
    about_the_mail = at_recipient or (
        isinstance(refusal, aiosmtplib.SMTPDataError)
        or (isinstance(refusal, aiosmtplib.SMTPSenderRefused) and refusal.code == _EXCEEDED_STORAGE)
    )
    our_set_up = at_recipient and (refusal.code in _LOGIN_WANTED or _POLICY.search(refusal.message) is not None)
    if about_the_mail and refusal.code >= 500 and not our_set_up:
        return MailRefused(f"The mail server refuses this mail for good (SMTP {refusal.code}).")
    # A server that puts off one recipient, as greylisting does, is not away.
    outage = not about_the_mail or refusal.code == _CLOSING
    return MailUnavailable(f"The mail server does not take mail now (SMTP {refusal.code}).", outage=outage)
