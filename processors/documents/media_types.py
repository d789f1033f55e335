"""Which media type an uploaded file has: what its bytes say, refined by what was declared where bytes can't tell."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

from domain.refusals import ContentMismatch, FormatNotAllowed

#: Declared types that say nothing: what servers write to have a browser save a file, and clients who know no better.
_UNSAID: Final = frozenset(
    {
        *("", "*/*", "unknown", "binary", "file", "unknown/unknown", "content/unknown", "application/unknown"),
        *("application/octet-stream", "binary/octet-stream", "application/octetstream", "application/x-octet-stream"),
        *("application/binary", "application/x-binary", "application/download", "application/x-download"),
        *("application/force-download", "application/x-force-download", "application/save", "application/x-unknown"),
        "application/x-unknown-content-type",
    }
)

#: Other names of the same format, by the one that is recorded.
_NAMES: Final = {
    **dict.fromkeys(("image/jpg", "image/jpe", "image/jfif", "image/pjpeg", "image/pipeg"), "image/jpeg"),
    **dict.fromkeys(("image/x-jpeg", "image/x-jpg", "image/x-citrix-jpeg"), "image/jpeg"),
    **dict.fromkeys(("image/x-png", "image/x-citrix-png", "image/apng", "image/vnd.mozilla.apng"), "image/png"),
    **dict.fromkeys(("image/tif", "image/x-tiff", "image/x-tif", "application/tiff"), "image/tiff"),
    **dict.fromkeys(("image/x-gif", "image/x-citrix-gif"), "image/gif"),
    "image/x-webp": "image/webp",
    **dict.fromkeys(("image/heif", "image/heic-sequence", "image/heif-sequence"), "image/heic"),
    "image/avif-sequence": "image/avif",
    **dict.fromkeys(("application/x-pdf", "application/acrobat", "application/vnd.pdf"), "application/pdf"),
    **dict.fromkeys(("text/pdf", "text/x-pdf", "image/pdf", "applications/vnd.pdf"), "application/pdf"),
    "text/xml": "application/xml",
    "application/csv": "text/csv",
    "application/x-zip-compressed": "application/zip",
    "application/x-ustar": "application/x-tar",
}

_PLAIN_TEXT: Final = frozenset({"text/plain", "text/csv", "application/json"})
_OLE: Final = frozenset({"application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"})

#: What a sniffer can't tell apart from the beginning of a file: seen -> what may be declared for it.
_REFINED: Final[dict[str, frozenset[str]]] = {
    "text/plain": _PLAIN_TEXT,
    "text/csv": _PLAIN_TEXT,
    "application/cdfv2": _OLE,
    "application/x-ole-storage": _OLE,
}


def media_type(declared: str | None, sniffed: str, allowed: AbstractSet[str]) -> str:
    """The media type to record. ``declared`` may carry parameters.

    Raises ContentMismatch if the content is not what was declared, FormatNotAllowed if the document type does not take it.
    """
    said, seen = recorded_name(declared or ""), recorded_name(sniffed)
    if said in _UNSAID or (said.endswith("/*") and seen.startswith(said[:-1])):
        said = seen
    if said != seen and said not in _REFINED.get(seen, frozenset()):
        raise ContentMismatch(f"The content is not of the declared media type; it looks like {seen}.")
    if said not in {recorded_name(name) for name in allowed}:
        raise FormatNotAllowed(f"The document type does not allow {said}; it allows {', '.join(sorted(allowed))}.")
    return said


def recorded_name(name: str) -> str:
    """The one name that a format is recorded under, without parameters."""
    essence = name.partition(";")[0].strip().lower()
    return _NAMES.get(essence, essence)
