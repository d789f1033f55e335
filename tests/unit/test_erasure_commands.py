"""What ``dpj erasure receipt`` and ``dpj purge`` say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from domain.retention import DueDocumentCount
from runtime.cli.erasure import _due_lines, _order_lines, _receipt_lines


def test_a_purge_is_a_table_and_says_what_was_done() -> None:
    oldest = datetime.now(UTC) - timedelta(days=3)
    due = [DueDocumentCount(tenant="acme", type_code="CNI", count=5, held=1, oldest=oldest)]
    lines = list(_due_lines(due, 0, apply=False))
    assert lines[0].split() == ["TENANT", "TYPE", "DUE", "HELD", "LONGEST", "DUE"]
    assert lines[1].split()[:4] == ["acme", "CNI", "5", "1"]
    assert lines[-1].startswith("Dry run")
    assert list(_due_lines(due, 4, apply=True))[-1] == "4 are being erased."
    assert list(_due_lines([], 0, apply=True)) == ["Nothing is due."]


def test_a_receipt_for_people_says_what_remains_and_until_when() -> None:
    said = {
        "document": {"id": "doc-1", "type": "CNI"},
        "completed_at": "2026-03-01",
        "request": {"by": "u-1", "reason": "T-1", "legal_basis": "COURT_ORDER"},
        "destroyed": [{"what": "content", "where": "object_store"}],
        "remains": [
            {"what": "events", "where": "kafka", "why": "because", "until": "2026-03-31T12:00"},
            {"what": "mails", "where": "mailbox", "why": "out of reach", "until": None},
        ],
    }
    lines = list(_receipt_lines(said))
    assert "  content (object_store)" in lines
    assert "  events (kafka) until 2026-03-31: because" in lines
    assert "  mails (mailbox): out of reach" in lines


def test_an_order_says_how_long_it_is_good_and_what_another_does() -> None:
    said = {"id": "o-1", "document_id": "d-1", "ordered_by": "u-1", "expires_at": "2026-03-01T12:00:00Z"}
    first, second, third = _order_lines(said)
    assert first.strip() == "by u-1, good until 2026-03-01T12:00 UTC"
    assert second.strip() == "another operator: dpj erasure confirm d-1 --order o-1"
    assert third.strip() == "take it back:     dpj erasure withdraw d-1 --order o-1"
