"""Answers that carry content: conditional and range requests, in one place for all routes that serve it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import Request
from starlette.responses import Response

from domain.personal import Shown
from ingest_api.ranges import is_current, requested_span
from ingest_api.streaming import ContentResponse, attachment

#: The clear bytes of a span (start, end exclusive), or all of them.
Read = Callable[[tuple[int, int] | None], Awaitable[AsyncIterator[bytes]]]


async def content_answer(request: Request, shown: Shown, read: Read) -> Response:
    """The document's content, or the one range of it that was asked for. Raises RangeNotSatisfiable, and what ``read`` does."""
    document = shown.document
    etag, size = f'"{document.sha256}"', document.size or 0
    headers = {"ETag": etag, "Accept-Ranges": "bytes"}
    if is_current(request.headers, etag):
        return Response(status_code=304, headers=headers)
    headers["Content-Type"] = document.mime_type or "application/octet-stream"
    headers["Content-Disposition"] = attachment(shown.texts.file_name)
    span = requested_span(request.headers, size, etag)
    stream = await read(span)
    if span is None:
        return await ContentResponse.begin(stream, size, headers)
    headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{size}"
    return await ContentResponse.begin(stream, span[1] - span[0], headers, 206)
