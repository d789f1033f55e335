"""Documents to deposit: real ones of ``samples/`` and made ones, no two with the same bytes; and poisonous ones.

``make(kind, mark)`` gives the same bytes at any time, so that an upload can be repeated by whoever reads the journal.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from PIL import Image

from tests.support.pipeline import SAMPLES, small_pdf

PDF, JPEG, PNG = "application/pdf", "image/jpeg", "image/png"


@dataclass(frozen=True, slots=True)
class DocumentKind:
    """``poison``: empty for a sound document; ``refused`` if the API must not take it, else what it does to a parser."""

    name: str
    type_code: str
    media_type: str
    suffix: str
    build: Callable[[str], bytes]
    poison: str = ""


def make(kind: str, mark: str) -> bytes:
    """The document of that kind which belongs to ``mark``."""
    return KINDS[kind].build(mark)


@cache
def _sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def _with_tail(name: str) -> Callable[[str], bytes]:
    """A sample with a mark after its end, where every reader of these formats stops."""
    return lambda mark: _sample(name) + f"\n%{mark}\n".encode()


def _picture(form: str) -> Callable[[str], bytes]:
    def build(mark: str) -> bytes:
        noise = random.Random(mark).randbytes(32 * 24 * 3)
        out = io.BytesIO()
        Image.frombytes("RGB", (32, 24), noise).resize((320, 240)).save(out, form)
        return out.getvalue() + mark.encode()

    return build


def _text(mark: str) -> bytes:
    return f"Note {mark}\n\n{'Le client a été reçu et ses pièces sont complètes. ' * 20}\n".encode()


def _truncated(mark: str) -> bytes:
    """The first third of a photo, its mark in a comment segment right after the start (ITU-T T.81, B.2.4.5)."""
    photo = _sample("photo-tronquee.jpg")[:20_000]
    comment = mark.encode()
    return photo[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + photo[2:]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@cache
def _black(size: int) -> bytes:
    packer = zlib.compressobj(9)
    row = bytes(1 + (size + 7) // 8)
    return b"".join(packer.compress(row) for _ in range(size)) + packer.flush()


def _bomb(mark: str) -> bytes:
    """A PNG of a few kilobytes that unpacks to 900 million pixels (PNG, third edition, section 5)."""
    size = 30_000
    header = struct.pack(">IIBBBBB", size, size, 1, 0, 0, 0, 0)
    told = _chunk(b"tEXt", b"Comment\0" + mark.encode())
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + told + _chunk(b"IDAT", _black(size)) + _chunk(b"IEND", b"")


def _killer(mark: str) -> bytes:
    """A small PDF that takes a renderer minutes, until its child is killed: one drawing, named ten thousand times."""
    curve = b" ".join(b"%d %d %d %d %d %d c" % (i % 595, 7 * i % 842, 3 * i % 595, i, i, 5 * i) for i in range(1500))
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources 6 0 R >>",
        _stream(b"", b"/F Do " * 10_000),
        _stream(b"/Type /XObject /Subtype /Form /BBox [0 0 595 842] ", b"0 0 m " + curve + b" S"),
        b"<< /XObject << /F 5 0 R >> >>",
    ]
    out = bytearray(b"%PDF-1.4\n%" + mark.encode() + b"\n")
    places = []
    for number, part in enumerate(parts, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    start = len(out)
    out += b"xref\n0 7\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    return bytes(out + b"trailer\n<< /Size 7 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % start)


def _stream(entries: bytes, content: bytes) -> bytes:
    packed = zlib.compress(content)
    return b"<< %s/Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (entries, len(packed), packed)


#: A type of the site's own, as sites add them: what has no thumbnail is archived like anything else.
TEXT_TYPE = "NOTE"

_ALL = (
    DocumentKind("pdf", "JUSTIFICATIF_DOMICILE", PDF, "pdf", small_pdf),
    DocumentKind("png", "RIB", PNG, "png", _picture("PNG")),
    DocumentKind("jpeg", "CNI", JPEG, "jpg", _picture("JPEG")),
    DocumentKind("text", TEXT_TYPE, "text/plain", "txt", _text),
    DocumentKind("contract", "CONTRAT", PDF, "pdf", _with_tail("contrat-pret.pdf")),
    DocumentKind("bill", "JUSTIFICATIF_DOMICILE", PDF, "pdf", _with_tail("facture-electricite.pdf")),
    DocumentKind("payslip", "BULLETIN_SALAIRE", "image/webp", "webp", _with_tail("bulletin-salaire.webp")),
    DocumentKind("statement", "JUSTIFICATIF_DOMICILE", "image/gif", "gif", _with_tail("attestation-hebergement.gif")),
    DocumentKind("portrait", "PHOTO", JPEG, "jpg", _with_tail("photo-identite.jpg")),
    DocumentKind("truncated", "CNI", JPEG, "jpg", _truncated, "truncated"),
    DocumentKind("bomb", "RIB", PNG, "png", _bomb, "bomb"),
    DocumentKind("killer", "RIB", PDF, "pdf", _killer, "killer"),
    DocumentKind("mislabelled", "CONTRAT", PDF, "pdf", _picture("PNG"), "refused"),
    DocumentKind("nothing", "RIB", PDF, "pdf", lambda _: b"", "refused"),
)
KINDS = {kind.name: kind for kind in _ALL}
SOUND = tuple(kind.name for kind in _ALL if not kind.poison)
POISON = tuple(kind.name for kind in _ALL if kind.poison)
