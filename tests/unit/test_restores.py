"""What the audit log tells of a document, held against its row after a restore."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.lifecycle import Status
from domain.restores import (
    Difference,
    DocumentHistory,
    OpenRestore,
    RecordedAct,
    RestoredRow,
    RestoredStore,
    differences,
)
from tests.support.builders import NOW

DOCUMENT = UUID(int=7)
SHA256 = "ab" * 32


def act(action: str, sequence: int = 1, *, seconds: int | None = None, **details: Any) -> RecordedAct:
    at = NOW + timedelta(seconds=sequence if seconds is None else seconds)
    return RecordedAct(
        event_id=uuid4(),
        seq=sequence,
        sequence=sequence,
        at=at,
        action=f"document.{action}",
        actor="u-1",
        correlation_id=uuid4(),
        details=details,
    )


def history(*acts: RecordedAct) -> DocumentHistory:
    return DocumentHistory(DOCUMENT, "acme", acts)


def row(status: Status = Status.ARCHIVED, **changes: Any) -> RestoredRow:
    base: dict[str, Any] = {"document_id": DOCUMENT, "tenant": "acme", "sequence": 8, "expires_at": None}
    return RestoredRow(status=status, **{**base, **changes})


STORED = act("stored", 2, sha256=SHA256, size=5)
ARCHIVED = act("archived", 8, sha256="cd" * 32)
ERASING = act("erasing", 9, reason="T-1", legal_basis="COURT_ORDER")
HOLD = act("legal_hold.set", 0, seconds=20, reference="CASE-1", reason="LITIGATION")
LIFTED = act("legal_hold.lifted", 0, seconds=30, reference="CASE-1")
UNTIL = act("retention.extended", 0, seconds=25, until="2090-01-01T00:00:00+00:00")


@pytest.mark.parametrize(
    ("acts", "found", "kinds"),
    [
        ([STORED], None, [Difference.DOCUMENT_LOST]),
        ([STORED], row(Status.PENDING), [Difference.DOCUMENT_LOST]),
        ([STORED], row(Status.ABANDONED), [Difference.DOCUMENT_LOST]),
        ([STORED], row(tenant="other"), [Difference.DOCUMENT_LOST]),
        ([STORED, ARCHIVED], None, [Difference.ARCHIVED_WITHOUT_ROW]),
        ([STORED, ARCHIVED, ERASING], None, [Difference.ERASURE_WITHOUT_ROW]),
        ([STORED, ERASING, act("erased", 10)], None, []),
        ([HOLD], None, []),
        ([STORED, ERASING], row(), [Difference.ERASURE_UNDONE]),
        ([STORED, HOLD, ERASING, act("erased", 10)], row(Status.VERIFIED), [Difference.ERASURE_UNDONE]),
        ([STORED, ERASING], row(Status.ERASING), []),
        ([STORED, ERASING], row(Status.ERASED), []),
        ([STORED, HOLD], row(), [Difference.HOLD_LOST]),
        ([STORED, HOLD], row(holds={"CASE-1": HOLD.at}), []),
        ([STORED, HOLD], row(holds={"CASE-1": HOLD.at - timedelta(seconds=9)}), [Difference.HOLD_LOST]),
        ([STORED, HOLD], row(holds={"CASE-2": HOLD.at}), [Difference.HOLD_LOST]),
        ([STORED, HOLD], row(Status.ERASED), []),
        ([STORED, HOLD, LIFTED], row(), []),
        ([STORED, LIFTED, act("legal_hold.set", 0)], row(), []),
        ([STORED, UNTIL], row(), [Difference.RETENTION_LOST]),
        ([STORED, UNTIL], row(expires_at=NOW), [Difference.RETENTION_LOST]),
        ([STORED, UNTIL], row(expires_at=NOW.replace(year=2091)), []),
        ([STORED, act("retention.extended", 0, until="soon")], row(), []),
        ([STORED, act("retention.extended", 0, until="2090-01-01")], row(), []),
        ([STORED, act("rejected", 9)], row(Status.VERIFIED), [Difference.DECISION_LOST]),
        ([STORED, act("validated", 9)], row(Status.STORED), [Difference.DECISION_LOST]),
        ([STORED, act("validated", 9)], row(Status.VALIDATED), []),
        ([STORED, act("validated", 8)], row(Status.VERIFIED), []),
    ],
)
def test_differences(acts: list[RecordedAct], found: RestoredRow | None, kinds: list[Difference]) -> None:
    assert list(differences(history(*acts), found)) == kinds


def test_the_sha256_is_that_of_the_deposit_then_of_the_archiving() -> None:
    assert history(STORED, ARCHIVED).sha256 == SHA256
    assert history(act("stored", 2), ARCHIVED).sha256 == "cd" * 32
    assert history(act("stored", 2, sha256=7)).sha256 is None
    assert act("stored", size=True).number("size") is None


def test_mails_of_what_the_row_has_forgotten() -> None:
    whole = history(STORED, act("verified", 4), act("validated", 6), ARCHIVED, HOLD)
    assert list(whole.mails_after(None)) == ["receipt", "validated", "archived"]
    assert list(whole.mails_after(row(Status.PENDING))) == ["receipt", "validated", "archived"]
    assert list(whole.mails_after(row(Status.VERIFIED, sequence=4))) == ["validated", "archived"]
    assert list(whole.mails_after(row())) == []


def test_only_a_restored_database_keeps_documents_from_being_served() -> None:
    def opened(store: RestoredStore, **changes: Any) -> OpenRestore:
        return OpenRestore(store=store, opened_at=NOW, opened_by="u", reason="R", **changes)

    assert opened(RestoredStore.POSTGRESQL).keeps_from_serving
    assert not opened(RestoredStore.POSTGRESQL, erasures_done_at=NOW).keeps_from_serving
    assert not opened(RestoredStore.MONGODB).keeps_from_serving
