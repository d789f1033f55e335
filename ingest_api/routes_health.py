"""Routes for those who run the service; no token, and nothing in them but names and numbers."""

from __future__ import annotations

import asyncio
from typing import Final

import orjson
import structlog
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from ingest_api.dependencies import Admitted, Check, Given
from ingest_api.openapi import document_of
from ingest_api.presenting import API

router = APIRouter(include_in_schema=False)

CHECK_SECONDS: Final = 3.0

_log = structlog.get_logger()


@router.get("/livez", name="livez")
async def livez() -> Response:
    """The process answers."""
    return Response("ok\n", media_type="text/plain")


@router.get("/readyz", name="readyz")
async def readyz(given: Given) -> Response:
    """200 if every dependency can serve, else 503 naming those that can't."""
    checks = given.deps.readiness
    outcomes = await asyncio.gather(*(_passes(name, check) for name, check in checks.items()))
    found = dict(zip(checks, outcomes, strict=True))
    body = {
        "ready": all(outcomes),
        "checks": {name: "ok" if passed else "failed" for name, passed in found.items()},
        "circuits": given.deps.circuits(),
    }
    return Response(orjson.dumps(body), 200 if all(outcomes) else 503, media_type="application/json")


@router.get("/metrics", name="metrics")
async def metrics(given: Given) -> Response:
    """Prometheus text."""
    return Response(generate_latest(given.deps.registry), media_type=CONTENT_TYPE_LATEST)


@router.get(f"{API}/openapi.json", name="openapi", dependencies=[Admitted])
async def openapi(request: Request) -> Response:
    """The OpenAPI document."""
    return Response(orjson.dumps(document_of(request.app)), media_type="application/json")


async def _passes(name: str, check: Check) -> bool:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except Exception as error:  # noqa: BLE001 - whatever a check raises, the dependency is not ready
        _log.debug("not_ready", dependency=name, error=type(error).__name__)
        return False
    return True
