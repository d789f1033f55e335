"""While a restore is being looked at nothing is deleted: every deletion of ours refuses, and says so."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from domain.documents import Role
from domain.errors import RestoreUnderWay
from domain.lifecycle import Status
from domain.reconciliation import DiscrepancyKind
from ingest_api.route_authorization import ACCESS, OF_DOCUMENTS
from processors.events.archive_copies import CopyRemover
from processors.operators.keys import KeyAdministration
from processors.operators.personal_text_keys import PersonalKeyAdministration
from processors.reconcile.erased import ErasedDocumentsCheck
from processors.reconcile.object_store import check_stored_objects
from processors.reconcile.run import Reconciliation, RepairMode
from processors.reconcile.uploads import check_expired_uploads
from processors.retention.erasure_request import ErasureRequests
from processors.retention.purge import Purge
from tests.support.api import a_client, an_app, assert_problem, bearer, post_document
from tests.support.fakes_intake import IntakeBench
from tests.support.fakes_reconcile import GRACE, ReconcileBench
from tests.unit import test_purge
from tests.unit.test_reconcile_erased import Facts


class Gate:
    """Open for ``calls`` more, then a restore is under way."""

    def __init__(self, calls: int = 0) -> None:
        self.calls = calls
        self.asked = 0

    async def __call__(self) -> None:
        self.asked += 1
        if self.asked > self.calls:
            raise RestoreUnderWay


async def test_no_purge() -> None:
    bench = test_purge.Bench()
    document = bench.add(1)
    purge = Purge(bench.database, bench.due, bench.clock, may_delete=Gate())
    with pytest.raises(RestoreUnderWay):
        await purge.run(per_second=100)
    assert bench.status(document) is Status.ARCHIVED


async def test_no_erasure_on_request() -> None:
    bench = IntakeBench()
    document = await bench.stored()
    requests = ErasureRequests(bench.database, bench.personal, bench.clock, may_delete=Gate())
    with pytest.raises(RestoreUnderWay):
        await requests.request(bench.caller(Role.OPERATOR), document.id, "T-1", None)
    with pytest.raises(RestoreUnderWay):
        await requests.confirm(bench.caller(Role.OPERATOR), document.id, uuid4())
    assert bench.database.rows.documents[document.id].status is Status.STORED


def a_reconciliation(bench: ReconcileBench, may_delete: Gate, recheck: Gate) -> Reconciliation:
    parts: Any = {"uploads": check_expired_uploads, "objects": check_stored_objects}
    return Reconciliation(
        bench.database,
        bench.inventory,
        bench.objects,
        bench.clock,
        parts,
        grace_seconds=GRACE,
        may_delete=may_delete,
        recheck=recheck,
    )


@pytest.mark.parametrize("repairs", [RepairMode.SAFE, RepairMode.ALL])
async def test_reconciling_repairs_nothing_and_tells_all(repairs: RepairMode) -> None:
    bench = ReconcileBench()
    left = bench.add(Status.ERASED)
    key = left.object_key
    bench.put(key)
    reconcile = a_reconciliation(bench, Gate(), Gate(99))
    with pytest.raises(RestoreUnderWay):
        await reconcile.run(repairs)
    assert key in bench.objects.objects
    report = await reconcile.run(RepairMode.NONE)
    assert report.found[DiscrepancyKind.LEFT_OBJECT] == 1


async def test_a_restore_that_is_opened_under_way_ends_the_repairs() -> None:
    bench = ReconcileBench()
    keys = []
    for _ in range(3):
        keys.append(bench.add(Status.ERASED).object_key)
        bench.put(keys[-1])
    with pytest.raises(RestoreUnderWay):
        await a_reconciliation(bench, Gate(9), Gate(2)).run(RepairMode.SAFE)
    assert sum(key in bench.objects.objects for key in keys) == 2
    bench = ReconcileBench()
    pending = bench.add(Status.PENDING)
    bench.clock.move(120)
    with pytest.raises(RestoreUnderWay):
        await a_reconciliation(bench, Gate(9), Gate()).run(RepairMode.SAFE)
    assert bench.database.rows.documents[pending.id].status is Status.PENDING


async def test_objects_of_what_was_erased_are_deleted_where_they_are_asked_for() -> None:
    bench = ReconcileBench()
    erased = bench.add(Status.ERASED)
    other = bench.add(Status.ARCHIVED)
    for key in (erased.object_key, f"{erased.object_key}.thumbnail-256.aa"):
        bench.put(key)
    remover = CopyRemover(bench.database, bench.ged)
    part = ErasedDocumentsCheck(bench.ged, remover, Facts(), hours=24, objects=bench.objects)
    reconcile = Reconciliation(
        bench.database, bench.inventory, bench.objects, bench.clock, {"erased": part}, grace_seconds=GRACE
    )
    assert (await reconcile.run(RepairMode.NONE)).found[DiscrepancyKind.ERASED_OBJECT] == 1
    report = await reconcile.run(RepairMode.SAFE)
    assert report.repaired[DiscrepancyKind.ERASED_OBJECT] == 1
    assert list(bench.objects.objects) == [other.object_key]
    assert (await reconcile.run(RepairMode.NONE)).is_clean


async def test_no_key_is_made_useless(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, called = Gate(), list[str]()

    class Anything:
        def __getattr__(self, name: str) -> Any:
            called.append(name)
            raise AssertionError(name)

    class Lock:
        async def __aenter__(self) -> None: ...

        async def __aexit__(self, *_: object) -> None: ...

    class Database:
        def lock(self, _: str) -> Lock:
            return Lock()

    anything: Any = Anything()
    database: Any = Database()
    keys = KeyAdministration(anything, anything, anything, database, anything, "u", may_delete=gate)

    async def state(_: str) -> Any:
        return type("State", (), {"latest": 2, "min_decryption": 1, "versions": {}})()

    monkeypatch.setattr(keys, "_state", state)
    with pytest.raises(RestoreUnderWay):
        await keys.retire("acme", None, apply=True)
    personal = PersonalKeyAdministration(anything, anything, anything, database, anything, "u", may_delete=gate)

    async def status() -> Any:
        return type("State", (), {"sealing": ("b", "a"), "lookups": ("c",), "uses": ()})()

    monkeypatch.setattr(personal, "status", status)
    with pytest.raises(RestoreUnderWay):
        await personal.retire("a", apply=True)
    assert called == []


# --- over HTTP -------------------------------------------------------------------------------------------------------------


def test_whatever_gives_out_or_acts_on_documents_is_kept_back() -> None:
    assert {
        "list_documents", "search_documents", "get_document", "get_document_content", "get_document_thumbnail",
        "get_document_receipt", "list_document_events", "open_link", "create_document_link", "validate_document",
        "reject_document", "erase_document", "confirm_erasure", "withdraw_erasure", "get_erasure_order", "get_erasure_receipt", "get_retention", "extend_retention",
        "set_legal_hold", "lift_legal_hold",
    } == OF_DOCUMENTS  # fmt: skip
    assert set(ACCESS) > OF_DOCUMENTS


async def test_the_api_gives_out_nothing_of_documents_and_takes_uploads() -> None:
    bench = IntakeBench()
    document = await bench.stored()
    gate = Gate()
    async with a_client(an_app(bench, may_serve=gate)) as client:
        answer = await client.get(f"/api/v1/documents/{document.id}/content", headers=bearer())
        assert_problem(answer, 503, "restore_under_way")
        assert answer.headers["retry-after"] == "60"
        assert (await client.get("/api/v1/documents", headers=bearer())).status_code == 503
        assert (await client.get("/api/v1/links/l1.x.y")).status_code == 503
        assert (await client.get("/api/v1/document-types", headers=bearer())).status_code == 200
        assert (await client.get("/api/v1/documents")).status_code == 401
        asked = gate.asked
        assert (await post_document(client, bench)).status_code == 201
        assert (await client.get("/api/v1/dossiers", headers=bearer())).status_code == 200
        assert gate.asked == asked
