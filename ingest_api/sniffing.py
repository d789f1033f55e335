"""Media types from a file's first and last bytes: by the structure of the formats that we know, else by libmagic.

These bytes are a stranger's, libmagic is C, and it runs here, in the API, before any antivirus: so it sees ``HEAD_SIZE`` bytes, and
compares them with its table of patterns. Its parsers of formats stay off. Of PDF it is not asked: it looks for the header in texts
only, and there anywhere.
"""

from __future__ import annotations

from typing import Final

from ingest_api import pdf_structure
from ingest_api.heif_structure import heif_type
from ingest_api.libmagic import TABLE, magic

HEAD_SIZE: Final = 8192

#: What libmagic parses beyond its table, by the bit that forbids it (magic.h, MAGIC_NO_CHECK_*; python-magic names not all).
_PARSERS: Final = {
    "compress": 0x1000,
    "tar": 0x2000,
    "apptype": 0x8000,
    "elf": 0x10000,
    "cdf": 0x40000,
    "csv": 0x80000,
    "tokens": 0x100000,
    "json": 0x400000,
    "simh": 0x800000,
}

#: What libmagic says of these beginnings whatever follows them; it takes a hundred times as long for it.
_PLAIN: Final = (
    (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "image/png"),
    (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "image/jpeg"),
)

_PDF: Final = "application/pdf"
_BY_STRUCTURE: Final = frozenset(
    {"image/heic", "image/heif", "image/heic-sequence", "image/heif-sequence", "image/avif"}
)


class MagicSniffer:
    """The Sniffer port of intake. python-magic holds a lock around libmagic, so one instance serves all requests."""

    def __init__(self) -> None:
        self._magic = magic.Magic(mime=True, magic_file=TABLE)
        magic.magic_setflags(self._magic.cookie, self._magic.flags | sum(_PARSERS.values()))

    @property
    def wanted(self) -> int:
        """Bytes looked at: container formats name themselves in their first few entries."""
        return HEAD_SIZE

    @property
    def tail_wanted(self) -> int:
        return pdf_structure.TAIL_SIZE

    def sniff(self, head: bytes) -> str:
        """A media type; application/octet-stream for what nobody knows or libmagic can't parse."""
        if pdf_structure.header_at(head) >= 0:
            return _PDF
        if (still := heif_type(head)) is not None:
            return still
        for start, media_type in _PLAIN:
            if head.startswith(start):
                return media_type
        found = self._ask(head)
        if found in _BY_STRUCTURE:  # it names the format, and has not got it
            return "application/octet-stream"
        # A text that names the header: what it is beside that.
        return self._ask(head.replace(b"%PDF-", b"%pdf ")) if found == _PDF else found

    def is_whole(self, media_type: str, head: bytes, tail: bytes) -> bool:
        """Whether a file that was sniffed as ``media_type`` also ends as one. Only PDF has its structure there."""
        return media_type != _PDF or pdf_structure.is_whole(head, tail)

    def _ask(self, head: bytes) -> str:
        try:
            found = self._magic.from_buffer(head)
        except magic.MagicException:
            return "application/octet-stream"
        return found or "application/octet-stream"
