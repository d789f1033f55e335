"""Texts of a row: sealed together, opened one by one, moved to newer keys; rows from before."""

from dataclasses import asdict, replace
from uuid import uuid4

import pytest
import structlog

from domain.documents import Decision, Document
from domain.errors import PersonalKeyMissing, WrongKey
from domain.lifecycle import Status
from domain.personal_texts import PersonalField, UploadedTexts
from processors.documents.personal_texts import PersonalTexts
from tests.support.builders import NOW, a_document
from tests.support.fakes_archiving import PlainSeals
from tests.support.fakes_personal_texts import ReadableColumnKeys, plain_texts, real_columns

GIVEN = UploadedTexts(
    file_name="Durand.pdf",
    email="Durand@example.org",
    depositor_name="M. Durand",
    tags=("durand",),
    metadata={"nom": "Durand", "n": 1},
)


def a_sealed(texts: PersonalTexts, given: UploadedTexts = GIVEN) -> Document:
    document = a_document()
    return replace(document, **texts.sealed(document.tenant, document.id, given))


def with_notes(document: Document, texts: PersonalTexts) -> Document:
    return replace(
        document,
        validation_comment=texts.note(document, "comment of Durand"),
        rejection_reason=texts.note(document, "reason of Durand"),
        pending_decision=Decision(Status.REJECTED, "u", NOW, texts.note(document, "pending of Durand")),
    )


def test_nothing_of_a_row_is_clear_and_all_of_it_opens() -> None:
    texts = PersonalTexts(real_columns(), PlainSeals())
    document = with_notes(a_sealed(texts), texts)
    assert "urand" not in str(asdict(document))
    assert (document.tags, document.metadata) == ((), {})
    shown = texts.shown(document).texts
    assert (shown.file_name, shown.tags, shown.metadata) == ("Durand.pdf", ("durand",), {"nom": "Durand", "n": 1})
    assert (shown.decision_note, shown.pending_note) == ("reason of Durand", "pending of Durand")
    assert (texts.email(document), texts.depositor_name(document)) == ("Durand@example.org", "M. Durand")
    assert "urand" not in repr(texts.shown(document))


def test_what_was_not_given_is_not_sealed() -> None:
    texts = plain_texts()
    document = a_sealed(texts, UploadedTexts(file_name="a", email="b@c.fr"))
    assert (document.labels_sealed, document.depositor_name_sealed) == (None, None)
    assert texts.depositor_name(document) is None
    shown = texts.shown(document).texts
    assert (shown.tags, shown.metadata, shown.decision_note, shown.pending_note) == ((), {}, None, None)
    assert texts.note(document, "") == ""


def test_a_row_from_before_is_read_as_it_is() -> None:
    texts = plain_texts()
    document = a_document(original_name="old.pdf", tags=("t",), metadata={"a": 1}, validation_comment="fine")
    shown = texts.shown(document).texts
    assert (shown.file_name, shown.tags, shown.metadata, shown.decision_note) == ("old.pdf", ("t",), {"a": 1}, "fine")
    assert texts.email(document) == "marie@example.org"
    assert texts.note(document, "note") == "note"


def test_where_all_rows_are_sealed_one_that_is_not_does_not_open() -> None:
    texts = PersonalTexts(ReadableColumnKeys(), PlainSeals(), sealed_only=True)
    document = a_document(original_name="put.pdf", tags=("t",), metadata={"a": 1}, validation_comment="fine")
    with structlog.testing.capture_logs() as logs:
        shown = texts.shown(document).texts
    assert (shown.file_name, shown.tags, shown.metadata, shown.decision_note) == ("", (), {}, "")
    assert {said["field"] for said in logs} == {"file_name", "note"}
    for read in (texts.email, texts.file_name, texts.resealed):
        with pytest.raises(WrongKey):
            read(document)
    with pytest.raises(WrongKey):
        texts.note(document, "x")
    erased = a_document(status=Status.ERASED, original_name="", depositor_email_sealed="")
    assert texts.shown(erased).texts.file_name == ""
    sealed = a_sealed(texts)
    assert texts.shown(sealed).texts.tags == ("durand",)
    assert texts.email(sealed) == "Durand@example.org"


def test_a_name_that_looks_sealed_is_a_name_in_a_row_from_before() -> None:
    texts = plain_texts()
    document = a_document(original_name="p2.k1.x")
    assert texts.shown(document).texts.file_name == "p2.k1.x"
    assert texts.file_name(texts.resealed(document)) == "p2.k1.x"


def test_texts_of_another_row_are_shown_empty_and_told() -> None:
    texts = plain_texts()
    one, other = a_sealed(texts), a_sealed(texts)
    swapped = replace(one, original_name=other.original_name)
    with structlog.testing.capture_logs() as logs:
        assert texts.shown(swapped).texts.file_name == ""
    (said,) = logs
    assert said["event"] == "personal_text_unreadable"
    assert (said["document_id"], said["field"]) == (str(one.id), "file_name")
    with pytest.raises(WrongKey):
        texts.file_name(swapped)


def test_a_text_in_another_column_does_not_open() -> None:
    texts = plain_texts()
    document = a_sealed(texts)
    with pytest.raises(WrongKey):
        texts.email(replace(document, depositor_email_sealed=document.original_name))


def test_a_key_that_is_not_here_is_waited_for() -> None:
    document = a_sealed(plain_texts("k2"))
    with pytest.raises(PersonalKeyMissing):
        plain_texts("k1").shown(document)


@pytest.mark.parametrize("before", ["k1", None])
def test_resealing_moves_all_texts_and_changes_none(before: str | None) -> None:
    old = plain_texts("k1")
    document = with_notes(a_sealed(old), old)
    if before is None:
        document = a_document(
            original_name="Durand.pdf",
            depositor_email_sealed="sealed:Durand@example.org",
            tags=GIVEN.tags,
            metadata=GIVEN.metadata,
            validation_comment="comment of Durand",
            rejection_reason="reason of Durand",
            pending_decision=Decision(Status.REJECTED, "u", NOW, "pending of Durand"),
        )
    columns = ReadableColumnKeys("k2", "k1")
    columns.lookups = ["l2", "l1"]
    new = PersonalTexts(columns, PlainSeals())
    moved = new.resealed(document)
    assert (moved.personal_key, moved.lookup_key) == ("k2", "l2")
    assert moved.file_name_index is not None
    assert moved.file_name_index.startswith(b"l2|")
    held = [
        moved.original_name,
        moved.depositor_email_sealed,
        moved.labels_sealed,
        moved.validation_comment,
        moved.rejection_reason,
        moved.pending_decision.note if moved.pending_decision else None,
    ]
    assert [text for text in held if not (text or "").startswith("p2.k2.")] == []
    assert (moved.tags, moved.metadata) == ((), {})
    assert new.shown(moved).texts == old.shown(document).texts
    assert new.opened_note(moved, moved.validation_comment) == "comment of Durand"
    assert new.email(moved) == "Durand@example.org"
    same = ("status", "sequence", "updated_at", "dossier_id", "wrapped_key", "id")
    assert [getattr(moved, name) for name in same] == [getattr(document, name) for name in same]


def test_a_note_goes_under_the_row_s_key_whatever_is_current() -> None:
    document = a_sealed(plain_texts("k1"))
    assert plain_texts("k2", "k1").note(document, "x").startswith("p2.k1.")


def test_a_find_is_compared_again() -> None:
    texts = plain_texts()
    document = a_sealed(texts)
    assert texts.is_found_by(document, PersonalField.EMAIL, " durand@EXAMPLE.org")
    assert texts.is_found_by(document, PersonalField.FILE_NAME, "DURAND.PDF")
    assert not texts.is_found_by(document, PersonalField.EMAIL, "other@example.org")
    assert not texts.is_found_by(replace(document, id=uuid4()), PersonalField.EMAIL, "durand@example.org")
