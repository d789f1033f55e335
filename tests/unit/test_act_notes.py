"""Notes of plans and batches: every text leads back to its code and values, and has its texts in all languages of the console."""

from __future__ import annotations

import string

import pytest

from console.languages import LANGUAGES, Texts
from domain.act_notes import NOTES, note, read_note

SAMPLES = {
    "status": "ARCHIVE_FAILED",
    "reason": "INC-1234",
    "consumer": "archiving",
    "consumers": "archiving, audit",
    "count": "12",
    "left": "4",
    "code": "audit_store_unavailable",
    "act": "redriven",
    "replays": "3",
    "cap": "3",
    "size": "900000",
    "origin": "dpj.document.uploaded/2/77",
}


def sample(code: str) -> dict[str, str]:
    return {name: SAMPLES[name] for _, name, _, _ in string.Formatter().parse(NOTES[code]) if name}


@pytest.mark.parametrize("code", NOTES)
def test_a_text_leads_back_to_its_code_and_values(code: str) -> None:
    assert read_note(note(code, **sample(code))) == (code, sample(code))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", NOTES)
def test_each_has_its_texts(code: str, language: str) -> None:
    shown = Texts(language).note(note(code, **sample(code)))
    assert shown
    assert "{" not in shown
    assert "ARCHIVE_FAILED" not in shown


def test_other_texts_are_no_notes() -> None:
    assert read_note("IntegrityError") is None
    assert Texts("fr").note("its document is <b>") == ""
