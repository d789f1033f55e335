"""Where Pillow refuses a whole picture for what we don't look at, or lacks a form that it could read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pi_heif
from PIL import AvifImagePlugin, ImageFile, PngImagePlugin, TiffImagePlugin

from rendering.libde265_threads import without_threads

#: One text or colour profile of a PNG, and all of its texts, unpacked. Of texts only an orientation in XMP is of use.
CHUNK_BYTES: Final = 4 << 20
TEXT_BYTES: Final = 8 << 20

Handler = Callable[[PngImagePlugin.PngStream, int, int], bytes]


def mend_pillow() -> bool:
    """Change this process's Pillow; a second time changes nothing. Returns whether it reads HEIC."""
    PngImagePlugin.MAX_TEXT_CHUNK = CHUNK_BYTES
    PngImagePlugin.MAX_TEXT_MEMORY = TEXT_BYTES
    for name in ("chunk_tEXt", "chunk_zTXt", "chunk_iTXt", "chunk_iCCP"):
        handler = getattr(PngImagePlugin.PngStream, name)
        if not hasattr(handler, "skips"):
            setattr(PngImagePlugin.PngStream, name, _skipping(handler))
    # A document's process may start no other, nor a thread. Where the decoder can't be kept from it, HEIC stays shut.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    readable = without_threads()
    if readable:
        pi_heif.register_heif_opener(thumbnails=False, decode_threads=0)
    for order in (b"II", b"MM"):
        # Grey with associated alpha (TIFF 6.0, section 18), and 12-bit samples, which are packed alike in both orders of bytes.
        TiffImagePlugin.OPEN_INFO.setdefault((order, 1, (1,), 1, (8, 8), (1,)), ("La", "La"))
        TiffImagePlugin.OPEN_INFO.setdefault((order, 1, (1,), 1, (12,), ()), ("I;16", "I;12"))
    return readable


def _skipping(handler: Handler) -> Handler:
    """``handler``, passing over what is too large."""

    def skipping(self: PngImagePlugin.PngStream, pos: int, length: int) -> bytes:
        file = self.fp
        start = file.tell() if file is not None else 0
        try:
            return handler(self, pos, length)
        except ValueError:
            if file is None:
                raise
            file.seek(start)
            return ImageFile._safe_read(file, length)  # noqa: SLF001 - as every handler there reads its chunk

    skipping.skips = True  # type: ignore[attr-defined]
    return skipping
