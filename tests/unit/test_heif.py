"""HEIC and AVIF: told by their brands, and decoded without a thread."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ingest_api.sniffing import MagicSniffer
from tests.support.heif import box, heif, motion_photo

HEIC, AVIF = "image/heic", "image/avif"


@pytest.mark.parametrize(
    ("major", "others", "found"),
    [
        (b"heic", [b"mif1", b"heic"], HEIC),
        (b"heix", [b"mif1"], HEIC),
        (b"mif1", [b"mif1", b"heic", b"miaf"], HEIC),
        (b"mif1", [], HEIC),
        (b"msf1", [b"hevc"], HEIC),
        (b"avif", [b"mif1", b"miaf"], AVIF),
        (b"avis", [b"avif"], AVIF),
        (b"mif1", [b"avif", b"miaf"], AVIF),
    ],
)
def test_brands(major: bytes, others: list[bytes], found: str) -> None:
    head = box(b"ftyp", major + bytes(4) + b"".join(others)) + bytes(64)
    assert MagicSniffer().sniff(head) == found


@pytest.mark.parametrize(
    "head",
    [
        box(b"ftyp", b"isom\0\0\0\0isomavc1"),
        box(b"ftyp", b"qt  \0\0\0\0qt  "),
        box(b"ftyp", b"mp42\0\0\0\0heic"),
        b"\0\0\0\0ftypheic" + bytes(64),
        b"\xff\xff\xff\xffftypheic" + bytes(64),
        b"\0\0\0\x1cftypheic",
    ],
)
def test_films_and_fragments_are_none(head: bytes) -> None:
    assert MagicSniffer().sniff(head) not in {HEIC, AVIF}


@pytest.mark.parametrize("name", ["plain.heic", "many.heic", "alpha.heic", "turned.heic"])
def test_files_of_phones(name: str) -> None:
    assert MagicSniffer().sniff(heif(name)) == HEIC
    assert MagicSniffer().sniff(motion_photo()[:8192]) == HEIC
    assert MagicSniffer().sniff(heif("plain.avif")) == AVIF


#: In a process of its own, because the library is changed for good. Threads end with the picture: their beginning is counted.
COUNTED = """
import io
import resource
from PIL import Image
from rendering.images import FORMATS
from tests.support.heif import grid, heif
assert "image/heic" in FORMATS
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
import os
os.setgid(65534); os.setuid(65534)
for content in (heif("plain.heic"), grid(), heif("plain.avif")):
    Image.open(io.BytesIO(content)).load()
print("decoded")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="tables of Linux")
def test_pictures_are_decoded_without_a_thread() -> None:
    """Where no thread can be started: as nobody, with none allowed."""
    code = COUNTED.replace("os.setgid(65534); os.setuid(65534)", "os.getuid() or (os.setgid(65534), os.setuid(65534))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "decoded\n"), done.stderr
