"""What a hostile case is: bytes or an upload, and its one expected end."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

THUMBNAIL = "VERIFIED with thumbnail"
PDF, PNG, JPEG, GIF, TIFF, WEBP = (
    *("application/pdf", "image/png", "image/jpeg"),
    *("image/gif", "image/tiff", "image/webp"),
)


def without(reason: str) -> str:
    return f"VERIFIED without thumbnail: {reason}"


def refused(code: str) -> str:
    return f"refused: {code}"


UNDECODABLE = without("UNDECODABLE")
LIMIT_PIXELS = without("LIMIT_PIXELS")
LIMIT_MEMORY = without("LIMIT_MEMORY")
LIMIT_TIME = without("LIMIT_TIME")
CHILD_DIED = without("CHILD_DIED")
MISMATCH = refused("content_mismatch")
NOT_ALLOWED = refused("format_not_allowed")


@dataclass(frozen=True, slots=True)
class Case:
    """``make`` gives the file; ``mime_type`` is what is declared of it; ``end`` how it ends, None where the record says it.

    ``file_name`` goes into the form's header as it is; ``metadata`` is laid over what a portal says. ``heavy``: where the
    machine is slow or busy it may also run out of time.
    """

    name: str
    make: Callable[[], bytes] = field(repr=False)
    mime_type: str
    end: str | None = None
    file_name: bytes = b"piece"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    heavy: bool = False


def png_chunk(name: bytes, data: bytes, crc: int | None = None) -> bytes:
    """PNG, third edition, section 5.3."""
    found = zlib.crc32(name + data) if crc is None else crc
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", found)


def png_head(width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + png_chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    )


def deflated(piece: bytes, times: int) -> bytes:
    """``piece`` over and over in one zlib stream (RFC 1950): packed once, its block repeated."""
    together = max(1, min(times, (1 << 20) // len(piece)))
    block = _packed(piece * together) * (times // together) + _packed(piece * (times % together))
    check = 1
    for _ in range(times // together):
        check = zlib.adler32(piece * together, check)
    check = zlib.adler32(piece * (times % together), check)
    return b"\x78\xda" + block + b"\x03\x00" + struct.pack(">I", check)


def _packed(data: bytes) -> bytes:
    """Deflate blocks that refer to nothing before them and end on a byte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)


def pdf(objects: Mapping[int, bytes], *, trailer: bytes = b"", root: int = 1, tail: bytes | None = None) -> bytes:
    """A PDF with those objects and a right cross-reference table."""
    body = bytearray(b"%PDF-1.7\n")
    places: dict[int, int] = {}
    for number, content in objects.items():
        places[number] = len(body)
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start, size = len(body), max(objects) + 1
    body += b"xref\n0 %d\n" % size
    for number in range(size):
        body += b"%010d %05d %s \n" % (
            places.get(number, 0),
            0 if number else 65535,
            b"n" if number in places else b"f",
        )
    body += b"trailer\n<< /Size %d /Root %d 0 R %s >>\n" % (size, root, trailer)
    return bytes(body) + (b"startxref\n%d\n%%%%EOF\n" % start if tail is None else tail)


def stream(data: bytes, entries: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), entries, data)


def page(entries: bytes = b"/MediaBox [0 0 200 200]", contents: bytes | None = None, **more: Any) -> dict[int, bytes]:
    """Objects of a PDF with one page; ``more`` are further objects by ``o<number>``."""
    objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        2: b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        3: b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R %s >>" % entries,
        4: stream(b"0 0 1 rg 10 10 50 50 re f") if contents is None else contents,
    }
    return objects | {int(name[1:]): content for name, content in more.items()}
