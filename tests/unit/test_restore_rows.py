"""An archived document whose row is gone gets it again, content and all, out of the GED and the audit log; or is named with the reason."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.archive import GedDocument
from domain.documents import Document
from domain.errors import DatabaseUnavailable, GedUnavailable
from domain.events import DocumentVerified
from domain.lifecycle import Status
from domain.restores import DocumentHistory, RecordedAct
from domain.subjects import Subject, SubjectKey
from processors.events.archive_copies import location
from processors.restore.rows import NotRebuildable, RowsFromGed, archived_facts
from tests.support.builders import NOW, a_document
from tests.support.fakes_archiving import MemoryGed, MemoryGedObject
from tests.support.fakes_content import collect
from tests.support.fakes_intake import PDF, IntakeBench
from tests.unit.test_restores import act

SHA256 = hashlib.sha256(PDF).hexdigest()


class Bench(IntakeBench):
    """A document that is in the GED and in the log, and nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.ged = MemoryGed()
        self.id = uuid4()
        self.rows = RowsFromGed(self.database, self.ged, self.content, self.texts, self.personal, self.clock, "u-op")
        folder, name = location(a_document(self.dossier, id=self.id, mime_type="application/pdf"))
        self.path = (*folder, name)
        self.ged_id = self.put_into_ged(f"DPJ {self.id} sha256={SHA256}")
        stored = {"size": len(PDF), "mime_type": "application/pdf", "type": "CNI", "sha256": SHA256}
        archived = {
            "ged_id": self.ged_id,
            "ged_path": "/" + "/".join(self.path),
            "retention_years": 10,
            "sha256": SHA256,
            "size": len(PDF),
        }
        self.acts = {
            "stored": act("stored", 2, **stored),
            "verified": act("verified", 4),
            "validated": act("validated", 6),
            "archived": act("archived", 8, **archived),
        }

    def put_into_ged(self, description: str) -> str:
        document = GedDocument(name="x", mime_type="application/pdf", description=description, size=len(PDF))
        held = MemoryGedObject(uuid4().hex, PDF, document)
        self.ged.objects.append((self.path, held))
        return held.id

    @property
    def history(self) -> DocumentHistory:
        return DocumentHistory(self.id, "acme", tuple(self.acts.values()))

    def without(self, name: str, *fields: str, **changes: Any) -> None:
        one: RecordedAct = self.acts[name]
        details = {key: value for key, value in one.details.items() if key not in fields}
        self.acts[name] = replace(one, details=details | changes)

    @property
    def row(self) -> Document:
        return self.database.rows.documents[self.id]

    async def refused(self) -> str:
        with pytest.raises(NotRebuildable) as raised:
            await self.rows.rebuild(self.history)
        assert self.objects.objects == {}
        assert self.database.rows.outbox == []
        return str(raised.value)


async def test_row_content_timeline_and_line_are_there_again() -> None:
    bench = Bench()
    assert await bench.rows.rebuild(bench.history)
    row = bench.row
    assert (row.status, row.sha256, row.size, row.sequence) == (Status.ARCHIVED, SHA256, len(PDF), 8)
    assert (row.tenant, row.dossier_id, row.type_code, row.ged_id) == ("acme", bench.dossier.id, "CNI", bench.ged_id)
    assert (row.depositor_id, row.validator_id) == ("u-1", "u-1")
    archived = bench.acts["archived"].at
    assert (row.archived_at, row.expires_at) == (archived, archived.replace(year=archived.year + 10))
    assert await collect(bench.content.read(row)) == PDF
    shown = bench.texts.shown(row)
    assert shown.texts.file_name == f"{bench.id}.pdf"
    assert bench.texts.email(row) == ""
    assert [entry.type for entry in bench.database.rows.timeline] == ["STORED", "VERIFIED", "VALIDATED", "ARCHIVED"]
    (event,) = bench.database.events()
    assert isinstance(event, DocumentVerified)
    assert (event.object_key, event.sequence) == (row.object_key, 0)
    (line,) = bench.database.audited()
    assert (line.action, line.entity_id) == ("document.row_restored", str(bench.id))
    assert bench.database.rows.subject_keys[Subject("acme", bench.id)].wrapped


async def test_a_row_is_made_once() -> None:
    bench = Bench()
    await bench.rows.rebuild(bench.history)
    rows, objects = bench.database.rows, dict(bench.objects.objects)
    assert not await bench.rows.rebuild(bench.history)
    assert (bench.database.rows.documents, bench.objects.objects) == (rows.documents, objects)


async def test_an_extended_retention_holds() -> None:
    bench = Bench()
    bench.acts["extended"] = act("retention.extended", 0, until="2090-01-01T00:00:00+00:00")
    await bench.rows.rebuild(bench.history)
    assert bench.row.expires_at == NOW.replace(year=2090, month=1, day=1, hour=0)


async def test_a_dossier_that_is_gone_comes_back_under_its_id() -> None:
    bench = Bench()
    bench.database.rows.dossiers.clear()
    await bench.rows.rebuild(bench.history)
    dossier = bench.database.rows.dossiers[bench.dossier.id]
    assert (dossier.number, dossier.client_id) == (f"RESTORED-{bench.dossier.id}", "RESTORED")


async def test_an_upload_that_was_under_way_at_the_backup_becomes_the_document_that_it_was() -> None:
    bench = Bench()
    bench.database.put(a_document(bench.dossier, Status.PENDING, id=bench.id))
    assert await bench.rows.rebuild(bench.history)
    assert await collect(bench.content.read(bench.row)) == PDF


@pytest.mark.parametrize(
    ("name", "fields", "changes", "why"),
    [
        ("archived", ("sha256",), {}, "does not say its SHA-256"),
        ("archived", (), {"sha256": "XYZ"}, "does not say its SHA-256"),
        ("archived", ("size",), {}, "does not say its SHA-256"),
        ("archived", ("ged_path",), {}, "which dossier"),
        ("archived", (), {"ged_path": f"/dpj/acme/2026/{uuid4()}/{uuid4()}.pdf"}, "which dossier"),
        ("archived", ("retention_years",), {}, "its type, its retention"),
        ("archived", ("ged_id",), {}, "its type, its retention"),
        ("stored", ("mime_type",), {}, "its type, its retention"),
        ("stored", (), {"type": "GONE"}, "no document type GONE"),
        ("archived", (), {"sha256": "ab" * 32}, "not what was archived"),
        ("archived", (), {"size": 7}, "not what was archived"),
        ("archived", (), {"ged_id": "another"}, "does not have it under the id"),
    ],
)
async def test_what_cannot_be_made_again_is_told(name: str, fields: tuple[str, ...], changes: Any, why: str) -> None:
    bench = Bench()
    bench.without(name, *fields, **changes)
    assert why in await bench.refused()


async def test_a_log_that_does_not_know_how_it_came() -> None:
    bench = Bench()
    del bench.acts["stored"]
    with pytest.raises(NotRebuildable, match="taken in"):
        archived_facts(bench.history)


async def test_a_copy_that_says_that_it_is_another_document() -> None:
    bench = Bench()
    bench.without("archived", ged_id=bench.put_into_ged(f"DPJ {UUID(int=5)}"))
    assert "under the id" in await bench.refused()


async def test_a_document_of_another_tenant_is_left_alone() -> None:
    bench = Bench()
    bench.database.put(a_document(bench.dossier, id=bench.id, tenant="other"))
    assert "another tenant" in await bench.refused()


async def test_what_was_erased_is_not_made_again() -> None:
    bench = Bench()
    bench.database.rows.subject_keys[Subject("acme", bench.id)] = SubjectKey(None, NOW)
    assert "erased" in await bench.refused()


async def test_a_row_that_somebody_made_meanwhile_stays() -> None:
    bench = Bench()
    other = a_document(bench.dossier, id=bench.id)
    described = bench.ged.description_of

    async def meanwhile(object_id: str) -> str | None:
        bench.database.put(other)
        return await described(object_id)

    bench.ged.description_of = meanwhile  # type: ignore[method-assign]
    assert "meanwhile" in await bench.refused()
    assert bench.row == other


async def test_a_commit_whose_answer_was_lost_keeps_its_object() -> None:
    bench = Bench()
    bench.database.faults = [None, "lost"]
    with pytest.raises(DatabaseUnavailable):
        await bench.rows.rebuild(bench.history)
    assert await collect(bench.content.read(bench.row)) == PDF
    assert not await bench.rows.rebuild(bench.history)


async def test_cut_off_before_its_commit_the_next_try_makes_it() -> None:
    bench = Bench()
    bench.database.faults = [None, "rollback"]
    with pytest.raises(DatabaseUnavailable):
        await bench.rows.rebuild(bench.history)
    assert bench.database.rows.documents == {}
    assert await bench.rows.rebuild(bench.history)
    assert await collect(bench.content.read(bench.row)) == PDF


async def test_a_ged_that_goes_away_leaves_nothing() -> None:
    bench = Bench()

    async def cut(_: str) -> AsyncIterator[bytes]:
        yield PDF[:10]
        raise GedUnavailable

    bench.ged.read = cut  # type: ignore[method-assign]
    with pytest.raises(GedUnavailable):
        await bench.rows.rebuild(bench.history)
    assert (bench.objects.objects, bench.database.rows.documents) == ({}, {})


async def test_without_a_decision_on_record_nobody_decided() -> None:
    bench = Bench()
    del bench.acts["validated"]
    await bench.rows.rebuild(bench.history)
    assert (bench.row.validator_id, bench.row.decided_at) == (None, None)
