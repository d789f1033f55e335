"""Request bodies, read piece by piece with deadlines and limits."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.types import Receive

from domain.refusals import BodyMalformed, BodyTooSlow, BodyTruncated, MediaTypeUnsupported
from ingest_api.field_errors import FieldError, field_errors, field_names
from ingest_api.problems import InvalidFields

MAX_JSON_BYTES: Final = 64 * 1024
#: A body whose sender keeps us waiting must bring this much per second of waiting, after the first ``timeout`` seconds.
MIN_BYTES_PER_SECOND: Final = 1024

M = TypeVar("M", bound=BaseModel)


class Body:
    """The pieces of one request body. ``timeout`` is for each read, in seconds."""

    def __init__(self, receive: Receive, *, timeout: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._receive = receive
        self._timeout = timeout
        self._monotonic = monotonic
        self._waited = 0.0
        self._received = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises BodyTruncated (the client went away) or BodyTooSlow."""
        more = True
        while more:
            piece, more = await self._next()
            if piece:
                yield piece

    async def _next(self) -> tuple[bytes, bool]:
        started = self._monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                message = await self._receive()
        except TimeoutError:
            raise BodyTooSlow("No bytes came for too long.") from None
        if message["type"] == "http.disconnect":
            raise BodyTruncated("The connection ended before the body did.")
        # Only waiting for the client counts: our own store may be slow without the client being so.
        self._waited += self._monotonic() - started
        piece: bytes = message.get("body", b"")
        self._received += len(piece)
        if self._waited > self._timeout and self._received < (self._waited - self._timeout) * MIN_BYTES_PER_SECOND:
            raise BodyTooSlow("The bytes came too slowly.")
        return piece, message.get("more_body", False)


async def read_json(request: Request, model: type[M], *, timeout: float) -> M:
    """A small JSON body as ``model``; an absent body counts as an empty object.

    Raises MediaTypeUnsupported, BodyMalformed, BodyTruncated, BodyTooSlow or MetadataInvalid.
    """
    declared = request.headers.get("content-type", "application/json")
    if declared.partition(";")[0].strip().lower() != "application/json":
        raise MediaTypeUnsupported(
            "The route reads JSON; the request's Content-Type says that its body is something else.",
            advice="Send one JSON object with Content-Type: application/json.",
        )
    content = bytearray()
    async for piece in Body(request.receive, timeout=timeout):
        content += piece
        if len(content) > MAX_JSON_BYTES:
            raise BodyMalformed(
                f"The body has more than {MAX_JSON_BYTES} bytes.",
                advice=f"Send at most {MAX_JSON_BYTES} bytes of JSON.",
            )
    return parse_json(bytes(content) or b"{}", model)


def parse_json(content: bytes, model: type[M]) -> M:
    """``content`` as ``model``, strictly. Raises MetadataInvalid naming the fields, without what they held."""
    try:
        parsed = model.model_validate_json(content, strict=True)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False, include_input=False)
        raise InvalidFields(field_errors(model, errors)) from None

    _refuse_duplicates(content, model)
    return parsed


def _refuse_duplicates(content: bytes, model: type[BaseModel]) -> None:
    """RFC 8259 leaves open which of two values counts; whoever looks at the text before us may take the other."""
    names = field_names(model)

    def seen(pairs: list[tuple[str, Any]]) -> None:
        keys: set[str] = set()
        for name, _ in pairs:
            if name in keys:
                shown = name if name in names else "*"
                raise InvalidFields([FieldError(shown, "duplicate", "The name stands twice in one object.")])
            keys.add(name)

    # Numbers stay texts: nothing is computed from what was already read.
    json.loads(content, object_pairs_hook=seen, parse_int=str, parse_float=str)
