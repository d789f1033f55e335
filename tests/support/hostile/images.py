"""Hostile images: bombs, headers that lie, structures that loop."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from tests.support.hostile.cases import (
    GIF,
    JPEG,
    LIMIT_PIXELS,
    LIMIT_TIME,
    PNG,
    THUMBNAIL,
    TIFF,
    UNDECODABLE,
    WEBP,
    Case,
    deflated,
    png_chunk,
    png_head,
)
from tests.support.rendering import encoded, plain

IEND = png_chunk(b"IEND", b"")
MEGA = bytes(1 << 20)


def _png(*chunks: bytes, size: tuple[int, int] = (8, 8), rows: bytes | None = None) -> bytes:
    """An RGB PNG with those chunks before its pixels."""
    pixels = bytes(size[1] * (1 + 3 * size[0])) if rows is None else rows
    return png_head(*size) + b"".join(chunks) + png_chunk(b"IDAT", zlib.compress(pixels)) + IEND


def png_cases() -> Iterator[Case]:
    for side in (10_001, 16_000, 30_000):
        yield Case(
            f"png bomb 1 bit {side}",
            lambda side=side: _flat_png(side),
            PNG,
            THUMBNAIL if side < 12_000 else LIMIT_PIXELS,
        )
    yield Case("png bomb below the pixel limit", lambda: _flat_png(9_900), PNG, THUMBNAIL)
    for width, height in ((0x7FFF_FFFF, 0x7FFF_FFFF), (0x7FFF_FFFF, 1), (1, 0x7FFF_FFFF), (100_001, 1_000)):
        head = png_head(width, height)
        yield Case(
            f"png header says {width} x {height}",
            lambda head=head: head + png_chunk(b"IDAT", zlib.compress(bytes(64))) + IEND,
            PNG,
            LIMIT_PIXELS,
        )
    for width, height in ((0, 0), (0, 8), (8, 0)):
        head = png_head(width, height)
        yield Case(f"png of {width} x {height}", lambda head=head: head + IEND, PNG, None)
    yield Case("png of 16 bits and four channels at the limit", lambda: _deep_png(9_900), PNG, None, heavy=True)
    for name in (b"zTXt", b"iCCP", b"iTXt"):
        yield Case(f"png {name.decode()} that unpacks to 256 MB", lambda name=name: _text_bomb(name), PNG, None)
    yield Case("png with 50,000 text chunks", lambda: _png(png_chunk(b"tEXt", b"k\0v") * 50_000), PNG, None)
    yield Case("png with 20,000 data chunks", lambda: _split_png(20_000), PNG, None)
    yield Case("png data that unpack to 512 MB", lambda: _long_png(), PNG, None)
    yield Case("png without data", lambda: png_head(8, 8) + IEND, PNG, UNDECODABLE)
    yield Case("png data before header", lambda: b"\x89PNG\r\n\x1a\n" + png_chunk(b"IDAT", b"x") + IEND, PNG, None)
    yield Case("png chunk of 4 GB", lambda: png_head(8, 8) + b"\xff\xff\xff\xffIDAT", PNG, UNDECODABLE)
    yield Case(
        "png with a false checksum", lambda: png_head(8, 8) + png_chunk(b"IDAT", b"x", crc=1) + IEND, PNG, UNDECODABLE
    )
    yield Case("png with two headers", lambda: png_head(8, 8) + png_head(99_999, 99_999)[8:] + IEND, PNG, LIMIT_PIXELS)
    yield Case("png of colour type 7", lambda: png_head(8, 8, 8, 7) + IEND, PNG, UNDECODABLE)
    yield Case("png of 77 bits", lambda: png_head(8, 8, 77) + IEND, PNG, UNDECODABLE)
    yield Case(
        "apng of 4 billion frames", lambda: _png(png_chunk(b"acTL", struct.pack(">II", 0xFFFF_FFFF, 0))), PNG, None
    )
    frame = struct.pack(">IIIIIHHBB", 0, 0x7FFF_FFFF, 0x7FFF_FFFF, 0, 0, 1, 1, 0, 0)
    yield Case(
        "apng frame larger than its image",
        lambda: _png(png_chunk(b"acTL", struct.pack(">II", 2, 0)), png_chunk(b"fcTL", frame)),
        PNG,
        None,
    )
    yield Case(
        "png whose exif goes round in circles", lambda: _png(png_chunk(b"eXIf", _looping_exif())), PNG, THUMBNAIL
    )
    yield Case("png interlaced, 1 bit, below the limit", lambda: _interlaced(9_000), PNG, None)


def _flat_png(side: int) -> bytes:
    """Black, one bit to the pixel."""
    packed = deflated(bytes(1 + (side + 7) // 8), side)
    return png_head(side, side, 1, 0) + png_chunk(b"IDAT", packed) + IEND


def _deep_png(side: int) -> bytes:
    packed = deflated(bytes(1 + 8 * side), side)
    return png_head(side, side, 16, 6) + png_chunk(b"IDAT", packed) + IEND


def _text_bomb(name: bytes) -> bytes:
    packed = deflated(MEGA, 256)
    data = b"k\0\0" + packed if name != b"iTXt" else b"k\0\1\0\0\0" + packed
    return _png(png_chunk(name, data))


def _split_png(count: int) -> bytes:
    packed = zlib.compress(bytes(300 * (1 + 900)), 0)
    step = len(packed) // count + 1
    parts = [packed[at : at + step] for at in range(0, len(packed), step)]
    return png_head(300, 300) + b"".join(png_chunk(b"IDAT", part) for part in parts) + IEND


def _long_png() -> bytes:
    return png_head(8, 8) + png_chunk(b"IDAT", deflated(MEGA, 512)) + IEND


def _interlaced(side: int) -> bytes:
    return png_head(side, side, 1, 0, 1) + png_chunk(b"IDAT", deflated(bytes(1 << 16), 160 * 2)) + IEND


def _looping_exif() -> bytes:
    """TIFF structure whose EXIF pointer and next directory lead back to itself."""
    entries = struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<HHII", 0x8825, 4, 1, 8)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 2) + entries + struct.pack("<I", 8)


# --- JPEG -------------------------------------------------------------------------------------------------------------


def _segment(marker: int, data: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def _jpeg_with_size(width: int, height: int, base: bytes | None = None) -> bytes:
    content = bytearray(base or plain("JPEG", (64, 64)))
    at = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    content[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def _after_soi(content: bytes, segments: bytes) -> bytes:
    return content[:2] + segments + content[2:]


def _scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again; each makes the decoder walk the whole image."""
    content = plain("JPEG", (4000, 4000), progressive=True, quality=10)
    last = content.rfind(b"\xff\xda")
    return content[:-2] + content[last:-2] * count + b"\xff\xd9"


def jpeg_cases() -> Iterator[Case]:
    yield Case("jpeg says 65500 x 65500", lambda: _jpeg_with_size(65_500, 65_500), JPEG, THUMBNAIL)
    yield Case("jpeg says 20000 x 20000", lambda: _jpeg_with_size(20_000, 20_000), JPEG, THUMBNAIL)
    yield Case("jpeg says 9900 x 9900 and has 64", lambda: _jpeg_with_size(9_900, 9_900), JPEG, None)
    yield Case("jpeg of no height", lambda: _jpeg_with_size(64, 0), JPEG, None)
    yield Case("jpeg of no width", lambda: _jpeg_with_size(0, 64), JPEG, None)
    yield Case("jpeg progressive of 9900 x 9900", lambda: _progressive(9_900), JPEG, None, heavy=True)
    yield Case("jpeg of 30,000 scans", lambda: _scans(30_000), JPEG, LIMIT_TIME)
    yield Case(
        "jpeg with 4 MB of comments", lambda: _after_soi(plain(), _segment(0xFE, bytes(65_000)) * 64), JPEG, None
    )
    yield Case("jpeg with 30,000 segments", lambda: _after_soi(plain(), _segment(0xE5, b"") * 30_000), JPEG, None)
    exif = b"Exif\0\0" + _looping_exif()
    yield Case("jpeg whose exif goes round in circles", lambda: _after_soi(plain(), _segment(0xE1, exif)), JPEG, None)
    far = b"Exif\0\0II*\0" + struct.pack("<I", 0xFFFF_FFF0)
    yield Case("jpeg whose exif lies beyond the file", lambda: _after_soi(plain(), _segment(0xE1, far)), JPEG, None)
    many = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 0xFFFF)
    yield Case("jpeg whose exif has 65,535 entries", lambda: _after_soi(plain(), _segment(0xE1, many)), JPEG, None)
    huge = struct.pack("<HHII", 0x010F, 2, 0xFFFF_FFFF, 8)
    said = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + huge + bytes(4)
    yield Case("jpeg whose maker's name has 4 GB", lambda: _after_soi(plain(), _segment(0xE1, said)), JPEG, None)
    profile = b"ICC_PROFILE\0\1\1" + b"\xff" * 60_000
    yield Case("jpeg with a broken colour profile", lambda: _after_soi(plain(), _segment(0xE2, profile)), JPEG, None)
    parts = b"".join(_segment(0xE2, b"ICC_PROFILE\0\1\xff" + bytes(60_000)) for _ in range(200))
    yield Case("jpeg with a colour profile of 12 MB", lambda: _after_soi(plain(), parts), JPEG, None)
    mpo = b"MPF\0II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0xB001, 4, 1, 0xFFFF_FFFF) + bytes(4)
    yield Case("jpeg that says it has 4 billion pictures", lambda: _after_soi(plain(), _segment(0xE2, mpo)), JPEG, None)
    yield Case("jpeg start and end only", lambda: b"\xff\xd8\xff\xd9" + bytes(64), JPEG, None)
    yield Case("jpeg of nothing but markers", lambda: b"\xff\xd8" + b"\xff\xda" * 5_000, JPEG, None)
    yield Case("jpeg of ones", lambda: b"\xff\xd8\xff\xe0\x00\x10JFIF\0" + b"\xff" * 100_000, JPEG, UNDECODABLE)


def _progressive(side: int) -> bytes:
    return encoded(Image.new("L", (side, side)), "JPEG", progressive=True, quality=1)


# --- TIFF -------------------------------------------------------------------------------------------------------------


def _tiff(entries: list[tuple[int, int, int, int]], *, data: bytes = b"", next_ifd: int = 0) -> bytes:
    """One directory at 8; ``data`` follows it at 10 + 12 n + 4."""
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries))
    return head + b"".join(struct.pack("<HHII", *entry) for entry in entries) + struct.pack("<I", next_ifd) + data


def _grey(width: int, height: int, packing: int, length: int, **changes: int) -> list[tuple[int, int, int, int]]:
    fields = {
        256: width,
        257: height,
        258: 8,
        259: packing,
        262: 1,
        273: 8 + 2 + 12 * 9 + 4,
        277: 1,
        278: height,
        279: length,
    }
    fields |= {int(tag[1:]): value for tag, value in changes.items()}
    return [(tag, 4, 1, value) for tag, value in sorted(fields.items())]


def tiff_cases() -> Iterator[Case]:
    packed = zlib.compress(bytes(64 * 64))
    for side in (20_000, 60_000, 0x7FFF_FFFF):
        entries = _grey(side, side, 8, len(packed))
        yield Case(f"tiff says {side}", lambda entries=entries: _tiff(entries, data=packed), TIFF, LIMIT_PIXELS)
    for packing in (1, 2, 3, 4, 5, 7, 8, 32773, 34925, 50001, 9999):
        entries = _grey(64, 64, packing, len(packed))
        yield Case(f"tiff of noise, packing {packing}", lambda entries=entries: _tiff(entries, data=packed), TIFF, None)
    large = _grey(9_900, 9_900, 8, 1)
    yield Case("tiff deflate bomb below the limit", lambda: _deflate_tiff(9_900), TIFF, None, heavy=True)
    yield Case("tiff that says more than it has", lambda: _tiff(large, data=packed), TIFF, None)
    loop = _grey(64, 64, 8, len(packed))
    yield Case("tiff whose directories go round in circles", lambda: _tiff(loop, data=packed, next_ifd=8), TIFF, None)
    yield Case("tiff of 20,000 directories", lambda: _many_directories(20_000), TIFF, None, heavy=True)
    yield Case(
        "tiff whose directory lies beyond the file", lambda: b"II*\0" + struct.pack("<I", 0xFFFF_FFF0), TIFF, None
    )
    yield Case("tiff of 65,535 entries", lambda: b"II*\0" + struct.pack("<IH", 8, 0xFFFF) + bytes(200), TIFF, None)
    for tag, value in ((258, 0), (258, 255), (277, 0), (277, 65_535), (278, 0), (273, 0xFFFF_FFFF), (279, 0xFFFF_FFFF)):
        entries = _grey(64, 64, 8, len(packed), **{f"t{tag}": value})
        yield Case(f"tiff with tag {tag} = {value}", lambda entries=entries: _tiff(entries, data=packed), TIFF, None)
    wide = [(256, 4, 1, 64), (257, 4, 1, 64), (273, 4, 0xFFFF_FFFF, 8)]
    yield Case("tiff of 4 billion strips", lambda: _tiff(wide), TIFF, None)
    yield Case("bigtiff of nothing", lambda: b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) + bytes(64), TIFF, None)
    yield Case("tiff of 1,000 pages", lambda: _pages(1_000), TIFF, None, heavy=True)
    tiled = _grey(64, 64, 8, len(packed), t322=0, t323=0, t324=8, t325=10)
    yield Case("tiff of tiles without a size", lambda: _tiff(tiled, data=packed), TIFF, None)


def _deflate_tiff(side: int) -> bytes:
    packed = deflated(bytes(side), side)
    return _tiff(_grey(side, side, 8, len(packed)), data=packed)


def _many_directories(count: int) -> bytes:
    size = 2 + 12 * 9 + 4
    body = bytearray(b"II*\0" + struct.pack("<I", 8))
    for number in range(count):
        at = 8 + number * size
        entries = _grey(8, 8, 1, 64, t273=8 + count * size)
        after = at + size if number + 1 < count else 0
        body += (
            struct.pack("<H", 9)
            + b"".join(struct.pack("<HHII", *entry) for entry in entries)
            + struct.pack("<I", after)
        )
    return bytes(body) + bytes(64)


def _pages(count: int) -> bytes:
    return encoded(
        Image.new("1", (32, 32)), "TIFF", save_all=True, append_images=[Image.new("1", (32, 32))] * (count - 1)
    )


# --- GIF and WebP -----------------------------------------------------------------------------------------------------


def _gif(screen: tuple[int, int], frames: bytes) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6) + frames


def _frame(x: int, y: int, width: int, height: int, data: bytes = b"\x02\x02D\x01\0") -> bytes:
    return b"," + struct.pack("<HHHHB", x, y, width, height, 0) + data


def gif_cases() -> Iterator[Case]:
    yield Case("gif of 65535 x 65535", lambda: _gif((65_535, 65_535), _frame(0, 0, 1, 1) + b";"), GIF, LIMIT_PIXELS)
    yield Case("gif frame larger than its screen", lambda: _gif((8, 8), _frame(0, 0, 65_535, 65_535) + b";"), GIF, None)
    yield Case("gif frame outside its screen", lambda: _gif((8, 8), _frame(60_000, 60_000, 4, 4) + b";"), GIF, None)
    yield Case("gif of 30,000 frames", lambda: _gif((8, 8), _frame(0, 0, 8, 8) * 30_000 + b";"), GIF, None)
    yield Case("gif of 500,000 frames", lambda: _gif((8, 8), _frame(0, 0, 1, 1) * 500_000 + b";"), GIF, None)
    yield Case(
        "gif of 300 frames at the pixel limit",
        lambda: _gif((9_900, 9_900), _frame(0, 0, 9_900, 9_900) * 300 + b";"),
        GIF,
        None,
    )
    yield Case(
        "gif frames that grow the screen",
        lambda: _gif((1, 1), b"".join(_frame(0, 0, s, s) for s in (1, 9_000, 65_535)) + b";"),
        GIF,
        None,
    )
    yield Case("gif without an end", lambda: _gif((8, 8), _frame(0, 0, 8, 8)), GIF, None)
    yield Case("gif of no frame", lambda: _gif((8, 8), b";"), GIF, None)
    yield Case("gif of no size", lambda: _gif((0, 0), _frame(0, 0, 0, 0) + b";"), GIF, None)
    yield Case(
        "gif with 5 MB of comment",
        lambda: _gif((8, 8), b"!\xfe" + (b"\xff" + bytes(255)) * 20_000 + b"\0" + _frame(0, 0, 8, 8) + b";"),
        GIF,
        None,
        heavy=True,
    )
    yield Case("gif of code size 255", lambda: _gif((8, 8), _frame(0, 0, 8, 8, b"\xff\x02D\x01\0") + b";"), GIF, None)
    yield Case(
        "gif data of ones",
        lambda: _gif((500, 500), _frame(0, 0, 500, 500, b"\x08" + (b"\xff" * 256) * 400 + b"\0") + b";"),
        GIF,
        None,
    )


def _riff(*chunks: tuple[bytes, bytes], size: int | None = None) -> bytes:
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def _vp8x(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    return b"VP8X", struct.pack("<I", flags) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def webp_cases() -> Iterator[Case]:
    small = plain("WEBP", (16, 16), lossless=True)
    image = (small[12:16], small[20:])
    yield Case("webp canvas of 16,777,216", lambda: _riff(_vp8x(1 << 24, 1 << 24), image), WEBP, LIMIT_PIXELS)
    yield Case("webp canvas other than its image", lambda: _riff(_vp8x(4_000, 4_000), image), WEBP, None)
    anim = (b"ANIM", bytes(6))
    frame = (b"ANMF", bytes(6) + (15).to_bytes(3, "little") * 2 + bytes(4) + small[12:])
    yield Case("webp of 3,000 frames", lambda: _riff(_vp8x(16, 16, 2), anim, *[frame] * 3_000), WEBP, None)
    yield Case(
        "webp of frames on a canvas of 9900", lambda: _riff(_vp8x(9_900, 9_900, 2), anim, *[frame] * 50), WEBP, None
    )
    yield Case(
        "webp of frames on a canvas of 16000",
        lambda: _riff(_vp8x(16_000, 16_000, 2), anim, *[frame] * 2),
        WEBP,
        LIMIT_PIXELS,
    )
    yield Case("webp that says 4 GB", lambda: _riff(image, size=0xFFFF_FFFE), WEBP, None)
    large = b"\x2f" + (16_382 | 16_382 << 14).to_bytes(4, "little") + bytes(64)
    yield Case("webp of 16383 x 16383", lambda: _riff((b"VP8L", large)), WEBP, LIMIT_PIXELS)
    yield Case("webp of nothing", lambda: _riff(), WEBP, None)
    yield Case("webp of noise", lambda: _riff((b"VP8 ", bytes(range(256)) * 40)), WEBP, None)
    yield Case("webp lossless of noise", lambda: _riff((b"VP8L", b"\x2f" + bytes(range(255)) * 40)), WEBP, None)
    exif = (b"EXIF", _looping_exif())
    yield Case("webp whose exif goes round in circles", lambda: _riff(_vp8x(16, 16, 8), image, exif), WEBP, None)


def cases() -> Iterator[Case]:
    yield from png_cases()
    yield from jpeg_cases()
    yield from tiff_cases()
    yield from gif_cases()
    yield from webp_cases()
