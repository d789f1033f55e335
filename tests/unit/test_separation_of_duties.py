"""Who deposited a document does not decide about it, where setting or type say so."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from domain.documents import Document, Role
from domain.events import DocumentValidated
from domain.lifecycle import Status
from domain.refusals import DepositorDecides, DocumentNotFound
from processors.documents.validation import Validation
from tests.support.api import a_client, an_app, assert_problem, bearer
from tests.support.fakes_intake import IntakeBench
from tests.support.settings import settings_of

ALL = (Role.PORTAL, Role.VALIDATOR)


def separating(bench: IntakeBench, *, by_setting: bool = True, by_type: bool | None = None) -> Validation:
    """Decisions on ``bench`` with that setting; its document type says ``by_type``."""
    rule = bench.database.rows.types["CNI"]
    bench.database.put(replace(rule, duties_separated=by_type))
    bench.validation = Validation(bench.database, bench.personal, bench.texts, bench.clock, duties_separated=by_setting)
    return bench.validation


@pytest.mark.parametrize("status", [Status.VERIFIED, Status.STORED])
@pytest.mark.parametrize("verb", ["validate", "reject"])
async def test_who_deposited_decides_nothing(bench: IntakeBench, verb: str, status: Status) -> None:
    document = await bench.stored(status)
    validation, before = separating(bench), bench.database.rows.copied()
    with pytest.raises(DepositorDecides):
        await getattr(validation, verb)(bench.caller(*ALL), document.id, "mine")
    assert bench.database.rows == before
    decided = await getattr(validation, verb)(bench.caller(*ALL, subject="u2"), document.id, "theirs")
    assert decided.pending == (status is Status.STORED)


@pytest.mark.parametrize(
    ("by_setting", "by_type", "refused"),
    [(True, None, True), (True, False, False), (False, None, False), (False, True, True), (True, True, True)],
)
async def test_a_type_says_otherwise(bench: IntakeBench, by_setting: bool, by_type: bool | None, refused: bool) -> None:
    document = await bench.stored(Status.VERIFIED)
    validation = separating(bench, by_setting=by_setting, by_type=by_type)
    if refused:
        with pytest.raises(DepositorDecides):
            await validation.validate(bench.caller(*ALL), document.id, None)
    else:
        await validation.validate(bench.caller(*ALL), document.id, None)
        assert isinstance(bench.events()[-1], DocumentValidated)


async def test_who_has_the_same_name_in_another_tenant_is_somebody_else(bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    validation = separating(bench)
    with pytest.raises(DocumentNotFound):
        await validation.validate(bench.caller(*ALL, tenant="other"), document.id, None)
    row = replace(
        bench.database.rows.documents[document.id], depositor_id=bench.personal.pseudonym("actor", "other/u1")
    )
    bench.database.put(row)
    assert not (await validation.validate(bench.caller(*ALL), document.id, None)).pending


@pytest.mark.parametrize("status", [Status.ARCHIVED, Status.ERASING, Status.ERASED])
async def test_the_depositor_is_known_in_every_state(bench: IntakeBench, status: Status) -> None:
    """An erasure empties what is personal of the row; the pseudonym stays, which proves who did what."""
    document = await bench.stored(status)
    with pytest.raises(DepositorDecides):
        await separating(bench).validate(bench.caller(*ALL), document.id, None)


async def test_over_http_it_has_its_own_code(bench: IntakeBench) -> None:
    document: Document = await bench.stored(Status.VERIFIED)
    separating(bench)
    async with a_client(an_app(bench)) as client:
        answer: httpx.Response = await client.post(
            f"/api/v1/documents/{document.id}/validate", json={}, headers=bearer("portal,validator")
        )
        assert_problem(answer, 403, "depositor_may_not_decide")
        good = bearer("validator", subject="v2")
        assert (
            await client.post(f"/api/v1/documents/{document.id}/validate", json={}, headers=good)
        ).status_code == 200


def test_production_has_it_unless_it_says_no() -> None:
    assert settings_of(environment="production").duties_separated
    assert not settings_of(environment="production", separation_of_duties=False).duties_separated
    assert not settings_of().duties_separated
    assert settings_of(separation_of_duties=True).duties_separated
