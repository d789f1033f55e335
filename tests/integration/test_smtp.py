"""Mails through a real SMTP server, as its clients read them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from domain.documents import Language
from domain.errors import MailRefused, MailUnavailable
from domain.mail import OutgoingMail, RenderedMail
from notifications.email_smtp import SmtpMailSender
from tests.support.free_ports import free_port

SUBJECT = "Votre pièce d’identité n’a pas pu être acceptée — « à refaire » " + "é" * 60
TEXT = "Bonjour,\n\n.point en tête\nÉté à Noël : 10 €\n" + "mot " * 400 + "\n"
HTML = "<p>Été à Noël : 10 €</p>\n"
AT = datetime(2026, 3, 1, 9, 5, tzinfo=UTC)


class Handler:
    """Answers each command as told, and keeps what it took."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.stalls = False
        self.keeps_us = False
        self.taken: list[Envelope] = []

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        return self.answers.get("MAIL", "250 OK")

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.answers.get("RCPT", "250 OK")

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.stalls:
            await asyncio.sleep(2)
        if "DATA" not in self.answers:
            self.taken.append(envelope)
        return self.answers.get("DATA", "250 OK")

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.keeps_us:
            await asyncio.sleep(1)
        return self.answers.get("QUIT", "221 Bye")

    def message(self) -> EmailMessage:
        content = self.taken[-1].original_content
        assert content is not None
        message = message_from_bytes(content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        return message


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def port(handler: Handler) -> Iterator[int]:
    controller = Controller(handler, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller.port
    controller.stop()


def _sender(port: int, **changes: Any) -> SmtpMailSender:
    base: dict[str, Any] = {"sender": "dpj@bank.example", "sender_name": "Banque Été", "deadline": 5.0}
    return SmtpMailSender("127.0.0.1", port, **{**base, **changes}, now=lambda: AT)


def _mail(
    to: str = "marie@example.org", *, subject: str = SUBJECT, message_id: str = "<1@dpj.example>"
) -> OutgoingMail:
    content = RenderedMail(subject, TEXT, HTML)
    return OutgoingMail(message_id=message_id, to=to, language=Language.FRENCH, content=content)


async def test_a_mail_arrives_as_it_was_written(port: int, handler: Handler) -> None:
    await _sender(port).send(_mail())
    message = handler.message()
    assert handler.taken[0].rcpt_tos == ["marie@example.org"]
    assert message["Subject"] == SUBJECT
    assert message["From"].addresses[0].display_name == "Banque Été"
    assert [str(address) for address in message["To"].addresses] == ["marie@example.org"]
    assert message["Date"].datetime == AT
    assert (message["Auto-Submitted"], message["Content-Language"]) == ("auto-generated", "fr")
    assert message.get_content_type() == "multipart/alternative"
    text, html = message.iter_parts()
    assert isinstance(text, EmailMessage)
    assert isinstance(html, EmailMessage)
    assert text.get_content().replace("\r\n", "\n") == TEXT
    assert html.get_content().replace("\r\n", "\n") == HTML
    assert not message.defects
    raw = handler.taken[0].original_content or b""
    assert raw.isascii()
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998


async def test_the_message_id_is_the_same_each_time(port: int, handler: Handler) -> None:
    wanted = f"<6f9619ff-8b86-d011-b42d-00c04fc964ff@{'mail.' * 12}bank.example>"
    for _ in range(2):
        await _sender(port).send(_mail(message_id=wanted))
    ids = [
        message_from_bytes(taken.original_content or b"", policy=policy.default)["Message-ID"]
        for taken in handler.taken
    ]
    assert ids == [wanted, wanted]


@pytest.mark.parametrize(
    "address",
    [
        *("a" * 60 + "@" + ".".join(["b" * 40] * 4) + ".example", "o'neil+x=y@example.org", "x@straße.example"),
        *("jean@münchen.example", "x@例子.example", "x@xn--mnchen-3ya.example"),
    ],
)
async def test_long_and_odd_addresses_arrive(port: int, handler: Handler, address: str) -> None:
    await _sender(port).send(_mail(address))
    (reached,) = handler.taken[0].rcpt_tos
    assert [str(shown.addr_spec) for shown in handler.message()["To"].addresses] == [reached]
    in_ascii = {"straße": "xn--strae-oqa", "münchen": "xn--mnchen-3ya", "例子": "xn--fsqu00a"}
    for label, ascii_label in in_ascii.items():
        address = address.replace(label, ascii_label)
    assert reached == address


@pytest.mark.parametrize(
    ("step", "answer", "error"),
    [
        ("MAIL", "451 later", MailUnavailable),
        ("MAIL", "550 not you", MailUnavailable),
        ("MAIL", "552 too big", MailRefused),
        ("RCPT", "450 greylisted", MailUnavailable),
        ("RCPT", "550 no such user marie@example.org", MailRefused),
        ("RCPT", "550 5.1.1 no such user", MailRefused),
        ("RCPT", "550 5.7.1 not from you", MailUnavailable),
        ("RCPT", "554 Relay access denied", MailUnavailable),
        ("RCPT", "530 log in first", MailUnavailable),
        ("DATA", "554 5.7.1 spam", MailRefused),
        ("DATA", "452 disk full", MailUnavailable),
        ("DATA", "554 spam", MailRefused),
        ("DATA", "421 closing", MailUnavailable),
    ],
)
async def test_refusals(port: int, handler: Handler, step: str, answer: str, error: type[Exception]) -> None:
    handler.answers[step] = answer
    with pytest.raises(error) as raised:
        await _sender(port).send(_mail())
    assert handler.taken == []
    assert "marie" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("step", "answer", "outage"),
    [
        ("RCPT", "450 greylisted", False),
        ("RCPT", "550 5.7.1 not from you", False),
        ("RCPT", "421 closing", True),
        ("MAIL", "451 later", True),
    ],
)
async def test_a_recipient_put_off_is_no_outage(
    port: int, handler: Handler, step: str, answer: str, outage: bool
) -> None:
    handler.answers[step] = answer
    with pytest.raises(MailUnavailable) as raised:
        await _sender(port).send(_mail())
    assert raised.value.outage is outage


async def test_a_bad_goodbye_is_no_failure(port: int, handler: Handler) -> None:
    handler.answers["QUIT"] = "421 gone"
    await _sender(port).send(_mail())
    assert len(handler.taken) == 1


async def test_a_goodbye_beyond_the_deadline_is_no_failure(port: int, handler: Handler) -> None:
    handler.keeps_us = True
    await _sender(port, deadline=0.5).send(_mail())
    assert len(handler.taken) == 1


async def test_slow_or_away_is_unavailable(port: int, handler: Handler) -> None:
    handler.stalls = True
    with pytest.raises(MailUnavailable):
        await _sender(port, deadline=0.3).send(_mail())
    away = _sender(free_port())
    with pytest.raises(MailUnavailable):
        await away.send(_mail())
    with pytest.raises(MailUnavailable):
        await away.check()
    await _sender(port).check()


async def test_a_server_that_takes_no_login_is_our_setup(port: int) -> None:
    with pytest.raises(MailUnavailable):
        await _sender(port, user="dpj", password="secret").send(_mail())
    with pytest.raises(ValueError, match="both"):
        _sender(port, user="dpj")


@pytest.mark.parametrize(
    "mail",
    [
        _mail("marie@example.org\r\nBcc: eve@example.org"),
        _mail("marie@example.org, eve@example.org"),
        _mail("Marie <marie@example.org>"),
        _mail("marié@example.org"),
        _mail("marie@a..b"),
        _mail("a..b@example.org"),
        _mail("x" * 250 + "@example.org"),
        _mail("nobody"),
        _mail(""),
        _mail(subject="Bonjour\r\nBcc: eve@example.org"),
        _mail(message_id="<1@dpj>\r\nBcc: eve@example.org"),
    ],
)
async def test_nothing_is_smuggled_in(port: int, handler: Handler, mail: OutgoingMail) -> None:
    with pytest.raises(MailRefused):
        await _sender(port).send(mail)
    assert handler.taken == []
