"""Whether the console can serve: no sign-in, and nothing but names."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import APIRouter
from starlette.responses import JSONResponse, PlainTextResponse, Response

from console.dependencies import Check, Deps

router = APIRouter()

CHECK_SECONDS: Final = 3.0


@router.get("/livez", name="livez")
async def livez() -> Response:
    """The process answers."""
    return PlainTextResponse("ok\n")


@router.get("/readyz", name="readyz")
async def readyz(deps: Deps) -> Response:
    """200 if the console can show pages, else 503 naming what it lacks. What a page tells of may be away: it says so."""
    passed = await asyncio.gather(*(_passes(check) for check in deps.checks.values()))
    found = dict(zip(deps.checks, passed, strict=True))
    body = {"ready": all(passed), "checks": {name: "ok" if good else "failed" for name, good in found.items()}}
    return JSONResponse(body, 200 if all(passed) else 503)


async def _passes(check: Check) -> bool:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except Exception:  # noqa: BLE001 - whatever a check raises, what it is about can't serve
        return False
    return True
