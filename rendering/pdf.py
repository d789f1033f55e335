"""PDF with pypdfium2: page 1 as a picture, and the facts that are not personal. Runs inside the child."""

from __future__ import annotations

import io
import math
import re
from ctypes import c_ubyte
from typing import Any, Final

import pypdfium2
import pypdfium2.raw as pdfium
from PIL import Image

from domain.renderings import THUMBNAIL_BOXES
from rendering.images import thumbnails_of
from rendering.protocol import LIST_ITEMS, clean_text

#: A page smaller than the largest box is not blown up beyond this: 300 pixels per inch, 72 points to the inch.
MAX_SCALE: Final = 300 / 72
#: Pages whose sizes are told one by one.
PAGE_SIZES: Final = min(50, LIST_ITEMS)

_DATE: Final = re.compile(r"D:\d{4,14}(?:Z|[+-]\d{2}'?\d{2}'?)?")
_MAX_POINTS: Final = 1e7


class PdfUnderPassword(Exception):
    """The PDF opens with its user's password only."""


class PdfUndecodable(Exception):
    """PDFium can't open the file or its first page. ``cause_code`` is a word of ours, ``metadata`` what is known."""

    def __init__(self, cause_code: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(cause_code)
        self.metadata = {**(metadata or {}), "undecodable": cause_code}


def render_pdf(content: io.BytesIO) -> tuple[list[Image.Image], dict[str, Any]]:
    """Thumbnails of page 1 for ``THUMBNAIL_BOXES`` and the file's facts. Raises PdfUndecodable, PdfUnderPassword or MemoryError.

    One that opens without a password, and has one for its owner only, is rendered as any.
    """
    view = content.getbuffer()
    # A view of the buffer, not a copy: the document may be large, and PDFium reads it in place.
    window = (c_ubyte * len(view)).from_buffer(view)
    try:
        document = pypdfium2.PdfDocument(window)
    except pypdfium2.PdfiumError as error:
        if error.err_code == pdfium.FPDF_ERR_PASSWORD:
            raise PdfUnderPassword from error
        if error.err_code == pdfium.FPDF_ERR_SECURITY:
            raise PdfUndecodable("SECURITY", {"encrypted": True}) from error
        raise PdfUndecodable("DAMAGED") from error
    try:
        facts = _facts(document)
        try:
            picture = _first_page(document)
        except pypdfium2.PdfiumError as error:
            raise PdfUndecodable("DAMAGED", facts) from error
        return thumbnails_of(picture), facts
    finally:
        document.close()


def _first_page(document: pypdfium2.PdfDocument) -> Image.Image:
    document.init_forms()
    page = document.get_page(0)
    width, height = page.get_size()
    if not (_is_length(width) and _is_length(height)):
        raise pypdfium2.PdfiumError("page without a size")
    scale = min(max(THUMBNAIL_BOXES) / max(width, height), MAX_SCALE)
    # PDFium rounds a page's sides up to whole pixels; just under the box is never over it.
    scale *= 1 - 1e-6
    bitmap = page.render(scale=scale, rev_byteorder=True, limit_image_cache=True)
    picture: Image.Image = bitmap.to_pil().convert("RGB")
    bitmap.close()
    return picture


def _is_length(points: float) -> bool:
    return math.isfinite(points) and 0 < points < _MAX_POINTS


def _facts(document: pypdfium2.PdfDocument) -> dict[str, Any]:
    pages = len(document)
    facts: dict[str, Any] = {
        "pages": pages,
        "encrypted": pdfium.FPDF_GetSecurityHandlerRevision(document) != -1,
    }
    version = document.get_version()
    if version is not None:
        facts["pdf_version"] = f"{version // 10}.{version % 10}"
    sizes = [_page_size(document, index) for index in range(min(pages, PAGE_SIZES))]
    facts["page_sizes_pt"] = [size for size in sizes if size is not None]
    for key, name in (("Producer", "producer"), ("Creator", "creator_tool")):
        text = _said(document, key)
        if text:
            facts[name] = text
    created = _said(document, "CreationDate")
    if _DATE.fullmatch(created):
        facts["creation_date"] = created
    return facts


def _said(document: pypdfium2.PdfDocument, key: str) -> str:
    """A text of the file's information dictionary; empty where it is none (half of a character, say)."""
    try:
        return clean_text(document.get_metadata_value(key))
    except UnicodeError:
        return ""


def _page_size(document: pypdfium2.PdfDocument, index: int) -> dict[str, float] | None:
    """Width and height in points; an object, because not every document database takes lists in lists."""
    try:
        width, height = document.get_page_size(index)
    except pypdfium2.PdfiumError:
        return None
    if not (_is_length(width) and _is_length(height)):
        return None
    return {"width": round(width, 1), "height": round(height, 1)}
