"""What a file is: declared against sniffed, and libmagic itself on real heads."""

import io
import zipfile

import pytest

from domain.refusals import ContentMismatch, FormatNotAllowed
from ingest_api.sniffing import HEAD_SIZE, MagicSniffer
from processors.media_types import media_type

PAPERS = {"application/pdf", "image/jpeg", "image/png", "text/csv", "application/msword", "text/xml"}


@pytest.mark.parametrize(
    ("declared", "sniffed", "found"),
    [
        (None, "application/pdf", "application/pdf"),
        ("", "application/pdf", "application/pdf"),
        ("application/octet-stream", "image/png", "image/png"),
        ("application/pdf", "application/pdf", "application/pdf"),
        ("Application/PDF; version=1.7", "application/pdf", "application/pdf"),
        ("image/jpg", "image/jpeg", "image/jpeg"),
        ("text/csv", "text/plain", "text/csv"),
        ("application/msword", "application/CDFV2", "application/msword"),
        ("application/xml", "text/xml", "application/xml"),
    ],
)
def test_accepted(declared: str | None, sniffed: str, found: str) -> None:
    assert media_type(declared, sniffed, PAPERS) == found


@pytest.mark.parametrize(
    ("declared", "sniffed", "error"),
    [
        ("application/pdf", "text/html", ContentMismatch),
        ("application/pdf", "application/octet-stream", ContentMismatch),
        ("text/csv", "text/html", ContentMismatch),
        ("image/png", "application/x-dosexec", ContentMismatch),
        (None, "text/html", FormatNotAllowed),
        (None, "text/plain", FormatNotAllowed),
        ("image/gif", "image/gif", FormatNotAllowed),
    ],
)
def test_refused(declared: str | None, sniffed: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        media_type(declared, sniffed, PAPERS)


def a_docx() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("[Content_Types].xml", "_rels/.rels", "word/document.xml"):
            archive.writestr(name, "<?xml version='1.0'?><x/>")
    return content.getvalue()


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "application/pdf"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0", "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0", "image/jpeg"),
        (b"II*\0\x08\0\0\0", "image/tiff"),
        (b"<html><script>x</script></html>", "text/html"),
        (a_docx(), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (b"\0" * HEAD_SIZE, "application/octet-stream"),
        (b"", "application/x-empty"),
    ],
)
def test_libmagic_knows(head: bytes, found: str) -> None:
    sniffer = MagicSniffer()
    assert sniffer.sniff(head[: sniffer.wanted]) == found
