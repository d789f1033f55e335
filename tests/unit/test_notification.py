"""Mails: one per event, on record before and after, nothing personal in the row; and what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from jinja2 import TemplateNotFound, UndefinedError

from domain.documents import Document, Language
from domain.errors import MailRefused, MailUnavailable, WrongKey
from domain.events import DocumentEvent, Event
from domain.lifecycle import Status
from domain.personal_texts import UploadedTexts
from domain.records import NotificationRecord
from notifications.rendering import MailTemplates, file_size, moment
from processors.events.notification import TEMPLATES, NotificationProcessor
from tests.support.builders import NOW, FixedClock, a_dossier, a_type
from tests.support.fakes_archiving import (
    MemoryMails,
    archived,
    common,
    quarantined,
    rejected,
    stored,
    uploaded,
    validated,
)
from tests.support.fakes_personal_texts import plain_texts
from tests.support.memory import MemoryDatabase
from tests.support.processor_bench import ProcessorBench

MAILED = [uploaded, validated, rejected, quarantined, archived]
Maker = Callable[[Document], DocumentEvent]


class Bench(ProcessorBench):
    def __init__(self, **changes: Any) -> None:
        self.database, self.mails = MemoryDatabase(), MemoryMails()
        dossier = a_dossier("D-7")
        self.document = replace(stored(dossier), **changes)
        self.database.put(self.document, dossier, a_type())
        self.processor = NotificationProcessor(
            self.database, plain_texts(), self.mails, self.mails, FixedClock(), mail_domain="dpj.test"
        )

    @property
    def row(self) -> NotificationRecord:
        (row,) = self.database.rows.notifications.values()
        return row


@pytest.mark.parametrize("make", MAILED)
async def test_each_event_is_one_mail(make: Maker) -> None:
    bench = Bench(language=Language.ENGLISH, rejection_reason="blurred")
    event = make(bench.document)
    await bench.run(event)
    await bench.run(event)
    (mail,) = bench.mails.sent
    assert (mail.to, mail.language) == ("marie@example.org", Language.ENGLISH)
    row = bench.row
    assert (row.channel, row.template, row.language) == ("EMAIL", TEMPLATES[type(event)], "en")
    assert (row.status, row.attempt, row.sent_at, row.event_id) == ("SENT", 1, NOW, event.event_id)
    assert row.message_id == mail.message_id == f"<{row.id}@dpj.test>"
    assert not {"marie", "scan.pdf", "D-7", "blurred"} & set(str(row.payload).replace("@", " ").split())
    assert dict(row.payload) == {"document_id": str(bench.document.id), "type_code": "CNI"}


async def test_away_keeps_the_row_and_the_same_message_id() -> None:
    bench = Bench()
    event = uploaded(bench.document)
    bench.mails.error = MailUnavailable()
    with pytest.raises(MailUnavailable):
        await bench.run(event)
    assert (bench.row.status, bench.row.attempt, bench.row.sent_at) == ("PENDING", 1, None)
    known = bench.row.message_id
    await bench.run(event)
    assert (bench.row.status, bench.row.attempt) == ("SENT", 2)
    assert bench.mails.sent[0].message_id == known


async def test_death_between_acceptance_and_commit_repeats_the_message_id() -> None:
    bench = Bench()
    event = uploaded(bench.document)
    await bench.processor.process(event)
    await bench.run(event)
    first, second = bench.mails.sent
    assert first.message_id == second.message_id


async def test_a_refused_mail_is_failed_and_leaves_the_document_alone() -> None:
    bench = Bench()
    event = uploaded(bench.document)
    bench.mails.error = MailRefused()
    with pytest.raises(MailRefused):
        await bench.run(event)
    await bench.give_up(event, "mail_refused")
    assert (bench.row.status, bench.row.attempt) == ("FAILED", 1)
    assert bench.database.rows.documents[bench.document.id] == bench.document
    (entry,) = bench.database.rows.timeline
    assert (entry.type, entry.details) == ("NOTIFICATION_FAILED", {"template": "receipt", "code": "mail_refused"})


async def test_giving_up_before_any_try_and_after_sending() -> None:
    bench = Bench()
    event = uploaded(bench.document)
    await bench.give_up(event, "mail_refused")
    assert (bench.row.status, bench.row.attempt) == ("FAILED", 0)
    await bench.run(event)
    await bench.give_up(event, "mail_refused")
    assert bench.row.status == "SENT"
    assert len(bench.database.rows.timeline) == 1


@pytest.mark.parametrize("status", [Status.ERASING, Status.ERASED])
async def test_nobody_is_written_to_about_a_document_being_erased(status: Status) -> None:
    bench = Bench(status=status)
    await bench.run(uploaded(bench.document))
    assert bench.mails.sent == []
    assert bench.database.rows.notifications == {}


async def test_the_mail_says_what_the_rows_say() -> None:
    bench = Bench(rejection_reason="blurred", retention_years=3, archive_planned=False, size=None, sha256=None)
    await bench.run(rejected(bench.document))
    await bench.run(archived(bench.document))
    (_, _, first), (_, _, second) = bench.mails.rendered
    assert (first["reason"], first["dossier_number"], first["to_be_archived"]) == ("blurred", "D-7", False)
    assert (first["retention_years"], second["retention_years"]) == (3, 7)
    assert "integrity_mismatch" not in str(first)


async def test_sealed_texts_are_opened_for_the_mail_alone() -> None:
    bench = Bench()
    texts = plain_texts()
    given = UploadedTexts(file_name="Durand.pdf", email="durand@example.org", depositor_name="M. Durand")
    sealed = replace(bench.document, **texts.sealed(bench.document.tenant, bench.document.id, given))
    bench.database.put(replace(sealed, rejection_reason=texts.note(sealed, "blurred")))
    await bench.run(rejected(bench.document))
    (mail,) = bench.mails.sent
    assert mail.to == "durand@example.org"
    _, _, values = bench.mails.rendered[-1]
    assert (values["file_name"], values["depositor_name"], values["reason"]) == ("Durand.pdf", "M. Durand", "blurred")


async def test_a_text_of_another_document_is_not_sent() -> None:
    bench = Bench()
    texts = plain_texts()
    given = UploadedTexts(file_name="a.pdf", email="somebody.else@example.org")
    swapped = texts.sealed(bench.document.tenant, uuid4(), given)
    bench.database.put(replace(bench.document, **swapped))
    with pytest.raises(WrongKey):
        await bench.run(uploaded(bench.document))
    assert bench.mails.sent == []


async def test_other_events_are_a_defect() -> None:
    bench = Bench()
    event = Event.__new__(Event)
    for step in (bench.processor.process(event), bench.processor.give_up(event, "x")):
        with pytest.raises(TypeError):
            await step
    assert common(bench.document)["tenant"] == "acme"


# --- what mails say ---------------------------------------------------------------------------------------------------

VALUES: dict[str, Any] = {
    "reference": "6f9619ff-8b86-d011-b42d-00c04fc964ff",
    "file_name": 'pièce <b>"1"</b>.pdf',
    "type_label": "Carte nationale d'identité",
    "dossier_number": "D-2026-001",
    "deposited_at": datetime(2026, 3, 1, 9, 5, tzinfo=UTC),
    "occurred_at": datetime(2026, 7, 14, 9, 5, tzinfo=UTC),
    "size": 1_234_567,
    "sha256": "a" * 64,
    "reason": "Illisible.\nÀ rescanner <b>.",
    "to_be_archived": True,
    "retention_years": 10,
}
TEXTS = [
    (
        "receipt",
        "fr",
        "Nous avons bien reçu votre document",
        "déposé le 1er\u00a0mars 2026 à 10\u00a0h\u00a005 (heure de Paris)",
    ),
    ("receipt", "en", "We have received your document", "1\u00a0March 2026 at 10:05 (Paris time)"),
    ("validated", "fr", "Votre document est validé", "Il va maintenant être archivé"),
    ("validated", "en", "Your document has been approved", "It will now be archived"),
    ("rejected", "fr", "Votre document n’a pas pu être accepté", "\n\n    Illisible.\n    À rescanner <b>.\n\nNous"),
    ("rejected", "en", "Your document could not be accepted", "\n\n    Illisible.\n    À rescanner <b>.\n\nPlease"),
    ("quarantined", "fr", "Votre document n’a pas pu être traité", "le déposer de nouveau"),
    ("quarantined", "en", "Your document could not be processed", "Please submit it again"),
    ("archived", "fr", "Votre document est archivé", "conservé pendant 10\u00a0ans"),
    ("archived", "en", "Your document has been archived", "kept for 10\u00a0years"),
]


@pytest.mark.parametrize(("template", "language", "subject", "words"), TEXTS)
def test_mails_as_read(template: str, language: str, subject: str, words: str) -> None:
    mail = MailTemplates(zone=ZoneInfo("Europe/Paris"), bank="Banque DPJ").render(template, Language(language), VALUES)
    assert mail.subject == subject
    assert words in mail.text
    for text in (mail.text, mail.html):
        assert VALUES["reference"] in text
        assert "D-2026-001" in text
        assert "Banque DPJ" in text
    assert "\n\n\n" not in mail.text
    assert "<b>" not in mail.html
    assert "http" not in mail.html
    assert f'<html lang="{language}">' in mail.html


@pytest.mark.parametrize(
    ("language", "words"), [("fr", "Bonjour Zoé <i>O'Neil</i>,"), ("en", "Dear Zoé <i>O'Neil</i>,")]
)
def test_who_gave_a_name_is_called_by_it(language: str, words: str) -> None:
    values = {**VALUES, "depositor_name": "Zoé <i>O'Neil</i>"}
    mail = MailTemplates().render("receipt", Language(language), values)
    assert mail.text.startswith(f"{words}\n\n")
    assert "<i>" not in mail.html
    assert "Zoé &lt;i&gt;" in mail.html
    assert "\n\n\n" not in mail.text


def test_no_reason_and_no_archive_leave_no_gap() -> None:
    values = {**VALUES, "reason": "", "to_be_archived": False}
    templates = MailTemplates()
    assert "accepté.\n\nNous vous invitons" in templates.render("rejected", Language.FRENCH, values).text
    assert "<blockquote" not in templates.render("rejected", Language.FRENCH, values).html
    assert "nothing further" in templates.render("validated", Language.ENGLISH, values).text


def test_values_are_cleaned_and_bounded() -> None:
    values = {**VALUES, "file_name": "a\r\nBcc: x\u202egpj.exe" + "y" * 500, "reason": "z" * 5000}
    mail = MailTemplates().render("rejected", Language.FRENCH, values)
    assert "a Bcc: xgpj.exe" in mail.text
    assert "\u202e" not in mail.text + mail.html
    assert "y" * 80 not in mail.text
    assert "z" * 1999 + "…" in mail.text


def test_a_template_that_does_not_fit_its_values_fails() -> None:
    with pytest.raises(UndefinedError):
        MailTemplates().render("receipt", Language.FRENCH, {})
    with pytest.raises(TemplateNotFound):
        MailTemplates().render("nothing", Language.FRENCH, VALUES)


@pytest.mark.parametrize(
    ("size", "french", "english"),
    [
        (0, "0 octet", "0 bytes"),
        (1, "1 octet", "1 byte"),
        (999, "999 octets", "999 bytes"),
        (1000, "1,0 ko", "1.0 kB"),
        (9_960, "10 ko", "10 kB"),
        (999_600, "1,0 Mo", "1.0 MB"),
        (5_000_000_000_000, "5000 Go", "5000 GB"),
    ],
)
def test_sizes(size: int, french: str, english: str) -> None:
    assert file_size(size, Language.FRENCH).replace("\u00a0", " ") == french
    assert file_size(size, Language.ENGLISH).replace("\u00a0", " ") == english


def test_moments_name_their_zone() -> None:
    assert moment(datetime(2026, 2, 3, 4, 5, tzinfo=UTC), Language.FRENCH).endswith("(UTC)")
