"""Routes of links: made and revoked by who may read the document, used by who was given one."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from domain.refusals import LinkNotFound
from ingest_api import models
from ingest_api.body import read_json
from ingest_api.content import content_response
from ingest_api.dependencies import Admitted, Authorised, InjectedState, count_failure, visitor_of
from ingest_api.openapi_annotations import RANGES, json_body, problems
from ingest_api.presenters import API
from ingest_api.responses import json_response

router = APIRouter(prefix=API)

MAX_TOKEN = 128


@router.post(
    "/documents/{document_id}/links",
    name="create_document_link",
    status_code=201,
    response_model=models.LinkView,
    responses=problems(400, 401, 403, 404, 408, 409, 410, 415, 422, 429, 503),
    openapi_extra=json_body(models.LinkInput),
)
async def create_document_link(
    request: Request, document_id: UUID, caller: Authorised, state: InjectedState
) -> Response:
    """A link that gives this document's content to whoever has it, until it expires or is revoked, by itself or with the token
    that asked for it or that token's session. Every use is audited."""
    body = await read_json(request, models.LinkInput, timeout=state.deps.body_timeout)
    link, token = await state.deps.links.create(caller, document_id, body.purpose, body.seconds)
    view = models.LinkView(
        id=link.id,
        document_id=link.document_id,
        purpose=link.purpose,
        url=f"{state.deps.public_url}{API}/links/{token}",
        created_at=link.created_at,
        expires_at=link.expires_at,
    )
    return json_response(view, 201, {"Location": view.url})


@router.delete(
    "/documents/{document_id}/links/{link_id}",
    name="revoke_document_link",
    status_code=204,
    responses=problems(401, 403, 404, 429, 503),
)
async def revoke_document_link(document_id: UUID, link_id: UUID, caller: Authorised, state: InjectedState) -> Response:
    """Have a link refused from now on. Safe to repeat."""
    await state.deps.links.revoke(caller, document_id, link_id)
    return Response(status_code=204)


@router.get(
    "/links/{token}",
    name="open_link",
    response_class=Response,
    responses={**RANGES, **problems(404, 416, 429, 503)},
    dependencies=[Admitted],
)
async def open_link(
    request: Request, token: Annotated[str, Path(max_length=MAX_TOKEN)], state: InjectedState
) -> Response:
    """The content that the link is for. 404: no such link, or it has expired, or was revoked, or the document may not be read."""
    links, visitor = state.deps.links, visitor_of(request)
    try:
        shown = state.deps.texts.shown(await links.readable(token))
        return await content_response(
            request,
            shown,
            lambda span: links.read(visitor, token, span),
            lambda outcome: links.record_outcome(visitor, token, outcome),
        )
    except LinkNotFound:
        # Counted before it is written down: who goes on trying fills no log.
        await count_failure(request)
        await links.record_refusal(visitor, token)
        raise
