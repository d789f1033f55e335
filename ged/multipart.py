"""multipart/form-data of known length, produced as it is sent (RFC 7578): neither memory nor disk holds the file."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterable, Mapping

from domain.errors import ArchiveMismatch


class MultipartUpload:
    """Text ``fields`` followed by one ``file`` = (field name, file name, media type, size in bytes)."""

    def __init__(self, fields: Mapping[str, str], file: tuple[str, str, str, int]) -> None:
        boundary = f"dpj-{secrets.token_hex(16)}"
        field_name, file_name, mime_type, self._size = file
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n'
            f"Content-Type: text/plain; charset=UTF-8\r\n\r\n{value}\r\n"
            for name, value in fields.items()
        ]
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(field_name)}"; '
            f'filename="{_quoted(file_name)}"\r\nContent-Type: {_one_line(mime_type)}\r\n'
            "Content-Transfer-Encoding: binary\r\n\r\n"
        )
        self._head = "".join(parts).encode()
        #: Whether all of it was handed over to be sent. Until then, no server can have taken it.
        self.is_complete = False
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self.headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(self._head) + self._size + len(self._tail)),
        }

    async def body(self, content: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
        """The bytes of the request. Raises ArchiveMismatch as soon as ``content`` is not of the size it should have."""
        yield self._head
        sent = 0
        async for chunk in content:
            sent += len(chunk)
            if sent > self._size:
                break
            yield chunk
        if sent != self._size:
            raise ArchiveMismatch("The document to be archived is not of its recorded size.")
        self.is_complete = True
        yield self._tail


def _quoted(text: str) -> str:
    """As browsers escape it (HTML standard, multipart/form-data encoding algorithm)."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _one_line(text: str) -> str:
    return text.replace("\r", "").replace("\n", "")
