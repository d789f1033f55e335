"""What worker and rendering child say to each other over the child's standard input and output.

::

    mark (child):            16 bytes that nobody can foresee, here and on standard error: whoever had the pipes before has ended
    greeting (child, once):  frame {"ready": version, "confinement": [layer, ...]}
    job (worker):            frame {"mime_type": str}, then the content: pieces of u32 length + bytes,
                             ended by length 0, or by ABORT: the worker wants no answer
    answer (child):          frame {"reason": str | null, "metadata": {...}, "thumbnails": [{"box", "width", "height",
                             "size"}, ...]}, then the thumbnails' bytes in that order

A mark comes first, and after each job, answered or aborted. The process that has read a document can write to standard output
alone, so it can neither make a mark nor hide behind one what it said too much. A frame is u32 length + UTF-8 JSON; all integers are big-endian. The child runs other people's decoders on other people's
files, so the worker believes nothing: every length is capped before it is read and every value is checked.
"""

from __future__ import annotations

import json
import math
import re
import struct
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from domain.renderings import THUMBNAIL_BOXES, NoThumbnail

VERSION: Final = 3
LENGTH: Final = struct.Struct(">I")
ABORT: Final = 0xFFFF_FFFF
#: Begins a mark: no frame is that long. Random bytes follow.
MARK: Final = b"\xff\xff\xff\xff"
MARK_BYTES: Final = 16
#: Longest piece of content in one go; larger ones are cut, so that neither side buffers more than this.
PIECE_BYTES: Final = 1 << 20
FRAME_BYTES: Final = 64 << 10
THUMBNAIL_BYTES: Final = 4 << 20
THUMBNAIL_MIME_TYPE: Final = "image/webp"

TEXT_CHARACTERS: Final = 120
LIST_ITEMS: Final = 100
_KEYS: Final = 64
_DEPTH: Final = 3
_KEY: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
#: What MongoDB stores as an integer.
_INTEGER: Final = 1 << 63


class ProtocolViolated(Exception):
    """The other side said something that the protocol has no place for."""


@dataclass(frozen=True, slots=True)
class AnnouncedThumbnail:
    """A thumbnail as the answer's frame announces it; ``size`` bytes follow the frame."""

    box: int
    width: int
    height: int
    size: int


@dataclass(frozen=True, slots=True)
class RenderResponse:
    """A checked answer: thumbnails for all boxes, smallest first, or a reason why there are none."""

    reason: NoThumbnail | None
    metadata: Mapping[str, Any]
    thumbnails: tuple[AnnouncedThumbnail, ...]


def frame(value: Mapping[str, Any]) -> bytes:
    """``value`` as a frame. Raises ProtocolViolated if it is too long."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > FRAME_BYTES:
        raise ProtocolViolated("frame too long")
    return LENGTH.pack(len(text)) + text


def frame_length(prefix: bytes) -> int:
    """Length of the frame that follows. Raises ProtocolViolated beyond ``FRAME_BYTES``."""
    (length,) = LENGTH.unpack(prefix)
    if length > FRAME_BYTES:
        raise ProtocolViolated("frame too long")
    return int(length)


def parse_frame(text: bytes) -> dict[str, Any]:
    """The frame's JSON object. Raises ProtocolViolated."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolated("frame is not JSON") from error
    if not isinstance(value, dict):
        raise ProtocolViolated("frame is not an object")
    return value


def check_answer(value: Mapping[str, Any]) -> RenderResponse:
    """What the answer's frame says, every value checked. Raises ProtocolViolated."""
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        raise ProtocolViolated("metadata is not an object")
    clean = clean_metadata(metadata)
    announced = value.get("thumbnails")
    if not isinstance(announced, list):
        raise ProtocolViolated("thumbnails is not a list")
    if value.get("reason") is None:
        if len(announced) != len(THUMBNAIL_BOXES):
            raise ProtocolViolated("one thumbnail for each box")
        pairs = zip(THUMBNAIL_BOXES, announced, strict=True)
        return RenderResponse(None, clean, tuple(_announced(box, item) for box, item in pairs))
    try:
        reason = NoThumbnail(value["reason"])
    except ValueError as error:
        raise ProtocolViolated("unknown reason") from error
    if announced:
        raise ProtocolViolated("thumbnails and a reason for none")
    return RenderResponse(reason, clean, ())


def is_webp(data: bytes) -> bool:
    """Whether ``data`` has the frame of a WebP file (RIFF container, RFC 9649 section 2.4)."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP" and int.from_bytes(data[4:8], "little") + 8 == len(data)


def _announced(box: int, item: Any) -> AnnouncedThumbnail:
    if not isinstance(item, dict) or item.get("box") != box:
        raise ProtocolViolated("thumbnail of another box")
    width, height, size = (_count(item.get(name), limit) for name, limit in _limits(box))
    return AnnouncedThumbnail(box, width, height, size)


def _limits(box: int) -> tuple[tuple[str, int], ...]:
    return (("width", box), ("height", box), ("size", THUMBNAIL_BYTES))


def _count(value: Any, limit: int) -> int:
    if type(value) is not int or not 1 <= value <= limit:
        raise ProtocolViolated("thumbnail out of bounds")
    return value


def clean_text(value: Any) -> str:
    """Printable text of at most ``TEXT_CHARACTERS`` characters: control, format and unassigned characters are dropped."""
    text = str(value)[: TEXT_CHARACTERS * 4]
    kept = "".join(c if c == " " or unicodedata.category(c)[0] not in "CZ" else " " for c in text)
    return " ".join(kept.split())[:TEXT_CHARACTERS].rstrip()


def clean_metadata(value: Mapping[str, Any], depth: int = 1) -> dict[str, Any]:
    """Facts bounded in number, depth and length, of JSON types that MongoDB stores. Raises ProtocolViolated."""
    if depth > _DEPTH or len(value) > _KEYS:
        raise ProtocolViolated("metadata too large")
    clean: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise ProtocolViolated("metadata key")
        clean[key] = _clean(item, depth)
    return clean


def _clean(item: Any, depth: int) -> Any:
    if isinstance(item, dict):
        return clean_metadata(item, depth + 1)
    if isinstance(item, list | tuple):
        if depth >= _DEPTH or len(item) > LIST_ITEMS:
            raise ProtocolViolated("metadata list too long")
        return [_clean(inner, depth + 1) for inner in item]
    if isinstance(item, str):
        return clean_text(item)
    if item is None or isinstance(item, bool):
        return item
    if isinstance(item, int) and -_INTEGER <= item < _INTEGER:
        return item
    if isinstance(item, float) and math.isfinite(item):
        return item
    raise ProtocolViolated("metadata value")
