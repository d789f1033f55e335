"""Routes for operators who have to do with tokens."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from domain.revocations import RevocableClaim
from ingest_api import models
from ingest_api.body import read_json
from ingest_api.dependencies import Authorised, InjectedState
from ingest_api.openapi_annotations import json_body, problems
from ingest_api.presenters import API
from ingest_api.responses import json_response

router = APIRouter(prefix=API)


@router.post(
    "/revocations",
    name="revoke_token",
    response_model=models.RevocationView,
    responses=problems(400, 401, 403, 408, 415, 422, 429, 503),
    openapi_extra=json_body(models.RevocationInput),
)
async def revoke_token(request: Request, caller: Authorised, state: InjectedState) -> Response:
    """Have a token, or all tokens of a session, refused from now on: everywhere within 5 seconds. Links made with them are
    revoked, too. Safe to repeat."""
    body = await read_json(request, models.RevocationInput, timeout=state.deps.body_timeout)
    named = {RevocableClaim.TOKEN: body.token_id, RevocableClaim.SESSION: body.session_id}
    claims = {claim: value for claim, value in named.items() if value is not None}
    until = await state.deps.revocation.revoke_for_caller(caller, claims, body.expires_at)
    return json_response(models.RevocationView(until=until))
