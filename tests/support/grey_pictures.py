"""Pictures of grey that Pillow does not write: TIFF and PNG by hand (TIFF 6.0; PNG, third edition)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence

from tests.support.hostile.cases import png_chunk, png_head

WIDTH, HEIGHT = 300, 200


def a_tiff(row: bytes, bits: Sequence[int], *, order: str = "<", white_is_zero: bool = False, **more: int) -> bytes:
    """``HEIGHT`` times ``row``; ``more`` are further tags of one short: ``sample_format``, ``extra``, ``largest``."""
    data = row * HEIGHT
    numbers = {"sample_format": 339, "extra": 338, "largest": 281}
    tags: dict[int, Sequence[int]] = {
        256: [WIDTH], 257: [HEIGHT], 258: bits, 259: [1], 262: [0 if white_is_zero else 1], 273: [8], 277: [len(bits)],
        278: [HEIGHT], 279: [len(data)], **{numbers[name]: [value] for name, value in more.items()},
    }  # fmt: skip
    directory = struct.pack(order + "H", len(tags))
    for tag, values in sorted(tags.items()):
        if tag in {273, 279}:
            directory += struct.pack(order + "HHII", tag, 4, 1, values[0])
        else:
            padded = [*values, 0][:2]
            directory += struct.pack(order + "HHIHH", tag, 3, len(values), *padded)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "I", 8 + len(data)) + data + directory + bytes(4)


def ramp(low: float, high: float) -> list[float]:
    return [low + (high - low) * x / (WIDTH - 1) for x in range(WIDTH)]


def packed(kind: str, values: Sequence[float], order: str = "<") -> bytes:
    """``values`` as ``struct`` writes ``kind``."""
    whole = values if kind in "fd" else [round(value) for value in values]
    return struct.pack(f"{order}{len(values)}{kind}", *whole)


def in_12_bits(values: Sequence[float]) -> bytes:
    """Two samples in three bytes, most significant bits first."""
    out = bytearray()
    for first, second in zip(values[::2], values[1::2], strict=True):
        a, b = round(first), round(second)
        out += bytes((a >> 4, (a & 15) << 4 | b >> 8, b & 255))
    return bytes(out)


def a_png(row: bytes, depth: int, colour: int, *chunks: bytes) -> bytes:
    body = zlib.compress(b"".join(b"\0" + row for _ in range(HEIGHT)))
    head = png_head(WIDTH, HEIGHT, depth, colour)
    return head + b"".join(chunks) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


def a_16_bit_png(clear: int | None = None) -> bytes:
    row = packed("H", ramp(0, 65535), ">")
    return a_png(row, 16, 0, *([] if clear is None else [png_chunk(b"tRNS", struct.pack(">H", clear))]))


def a_png_with_texts(name: bytes, sizes: Sequence[int], text: Callable[[bytes], bytes] = zlib.compress) -> bytes:
    """Red, with a chunk ``name`` for each size, of so many bytes when it is unpacked."""
    if name == b"iTXt":
        chunks = [b"XML:com.adobe.xmp\0\1\0\0\0" + text(b" " * size) for size in sizes]
    elif name == b"tEXt":
        chunks = [b"Comment\0" + b" " * size for size in sizes]
    else:
        chunks = [b"Comment\0\0" + text(b" " * size) for size in sizes]
    return a_png(b"\xe6\x14\x14" * WIDTH, 8, 2, *(png_chunk(name, chunk) for chunk in chunks))
