"""Files of phones: ``tests/vectors/heif`` (made with pillow-heif, which writes HEVC), and what is made of them here."""

from __future__ import annotations

import struct
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "heif"


def heif(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def box(kind: bytes, content: bytes) -> bytes:
    """ISO/IEC 14496-12, section 4.2."""
    return struct.pack(">I", 8 + len(content)) + kind + content


def full_box(kind: bytes, content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags) + content)


def _found(content: bytes, kind: bytes) -> bytes:
    """The first box of that kind, whole."""
    at = content.index(kind) - 4
    return content[at : at + int.from_bytes(content[at : at + 4], "big")]


def motion_photo() -> bytes:
    """A photo with its film behind it, as Samsung's phones write it (box ``mpvd``)."""
    film = box(b"ftyp", b"mp42\0\0\0\0isommp42") + box(b"mdat", bytes(2000))
    return heif("plain.heic") + box(b"mpvd", film)


def grid(rows: int = 2, columns: int = 3) -> bytes:
    """The plain picture of 400 x 300 in tiles, as iPhones write theirs (ISO/IEC 23008-12, section 6.6.2.3)."""
    plain, tiles = heif("plain.heic"), rows * columns
    coded = _found(plain, b"mdat")[8:]
    width, height = 400 * columns, 300 * rows
    properties = box(
        b"ipco",
        _found(plain, b"hvcC")
        + full_box(b"ispe", struct.pack(">II", 400, 300))
        + full_box(b"ispe", struct.pack(">II", width, height)),
    )
    associations = [(1, (3,)), *((2 + n, (0x81, 2)) for n in range(tiles))]
    ipma = struct.pack(">I", len(associations)) + b"".join(
        struct.pack(">HB", item, len(found)) + bytes(found) for item, found in associations
    )
    kinds = [(1, b"grid"), *((2 + n, b"hvc1") for n in range(tiles))]
    # Tiles are hidden: they are no pictures of their own.
    infos = b"".join(
        full_box(b"infe", struct.pack(">HH", item, 0) + kind + b"\0", 2, int(item > 1)) for item, kind in kinds
    )
    layout = bytes((0, 0, rows - 1, columns - 1)) + struct.pack(">HH", width, height)
    parts = struct.pack(">HH", 1, tiles)
    references = full_box(b"iref", box(b"dimg", parts + b"".join(struct.pack(">H", 2 + n) for n in range(tiles))))

    def meta(at: int) -> bytes:
        # Method 1 is within ``idat``, 0 within the file; offsets and lengths of 4 bytes.
        places = struct.pack(">HHHHII", 1, 1, 0, 1, 0, len(layout))
        places += b"".join(struct.pack(">HHHHII", 2 + n, 0, 0, 1, at, len(coded)) for n in range(tiles))
        return full_box(
            b"meta",
            full_box(b"hdlr", bytes(4) + b"pict" + bytes(13))
            + full_box(b"pitm", struct.pack(">H", 1))
            + full_box(b"iloc", struct.pack(">HH", 0x4400, 1 + tiles) + places, 1)
            + full_box(b"iinf", struct.pack(">H", 1 + tiles) + infos)
            + references
            + box(b"iprp", properties + full_box(b"ipma", ipma))
            + box(b"idat", layout),
        )

    first = box(b"ftyp", b"heic\0\0\0\0mif1heic")
    start = len(first) + len(meta(0)) + 8
    return first + meta(start) + box(b"mdat", coded)
