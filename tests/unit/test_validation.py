"""Decisions: at once on VERIFIED, on record on STORED, refused elsewhere; never across tenants."""

from dataclasses import asdict
from functools import partial
from uuid import uuid4

import pytest

from domain.documents import Role
from domain.events import DocumentRejected, DocumentUploaded, DocumentValidated
from domain.lifecycle import Status
from domain.refusals import DocumentNotFound, MetadataInvalid, TransitionRefused
from processors.documents.personal_texts import PersonalTexts
from processors.documents.validation import Validation
from processors.events.integrity import IntegrityProcessor
from tests.support.fakes_intake import IntakeBench


def validator(bench: IntakeBench, **changes: str):
    return bench.caller(Role.VALIDATOR, **{"subject": "v1", **changes})


async def test_validating_a_verified_document_takes_effect_at_once(bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    decided = await bench.validation.validate(validator(bench), document.id, "  fine ")
    assert (decided.pending, decided.document.status) == (False, Status.VALIDATED)
    row = bench.database.rows.documents[document.id]
    assert (row.rejection_reason, row.decided_at) == (None, bench.clock.at)
    assert bench.texts.opened_note(row, row.validation_comment) == "fine"
    assert "fine" not in str(asdict(row))
    assert row.validator_id not in {None, "v1", row.depositor_id}
    event = bench.events()[-1]
    assert isinstance(event, DocumentValidated)
    assert (event.validator, event.comment_code) == (row.validator_id, "NOTED")
    assert bench.audited()[-1].action == "document.validated"
    assert "fine" not in repr(bench.database.rows.outbox)


async def test_rejecting_keeps_the_reason(bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    decided = await bench.validation.reject(validator(bench), document.id, "unreadable")
    assert decided.document.status is Status.REJECTED
    row = bench.database.rows.documents[document.id]
    assert bench.texts.opened_note(row, row.rejection_reason) == "unreadable"
    assert "unreadable" not in str(asdict(row))
    assert isinstance(bench.events()[-1], DocumentRejected)


async def test_a_decision_on_a_stored_document_waits_for_its_verification(bench: IntakeBench) -> None:
    document = await bench.stored()
    decided = await bench.validation.validate(validator(bench), document.id, None)
    assert (decided.pending, decided.document.status) == (True, Status.STORED)
    assert bench.audited()[-1].action == "document.decision.recorded"
    assert bench.database.rows.timeline[-1].type == "DECISION_RECORDED"
    (uploaded,) = bench.events()
    assert isinstance(uploaded, DocumentUploaded)
    processor = IntegrityProcessor(bench.database, bench.content, bench.clock)
    commit = await processor.process(uploaded)
    async with bench.database.transaction() as work:
        await commit(work)
    row = bench.database.rows.documents[document.id]
    assert (row.status, row.pending_decision) == (Status.VALIDATED, None)
    assert row.validator_id == decided.document.pending_decision.actor


async def test_the_same_decision_again_changes_nothing(bench: IntakeBench) -> None:
    document = await bench.stored()
    await bench.validation.reject(validator(bench), document.id, "why")
    before = bench.database.rows
    again = await bench.validation.reject(validator(bench), document.id, "why")
    assert again.pending
    assert bench.database.rows == before


@pytest.mark.parametrize("other", ["validate", "reason", "person"])
async def test_a_different_decision_while_one_waits_is_refused(bench: IntakeBench, other: str) -> None:
    document = await bench.stored()
    await bench.validation.reject(validator(bench), document.id, "why")
    calls = {
        "validate": partial(bench.validation.validate, validator(bench), document.id, None),
        "reason": partial(bench.validation.reject, validator(bench), document.id, "because"),
        "person": partial(bench.validation.reject, validator(bench, subject="v2"), document.id, "why"),
    }
    with pytest.raises(TransitionRefused):
        await calls[other]()


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.STORED, Status.VERIFIED}, key=lambda one: one.value))
async def test_other_states_refuse(bench: IntakeBench, status: Status) -> None:
    document = await bench.stored(status)
    error = DocumentNotFound if status in {Status.PENDING, Status.ABANDONED} else TransitionRefused
    written = list(bench.database.rows.outbox)
    with pytest.raises(error):
        await bench.validation.validate(validator(bench), document.id, None)
    with pytest.raises(error):
        await bench.validation.reject(validator(bench), document.id, "why")
    assert bench.database.rows.outbox == written


async def test_an_erased_document_has_no_decision_where_all_texts_are_sealed(bench: IntakeBench) -> None:
    document = await bench.stored(Status.ERASED, personal_key=None)
    texts = PersonalTexts(bench.columns, bench.personal, sealed_only=True)
    validation = Validation(bench.database, bench.personal, texts, bench.clock)
    with pytest.raises(TransitionRefused):
        await validation.reject(validator(bench), document.id, "why")


async def test_another_tenants_document_does_not_exist(bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    for caller in (validator(bench, tenant="other"), bench.caller(Role.VALIDATOR, Role.OPERATOR, tenant="other")):
        with pytest.raises(DocumentNotFound):
            await bench.validation.validate(caller, document.id, None)
    with pytest.raises(DocumentNotFound):
        await bench.validation.validate(validator(bench), uuid4(), None)


async def test_notes_are_bounded_and_reasons_are_not_blank(bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    with pytest.raises(MetadataInvalid):
        await bench.validation.reject(validator(bench), document.id, " \n")
    with pytest.raises(MetadataInvalid):
        await bench.validation.validate(validator(bench), document.id, "x" * 2001)
