"""What a file is: declared against sniffed, and libmagic itself on real heads."""

import io
import struct
import tarfile
import zipfile

import pytest

from domain.refusals import ContentMismatch, FormatNotAllowed
from ingest_api.sniffing import HEAD_SIZE, MagicSniffer
from processors.documents.media_types import media_type
from tests.support.hostile.polyglots import BEFORE_A_PDF, FROM_THE_FIELD

NOBODY = 0xFFFFFFFF
END = b"\xfe\xff\xff\xff"
PAPERS = {
    *("application/pdf", "image/jpeg", "image/png", "text/csv", "application/msword", "text/xml"),
    *("application/json", "application/x-tar", "image/heic"),
}


@pytest.mark.parametrize(
    ("declared", "sniffed", "found"),
    [
        (None, "application/pdf", "application/pdf"),
        ("", "application/pdf", "application/pdf"),
        ("application/octet-stream", "image/png", "image/png"),
        ("application/pdf", "application/pdf", "application/pdf"),
        ("Application/PDF; version=1.7", "application/pdf", "application/pdf"),
        ("image/jpg", "image/jpeg", "image/jpeg"),
        ("image/jfif", "image/jpeg", "image/jpeg"),
        ("image/pjpeg", "image/jpeg", "image/jpeg"),
        ("image/heif", "image/heic", "image/heic"),
        ("image/heic", "image/heif", "image/heic"),
        ("application/x-pdf", "application/pdf", "application/pdf"),
        ("text/csv", "text/plain", "text/csv"),
        ("application/json", "text/plain", "application/json"),
        ("application/x-tar", "application/x-ustar", "application/x-tar"),
        ("application/msword", "application/CDFV2", "application/msword"),
        ("application/xml", "text/xml", "application/xml"),
    ],
)
def test_accepted(declared: str | None, sniffed: str, found: str) -> None:
    assert media_type(declared, sniffed, PAPERS) == found


@pytest.mark.parametrize(
    "declared",
    [
        *("application/x-download", "application/force-download", "application/download", "unknown", "*/*"),
        *("binary/octet-stream", "application/unknown", "image/*", "Application/X-Download; name=a"),
    ],
)
def test_declared_types_that_say_nothing(declared: str) -> None:
    assert media_type(declared, "image/png", PAPERS) == "image/png"


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
        ("image/*", "application/pdf", ContentMismatch),
        ("application/x-msdownload", "application/pdf", ContentMismatch),
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


def a_tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    return content.getvalue()


def an_ole() -> bytes:
    """A compound file with a root and Word's stream ([MS-CFB], sections 2.2, 2.3, 2.6)."""

    def entry(name: str, kind: int, child: int) -> bytes:
        said = name.encode("utf-16-le")
        links = struct.pack("<III", NOBODY, NOBODY, child)
        return said.ljust(64, b"\0") + struct.pack("<HBB", len(said) + 2, kind, 1) + links + bytes(36) + END + bytes(8)

    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    header += struct.pack("<IIIII", 0, 1, 1, 0, 4096) + END + bytes(4) + END + bytes(4) + bytes(4)
    sectors = struct.pack("<II", 0xFFFFFFFD, 0xFFFFFFFE).ljust(512, b"\xff")
    return (
        header.ljust(512, b"\xff") + sectors + entry("Root Entry", 5, 1) + entry("WordDocument", 2, NOBODY) + bytes(256)
    )


PAPER = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n"
PDF_END = b"startxref\n9\n%%EOF\n"


@pytest.mark.parametrize("front", FROM_THE_FIELD.values(), ids=FROM_THE_FIELD)
def test_a_pdf_may_have_this_before_it(front: bytes) -> None:
    assert MagicSniffer().sniff((front + PAPER)[:HEAD_SIZE]) == "application/pdf"


@pytest.mark.parametrize("front", BEFORE_A_PDF.values(), ids=BEFORE_A_PDF)
def test_a_pdf_may_not_have_this_before_it(front: bytes) -> None:
    assert MagicSniffer().sniff((front + PAPER)[:HEAD_SIZE]) != "application/pdf"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"<html><body>%PDF-1.7</body></html>", "text/html"),
        (b"@echo off\r\nrem %PDF-\r\n", "text/x-msdos-batch"),
        (b"a;b\r\n1;%PDF-1.7\r\n", "text/plain"),
        (b"x" * 1024 + PAPER, "text/plain"),
    ],
)
def test_a_text_that_names_a_pdf_is_what_it_is_beside_that(text: bytes, found: str) -> None:
    assert MagicSniffer().sniff(text) in {found, "application/octet-stream"}


@pytest.mark.parametrize(
    ("head", "tail", "whole"),
    [
        (PAPER, PDF_END, True),
        (PAPER, b"trailer\n<<>>", True),
        (PAPER, b"<</Type/XRef/Size 9>>stream", True),
        (PAPER, b"%%EOF" + bytes(9), True),
        (b"%PDF-1.5\n% long comment", b"9 0 obj\nnull\nendobj\n" + PDF_END, True),
        (PAPER, b"", False),
        (PAPER, b"<script>", False),
        (b"%PDF-1.7\nwords\n", b"words\n%%EOF", False),
    ],
)
def test_a_pdf_ends_as_one(head: bytes, tail: bytes, *, whole: bool) -> None:
    assert MagicSniffer().is_whole("application/pdf", head, tail) is whole


def test_other_formats_have_no_end() -> None:
    assert MagicSniffer().is_whole("image/png", b"\x89PNG", b"")


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "application/pdf"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0", "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0", "image/jpeg"),
        (b"II*\0\x08\0\0\0", "image/tiff"),
        (b"II*\0\x08\0\0\0" + bytes(200), "image/tiff"),
        (b"RIFF\x24\0\0\0WEBPVP8 \x18\0\0\0" + bytes(24), "image/webp"),
        (b"GIF89a\1\0\1\0\0\0\0", "image/gif"),
        (b"<html><script>x</script></html>", "text/html"),
        # No parser but the table: it would know the first as Word's, and the others by name.
        (an_ole(), "application/x-ole-storage"),
        (b'{"a": [1, 2]}', "text/plain"),
        (b"a,b,c\n1,2,3\n4,5,6\n", "text/plain"),
        (a_tar(), "application/x-ustar"),
        (a_docx(), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (b"\0" * HEAD_SIZE, "application/octet-stream"),
        (b"", "application/x-empty"),
    ],
)
def test_libmagic_knows(head: bytes, found: str) -> None:
    sniffer = MagicSniffer()
    assert sniffer.sniff(head[: sniffer.wanted]) == found
