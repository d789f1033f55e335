"""What runs inside a rendering child: ``python -I -m rendering.child MEMORY_BYTES MAX_PIXELS``.

Started with an empty environment and no open file but its three standard ones; see ``rendering.protocol`` for what it
hears and says. It confines itself (``rendering.confinement``) before the first byte of a document arrives, says in its
greeting how far that went, and ends when its standard input does.
"""

from __future__ import annotations

import codecs
import io
import os
import resource
import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO, Final

from PIL import Image

from domain.renderings import THUMBNAIL_BOXES, NoThumbnail
from rendering.confinement import Layer, confine
from rendering.images import FORMATS, TooManyPixels, encode, render_image
from rendering.pdf import PdfUndecodable, render_pdf
from rendering.protocol import (
    ABORT,
    LENGTH,
    PIECE_BYTES,
    THUMBNAIL_BYTES,
    VERSION,
    ProtocolViolated,
    frame,
    frame_length,
    parse_frame,
)

PDF: Final = "application/pdf"
#: What texts in documents are written in.
CODECS: Final = ("ascii", "latin-1", "cp1252", "mac-roman", "utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32")


class Aborted(Exception):
    """The worker gave up on this document while sending it."""


def render(content: io.BytesIO, mime_type: str, max_pixels: int) -> tuple[dict[str, Any], list[bytes]]:
    """The answer's frame and the thumbnails' bytes. Any file gets an answer; only a dying process gives none."""
    try:
        if mime_type == PDF:
            pictures, facts = render_pdf(content)
        elif mime_type in FORMATS:
            pictures, facts = render_image(content, mime_type, max_pixels)
        else:
            return _none(NoThumbnail.UNSUPPORTED_TYPE)
        images = [encode(picture) for picture in pictures]
    except TooManyPixels as refused:
        return _none(NoThumbnail.LIMIT_PIXELS, refused.metadata)
    except Image.DecompressionBombError:
        return _none(NoThumbnail.LIMIT_PIXELS)
    except PdfUndecodable as refused:
        return _none(NoThumbnail.UNDECODABLE, refused.metadata)
    except MemoryError:
        return _none(NoThumbnail.LIMIT_MEMORY)
    except Exception:  # noqa: BLE001 - decoders raise what they like on a damaged file
        return _none(NoThumbnail.UNDECODABLE)
    if any(len(image) > THUMBNAIL_BYTES for image in images):
        return _none(NoThumbnail.LIMIT_MEMORY, facts)
    announced = [
        {"box": box, "width": picture.width, "height": picture.height, "size": len(image)}
        for box, picture, image in zip(THUMBNAIL_BOXES, pictures, images, strict=True)
    ]
    return {"reason": None, "metadata": facts, "thumbnails": announced}, images


def _none(reason: NoThumbnail, metadata: Mapping[str, Any] | None = None) -> tuple[dict[str, Any], list[bytes]]:
    return {"reason": reason.value, "metadata": dict(metadata or {}), "thumbnails": []}, []


def serve(source: BinaryIO, sink: BinaryIO, max_pixels: int, held: Iterable[Layer]) -> None:
    """Say what confines us, then answer jobs until ``source`` ends. Raises ProtocolViolated if the worker does not keep to the protocol."""
    _say(sink, [frame({"ready": VERSION, "confinement": sorted(layer.value for layer in held)})])
    while prefix := source.read(LENGTH.size):
        job = parse_frame(_exactly(source, frame_length(prefix)))
        try:
            content = _receive(source)
        except Aborted:
            continue
        _limit_cpu(int(job["cpu_seconds"]))
        if content is None:
            answer, images = _none(NoThumbnail.LIMIT_MEMORY)
        else:
            answer, images = render(content, str(job["mime_type"]), max_pixels)
        del content
        _say(sink, [frame(answer), *images])


def _say(sink: BinaryIO, parts: list[bytes]) -> None:
    sink.writelines(parts)
    sink.flush()


def _receive(source: BinaryIO) -> io.BytesIO | None:
    """The content, in memory; None if it does not fit there. Raises Aborted."""
    content: io.BytesIO | None = io.BytesIO()
    while length := LENGTH.unpack(_exactly(source, LENGTH.size))[0]:
        if length == ABORT:
            raise Aborted
        if length > PIECE_BYTES:
            raise ProtocolViolated("piece too long")
        piece = _exactly(source, length)
        if content is not None:
            try:
                content.write(piece)
            except MemoryError:
                # The rest still has to be read, or the next job would begin in the middle of this one.
                content = None
    if content is not None:
        content.seek(0)
    return content


def _exactly(source: BinaryIO, length: int) -> bytes:
    data = source.read(length)
    if len(data) != length:
        raise ProtocolViolated("input ended inside a job")
    return data


def _limit_cpu(seconds: int) -> None:
    """Let this job have ``seconds`` of processor time from now; beyond it the kernel ends us with SIGXCPU."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + 1 + seconds, hard))


def _rehearse(max_pixels: int) -> None:
    """Render one small file of each type. Before we are confined it loads what is loaded at its first use; afterwards it proves
    that nothing is missing: else every document would look damaged. Raises RuntimeError."""
    for name in CODECS:
        codecs.lookup(name)
    for mime_type, form in {**FORMATS, PDF: "PDF"}.items():
        out = io.BytesIO()
        Image.new("RGB", (300, 200)).save(out, form)
        answer, _ = render(io.BytesIO(out.getvalue()), mime_type, max_pixels)
        if answer["reason"] is not None:
            raise RuntimeError(mime_type)


def main() -> None:
    """Take over the standard streams, confine ourselves, load the decoders, serve."""
    memory_bytes, max_pixels = (int(text) for text in sys.argv[1:3])
    source = os.fdopen(os.dup(0), "rb", buffering=1 << 16)
    sink = os.fdopen(os.dup(1), "wb", buffering=1 << 16)
    silence = os.open(os.devnull, os.O_RDWR)
    # Libraries print to the standard streams, and what they print may quote the document: it goes nowhere.
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    os.close(silence)
    warnings.simplefilter("ignore")
    # Ours is checked before decoding; Pillow's own limit would only say less about the file.
    Image.MAX_IMAGE_PIXELS = None
    # All plugins now, while files may still be opened freely; which of them see a document is decided per document.
    Image.init()
    _rehearse(max_pixels)
    held = confine(memory_bytes, sources=[source.fileno()], sinks=[sink.fileno(), 1, 2])
    _rehearse(max_pixels)
    serve(source, sink, max_pixels, held)


if __name__ == "__main__":
    main()
