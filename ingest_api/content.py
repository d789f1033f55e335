"""Answers that carry content: conditional and range requests, in one place for all routes that serve it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from fastapi import Request
from starlette.responses import Response

from domain.personal_texts import ClearDocument
from domain.refusals import RangeNotSatisfiable
from ingest_api.file_names import attachment
from ingest_api.middleware import HEAD_STATE
from ingest_api.ranges import is_current, requested_span
from ingest_api.streaming import ContentResponse

#: The clear bytes of a span (start, end exclusive), or all of them.
ReadSpan = Callable[[tuple[int, int] | None], Awaitable[AsyncIterator[bytes]]]

#: Puts on record an answer that carries no content and yet tells of it: that it is the one of a tag, or how long it is.
RecordOutcome = Callable[[str], Awaitable[None]]

NOT_MODIFIED: Final = "not_modified"
#: A HEAD: what is told are type, length and tag, which is the content's SHA-256. Nothing is decrypted for it.
HEADERS_ONLY: Final = "headers_only"


async def content_response(
    request: Request, shown: ClearDocument, read: ReadSpan, record_outcome: RecordOutcome
) -> Response:
    """The document's content, or the one range of it that was asked for. Raises RangeNotSatisfiable, and what ``read`` and
    ``record_outcome`` do; whatever is answered of the content is on record before."""
    document = shown.document
    etag, size = f'"{document.sha256}"', document.size or 0
    headers = {"ETag": etag, "Accept-Ranges": "bytes"}
    if is_current(request.headers, etag):
        await record_outcome(NOT_MODIFIED)
        return Response(status_code=304, headers=headers)
    headers["Content-Type"] = media_type = document.mime_type or "application/octet-stream"
    headers["Content-Disposition"] = attachment(shown.texts.file_name, media_type)
    if request.scope.get(HEAD_STATE):  # a range is for GET alone (RFC 9110, section 14.2)
        await record_outcome(HEADERS_ONLY)
        return Response(headers={**headers, "Content-Length": str(size)})
    try:
        span = requested_span(request.headers, size, etag)
    except RangeNotSatisfiable as beyond:
        await record_outcome(beyond.code)
        raise
    stream = await read(span)
    if span is None:
        return await ContentResponse.begin(stream, size, headers)
    headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{size}"
    return await ContentResponse.begin(stream, span[1] - span[0], headers, 206)
