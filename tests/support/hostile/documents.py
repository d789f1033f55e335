"""Hostile PDFs: trees and references that loop, streams that unpack without end, drawings that take for ever."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from tests.support.encrypted_pdf import encrypted_pdf
from tests.support.hostile.cases import (
    MISMATCH,
    PDF,
    THUMBNAIL,
    UNDECODABLE,
    Case,
    deflated,
    page,
    pdf,
    stream,
    without,
)

MEGA = bytes(1 << 20)
FLATE = b"/Filter /FlateDecode"


def _nested(data: bytes, times: int) -> bytes:
    for _ in range(times):
        data = zlib.compress(data, 9)
    return data


def _flat_pages(count: int) -> bytes:
    kids = b" ".join(b"%d 0 R" % number for number in range(3, 3 + count))
    objects = {1: b"<< /Type /Catalog /Pages 2 0 R >>", 2: b"<< /Type /Pages /Count %d /Kids [%s] >>" % (count, kids)}
    leaf = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>"
    return pdf(objects | dict.fromkeys(range(3, 3 + count), leaf))


def _same_page(count: int) -> bytes:
    """One page object that the tree names ``count`` times."""
    objects = page()
    return pdf(objects | {2: b"<< /Type /Pages /Count %d /Kids [%s] >>" % (count, b"3 0 R " * count)})


def _deep_tree(depth: int) -> bytes:
    objects = {1: b"<< /Type /Catalog /Pages 2 0 R >>"}
    for number in range(2, 2 + depth):
        objects[number] = b"<< /Type /Pages /Count 1 /Parent %d 0 R /Kids [%d 0 R] >>" % (number - 1, number + 1)
    objects[2 + depth] = b"<< /Type /Page /Parent %d 0 R /MediaBox [0 0 9 9] >>" % (1 + depth)
    return pdf(objects)


def _exponential_forms(depth: int) -> bytes:
    """Each form draws the next one ten times: ten to the power of ``depth`` drawings."""
    objects = page(b"/MediaBox [0 0 200 200] /Resources << /XObject << /F 5 0 R >> >>", stream(b"/F Do"))
    form = b"/Type /XObject /Subtype /Form /BBox [0 0 200 200] "
    for number in range(5, 5 + depth):
        objects[number] = stream(b"/F Do " * 10, form + b"/Resources << /XObject << /F %d 0 R >> >>" % (number + 1))
    objects[5 + depth] = stream(b"0 0 1 1 re f", form)
    return pdf(objects)


def _own_form() -> bytes:
    form = b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /F 5 0 R >> >>"
    entries = b"/MediaBox [0 0 200 200] /Resources << /XObject << /F 5 0 R >> >>"
    return pdf(page(entries, stream(b"/F Do"), o5=stream(b"/F Do", form)))


def _image(entries: bytes, data: bytes) -> bytes:
    resources = b"/MediaBox [0 0 200 200] /Resources << /XObject << /I 5 0 R >> >>"
    image = stream(data, b"/Type /XObject /Subtype /Image /ColorSpace /DeviceGray /BitsPerComponent 8 " + entries)
    return pdf(page(resources, stream(b"200 0 0 200 0 0 cm /I Do"), o5=image))


def _object_stream(packed: bytes, count: int) -> bytes:
    entries = b"/Type /ObjStm /N %d /First 10 %s" % (count, FLATE)
    return pdf(page(o5=stream(packed, entries)) | {1: b"<< /Type /Catalog /Pages 2 0 R /Extra 6 0 R >>"})


def _xref_stream(size: int, packed: bytes) -> bytes:
    body = b"%PDF-1.5\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n"
    entries = b"/Type /XRef /Size %d /W [1 4 2] /Root 1 0 R %s" % (size, FLATE)
    return body + b"9 0 obj\n" + stream(packed, entries) + b"\nendobj\nstartxref\n%d\n%%%%EOF\n" % len(body)


def _annotations(count: int) -> bytes:
    note = b"<< /Type /Annot /Subtype /Square /Rect [0 0 9 9] /C [1 0 0] >>"
    return pdf(page(b"/MediaBox [0 0 200 200] /Annots [%s]" % (note * count)))


def _pattern() -> bytes:
    pattern = stream(
        b"0 0 1 1 re f",
        b"/PatternType 1 /PaintType 1 /TilingType 1 /BBox [0 0 1 1] /XStep .001 /YStep .001 /Resources << >>",
    )
    resources = b"/MediaBox [0 0 2000 2000] /Resources << /Pattern << /P 5 0 R >> >>"
    return pdf(page(resources, stream(b"/Pattern cs /P scn 0 0 2000 2000 re f"), o5=pattern))


def _shading(size: int) -> bytes:
    function = stream(
        bytes(64),
        b"/FunctionType 0 /Domain [0 1 0 1] /Range [0 1 0 1 0 1] /Size [%d %d] /BitsPerSample 8" % (size, size),
    )
    shading = b"<< /ShadingType 1 /ColorSpace /DeviceRGB /Domain [0 1 0 1] /Matrix [200 0 0 200 0 0] /Function 6 0 R >>"
    resources = b"/MediaBox [0 0 200 200] /Resources << /Shading << /S 5 0 R >> >>"
    return pdf(page(resources, stream(b"/S sh"), o5=shading, o6=function))


def _postscript() -> bytes:
    program = b"{ " + b"dup mul " * 100_000 + b"}"
    function = stream(program, b"/FunctionType 4 /Domain [0 1 0 1] /Range [0 1 0 1 0 1]")
    shading = b"<< /ShadingType 1 /ColorSpace /DeviceRGB /Domain [0 1 0 1] /Matrix [200 0 0 200 0 0] /Function 6 0 R >>"
    resources = b"/MediaBox [0 0 200 200] /Resources << /Shading << /S 5 0 R >> >>"
    return pdf(page(resources, stream(b"/S sh"), o5=shading, o6=function))


def _type3() -> bytes:
    """A font whose letter is drawn with itself."""
    font = b"<< /Type /Font /Subtype /Type3 /FontBBox [0 0 9 9] /FontMatrix [1 0 0 1 0 0] /CharProcs << /a 6 0 R >> "
    font += b"/Encoding << /Differences [97 /a] >> /FirstChar 97 /LastChar 97 /Widths [9] /Resources << /Font << /F 5 0 R >> >> >>"
    resources = b"/MediaBox [0 0 200 200] /Resources << /Font << /F 5 0 R >> >>"
    draw = b"BT /F 9 Tf (aaaaaaaa) Tj ET"
    return pdf(page(resources, stream(draw), o5=font, o6=stream(b"9 0 d0 " + draw)))


def _action(action: bytes) -> bytes:
    return pdf(page() | {1: b"<< /Type /Catalog /Pages 2 0 R /OpenAction %s >>" % action})


def structure_cases() -> Iterator[Case]:
    yield Case(
        "pdf that says a million pages",
        lambda: pdf(page() | {2: b"<< /Type /Pages /Count 1000000 /Kids [3 0 R] >>"}),
        PDF,
    )
    yield Case(
        "pdf that says 2^31 - 1 pages",
        lambda: pdf(page() | {2: b"<< /Type /Pages /Count 2147483647 /Kids [3 0 R] >>"}),
        PDF,
    )
    yield Case(
        "pdf that says fewer than no pages",
        lambda: pdf(page() | {2: b"<< /Type /Pages /Count -5 /Kids [3 0 R] >>"}),
        PDF,
    )
    yield Case("pdf of 30,000 pages", lambda: _flat_pages(30_000), PDF)
    yield Case("pdf of one page two million times", lambda: _same_page(2_000_000), PDF)
    yield Case(
        "pdf whose page tree is its own child",
        lambda: pdf(page() | {2: b"<< /Type /Pages /Count 1 /Kids [2 0 R] >>"}),
        PDF,
    )
    for depth in (100, 2_000, 50_000):
        yield Case(f"pdf whose page tree is {depth} deep", lambda depth=depth: _deep_tree(depth), PDF)
    for what in (b"[", b"<< /A "):
        yield Case(
            f"pdf of {what.decode().strip()} 200,000 deep",
            lambda what=what: pdf(page() | {5: what * 200_000, 1: b"<< /Type /Catalog /Pages 2 0 R /X 5 0 R >>"}),
            PDF,
        )
    yield Case("pdf whose page box has no size", lambda: pdf(page(b"/MediaBox [0 0 0 0]")), PDF)
    yield Case("pdf whose page is a million inches", lambda: pdf(page(b"/MediaBox [0 0 72000000 72000000]")), PDF)
    yield Case("pdf whose page is a hair", lambda: pdf(page(b"/MediaBox [0 0 0.0001 10000]")), PDF)
    yield Case("pdf whose page is 1e38", lambda: pdf(page(b"/MediaBox [0 0 1e38 1e38]")), PDF)
    yield Case("pdf whose page is not a number", lambda: pdf(page(b"/MediaBox [0 0 nan inf]")), PDF)
    yield Case("pdf with user units of 1e9", lambda: pdf(page(b"/MediaBox [0 0 200 200] /UserUnit 1000000000")), PDF)
    yield Case("pdf whose xref goes round in circles", lambda: pdf(page(), trailer=b"/Prev 9"), PDF)
    yield Case("pdf without xref", lambda: pdf(page(), tail=b"startxref\n0\n%%EOF\n"), PDF)
    yield Case("pdf whose xref lies beyond the file", lambda: pdf(page(), tail=b"startxref\n99999999999\n%%EOF\n"), PDF)
    yield Case("pdf xref of 2^31 - 1 entries", lambda: _xref_stream(2_147_483_647, zlib.compress(bytes(70))), PDF)
    yield Case(
        "pdf xref stream that unpacks to 1 GB", lambda: _xref_stream(150_000_000, deflated(MEGA, 1024)), PDF, heavy=True
    )
    yield Case("pdf without a root", lambda: pdf(page(), root=77), PDF, UNDECODABLE)
    yield Case("pdf whose root is a page", lambda: pdf(page(), root=3), PDF)
    yield Case("pdf header only", lambda: b"%PDF-1.7\n", PDF, MISMATCH)
    yield Case("pdf of a million end marks", lambda: b"%PDF-1.7\n" + b"%%EOF\n" * 1_000_000, PDF, MISMATCH)
    yield Case(
        "pdf of a million objects of nothing",
        lambda: b"%PDF-1.7\n" + b"1 0 obj<<>>endobj\n" * 1_000_000 + b"%%EOF",
        PDF,
        UNDECODABLE,
    )
    yield Case("pdf under a password", lambda: encrypted_pdf(b"secret"), PDF, without("PASSWORD"))
    yield Case("pdf under its owner's password", lambda: encrypted_pdf(b""), PDF, THUMBNAIL)
    yield Case(
        "pdf encrypted by an unknown handler", lambda: pdf(page(), trailer=b"/Encrypt << /Filter /Other /V 9 >>"), PDF
    )
    yield Case(
        "pdf whose key has 4 billion bits",
        lambda: pdf(
            page(), trailer=b"/Encrypt << /Filter /Standard /V 2 /R 3 /Length 4294967295 /P -1 /O (a) /U (b) >>"
        ),
        PDF,
    )
    info = b"<< /Producer (%s) /CreationDate (D:99999999999999) >>" % (b"\\376\\377" + b"\\330\\000" * 30_000)
    yield Case(
        "pdf whose producer is half of a character 30,000 times",
        lambda: pdf(page(o9=info), trailer=b"/Info 9 0 R"),
        PDF,
        THUMBNAIL,
    )
    spoof = b"<< /Producer (\\376\\377\\040\\056\\000f\\000d\\000p) /Creator (\\000\\001\\033[31m) >>"
    yield Case(
        "pdf whose producer turns the reading direction",
        lambda: pdf(page(o9=spoof), trailer=b"/Info 9 0 R"),
        PDF,
        THUMBNAIL,
    )


def content_cases() -> Iterator[Case]:
    yield Case(
        "pdf drawing that unpacks to 1 GB",
        lambda: pdf(page(contents=stream(deflated(b"q Q " * 262_144, 1024), FLATE))),
        PDF,
        heavy=True,
    )
    yield Case(
        "pdf drawing of 1 GB of blanks",
        lambda: pdf(page(contents=stream(deflated(b" " * (1 << 20), 1024), FLATE))),
        PDF,
        heavy=True,
    )
    twice = b"/Filter [/FlateDecode /FlateDecode /FlateDecode]"
    yield Case(
        "pdf drawing packed three times, 2 GB",
        lambda: pdf(page(contents=stream(_nested(deflated(MEGA, 2_048), 2), twice))),
        PDF,
        heavy=True,
    )
    chain = b"/Filter [%s]" % (b"/FlateDecode " * 500)
    yield Case("pdf drawing under 500 filters", lambda: pdf(page(contents=stream(_nested(b"q Q", 500), chain))), PDF)
    yield Case(
        "pdf drawing of run lengths",
        lambda: pdf(page(contents=stream(b"\x81 " * 2_000_000, b"/Filter /RunLengthDecode"))),
        PDF,
    )
    yield Case(
        "pdf drawing of LZW noise",
        lambda: pdf(page(contents=stream(bytes(range(256)) * 400, b"/Filter /LZWDecode"))),
        PDF,
    )
    yield Case(
        "pdf object stream that unpacks to 1 GB", lambda: _object_stream(deflated(MEGA, 1024), 1), PDF, heavy=True
    )
    yield Case(
        "pdf object stream of 2^31 objects", lambda: _object_stream(zlib.compress(b"6 0 " * 10), 2_147_483_647), PDF
    )
    yield Case(
        "pdf object stream within itself",
        lambda: pdf(
            page(o5=stream(zlib.compress(b"5 0 6 9   << >>"), b"/Type /ObjStm /N 2 /First 10 /Extends 5 0 R " + FLATE))
        ),
        PDF,
    )
    yield Case("pdf form that draws itself", _own_form, PDF)
    for depth in (3, 12):
        yield Case(
            f"pdf forms of ten forms, {depth} deep", lambda depth=depth: _exponential_forms(depth), PDF, heavy=True
        )
    yield Case("pdf font that writes itself", _type3, PDF)
    yield Case("pdf of a pattern of dust", _pattern, PDF, heavy=True)
    yield Case("pdf shading of 2^31 samples", lambda: _shading(2_147_483_647), PDF)
    yield Case("pdf shading by a long program", _postscript, PDF, heavy=True)
    yield Case("pdf of 20,000 notes", lambda: _annotations(20_000), PDF, heavy=True)
    yield Case("pdf of graphics states 500,000 deep", lambda: pdf(page(contents=stream(b"q " * 500_000))), PDF)
    yield Case(
        "pdf of a path of a million lines",
        lambda: pdf(page(contents=stream(b"0 0 m " + b"9 9 l 0 5 l " * 500_000 + b"S"))),
        PDF,
        heavy=True,
    )
    yield Case("pdf of operands without operator", lambda: pdf(page(contents=stream(b"1 " * 3_000_000))), PDF)
    yield Case(
        "pdf image of 100,000 x 100,000",
        lambda: _image(b"/Width 100000 /Height 100000 " + FLATE, zlib.compress(MEGA)),
        PDF,
    )
    yield Case("pdf image of 2^31 x 2^31", lambda: _image(b"/Width 2147483647 /Height 2147483647 " + FLATE, b""), PDF)
    yield Case("pdf image of fewer than no pixels", lambda: _image(b"/Width -9 /Height -9 " + FLATE, b""), PDF)
    yield Case(
        "pdf image of 20,000 x 20,000 zeros",
        lambda: _image(b"/Width 20000 /Height 20000 " + FLATE, deflated(MEGA, 382)),
        PDF,
        heavy=True,
    )
    for name in (b"JBIG2Decode", b"JPXDecode", b"DCTDecode", b"CCITTFaxDecode"):
        noise = bytes(range(256)) * 64
        yield Case(
            f"pdf image of {name.decode()} noise",
            lambda name=name, noise=noise: _image(b"/Width 900 /Height 900 /Filter /%s" % name, noise),
            PDF,
        )
    yield Case(
        "pdf fax of 60,000 columns and no data",
        lambda: _image(
            b"/Width 60000 /Height 60000 /Filter /CCITTFaxDecode /DecodeParms << /K -1 /Columns 60000 /Rows 60000 >>",
            b"\0",
        ),
        PDF,
        heavy=True,
    )
    yield Case(
        "pdf that runs a script", lambda: _action(b"<< /S /JavaScript /JS (while\\(true\\){}) >>"), PDF, THUMBNAIL
    )
    yield Case("pdf that starts a program", lambda: _action(b"<< /S /Launch /F (/bin/sh) >>"), PDF, THUMBNAIL)
    yield Case(
        "pdf that fetches an address", lambda: _action(b"<< /S /URI /URI (http://127.0.0.1:1/x) >>"), PDF, THUMBNAIL
    )
    yield Case(
        "pdf that submits a form", lambda: _action(b"<< /S /SubmitForm /F (http://127.0.0.1:1/x) >>"), PDF, THUMBNAIL
    )
    fields = b"<< /Type /Catalog /Pages 2 0 R /AcroForm << /XFA 9 0 R /Fields [] >> >>"
    xfa = stream(b'<!DOCTYPE x [<!ENTITY a "' + b"a" * 1000 + b'">]><x>&a;</x>')
    yield Case("pdf of an XFA form with entities", lambda: pdf(page(o9=xfa) | {1: fields}), PDF, THUMBNAIL)
    outside = stream(b"", b"/F (/etc/passwd) /Type /EmbeddedFile")
    yield Case("pdf whose drawing is a file outside", lambda: pdf(page(contents=outside)), PDF, THUMBNAIL)
