"""What rendering a document gives: thumbnails and facts about the file, or the reason why there is no thumbnail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

#: Boxes, in pixels, that thumbnails fit in; each is a role of its own (``thumbnail-256``).
THUMBNAIL_BOXES: tuple[int, ...] = (256, 1024)

#: Media types that thumbnails are made of.
RENDERED_TYPES: frozenset[str] = frozenset(
    {
        *("application/pdf", "image/jpeg", "image/png", "image/webp", "image/tiff", "image/gif"),
        *("image/heic", "image/avif"),
    }
)


class NoThumbnail(Enum):
    """Why a document has no thumbnail: a fact about the document, not a failure of the pipeline."""

    UNSUPPORTED_TYPE = "UNSUPPORTED_TYPE"
    UNDECODABLE = "UNDECODABLE"
    #: It opens for who has its password, which nobody gave us.
    PASSWORD = "PASSWORD"  # noqa: S105 - a reason
    LIMIT_SIZE = "LIMIT_SIZE"
    LIMIT_PIXELS = "LIMIT_PIXELS"
    LIMIT_MEMORY = "LIMIT_MEMORY"
    LIMIT_TIME = "LIMIT_TIME"
    CHILD_DIED = "CHILD_DIED"
    #: The parser crashed of itself: a fault in it, or no memory where it can't do without.
    PARSER_CRASHED = "PARSER_CRASHED"
    #: The parser was killed for a system call that no parser makes.
    FORBIDDEN_CALL = "FORBIDDEN_CALL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """One image that fits in a square of ``box`` pixels; ``width`` and ``height`` in pixels, ``data`` the encoded file."""

    box: int
    mime_type: str
    width: int
    height: int
    data: bytes = field(repr=False)

    @property
    def role(self) -> str:
        """The role it is stored and encrypted under."""
        return f"thumbnail-{self.box}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """Thumbnails, smallest box first, or else ``reason``. ``metadata`` is what the file says of itself, and may hold
    its texts: what is kept of it is ``domain.file_facts.known_facts``."""

    thumbnails: tuple[Thumbnail, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    reason: NoThumbnail | None = None
