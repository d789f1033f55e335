"""Operators are told of every quarantine, once each, whatever becomes of the depositor's mail."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import structlog

from domain.documents import Language
from domain.errors import MailRefused, MailUnavailable
from domain.mail import OutgoingMail
from notifications.rendering import MailTemplates
from processors.events.notification import NotificationProcessor
from processors.events.operator_mails import TEMPLATE, OperatorMails, OperatorRecipients
from tests.support.builders import FixedClock, a_dossier, a_type
from tests.support.fakes_archiving import MemoryMails, PlainSeals, quarantined, rejected, stored
from tests.support.fakes_personal_texts import plain_texts
from tests.support.memory import MemoryDatabase
from tests.support.processor_bench import ProcessorBench

ADDRESSES = ("ops@bank.test", "soc@bank.test")


class PickyMails(MemoryMails):
    """Refuses for good what goes to ``never``, and is away for ``away``."""

    never: frozenset[str] = frozenset()
    away: frozenset[str] = frozenset()

    async def send(self, mail: OutgoingMail) -> None:
        if mail.to in self.never:
            raise MailRefused
        if mail.to in self.away:
            raise MailUnavailable
        await super().send(mail)


class Bench(ProcessorBench):
    def __init__(self, **changes: Any) -> None:
        self.database, self.mails = MemoryDatabase(), PickyMails()
        dossier = a_dossier("D-7")
        self.document = replace(stored(dossier), **changes)
        self.database.put(self.document, dossier, a_type())
        parts = (self.mails, self.mails, FixedClock())
        operators = OperatorRecipients(addresses=ADDRESSES, language=Language.FRENCH)
        self.processor = NotificationProcessor(
            self.database,
            plain_texts(),
            *parts,
            mail_domain="dpj.test",
            operators=OperatorMails(self.database, PlainSeals(), *parts, operators, mail_domain="dpj.test"),
        )

    def sent_to(self) -> list[str]:
        return [mail.to for mail in self.mails.sent]

    def statuses(self) -> dict[str, int]:
        found = [f"{row.template} {row.status}" for row in self.database.rows.notifications.values()]
        return {name: found.count(name) for name in found}


async def test_operators_and_depositor_are_told_once_each() -> None:
    bench = Bench()
    event = quarantined(bench.document)
    await bench.run(event)
    await bench.run(event)
    assert bench.sent_to() == [*ADDRESSES, "marie@example.org"]
    assert len({mail.message_id for mail in bench.mails.sent}) == 3
    assert bench.statuses() == {f"{TEMPLATE} SENT": 2, "quarantined SENT": 1}
    rows = str([row.payload for row in bench.database.rows.notifications.values()])
    assert "bank.test" not in rows


async def test_other_events_are_none_of_their_business() -> None:
    bench = Bench()
    await bench.run(rejected(bench.document))
    assert bench.sent_to() == ["marie@example.org"]


async def test_what_was_sent_before_the_server_went_is_not_sent_again() -> None:
    bench = Bench()
    event = quarantined(bench.document)
    bench.mails.away = frozenset({ADDRESSES[1]})
    with pytest.raises(MailUnavailable):
        await bench.run(event)
    assert bench.sent_to() == [ADDRESSES[0]]
    bench.mails.away = frozenset()
    await bench.run(event)
    assert bench.sent_to() == [*ADDRESSES, "marie@example.org"]


async def test_a_refused_operator_keeps_nobody_else_from_being_told() -> None:
    bench = Bench()
    bench.mails.never = frozenset({ADDRESSES[0]})
    with structlog.testing.capture_logs() as logs:
        await bench.run(quarantined(bench.document))
    assert bench.sent_to() == [ADDRESSES[1], "marie@example.org"]
    assert bench.statuses() == {f"{TEMPLATE} FAILED": 1, f"{TEMPLATE} SENT": 1, "quarantined SENT": 1}
    (line,) = [line for line in logs if line["event"] == "operator_mail_refused"]
    assert "bank.test" not in str(line)


async def test_a_refused_depositor_keeps_no_operator_from_being_told() -> None:
    bench = Bench()
    bench.mails.never = frozenset({"marie@example.org"})
    with pytest.raises(MailRefused):
        await bench.run(quarantined(bench.document))
    assert bench.sent_to() == list(ADDRESSES)


async def test_the_mail_names_no_person_and_no_file() -> None:
    bench = Bench()
    await bench.run(quarantined(bench.document))
    template, language, values = bench.mails.rendered[0]
    assert (template, language) == (TEMPLATE, Language.FRENCH)
    assert values["code"] == "integrity_mismatch"
    assert not {"scan.pdf", "marie@example.org"} & {str(value) for value in values.values()}


VALUES: dict[str, Any] = {
    "reference": "6f9619ff-8b86-d011-b42d-00c04fc964ff",
    "tenant": "portal <b>one</b>",
    "dossier": "11111111-8b86-d011-b42d-00c04fc964ff",
    "type_label": "Carte nationale d'identité",
    "deposited_at": datetime(2026, 3, 1, 9, 5, tzinfo=UTC),
    "occurred_at": datetime(2026, 3, 1, 9, 6, tzinfo=UTC),
    "size": 1_234_567,
    "sha256": "a" * 64,
    "code": "malware_found",
}


@pytest.mark.parametrize(
    ("language", "subject", "words"),
    [
        ("fr", "Document mis en quarantaine", "(l’antivirus y a trouvé un logiciel malveillant)\n\nRéférence"),
        ("en", "Document quarantined", "(the antivirus found malware in it)\n\nReference"),
    ],
)
def test_the_mail_as_read(language: str, subject: str, words: str) -> None:
    templates = MailTemplates(zone=ZoneInfo("Europe/Paris"), bank="Banque DPJ")
    mail = templates.render(TEMPLATE, Language(language), VALUES)
    assert mail.subject == subject
    assert words in mail.text
    for text in (mail.text, mail.html):
        assert VALUES["reference"] in text
        assert VALUES["sha256"] in text
    assert "<b>" not in mail.html
    assert "http" not in mail.html
    assert "\n\n\n" not in mail.text
    for code in ("integrity_mismatch", "content_unscannable"):
        other = templates.render(TEMPLATE, Language(language), {**VALUES, "code": code})
        assert code in other.text
        assert "malware" not in other.text
        assert "malveillant" not in other.text
