"""Still pictures in ISO media files: HEIC of phones, and AVIF, by the brands of their first box (ISO/IEC 23008-12, section 10; AV1 Image
File Format, section 6)."""

from __future__ import annotations

from typing import Final

_HEIC: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_AVIF: Final = frozenset({b"avif", b"avis"})
#: Pictures, whatever they are coded in.
_STILL: Final = frozenset({b"mif1", b"mif2", b"msf1", b"miaf", b"MiHE", b"MiHB"})
_MOST_BRANDS: Final = 64


def heif_type(head: bytes) -> str | None:
    """image/heic or image/avif; None for what is neither, films of the same container among it."""
    if head[4:8] != b"ftyp":
        return None
    size = int.from_bytes(head[:4], "big")
    if not 16 <= size <= min(len(head), 16 + 4 * _MOST_BRANDS) or size % 4:
        return None
    major, others = head[8:12], {head[at : at + 4] for at in range(16, size, 4)}
    if major not in _HEIC | _AVIF | _STILL:
        return None
    if major in _AVIF or (major in _STILL and others & _AVIF):
        return "image/avif"
    return "image/heic" if major in _HEIC or others & _HEIC or major in _STILL else None
