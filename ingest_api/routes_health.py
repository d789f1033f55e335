"""Routes for those who run the service; no token, and nothing in them but names. Metrics are none of them: what they count of one
tenant is nothing for another, so they have a port of their own (``runtime.observability.health``)."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from ingest_api.dependencies import Admitted, InjectedState
from ingest_api.presenters import API

router = APIRouter(include_in_schema=False)


@router.get("/livez", name="livez")
async def livez() -> Response:
    """The process answers."""
    return Response("ok\n", media_type="text/plain")


@router.get("/readyz", name="readyz")
async def readyz(state: InjectedState) -> Response:
    """200 if every dependency can serve, else 503 naming those that can't."""
    found = await state.readiness.status()
    ready = all(found.values())
    body = {
        "ready": ready,
        "checks": {name: "ok" if passed else "failed" for name, passed in found.items()},
        "circuits": state.deps.circuits(),
    }
    return Response(orjson.dumps(body), 200 if ready else 503, media_type="application/json")


@router.get(f"{API}/openapi.json", name="openapi", dependencies=[Admitted])
async def openapi(request: Request, given: InjectedState) -> Response:
    """The OpenAPI document."""
    return Response(orjson.dumps(given.describe(request.app)), media_type="application/json")
