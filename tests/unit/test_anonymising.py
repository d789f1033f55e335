"""What an anonymised line keeps, and that nothing else gets through."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from crypto.export_pseudonyms import ExportPseudonyms
from domain.anonymising import DETAILS, ENTITIES, Anonymiser, DocumentRow, Sizes, TimelineRow, Times
from domain.audit_chain import entry_of, genesis
from tests.support.audit_lines import a_line

AT = datetime(2026, 3, 1, 23, 59, 58, 123456, tzinfo=UTC)
SHIFT = timedelta(days=100, seconds=17)


def anonymiser(
    pseudonyms: ExportPseudonyms | None = None, times: Times = Times.DAY, sizes: Sizes = Sizes.EXACT
) -> Anonymiser:
    return Anonymiser(pseudonyms or ExportPseudonyms(), frozenset({"CNI", "RIB"}), times, sizes, SHIFT)


def a_row(**changes: Any) -> DocumentRow:
    base: dict[str, Any] = {
        "id": uuid4(),
        "dossier_id": uuid4(),
        "client": "C-77",
        "parent_id": None,
        "type_code": "CNI",
        "version": 1,
        "status": "ARCHIVED",
        "mandatory": True,
        "language": "fr",
        "depositor": "a" * 32,
        "validator": None,
        "mime_type": "application/pdf",
        "size": 123_456,
        "archive_planned": True,
        "retention_years": 10,
        "failure_code": None,
        "thumbnail_note": None,
        "events": 4,
        "times": {"created_at": AT, "archived_at": None},
    }
    return DocumentRow(**{**base, **changes})


def audited(**changes: Any) -> dict[str, Any]:
    return anonymiser().audit(entry_of(a_line(**changes), genesis("acme")).fields())


def test_facts_are_kept_and_persons_and_ids_replaced() -> None:
    row = a_row(parent_id=uuid4(), validator="b" * 32)
    line = anonymiser().document(row)
    assert (line["type"], line["status"], line["size"], line["media_type"]) == (
        "CNI",
        "ARCHIVED",
        123_456,
        "application/pdf",
    )
    assert (line["created_at"], line["archived_at"]) == ("2026-03-01", None)
    text = json.dumps(line)
    for secret in (row.id, row.dossier_id, row.parent_id, "C-77", "a" * 32, "b" * 32):
        assert str(secret) not in text
    assert UUID(line["document"]).version == 4


def test_one_thing_has_one_name_in_an_export_and_another_in_the_next() -> None:
    first, second = ExportPseudonyms(), ExportPseudonyms()
    row, neighbour = a_row(), a_row(client="C-78")
    one, again, other = (anonymiser(key).document(row) for key in (first, first, second))
    assert one == again
    for name in ("document", "dossier", "client", "depositor"):
        assert one[name] != other[name]
    assert anonymiser(first).document(neighbour)["client"] != one["client"]
    entry = TimelineRow(document_id=row.id, rank=7, type="STORED", actor="a" * 32, at=AT, details={})
    timeline = anonymiser(first).timeline(entry, 1)
    assert (timeline["document"], timeline["actor"]) == (one["document"], one["depositor"])
    said = entry_of(a_line(entity_id=str(row.id), actor="a" * 32), genesis("acme")).fields()
    audit = anonymiser(first).audit(said)
    assert (audit["entity"], audit["actor"]) == (one["document"], one["depositor"])


def test_a_key_that_is_gone_makes_nothing_any_more() -> None:
    with ExportPseudonyms() as pseudonyms:
        assert len(pseudonyms.name("actor", "x")) == 32
        assert pseudonyms.name("actor", "x") != pseudonyms.name("client", "x")
    for make in (lambda: pseudonyms.name("actor", "x"), lambda: pseudonyms.id(uuid4())):
        with pytest.raises(ValueError, match="gone"):
            make()


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        (Times.DAY, "2026-03-01"),
        (Times.SHIFTED, "2025-11-21T23:59:41.123+00:00"),
        (Times.EXACT, "2026-03-01T23:59:58.123+00:00"),
    ],
)
def test_times(times: Times, shown: str) -> None:
    assert anonymiser(times=times).document(a_row())["created_at"] == shown


@pytest.mark.parametrize(("size", "rounded"), [(0, 0), (7, 7), (99, 99), (149, 150), (123_456, 120_000), (None, None)])
def test_rounded_sizes(size: int | None, rounded: int | None) -> None:
    line = anonymiser(sizes=Sizes.ROUNDED).document(a_row(size=size))
    assert line["size"] == rounded
    if size is not None:
        entry = TimelineRow(document_id=uuid4(), rank=1, type="STORED", actor="x", at=AT, details={"size": str(size)})
        assert anonymiser(sizes=Sizes.ROUNDED).timeline(entry, 1)["details"]["size"] == rounded


def test_parts_of_the_system_keep_their_names_and_links_say_that_they_are() -> None:
    link = str(uuid4())
    assert audited(actor="system:integrity")["actor"] == "system:integrity"
    used = audited(actor=f"link:{link}")["actor"]
    assert used.startswith("link:")
    assert link not in used
    for disguised in ("system:marie@example.org", "system:", "SYSTEM:x"):
        assert disguised not in audited(actor=disguised)["actor"]


@pytest.mark.parametrize(
    "details",
    [
        {"reason": "DURAND-1"},
        {"reference": "CASE-DURAND"},
        {"purpose": "for-durand"},
        {"size": "durand"},
        {"size": 1.5},
        {"size": "9" * 40},
        {"mime_type": "application/pdf; name=durand"},
        {"status": "DURAND"},
        {"code": "durand"},
        {"type": "DURAND"},
        {"legal_basis": ["DURAND"]},
        {"thumbnail-256": "durand"},
        {"ged_path": "/dpj/durand"},
        {"sha256": "durand"},
        {"durand": 1},
        {"size": {"durand": 1}},
    ],
)
def test_a_detail_goes_over_only_if_it_is_known_and_has_its_form(details: dict[str, Any]) -> None:
    line = audited(details=json.dumps(details), old_state='{"status":"DURAND"}', new_state='{"durand":1}')
    assert line["details"] == {}
    assert "urand" not in json.dumps(line).lower()


def test_known_details_go_over() -> None:
    details = {
        "size": "12",
        "count": 3,
        "mime_type": "image/png",
        "status": "STORED",
        "comment": "NOTED",
        "antivirus": "clean",
        "legal_basis": "COURT_ORDER",
        "code": "integrity_mismatch",
        "consumer": "archiving",
        "role": "thumbnail-256",
        "thumbnail-1024": "1024x768",
        "type": "RIB",
    }
    assert details.keys() - {"type"} <= DETAILS.keys()
    assert audited(details=json.dumps(details))["details"] == {**details, "size": 12}


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        (Sizes.EXACT, {"size": 123_457, "start": "100000", "end": "123457"}),
        (Sizes.ROUNDED, {"size": 120_000}),
    ],
)
def test_rounded_sizes_are_not_told_by_the_ranges_that_were_read(sizes: Sizes, shown: dict[str, Any]) -> None:
    details = json.dumps({"start": "100000", "end": "123457", "size": "123457"})
    said = entry_of(a_line(details=details), genesis("acme")).fields()
    line = anonymiser(sizes=sizes).audit(said)
    assert line["details"] == shown
    assert ("12345" in json.dumps(line)) is (sizes is Sizes.EXACT)


@pytest.mark.parametrize("details", ["", "no json", "[1]", "null", '"durand"', "[" * 100_000])
def test_details_that_are_no_object_are_none(details: str) -> None:
    assert audited(details=details)["details"] == {}


def test_hashes_numbers_and_sealed_fields_stay_out() -> None:
    entry = entry_of(a_line(ip_sealed="s1.aa.bb", user_agent_sealed="p1.cc.dd"), genesis("acme"))
    text = json.dumps(anonymiser().audit(entry.fields()))
    said = entry.fields()
    for name in ("prev", "event_id", "correlation_id", "entity_id", "ip_sealed", "user_agent_sealed", "tenant"):
        assert said[name] not in text, name


def test_what_has_no_known_form_is_left_out() -> None:
    row = a_row(type_code="DURAND", status="DURAND", language="du", mime_type="durand", failure_code="durand")
    line = anonymiser().document(row)
    assert [line[name] for name in ("type", "status", "language", "media_type", "failure_code")] == [None] * 5
    entry = TimelineRow(document_id=row.id, rank=1, type="durand", actor="x", at=AT, details={})
    assert anonymiser().timeline(entry, 1)["type"] is None
    shown = audited(action="Durand was here", entity_type="Durand", entity_id="Durand")
    assert (shown["action"], shown["entity_type"]) == (None, None)
    assert "urand" not in json.dumps(shown)
    shown = audited(action="durand.read", entity_type="durand")
    assert (shown["action"], shown["entity_type"]) == (None, None)


def test_every_kind_of_line_that_is_written_is_known() -> None:
    """Or an export would leave out what it might tell."""
    root = Path(__file__).resolve().parents[2]
    sources = "".join(
        path.read_text("utf-8") for part in ("processors", "operations") for path in (root / part).rglob("*.py")
    )
    lines = re.findall(r'(?<!_)audit_line\(.*?\n?.*?"([a-z_]+)"', sources)
    entities = set(lines) | set(re.findall(r'entity = \("([a-z_]+)"', sources))
    assert {"document", "dossier", "token", "key", "export", "dead_letter"} <= entities
    assert entities <= ENTITIES
