"""Dossiers: opened once per number, seen by their tenant."""

import pytest

from domain.refusals import DossierExists, DossierNotFound
from processors.documents.dossiers import NewDossier, NewStep
from tests.support.fakes_intake import IntakeBench


def new(number: str = "D-9", **changes: object) -> NewDossier:
    return NewDossier(number=number, client_id="C-9", journey_type="LOAN", **changes)


async def test_a_dossier_is_opened_with_its_steps_in_order(bench: IntakeBench) -> None:
    steps = [NewStep(code="KYC", name="Know", mandatory_documents=("CNI",)), NewStep(code="SIGN", name="Sign")]
    dossier = await bench.dossiers.create(bench.caller(), new(steps=steps, priority=3))
    assert (dossier.tenant, dossier.status, dossier.current_step, dossier.priority) == ("acme", "OPEN", "KYC", 3)
    assert [(step.code, step.position, step.status) for step in dossier.steps] == [
        ("KYC", 1, "TO_DO"),
        ("SIGN", 2, "TO_DO"),
    ]
    assert dossier.created_by not in {"u1", ""}
    assert await bench.dossiers.get(bench.caller(), dossier.id) == dossier
    assert [line.action for line in bench.audited()] == ["dossier.created", "dossier.read"]
    assert "C-9" not in repr(bench.audited())


async def test_a_dossier_without_steps_has_no_current_one(bench: IntakeBench) -> None:
    assert (await bench.dossiers.create(bench.caller(), new())).current_step is None


async def test_a_number_is_used_once_within_a_tenant(bench: IntakeBench) -> None:
    await bench.dossiers.create(bench.caller(), new())
    with pytest.raises(DossierExists):
        await bench.dossiers.create(bench.caller(), new())
    assert len(bench.audited()) == 1
    await bench.dossiers.create(bench.caller(tenant="other"), new())


async def test_other_tenants_dossiers_do_not_exist(bench: IntakeBench) -> None:
    with pytest.raises(DossierNotFound):
        await bench.dossiers.get(bench.caller(tenant="other"), bench.dossier.id)
    assert not (await bench.dossiers.page(bench.caller(tenant="other"))).items


async def test_pages_run_newest_first(bench: IntakeBench) -> None:
    made = [(await bench.dossiers.create(bench.caller(), new(f"N-{number}"))).id for number in range(3)]
    first = await bench.dossiers.page(bench.caller(), limit=2)
    rest = await bench.dossiers.page(bench.caller(), limit=2, cursor=first.next_cursor)
    assert [row.id for row in (*first.items, *rest.items)] == [*reversed(made), bench.dossier.id]
    assert rest.next_cursor is None
