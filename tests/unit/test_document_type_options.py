"""What an operator may change about a document type."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domain.documents import DocumentType
from domain.events import AuditRecorded
from domain.refusals import OperatorBound, ParameterInvalid, TypeUnknown
from processors.operators.batches import Operator
from processors.operators.document_types import MEGABYTE, DocumentTypeOptions, TypeChange
from tests.support.memory import MemoryDatabase

ANNE = Operator(actor="p:anne")
RIB = DocumentType(
    code="RIB",
    label="Relevé",
    description="",
    allowed_formats=frozenset({"application/pdf"}),
    max_size_bytes=10 * MEGABYTE,
    active=True,
    archived=True,
)


@pytest.fixture
def database() -> MemoryDatabase:
    database = MemoryDatabase()
    database.rows.types["RIB"] = RIB
    return database


@pytest.fixture
def options(database: MemoryDatabase) -> DocumentTypeOptions:
    return DocumentTypeOptions(database, database.clock)


def lines(database: MemoryDatabase) -> list[AuditRecorded]:
    return [row for row in database.rows.outbox if isinstance(row, AuditRecorded)]


async def test_a_change_is_written_with_its_audit_line(database: MemoryDatabase, options: DocumentTypeOptions) -> None:
    change = TypeChange(
        formats=["image/jpg", "application/pdf", "image/jpeg"],
        max_megabytes=25,
        active=False,
        archived=False,
        retention_years=5,
        duties_separated="yes",
        erased_by_two="no",
    )
    found = await options.change(ANNE, "RIB", change, "INC-1", apply=True)
    after = replace(
        RIB,
        allowed_formats=frozenset({"image/jpeg", "application/pdf"}),
        max_size_bytes=25 * MEGABYTE,
        active=False,
        archived=False,
        retention_years=5,
        duties_separated=True,
        erased_by_two=False,
    )
    assert (found.before, found.after, database.rows.types["RIB"]) == (RIB, after, after)
    (line,) = lines(database)
    assert (line.entity_type, line.entity_id, line.action) == ("document_type", "RIB", "document_type.changed")
    assert (line.actor, line.tenant) == ("p:anne", "system")
    assert found.changes["max_mb"] == (10, 25)
    assert found.changes["formats"] == (["application/pdf"], ["application/pdf", "image/jpeg"])
    back = TypeChange(duties_separated="default", erased_by_two="default")
    again = await options.change(ANNE, "RIB", back, "INC-2", apply=True)
    assert again.changes == {"separation_of_duties": (True, None), "erasure_by_two": (False, None)}


async def test_a_dry_run_tells_and_changes_nothing(database: MemoryDatabase, options: DocumentTypeOptions) -> None:
    found = await options.change(ANNE, "RIB", TypeChange(max_megabytes=11), "INC-1", apply=False)
    assert found.changes == {"max_mb": (10, 11)}
    assert (database.rows.types["RIB"], lines(database)) == (RIB, [])


async def test_what_is_so_already_leaves_no_line(database: MemoryDatabase, options: DocumentTypeOptions) -> None:
    found = await options.change(ANNE, "RIB", TypeChange(max_megabytes=10, active=True), "INC-1", apply=True)
    assert (found.changes, lines(database)) == ({}, [])


@pytest.mark.parametrize(
    "change",
    [
        TypeChange(),
        TypeChange(formats=[]),
        TypeChange(formats=["pdf"]),
        TypeChange(formats=["application/pdf; charset=x"]),
        TypeChange(formats=["Application/PDF"]),
        TypeChange(formats=[f"application/x-{number}" for number in range(51)]),
        TypeChange(max_megabytes=0),
        TypeChange(max_megabytes=5_001),
        TypeChange(retention_years=0),
        TypeChange(retention_years=101),
        TypeChange(duties_separated="maybe"),
        TypeChange(erased_by_two=""),
    ],
)
async def test_what_no_type_can_be_is_refused(
    database: MemoryDatabase, options: DocumentTypeOptions, change: TypeChange
) -> None:
    with pytest.raises(ParameterInvalid):
        await options.change(ANNE, "RIB", change, "INC-1", apply=True)
    assert (database.rows.types["RIB"], lines(database)) == (RIB, [])


async def test_who_may_not_change_what(database: MemoryDatabase, options: DocumentTypeOptions) -> None:
    bound = Operator(actor="p:b", tenants=("acme",))
    with pytest.raises(OperatorBound):
        await options.change(bound, "RIB", TypeChange(max_megabytes=11), "INC-1", apply=True)
    with pytest.raises(TypeUnknown):
        await options.change(ANNE, "NOBODY", TypeChange(max_megabytes=11), "INC-1", apply=True)
    assert lines(database) == []
