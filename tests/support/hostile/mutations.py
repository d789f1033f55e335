"""Real documents of each supported type, cut, flipped, blanked, doubled and crossed; the same ones each time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.heif import heif
from tests.support.hostile.cases import GIF, JPEG, PDF, PNG, TIFF, WEBP, Case

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
ORIGINALS = {
    "contrat-pret.pdf": PDF,
    "contrat-signe-scan.pdf": PDF,
    "photo-identite.jpg": JPEG,
    "rib-application.png": PNG,
    "avis-imposition.tif": TIFF,
    "attestation-hebergement.gif": GIF,
    "bulletin-salaire.webp": WEBP,
}
PHONES = {"alpha.heic": "image/heic", "many.heic": "image/heic", "plain.avif": "image/avif"}
#: What stays as it is where only the inside is to be damaged: the sniffer must let it in.
HEAD = 64


def cut(content: bytes, seed: int) -> bytes:
    """An eighth of it, two eighths..., then all but a few bytes."""
    return content[: len(content) * (seed + 1) // 8] if seed < 7 else content[:-3]


def flip(content: bytes, seed: int) -> bytes:
    """One byte in each 4 KB, at least eight, anywhere behind the head."""
    chance, damaged = random.Random(seed), bytearray(content)
    for _ in range(max(8, len(content) // 4096)):
        damaged[chance.randrange(HEAD, len(damaged))] = chance.randrange(256)
    return bytes(damaged)


def head(content: bytes, seed: int) -> bytes:
    """Four bytes among the first 64, the very first eight left."""
    chance, damaged = random.Random(1000 + seed), bytearray(content)
    for _ in range(4):
        damaged[chance.randrange(8, HEAD)] = chance.choice((0, 0x7F, 0x80, 0xFF))
    return bytes(damaged)


def blank(content: bytes, seed: int) -> bytes:
    """A tenth of it, blank."""
    chance, length = random.Random(2000 + seed), len(content) // 10
    at = chance.randrange(HEAD, len(content) - length)
    return content[:at] + bytes([0, 0xFF][seed % 2] for _ in range(length)) + content[at + length :]


def double(content: bytes, seed: int) -> bytes:
    """A piece of it twice, or left out."""
    chance = random.Random(3000 + seed)
    first, second = sorted(chance.randrange(HEAD, len(content)) for _ in range(2))
    if seed % 2:
        return content[:first] + content[second:]
    return content[:second] + content[first:]


def numbers(content: bytes, seed: int) -> bytes:
    """Numbers made large: in a PDF digits become nines, elsewhere four bytes become 0x7fffffff."""
    chance, damaged = random.Random(4000 + seed), bytearray(content)
    if content.startswith(b"%PDF"):
        for at in [n for n, byte in enumerate(damaged[HEAD:], HEAD) if 48 <= byte <= 57]:
            if chance.random() < 0.05:
                damaged[at] = 57
        return bytes(damaged)
    for _ in range(6):
        at = chance.randrange(HEAD, max(HEAD + 1, min(len(damaged), 4096) - 4))
        damaged[at : at + 4] = chance.choice((b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"))
    return bytes(damaged)


WAYS: dict[Callable[[bytes, int], bytes], int] = {cut: 8, flip: 8, head: 4, blank: 4, double: 4, numbers: 4}


def cases() -> Iterator[Case]:
    originals = {name: ((SAMPLES / name).read_bytes(), mime_type) for name, mime_type in ORIGINALS.items()}
    originals |= {name: (heif(name), mime_type) for name, mime_type in PHONES.items()}
    for name, (content, mime_type) in originals.items():
        for way, count in WAYS.items():
            for seed in range(count):
                yield Case(f"{name} {way.__name__} {seed}", lambda c=content, w=way, s=seed: w(c, s), mime_type)
