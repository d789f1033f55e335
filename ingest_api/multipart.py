"""multipart/form-data (RFC 7578) as a stream: part ``metadata``, then part ``file``, and nothing else.

The file's bytes are handed on as they arrive; neither memory nor disk ever holds more than what one read brought.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from domain.errors import BodyMalformed, BodyTruncated
from ingest_api.body import Body

MAX_METADATA_BYTES: Final = 64 * 1024
MAX_PART_HEADERS: Final = 8
MAX_PART_HEADER_BYTES: Final = 4096
MAX_EPILOGUE_BYTES: Final = 1024
#: More than all that surrounds a file in a body of ours can take.
MAX_OVERHEAD_BYTES: Final = MAX_METADATA_BYTES + 2 * MAX_PART_HEADERS * MAX_PART_HEADER_BYTES + 4096


@dataclass(frozen=True, slots=True)
class FileHead:
    """What the headers of part ``file`` say."""

    file_name: str | None = field(repr=False)
    media_type: str | None


class _Mark(Enum):
    """What the parser met, besides parts and data."""

    PART_END = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class _Part:
    """A part begins; header names in lower case."""

    headers: dict[str, str] = field(repr=False)


class UploadForm:
    """Call ``metadata``, ``file`` and ``content`` once each, in this order.

    All raise BodyMalformed, BodyTruncated (the final boundary is missing) or BodyTooSlow.
    """

    def __init__(self, body: Body, boundary: bytes) -> None:
        self._body = aiter(body)
        self._met: deque[bytes | _Part | _Mark] = deque()
        self._headers: dict[str, str] = {}
        self._name = bytearray()
        self._value = bytearray()
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_data": self._on_data,
                    "on_part_end": lambda: self._met.append(_Mark.PART_END),
                    "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_part,
                    "on_end": lambda: self._met.append(_Mark.END),
                },
                max_header_count=MAX_PART_HEADERS,
                max_header_size=MAX_PART_HEADER_BYTES,
            )
        except FormParserError:
            raise BodyMalformed("The boundary is too long.") from None

    async def metadata(self) -> bytes:
        """The content of part ``metadata``."""
        await self._part("metadata")
        content = bytearray()
        while isinstance(piece := await self._step(), bytes):
            content += piece
            if len(content) > MAX_METADATA_BYTES:
                raise BodyMalformed(f"The part metadata has at most {MAX_METADATA_BYTES} bytes.")
        return bytes(content)

    async def file(self) -> FileHead:
        """The headers of part ``file``, which must follow."""
        headers, options = await self._part("file")
        name = options.get(b"filename")
        return FileHead(None if name is None else name.decode("utf-8", "replace"), headers.get("content-type"))

    async def content(self) -> AsyncIterator[bytes]:
        """The bytes of part ``file``; ends only once the whole body is known to be complete."""
        while isinstance(piece := await self._step(), bytes):
            yield piece
        if await self._step() is not _Mark.END:
            raise BodyMalformed("Nothing may follow the part file.")
        rest = 0
        async for piece in self._body:
            rest += len(piece)
            if rest > MAX_EPILOGUE_BYTES:
                raise BodyMalformed("Nothing may follow the final boundary.")

    async def _part(self, name: str) -> tuple[dict[str, str], dict[bytes, bytes]]:
        """Go to the next part, which must be named ``name``: its headers, and its Content-Disposition's parameters."""
        part = await self._step()
        if isinstance(part, _Part):
            disposition, options = parse_options_header(part.headers.get("content-disposition"))
            if disposition == b"form-data" and options.get(b"name") == name.encode():
                return part.headers, options
        raise BodyMalformed(f"The part {name} is missing; send metadata, then file.")

    async def _step(self) -> bytes | _Part | _Mark:
        """The next thing in the body. Raises BodyTruncated if it ends before."""
        while not self._met:
            try:
                piece = await anext(self._body)
            except StopAsyncIteration:
                raise BodyTruncated("The final boundary is missing.") from None
            try:
                self._parser.write(piece)
            except FormParserError:
                raise BodyMalformed("The body is not well-formed multipart/form-data.") from None
        return self._met.popleft()

    def _on_part(self) -> None:
        self._met.append(_Part(self._headers))
        self._headers = {}

    def _on_header_end(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._name.clear()
        self._value.clear()

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._met.append(data if end - start == len(data) else data[start:end])
