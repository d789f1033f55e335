"""Documents made at run time for demonstrations and measurements; the small ones are files in ``samples/``."""

from __future__ import annotations

import random
from pathlib import Path
from typing import BinaryIO, Final

MEGABYTE: Final = 1_000_000

#: Side of a page's square image: one byte per pixel, so one megabyte per page.
_SIDE: Final = 1000
_A4: Final = (595, 842)
_FONT: Final = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"


class PdfWriter:
    """A PDF 1.7 file (ISO 32000-1) written from front to back: no more than one object is in memory at a time."""

    def __init__(self, sink: BinaryIO, *, title: str) -> None:
        self._sink = sink
        self._position = 0
        self._offsets: list[int] = []
        self._pages: list[int] = []
        # The second line's high bytes tell transports that the file is binary (ISO 32000-1, 7.5.2).
        self._write(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
        self._tree = self._reserve()
        self._info = self.add(
            b"<< /Title %s /Producer (DPJ samples) /CreationDate (D:20260105090000Z) >>" % text(title)
        )

    def add(self, body: bytes) -> int:
        """Write an object; returns its number."""
        number = self._reserve()
        self._put(number, body)
        return number

    def add_stream(self, entries: bytes, data: bytes) -> int:
        """Write a stream object with ``entries`` in its dictionary besides the length; returns its number."""
        return self.add(b"<< %s /Length %d >>\nstream\n%s\nendstream" % (entries, len(data), data))

    def add_page(self, resources: bytes, drawing: bytes) -> None:
        """Write an A4 page (595 x 842 points) with its resource dictionary's entries and its content stream."""
        content = self.add_stream(b"", drawing)
        page = b"<< /Type /Page /Parent %d 0 R /MediaBox [0 0 %d %d] /Resources << %s >> /Contents %d 0 R >>"
        self._pages.append(self.add(page % (self._tree, *_A4, resources, content)))

    def finish(self) -> int:
        """Write page tree, catalogue, table of objects and trailer; returns the file's size in bytes."""
        kids = b" ".join(b"%d 0 R" % page for page in self._pages)
        self._put(self._tree, b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(self._pages), kids))
        root = self.add(b"<< /Type /Catalog /Pages %d 0 R >>" % self._tree)
        start, count = self._position, len(self._offsets) + 1
        self._write(b"xref\n0 %d\n0000000000 65535 f \n" % count)
        self._write(b"".join(b"%010d 00000 n \n" % offset for offset in self._offsets))
        self._write(b"trailer\n<< /Size %d /Root %d 0 R /Info %d 0 R >>\n" % (count, root, self._info))
        self._write(b"startxref\n%d\n%%%%EOF\n" % start)
        return self._position

    def _reserve(self) -> int:
        self._offsets.append(0)
        return len(self._offsets)

    def _put(self, number: int, body: bytes) -> None:
        self._offsets[number - 1] = self._position
        self._write(b"%d 0 obj\n%s\nendobj\n" % (number, body))

    def _write(self, data: bytes) -> None:
        self._sink.write(data)
        self._position += len(data)


def text(value: str) -> bytes:
    """``value`` as a PDF string in WinAnsiEncoding, which has all French letters."""
    escaped = value.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return b"(" + escaped.encode("cp1252") + b")"


def large_pdf(target: Path | BinaryIO, megabytes: int = 60, *, seed: int = 1) -> int:
    """Write a valid PDF of a little more than ``megabytes`` x 1,000,000 bytes; returns its size in bytes.

    Every page is an image of random noise, which no compression makes smaller; the same ``seed`` gives the same file.
    """
    if isinstance(target, Path):
        with target.open("wb") as sink:
            return large_pdf(sink, megabytes, seed=seed)
    noise = random.Random(seed)  # noqa: S311 - noise to fill pages, not a secret
    writer = PdfWriter(target, title=f"SPECIMEN {megabytes} MB")
    font = writer.add(_FONT)
    picture = b"/Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray /BitsPerComponent 8"
    for page in range(megabytes):
        image = writer.add_stream(picture % (_SIDE, _SIDE), noise.randbytes(_SIDE * _SIDE))
        label = text(f"SPECIMEN - page {page + 1} / {megabytes}")
        drawing = b"q 500 0 0 500 47 171 cm /I Do Q BT /F 18 Tf 47 720 Td %s Tj ET" % label
        writer.add_page(b"/XObject << /I %d 0 R >> /Font << /F %d 0 R >>" % (image, font), drawing)
    return writer.finish()
