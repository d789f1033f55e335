"""JPEG, PNG, WebP, TIFF and GIF with Pillow: one decode, both thumbnails, and the facts that are not personal.

Runs inside the child. Every decoder but these five stays shut, whatever the content looks like.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from PIL import ExifTags, Image, ImageCms

from domain.renderings import THUMBNAIL_BOXES
from rendering.protocol import clean_text

FORMATS: Final[Mapping[str, str]] = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/tiff": "TIFF",
    "image/gif": "GIF",
}

#: WebP at this quality is about a third of the JPEG; method 2 encodes twice as fast as the default 4 for about 3 % more bytes.
WEBP_QUALITY: Final = 80
WEBP_METHOD: Final = 2
#: Decode at no less than this many times the thumbnail's size; the exact reduction after it keeps edges clean.
REDUCING_GAP: Final = 2.0
ICC_BYTES: Final = 1 << 20

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
    """The image declares more pixels than the limit; nothing was decoded. ``metadata`` says what it declares."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        super().__init__("too many pixels")
        self.metadata = metadata


def render_image(content: io.BytesIO, mime_type: str, max_pixels: int) -> tuple[list[Image.Image], dict[str, Any]]:
    """Thumbnails of the first frame for ``THUMBNAIL_BOXES``, upright and in sRGB, and the file's facts.

    Raises TooManyPixels, MemoryError, or whatever Pillow raises for a file that it can't decode to its end.
    """
    if mime_type == "image/webp":
        _refuse_large_webp(content, max_pixels)
    with Image.open(content, formats=[FORMATS[mime_type]]) as image:
        width, height = image.size
        facts: dict[str, Any] = {"width": width, "height": height, "color_mode": image.mode}
        if width * height > max_pixels:
            raise TooManyPixels(facts)
        facts |= _facts(image)
        if facts["frames"] > 1:
            image.seek(0)
        largest = max(THUMBNAIL_BOXES)
        image.draft(None, (int(largest * REDUCING_GAP), int(largest * REDUCING_GAP)))
        image.load()
        profile = image.info.get("icc_profile")
        # Asked after loading: the TIFF plugin turns the image itself and then reports it as upright.
        turn = _TURNS.get(_orientation(image))
        upright = _to_srgb(_fit(_resizable(image), largest), profile)
        if turn is not None:
            upright = upright.transpose(turn)
    return thumbnails_of(upright), facts


def _refuse_large_webp(content: io.BytesIO, max_pixels: int) -> None:
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
    if width * height > max_pixels:
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


def _resizable(image: Image.Image) -> Image.Image:
    """The image in a mode whose pixels may be averaged; converted at full size only where that can't wait."""
    if image.has_transparency_data:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    if image.mode in {"RGB", "L", "CMYK", "I", "I;16", "F"}:
        return image
    if image.mode == "1":
        # A scan in black and white may be huge: grey is enough to average it and takes a quarter of the memory.
        return image.convert("L")
    return image.convert("I" if image.mode.startswith("I;16") else "RGB")


def _to_srgb(image: Image.Image, profile: Any) -> Image.Image:
    """RGB or RGBA of a small image, through its colour profile where it has one that fits."""
    if image.mode in {"I", "I;16", "F"}:
        return _stretch(image)
    if isinstance(profile, bytes) and 0 < len(profile) <= ICC_BYTES and image.mode in {"RGB", "CMYK", "L"}:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            converted = None
        if converted is not None:
            return converted
    return image if image.mode in {"RGB", "RGBA"} else image.convert("RGB")


def _stretch(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits: 16-bit samples keep their scale, anything wider is spread over its own range."""
    wide = image.convert("F")
    low, high = (float(value) for value in wide.getextrema() if isinstance(value, float))
    if image.mode != "F" and low >= 0 and high <= 0xFFFF:
        low, high = 0.0, 65535.0 if high > 0xFF else 255.0
    span = (high - low) or 1.0
    return wide.point(lambda value: value * (255.0 / span) + (-low * 255.0 / span)).convert("L").convert("RGB")


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
