"""Whether a document goes on by itself: every state, with and without what is stopped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from domain.lifecycle import ERASURE_STATES, RESTING, Status
from domain.processing import ProcessingStatus, StoppedStep, processing_of
from tests.support.builders import NOW, a_document, a_dossier

UNDER_WAY, STOPPED, AT_REST = ProcessingStatus.UNDER_WAY, ProcessingStatus.STOPPED, ProcessingStatus.AT_REST


def stopped(step: str = "integrity", code: str | None = "event_undecodable", **changes: Any) -> StoppedStep:
    return StoppedStep(**{"step": step, "code": code, "since": NOW, **changes})


def now(status: Status, *steps: StoppedStep, **changes: Any) -> ProcessingStatus:
    return processing_of(a_document(a_dossier(), status, **changes), steps).status


@pytest.mark.parametrize("status", list(Status))
def test_a_document_of_which_nothing_is_stopped_rests_where_its_state_is_one_to_stay_in(status: Status) -> None:
    assert now(status, archive_planned=True) is (AT_REST if status in RESTING else UNDER_WAY)


def test_a_validated_document_that_is_not_archived_rests() -> None:
    assert now(Status.VALIDATED, archive_planned=False) is AT_REST
    assert now(Status.VALIDATED, archive_planned=None) is UNDER_WAY


@pytest.mark.parametrize("status", list(Status))
def test_integrity_stops_a_document_only_while_it_is_not_verified(status: Status) -> None:
    found = now(status, stopped(), archive_planned=True)
    assert (found is STOPPED) is (status is Status.STORED)


@pytest.mark.parametrize(
    ("status", "planned", "stops"),
    [
        (Status.STORED, None, True),  # its plan is missing
        (Status.VERIFIED, True, False),  # a stray copy: planned it is
        (Status.VALIDATED, True, True),
        (Status.ARCHIVE_FAILED, True, True),
        (Status.ARCHIVED, True, False),
        (Status.ARCHIVED, None, False),
        (Status.REJECTED, None, False),
    ],
)
def test_archiving_stops_what_it_has_still_to_do(status: Status, planned: bool | None, stops: bool) -> None:
    assert (now(status, stopped("archiving"), archive_planned=planned) is STOPPED) is stops


def test_a_mail_and_a_thumbnail_are_told_whatever_the_state_and_nothing_of_an_erased_document_is() -> None:
    for step in ("notification", "renditions"):
        assert now(Status.ARCHIVED, stopped(step)) is STOPPED
        for status in ERASURE_STATES:
            assert now(status, stopped(step)) is not STOPPED


def test_what_an_operator_discarded_stops_only_what_can_go_nowhere_else() -> None:
    assert now(Status.STORED, stopped(settled=True)) is STOPPED
    assert now(Status.VALIDATED, stopped("archiving", settled=True), archive_planned=True) is STOPPED
    assert now(Status.ARCHIVE_FAILED, stopped("archiving", settled=True), archive_planned=True) is AT_REST
    assert now(Status.ARCHIVED, stopped("notification", settled=True)) is AT_REST


def test_the_first_step_of_the_pipeline_is_told_since_it_stopped() -> None:
    document = a_document(a_dossier(), Status.STORED)
    later = NOW + timedelta(hours=1)
    steps = [stopped("notification", "mail_refused"), stopped(since=later), stopped("archiving", since=later)]
    found = processing_of(document, steps)
    assert (found.status, found.step, found.code, found.since) == (STOPPED, "integrity", "event_undecodable", later)


@pytest.mark.parametrize("code", [None, "MSG_SIZE_TOO_LARGE", "stranger.example", "unknown"])
def test_a_code_that_is_not_of_our_table_is_not_shown(code: str | None) -> None:
    assert processing_of(a_document(a_dossier(), Status.STORED), [stopped(code=code)]).code == "unknown"


def test_what_a_stranger_calls_himself_is_no_step() -> None:
    assert now(Status.VERIFIED, stopped("test-0123")) is AT_REST
