"""The console's own style sheet, script and icon: read once, told apart by their content, kept by browsers for good."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

router = APIRouter()

_TYPES: Final[Mapping[str, str]] = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """``version`` changes with the content."""

    content: bytes
    media_type: str
    version: str


@cache
def static_file(name: str) -> StaticFile:
    """Raises KeyError for a name that is none of ours."""
    media_type = _TYPES[name]
    content = files("console").joinpath("static", name).read_bytes()
    return StaticFile(content, media_type, hashlib.sha256(content).hexdigest()[:16])


def address(name: str) -> str:
    """Where a page finds the file."""
    return f"/static/{static_file(name).version}/{name}"


@router.get("/static/{version}/{name}", name="static")
async def static(version: str, name: str) -> Response:
    """The file; one of another version is answered with today's, and not kept."""
    try:
        found = static_file(name)
    except KeyError:
        raise HTTPException(404) from None
    kept = "public, max-age=31536000, immutable" if version == found.version else "no-cache"
    return Response(found.content, media_type=found.media_type, headers={"Cache-Control": kept})
