"""What runs inside a rendering child: ``python -I -m rendering.child MEMORY_BYTES MAX_BYTES CPU_SECONDS``.

Started with an empty environment and no open file but its three standard ones; see ``rendering.protocol`` for what it hears and
says. It loads the decoders and forks a process for each document, which confines itself (``rendering.confinement``) before
the first byte arrives and ends with its answer. The first of them says how far the confinement went. The next one is there
once the last one has been seen to end, which the worker is told in a way that no document's process has. All end when
standard input does.
"""

from __future__ import annotations

import codecs
import gc
import io
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, NoReturn

from PIL import Image

from domain.renderings import THUMBNAIL_BOXES, NoThumbnail
from rendering.confinement import Layer, Limits, confine, fence
from rendering.images import FORMATS, TooManyPixels, encode, render_image
from rendering.pdf import PdfUndecodable, PdfUnderPassword, render_pdf
from rendering.protocol import (
    ABORT,
    LENGTH,
    MARK,
    MARK_BYTES,
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
#: Small files of the types that we can't write: pi-heif only reads, and writing AVIF takes threads.
_KEPT: Final = {
    mime_type: Path(__file__).with_name(name).read_bytes()
    for mime_type, name in (("image/heic", "warm_up.heic"), ("image/avif", "warm_up.avif"))
}
#: How a document's process ends if it has not answered: there was no job, or it could not do one.
NO_MORE: Final = 10
FAILED: Final = 11


class Pipes(NamedTuple):
    """Process id of the child, and its descriptors to the worker. ``report`` is the child's own: documents' processes close it."""

    owner: int
    source: int
    sink: int
    report: int


class Aborted(Exception):
    """The worker gave up on this document while sending it."""


def render(content: io.BytesIO, mime_type: str, max_bytes: int) -> tuple[dict[str, Any], list[bytes]]:
    """The answer's frame and the thumbnails' bytes. Any file gets an answer; only a dying process gives none."""
    try:
        if mime_type == PDF:
            pictures, facts = render_pdf(content)
        elif mime_type in FORMATS:
            pictures, facts = render_image(content, mime_type, max_bytes)
        else:
            return _none(NoThumbnail.UNSUPPORTED_TYPE)
        images = [encode(picture) for picture in pictures]
    except TooManyPixels as refused:
        return _none(NoThumbnail.LIMIT_PIXELS, refused.metadata)
    except Image.DecompressionBombError:
        return _none(NoThumbnail.LIMIT_PIXELS)
    except PdfUnderPassword:
        return _none(NoThumbnail.PASSWORD, {"encrypted": True})
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


def serve(source: BinaryIO, sink: BinaryIO, max_bytes: int) -> bool:
    """Answer one job, or take one that is aborted; False if ``source`` ends first. Raises ProtocolViolated if the worker does not
    keep to the protocol."""
    if not (prefix := source.read(LENGTH.size)):
        return False
    job = parse_frame(_exactly(source, frame_length(prefix)))
    try:
        content = _receive(source)
    except Aborted:
        return True
    if content is None:
        answer, images = _none(NoThumbnail.LIMIT_MEMORY)
    else:
        answer, images = render(content, str(job["mime_type"]), max_bytes)
    _write_parts(sink, [frame(answer), *images])
    return True


def greeting(held: Iterable[Layer]) -> bytes:
    """The frame that says that we are ready, and what confines us."""
    return frame({"ready": VERSION, "confinement": sorted(layer.value for layer in held)})


def _write_parts(sink: BinaryIO, parts: list[bytes]) -> None:
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


def _warm_up(max_bytes: int) -> None:
    """Render one small file of each type. Before we are confined it loads what is loaded at its first use; afterwards it proves
    that nothing is missing: else every document would look damaged. Raises RuntimeError."""
    for name in CODECS:
        codecs.lookup(name)
    for mime_type, form in {**FORMATS, PDF: "PDF"}.items():
        content = io.BytesIO(_KEPT.get(mime_type, b""))
        if mime_type not in _KEPT:
            Image.new("RGB", (300, 200)).save(content, form)
        answer, _ = render(content, mime_type, max_bytes)
        if answer["reason"] is not None:
            raise RuntimeError(mime_type)


def _one_document(fenced: frozenset[Layer], limits: Limits, max_bytes: int, pipes: Pipes, *, first: bool) -> NoReturn:
    """In a process of its own: confine ourselves, answer one job, end. The first one proves that it can, and says so."""
    status = FAILED
    try:
        os.close(pipes.report)
        held = confine(fenced, limits, parent=pipes.owner, sources=[pipes.source], sinks=[pipes.sink, 1, 2])
        source = os.fdopen(pipes.source, "rb", buffering=1 << 16, closefd=False)
        sink = os.fdopen(pipes.sink, "wb", buffering=1 << 16, closefd=False)
        if first:
            _warm_up(max_bytes)
            _write_parts(sink, [greeting(held)])
        status = os.EX_OK if serve(source, sink, max_bytes) else NO_MORE
    finally:
        os._exit(status)


def fork_per_document(limits: Limits, max_bytes: int, pipes: Pipes) -> NoReturn:
    """Fork a process for each document, the next one once the last one has ended, and die as it did if it did not end well.

    No document ever meets what another has left behind, in memory or worse: we ourselves never read a byte of one, and the worker
    sends none before the mark that says that the last one's process is gone.
    """
    fenced = fence()
    first = True
    while True:
        mark = MARK + os.urandom(MARK_BYTES - len(MARK))
        # In this order: the other pipe may be full of what a document's process had no business to say.
        for descriptor in (pipes.report, pipes.sink):
            os.write(descriptor, mark)
        pid = os.fork()
        if pid == 0:
            _one_document(fenced, limits, max_bytes, pipes, first=first)
        first = False
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            os.kill(os.getpid(), os.WTERMSIG(status))
        if status != 0:
            os._exit(os.EX_OK if os.WEXITSTATUS(status) == NO_MORE else FAILED)


def main() -> NoReturn:
    """Take over the standard streams, load the decoders, fork for each document."""
    memory_bytes, max_bytes, cpu_seconds = (int(text) for text in sys.argv[1:4])
    pipes = Pipes(os.getpid(), os.dup(0), os.dup(1), os.dup(2))
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
    _warm_up(max_bytes)
    gc.collect()
    gc.freeze()
    fork_per_document(Limits(memory_bytes, cpu_seconds), max_bytes, pipes)


if __name__ == "__main__":
    main()
