"""Routes of dossiers."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from ingest_api import models
from ingest_api.body import read_json
from ingest_api.dependencies import Authorised, InjectedState
from ingest_api.openapi_annotations import json_body, problems
from ingest_api.presenters import API, dossier_view
from ingest_api.responses import json_response
from ingest_api.routes_documents import Cursor, Limit
from processors.documents.dossiers import NewDossier, NewStep
from processors.documents.pagination import DEFAULT_LIMIT

router = APIRouter(prefix=API)


@router.post(
    "/dossiers",
    name="create_dossier",
    status_code=201,
    response_model=models.DossierView,
    responses=problems(400, 401, 403, 409, 422, 429, 503),
    openapi_extra=json_body(models.DossierInput),
)
async def create_dossier(request: Request, caller: Authorised, state: InjectedState) -> Response:
    """Open a dossier; its number is unique within the tenant."""
    body = await read_json(request, models.DossierInput, timeout=state.deps.body_timeout)
    new = NewDossier(
        number=body.number,
        client_id=body.client_id,
        journey_type=body.journey_type,
        priority=body.priority,
        steps=[
            NewStep(
                code=step.code,
                name=step.name,
                mandatory_documents=tuple(step.mandatory_documents),
                optional_documents=tuple(step.optional_documents),
            )
            for step in body.steps
        ],
    )
    view = dossier_view(await state.deps.dossiers.create(caller, new), state.deps.public_url)
    return json_response(view, 201, {"Location": view.links["self"]})


@router.get(
    "/dossiers",
    name="list_dossiers",
    response_model=models.DossierPage,
    responses=problems(400, 401, 403, 429, 503),
)
async def list_dossiers(
    caller: Authorised, state: InjectedState, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Response:
    """The tenant's dossiers, newest first."""
    page = await state.deps.dossiers.page(caller, cursor=cursor, limit=limit)
    return json_response(
        models.DossierPage(
            items=[dossier_view(one, state.deps.public_url) for one in page.items], next_cursor=page.next_cursor
        )
    )


@router.get(
    "/dossiers/{dossier_id}",
    name="get_dossier",
    response_model=models.DossierView,
    responses=problems(401, 403, 404, 429, 503),
)
async def get_dossier(dossier_id: UUID, caller: Authorised, state: InjectedState) -> Response:
    """One dossier with its steps."""
    return json_response(dossier_view(await state.deps.dossiers.get(caller, dossier_id), state.deps.public_url))
