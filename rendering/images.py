"""JPEG, PNG, WebP, TIFF, GIF and AVIF with Pillow, HEIC with pi-heif: one decode, both thumbnails, and the facts that are not personal.

Runs inside the child. Every decoder but these stays shut, whatever the content looks like.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from PIL import ExifTags, Image, ImageCms

from domain.renderings import THUMBNAIL_BOXES
from rendering.pillow_limits import mend_pillow
from rendering.protocol import clean_text
from rendering.wide_grey import wide_grey

FORMATS: Final[Mapping[str, str]] = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/tiff": "TIFF",
    "image/gif": "GIF",
    "image/avif": "AVIF",
    **({"image/heic": "HEIF"} if mend_pillow() else {}),
}

#: WebP at this quality is about a third of the JPEG; method 2 encodes twice as fast as the default 4 for about 3 % more bytes.
WEBP_QUALITY: Final = 80
WEBP_METHOD: Final = 2
#: Decode at no less than this many times the thumbnail's size; the exact reduction after it keeps edges clean.
REDUCING_GAP: Final = 2.0
#: Large scanners' profiles have some MB.
ICC_BYTES: Final = 4 << 20

#: Bytes that a pixel takes at most, decoded and on its way to a small one: RGBA is premultiplied first, a palette becomes colours.
_COST: Final = 8
_COSTS: Final[Mapping[str, int]] = {
    "1": 2,
    "L": 1,
    "RGB": 4,
    "CMYK": 4,
    "YCbCr": 8,
    "LAB": 8,
    "RGBA": 8,
    "P": 5,
    "I;16": 3,
    "I": 5,
    "F": 5,
    "La": 4,
}
#: Their decoders have planes of their own before there are pixels.
_TWICE: Final = frozenset({"HEIF", "AVIF"})
_WIDE: Final = frozenset({"I", "F"})
#: A PNG's grey of less than 8 bits, by Pillow's word: how far its steps are apart in 8.
_GREY_STEPS: Final[Mapping[str, int]] = {"L;2": 85, "L;4": 17}
_EOI: Final = b"\xff\xd9"
#: Entropy-coded bytes of no meaning; no 0xff is among them.
_FILLING: Final = bytes((37 * at * at + 11 * at + 5) % 255 for at in range(512))
_STRIP_ROWS: Final = 64

_ORIENTATION: Final = 0x0112
_TURNS: Final[Mapping[int, Image.Transpose]] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DATE: Final = re.compile(r"\d{4}:\d{2}:\d{2} \d{2}:\d{2}:\d{2}")


def _whole(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple) else value)


def _fraction(value: Any) -> float:
    return round(float(value), 6)


def _date(value: Any) -> str | None:
    text = clean_text(value)
    return text if _DATE.fullmatch(text) else None


#: The only EXIF tags that are kept. No position, no owner, artist, serial number, comment or maker note is among them.
_IFD0_TAGS: Final[Mapping[int, tuple[str, Callable[[Any], Any]]]] = {
    ExifTags.Base.Make: ("make", clean_text),
    ExifTags.Base.Model: ("model", clean_text),
    ExifTags.Base.Orientation: ("orientation", _whole),
}
_EXIF_TAGS: Final[Mapping[int, tuple[str, Callable[[Any], Any]]]] = {
    ExifTags.Base.DateTimeOriginal: ("date_time_original", _date),
    ExifTags.Base.ExposureTime: ("exposure_time", _fraction),
    ExifTags.Base.FNumber: ("f_number", _fraction),
    ExifTags.Base.ISOSpeedRatings: ("iso", _whole),
    ExifTags.Base.FocalLength: ("focal_length", _fraction),
}


class TooManyPixels(Exception):
    """Decoding would take more memory than the limit; nothing was decoded. ``metadata`` says what the file declares."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        super().__init__("too many pixels")
        self.metadata = metadata


def render_image(content: io.BytesIO, mime_type: str, max_bytes: int) -> tuple[list[Image.Image], dict[str, Any]]:
    """Thumbnails of the first frame for ``THUMBNAIL_BOXES``, upright and in sRGB, and the file's facts.

    ``max_bytes`` is what a picture may take in memory while it is decoded and made smaller. Raises TooManyPixels, MemoryError, or
    whatever Pillow raises for a file that it can't decode to its end.
    """
    try:
        return _rendered(content, mime_type, max_bytes)
    except OSError:
        if mime_type != "image/jpeg" or not _is_whole_but_for_its_end(content, max_bytes):
            raise
        return _rendered(content, mime_type, max_bytes)


def _rendered(content: io.BytesIO, mime_type: str, max_bytes: int) -> tuple[list[Image.Image], dict[str, Any]]:
    if mime_type == "image/webp":
        _refuse_large_webp(content, max_bytes)
    with Image.open(content, formats=[FORMATS[mime_type]]) as image:
        width, height = image.size
        facts: dict[str, Any] = {"width": width, "height": height, "color_mode": image.mode}
        _prepare(image, facts, max_bytes)
        # Before anything else is asked: a PNG is decoded for its EXIF, and has forgotten then how it was written.
        raw = str(image.tile[0].args) if image.tile else ""
        facts |= _facts(image)
        if facts["frames"] > 1 and image.format != "HEIF":  # which stands at its primary picture
            image.seek(0)
            _draft(image)
        image.load()
        profile = image.info.get("icc_profile")
        # Asked after loading: the TIFF plugin turns the image itself and then reports it as upright.
        turn = _TURNS.get(_orientation(image))
        upright = _to_srgb(_small(image, raw), profile)
        if turn is not None:
            upright = upright.transpose(turn)
    return thumbnails_of(upright), facts


def _draft(image: Image.Image) -> None:
    """Have a JPEG decoded at a half, a quarter or an eighth, where that is enough."""
    size = int(max(THUMBNAIL_BOXES) * REDUCING_GAP)
    image.draft(None, (size, size))


def _prepare(image: Image.Image, facts: Mapping[str, Any], max_bytes: int) -> None:
    """Raises TooManyPixels if decoding takes more than ``max_bytes``: by what it is decoded to, and what that is made into."""
    needed = 0
    if image.info.get("progressive"):
        # Its coefficients are kept whole, two bytes each, whatever size it is decoded to (libjpeg.txt, "Memory management").
        layers = getattr(image, "layer", None) or [(0, 1, 1, 0)] * 3
        most = max(layer[1] * layer[2] for layer in layers)
        needed = sum(2 * image.width * image.height * layer[1] * layer[2] // most for layer in layers)
    if image.format in _TWICE:
        needed += _COST * image.width * image.height
    _draft(image)
    needed += image.width * image.height * _COSTS.get(image.mode, _COST)
    if needed > max_bytes:
        raise TooManyPixels(facts)


def _is_whole_but_for_its_end(content: io.BytesIO, max_bytes: int) -> bool:
    """Whether a JPEG lacks its end mark (EOI) and nothing else; it has one then.

    Decoders fill up what is missing from the last bits on. So the last bits are there if it makes no difference what follows them.
    """
    end = len(content.getbuffer())
    if bytes(content.getbuffer()[-2:]) == _EOI:
        return False
    pictures = []
    for filling in (b"", _FILLING):
        content.seek(end)
        content.truncate()
        content.write(filling + _EOI)
        content.seek(0)
        with Image.open(content, formats=["JPEG"]) as image:
            _prepare(image, {}, max_bytes)
            image.load()
            pictures.append(_digest(image))
    content.seek(end)
    content.truncate()
    content.write(_EOI)
    content.seek(0)
    return pictures[0] == pictures[1]


def _digest(image: Image.Image) -> bytes:
    """Of its pixels, a strip at a time."""
    found = hashlib.sha256()
    for top in range(0, image.height, _STRIP_ROWS):
        found.update(image.crop((0, top, image.width, min(top + _STRIP_ROWS, image.height))).tobytes())
    return found.digest()


def _refuse_large_webp(content: io.BytesIO, max_bytes: int) -> None:
    """Raises TooManyPixels. Its decoder takes memory for the whole canvas as soon as the file is opened (RFC 9649, section 2.7; sizes of
    the plain forms: RFC 6386, section 9.1, and RFC 9649, section 3.4)."""
    head = content.getbuffer()[12:30]
    form, body = bytes(head[:4]), bytes(head[8:])
    if form == b"VP8X":
        width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
    elif form == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif form == b"VP8 ":
        width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    else:
        return
    if width * height * _COSTS["RGB"] > max_bytes:
        raise TooManyPixels({"width": width, "height": height})


def thumbnails_of(image: Image.Image) -> list[Image.Image]:
    """One image for each box, smallest first, from an RGB or RGBA ``image``; never enlarged."""
    found: list[Image.Image] = []
    for box in sorted(THUMBNAIL_BOXES, reverse=True):
        image = _fit(image, box)
        found.append(image)
    return found[::-1]


def encode(image: Image.Image) -> bytes:
    """``image`` as WebP with nothing but pixels in it: no EXIF, XMP or colour profile."""
    image.info.clear()
    out = io.BytesIO()
    image.save(out, "WEBP", quality=WEBP_QUALITY, method=WEBP_METHOD, exif=b"", xmp=b"", icc_profile=None)
    return out.getvalue()


def _fit(image: Image.Image, box: int) -> Image.Image:
    scale = box / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)


def _small(image: Image.Image, raw: str) -> Image.Image:
    """L, RGB, CMYK or RGBA, no larger than the largest box. ``raw`` is how the file has its samples, in Pillow's words."""
    largest = max(THUMBNAIL_BOXES)
    if image.mode in _WIDE or image.mode.startswith("I;16"):
        return wide_grey(image, lambda whole: _fit(whole, largest))
    _scale_transparency(image, raw)
    return _fit(_resizable(image), largest)


def _scale_transparency(image: Image.Image, raw: str) -> None:
    """The transparent colour of a PNG, which Pillow leaves in the file's depth, in the depth that its pixels have by now."""
    said = image.info.get("transparency")
    if isinstance(said, tuple) and raw.startswith("RGB;16"):
        image.info["transparency"] = tuple(value >> 8 for value in said)
    elif isinstance(said, int) and image.mode == "L" and raw in _GREY_STEPS:
        image.info["transparency"] = min(255, said * _GREY_STEPS[raw])


def _resizable(image: Image.Image) -> Image.Image:
    """The image in a mode whose pixels may be averaged; converted at full size only where that can't wait."""
    if image.mode == "La":  # premultiplied, as it has to be to be averaged
        return _fit(image, max(THUMBNAIL_BOXES)).convert("LA").convert("RGBA")
    if image.has_transparency_data:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    if image.mode in {"RGB", "L", "CMYK"}:
        return image
    if image.mode == "1":
        # A scan in black and white may be huge: grey is enough to average it and takes a quarter of the memory.
        grey = image.convert("L")
        image.close()
        return grey
    return image.convert("RGB")


def _to_srgb(image: Image.Image, profile: Any) -> Image.Image:
    """RGB or RGBA of a small image, through its colour profile where it has one that fits."""
    plain = image.convert("RGB") if image.mode == "RGBA" else image
    if isinstance(profile, bytes) and 0 < len(profile) <= ICC_BYTES and plain.mode in {"RGB", "CMYK", "L"}:
        plain = _through(plain, profile)
    if plain.mode != "RGB":
        plain = plain.convert("RGB")
    if image.mode == "RGBA":
        plain.putalpha(image.getchannel("A"))
    return plain


def _through(image: Image.Image, profile: bytes) -> Image.Image:
    """The image in sRGB; as it is where the profile is none, or one of other colours. Grey with alpha has become RGB by now."""
    for source in (image, image.convert("L")) if image.mode == "RGB" else (image,):
        try:
            converted = ImageCms.profileToProfile(
                source, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError, ValueError):
            continue
        if converted is not None:
            return converted
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return _whole(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - damaged EXIF raises what it likes, and the picture is still a picture
        return 1


def _facts(image: Image.Image) -> dict[str, Any]:
    frames = int(getattr(image, "n_frames", 1))
    facts: dict[str, Any] = {
        "frames": frames,
        "alpha": image.has_transparency_data,
        "icc_profile": "icc_profile" in image.info,
    }
    if image.format == "TIFF":
        facts["pages"] = frames
    dpi = _dpi(image)
    if dpi is not None:
        facts["dpi"] = dpi
    exif = _exif(image)
    if exif:
        facts["exif"] = exif
    return facts


def _dpi(image: Image.Image) -> list[float] | None:
    try:
        x, y = (round(float(value), 2) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return [x, y] if 0 < x < 1e6 and 0 < y < 1e6 else None


def _exif(image: Image.Image) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    try:
        exif = image.getexif()
        sources = ((exif, _IFD0_TAGS), (exif.get_ifd(ExifTags.IFD.Exif), _EXIF_TAGS))
    except Exception:  # noqa: BLE001 - damaged EXIF raises what it likes, and is no reason to refuse the picture
        return kept
    for values, tags in sources:
        for tag, (name, read) in tags.items():
            if tag not in values:
                continue
            try:
                value = read(values[tag])
            except (TypeError, ValueError, ArithmeticError, IndexError):
                continue
            if value not in (None, "") and not (isinstance(value, float) and not math.isfinite(value)):
                kept[name] = value
    return kept
