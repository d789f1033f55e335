"""A pool of real rendering children that must leave nothing behind, and files for it."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from domain.renderings import Rendered
from rendering.pool import RenderPool

#: Files of /proc that only root reads, because a process of ours can't be dumped.
only_root_sees_inside = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root sees the descriptors and the environment of a process that can't be dumped"
)


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def runs(pid: int) -> bool:
    """Whether it is there and not merely waiting for somebody to collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def offspring(pid: int) -> list[int]:
    """The processes that a child has forked for documents and that are there now: one, but between two documents."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@asynccontextmanager
async def a_pool(**limits: Any) -> AsyncIterator[RenderPool]:
    pool = RenderPool(**{"children": 1, "timeout": 20.0, **limits})
    try:
        yield pool
    finally:
        pids = pool.pids
        await pool.aclose()
        assert pool.pids == frozenset()
        assert not [pid for pid in pids if is_there(pid)]


async def stream(content: bytes, piece: int = 65536) -> AsyncIterator[bytes]:
    for offset in range(0, len(content), piece):
        yield content[offset : offset + piece]


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def plain(form: str = "JPEG", size: tuple[int, int] = (640, 480), mode: str = "RGB", **options: Any) -> bytes:
    return encoded(Image.new(mode, size), form, **options)


def opened(rendered: Rendered, index: int = 0) -> Image.Image:
    """A thumbnail as an image, checked to be what was announced."""
    assert rendered.reason is None
    thumbnail = rendered.thumbnails[index]
    image = Image.open(io.BytesIO(thumbnail.data))
    image.load()
    assert image.format == "WEBP"
    assert (image.width, image.height) == (thumbnail.width, thumbnail.height)
    assert max(image.size) <= thumbnail.box
    return image


def close_to(found: Any, wanted: tuple[int, ...]) -> bool:
    return all(abs(a - b) < 45 for a, b in zip(found, wanted, strict=True))


def bomb(width: int, height: int) -> bytes:
    """A PNG of black pixels whose data are a few kilobytes whatever its size (PNG, third edition, section 5)."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def a_pdf(page: bytes, *, drawing: bytes = b"1 0 0 rg 0 0 100000 100000 re f") -> bytes:
    """A PDF with one page whose dictionary has the entries ``page``."""
    out = io.BytesIO()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << >> %s >>" % page,
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawing), drawing),
    ]
    out.write(b"%PDF-1.4\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 5\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % offset for offset in offsets))
    out.write(b"trailer\n<< /Size 5 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % start)
    return out.getvalue()
