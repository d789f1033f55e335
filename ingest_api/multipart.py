"""multipart/form-data (RFC 7578) as a stream: part ``metadata``, then part ``file``, and nothing else.

The file's bytes are handed on as they arrive; neither memory nor disk ever holds more than what one read brought.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from python_multipart.multipart import parse_options_header

from domain.refusals import BodyMalformed, BodyTruncated
from ingest_api.body import Body
from ingest_api.file_names import disposition_file_name

MAX_METADATA_BYTES: Final = 64 * 1024
MAX_PART_HEADERS: Final = 8
MAX_PART_HEADER_BYTES: Final = 4096
MAX_EPILOGUE_BYTES: Final = 1024
MAX_BOUNDARY_BYTES: Final = 256
#: More than all that surrounds a file in a body of ours can take.
MAX_OVERHEAD_BYTES: Final = MAX_METADATA_BYTES + 2 * MAX_PART_HEADERS * MAX_PART_HEADER_BYTES + 4096

_NOT_WELL_FORMED: Final = "The body is not well-formed multipart/form-data."
#: Name and value (RFC 9110, section 5.5): no control characters, so no line breaks either.
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")


@dataclass(frozen=True, slots=True)
class FileHead:
    """What the headers of part ``file`` say."""

    file_name: str | None = field(repr=False)
    media_type: str | None


class UploadForm:
    """Call ``metadata``, ``file`` and ``content`` once each, in this order.

    All raise BodyMalformed, BodyTruncated (the final boundary is missing) or BodyTooSlow. Two parts in a fixed order need no general
    parser: bytes are looked for, never walked through one by one, and a whole read of the socket passes as one piece.
    """

    def __init__(self, body: Body, boundary: bytes) -> None:
        if len(boundary) > MAX_BOUNDARY_BYTES:
            raise BodyMalformed("The boundary is too long.")
        self._body = aiter(body)
        self._delimiter = b"\r\n--" + boundary
        self._held = b""
        #: What is before this place in ``_held`` has been dealt with.
        self._at = 0

    async def metadata(self) -> bytes:
        """The content of part ``metadata``."""
        await self._open()
        await self._part("metadata")
        content = bytearray()
        while piece := await self._data():
            content += piece
            if len(content) > MAX_METADATA_BYTES:
                raise BodyMalformed(f"The part metadata has at most {MAX_METADATA_BYTES} bytes.")
        return bytes(content)

    async def file(self) -> FileHead:
        """The headers of part ``file``, which must follow."""
        headers, options = await self._part("file")
        name = disposition_file_name(headers["content-disposition"], options.get(b"filename"))
        return FileHead(name, headers.get("content-type"))

    async def content(self) -> AsyncIterator[bytes]:
        """The bytes of part ``file``; ends only once the whole body is known to be complete."""
        while piece := await self._data():
            yield piece
        if await self._another():
            raise BodyMalformed("Nothing may follow the part file.")
        rest = len(self._held) - self._at
        async for piece in self._body:
            rest += len(piece)
            if rest > MAX_EPILOGUE_BYTES:
                break
        if rest > MAX_EPILOGUE_BYTES:
            raise BodyMalformed("Nothing may follow the final boundary.")

    async def _open(self) -> None:
        """Pass the first boundary, before which only line breaks may stand."""
        dashes, passed = self._delimiter[2:], 0
        while True:
            start = self._held.lstrip(b"\r\n")
            passed += len(self._held) - len(start)
            self._held = start
            if passed > MAX_EPILOGUE_BYTES:
                raise BodyMalformed(_NOT_WELL_FORMED)
            if len(start) >= len(dashes):
                break
            if not dashes.startswith(start):
                raise BodyMalformed(_NOT_WELL_FORMED)
            await self._read()
        if not start.startswith(dashes):
            raise BodyMalformed(_NOT_WELL_FORMED)
        self._at = len(dashes)

    async def _part(self, name: str) -> tuple[dict[str, str], dict[bytes, bytes]]:
        """Begin the next part, which must be named ``name``: its headers, and its Content-Disposition's parameters."""
        if not await self._another():
            raise BodyMalformed(f"The part {name} is missing.")
        headers = await self._headers()
        disposition, options = parse_options_header(headers.get("content-disposition"))
        if disposition != b"form-data" or b"name" not in options:
            raise BodyMalformed(f"Where the part {name} is expected stands one without Content-Disposition and name.")
        if options[b"name"] != name.encode():
            raise BodyMalformed(f"Where the part {name} is expected stands another part.")
        return headers, options

    async def _another(self) -> bool:
        """Behind a boundary: whether a part follows; False at the end of them."""
        while len(self._held) < self._at + 2:
            await self._read()
        mark = self._held[self._at : self._at + 2]
        self._at += 2
        if mark not in (b"\r\n", b"--"):
            raise BodyMalformed(_NOT_WELL_FORMED)
        return mark == b"\r\n"

    async def _headers(self) -> dict[str, str]:
        """A part's headers, names in lower case."""
        # The line break before the headers counts: where there are none, it is half of the empty line.
        while (end := self._held.find(b"\r\n\r\n", self._at - 2)) < 0:
            if len(self._held) - self._at > MAX_PART_HEADERS * MAX_PART_HEADER_BYTES:
                raise BodyMalformed(_NOT_WELL_FORMED)
            await self._read()
        lines = self._held[self._at : end].split(b"\r\n") if end > self._at else []
        self._at = end + 4
        headers: dict[str, str] = {}
        for line in lines:
            found = _HEADER.fullmatch(line)
            if found is None or len(line) > MAX_PART_HEADER_BYTES or len(lines) > MAX_PART_HEADERS:
                raise BodyMalformed(_NOT_WELL_FORMED)
            headers[found[1].decode("latin-1").lower()] = found[2].decode("latin-1").strip(" \t")
        return headers

    async def _data(self) -> bytes:
        """The next bytes of a part's content; none once its end, a boundary, was passed."""
        while True:
            end = self._held.find(self._delimiter, self._at)
            if end == self._at:
                self._at += len(self._delimiter)
                return b""
            if end < 0:  # what may be the beginning of a boundary waits for the next read
                end = len(self._held) - len(self._delimiter) + 1
            if end > self._at:
                piece = self._held[self._at : end]
                self._at = end
                return piece
            await self._read()

    async def _read(self) -> None:
        """Hold more of the body. Raises BodyTruncated if it has ended."""
        try:
            piece = await anext(self._body)
        except StopAsyncIteration:
            raise BodyTruncated("The final boundary is missing.") from None
        done = max(0, self._at - 2)  # the line break of ``_headers``
        self._held = self._held[done:] + piece
        self._at -= done
