"""Files of each format that is rendered, with words in every place where a format takes text."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

_PNG_TEXTS = ("Author", "Title", "Description", "Comment")


def xmp(word: Callable[[str], str]) -> bytes:
    """A packet as ISO 16684-1 has it, with a creator, a tool and a title."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        f'xmp:CreatorTool="{word("xmpoutil")}">'
        f"<dc:creator><rdf:Seq><rdf:li>{word('xmpauteur')}</rdf:li></rdf:Seq></dc:creator>"
        f'<dc:title><rdf:Alt><rdf:li xml:lang="x-default">{word("xmptitre")}</rdf:li></rdf:Alt></dc:title>'
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def planted_pdf(word: Callable[[str], str]) -> bytes:
    """One page; its information dictionary and its XMP are full of words."""
    keys = ("Title", "Author", "Subject", "Keywords", "Producer", "Creator")
    info = "".join(f"/{key}({word(key)})" for key in keys)
    packet = xmp(word)
    parts = (
        b"<</Type/Catalog/Pages 2 0 R/Metadata 5 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>",
        f"<<{info}/CreationDate(D:20260105090000Z)/Mine({word('propre')})>>".encode(),
        b"<</Type/Metadata/Subtype/XML/Length %d>>\nstream\n%s\nendstream" % (len(packet), packet),
    )
    body, places = b"%PDF-1.7\n", []
    for number, part in enumerate(parts, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    return body + table + b"trailer\n<</Size 6/Root 1 0 R/Info 4 0 R>>\nstartxref\n%d\n%%%%EOF\n" % len(body)


def exif(word: Callable[[str], str]) -> Image.Exif:
    found = Image.Exif()
    for tag in ("Make", "Model", "Software", "Artist", "Copyright", "ImageDescription"):
        found[ExifTags.Base[tag]] = word(f"exif{tag}")
    inner = found.get_ifd(ExifTags.IFD.Exif)
    inner[ExifTags.Base.CameraOwnerName] = word("proprietaire")
    inner[ExifTags.Base.BodySerialNumber] = word("serie")
    inner[ExifTags.Base.DateTimeOriginal] = word("date")
    inner[ExifTags.Base.UserComment] = b"ASCII\0\0\0" + word("commentaire").encode()
    return found


def iptc(word: Callable[[str], str]) -> bytes:
    """By-line and caption (IPTC-IIM 4.2, records 2:80 and 2:120)."""
    found = b""
    for record, text in ((80, word("iptcauteur").encode()), (120, word("iptclegende").encode())):
        found += bytes((0x1C, 2, record)) + len(text).to_bytes(2, "big") + text
    return found


def planted_pictures(word: Callable[[str], str], shade: int) -> dict[str, bytes]:
    """By media type. ``word`` makes a word of its own for each place; ``shade`` (0-255) makes the files unlike others."""
    image = Image.new("RGB", (320, 200), (shade, 40, 90))
    texts = PngImagePlugin.PngInfo()
    for key in _PNG_TEXTS:
        texts.add_text(key, word(f"png{key}"))
        texts.add_itxt(f"{key}2", word(f"itxt{key}"))
    texts.add_itxt("XML:com.adobe.xmp", xmp(word).decode())
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag in (269, 270, 271, 272, 285, 305, 315, 316, 33432):
        tags[tag] = word(f"tiff{tag}")
    tags[700], tags.tagtype[700] = xmp(word), 1
    tags[33723], tags.tagtype[33723] = iptc(word), 7
    block = iptc(word)
    resource = b"8BIM\x04\x04\0\0" + len(block).to_bytes(4, "big") + block + b"\0" * (len(block) % 2)

    def saved(form: str, **more: Any) -> bytes:
        out = io.BytesIO()
        image.save(out, form, **more)
        return out.getvalue()

    jpeg = saved("JPEG", exif=exif(word), xmp=xmp(word), comment=word("jpegcommentaire").encode())
    segment = b"Photoshop 3.0\0" + resource
    return {
        "image/jpeg": jpeg[:2] + b"\xff\xed" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:],
        "image/png": saved("PNG", pnginfo=texts, exif=exif(word)),
        "image/webp": saved("WEBP", exif=exif(word), xmp=xmp(word)),
        "image/tiff": saved("TIFF", tiffinfo=tags),
        "image/gif": saved("GIF", comment=word("gifcommentaire").encode()),
        "image/avif": saved("AVIF", exif=exif(word), xmp=xmp(word)),
    }
