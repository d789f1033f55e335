"""Grey of more than 8 bits made small: 16-bit integers of either sign, 32-bit ones, floating point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from PIL import Image, ImageMath

#: Pixels looked at in one go where a copy of all would be too large.
_STRIP_PIXELS: Final = 1 << 20
# TIFF 6.0, section 8; MaxSampleValue in section 20.
_BITS, _PHOTOMETRIC, _LARGEST, _SAMPLE_FORMAT = 258, 262, 281, 339
_WHITE_IS_ZERO: Final = 0
_UNSIGNED: Final = 1

Fit = Callable[[Image.Image], Image.Image]


def wide_grey(image: Image.Image, fit: Fit) -> Image.Image:
    """L, or RGBA where the picture has a transparent value, made small by ``fit``.

    Unsigned samples keep their scale (TIFF's BitsPerSample and MaxSampleValue; else 16 bits), anything else is spread over its own
    range. What is no number is black.
    """
    clear = image.info.get("transparency")
    clear_mask = _mask(image, lambda strip: _equal(strip, clear)) if isinstance(clear, int) else None
    if image.mode == "F":
        image = _finite(image)
    scaled = _scaled(fit(image if image.mode in {"I", "F", "I;16"} else image.convert("I")), image)
    if clear_mask is None:
        return scaled
    shown = scaled.convert("RGB")
    shown.putalpha(fit(clear_mask).point(lambda value: 255 - value))
    return shown


def _scaled(small: Image.Image, image: Image.Image) -> Image.Image:
    wide = small.convert("F")
    low, high = (float(value) for value in wide.getextrema() if isinstance(value, float))
    largest = _largest(image, high)
    if largest is not None:
        low, high = 0.0, largest
    span = (high - low) or 1.0
    grey = wide.point(lambda value: value * (255.0 / span) + (-low * 255.0 / span + 0.5)).convert("L")
    if _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = grey.point(lambda value: 255 - value)
    return grey


def _largest(image: Image.Image, high: float) -> float | None:
    """The value that is white; None: the largest that is there."""
    if image.mode == "F" or _tag(image, _SAMPLE_FORMAT) not in {None, _UNSIGNED} or high > 0xFFFF:
        return None
    bits, said = _tag(image, _BITS), _tag(image, _LARGEST)
    if isinstance(said, int) and 0 < high <= said:
        return float(said)
    if isinstance(bits, int) and 8 < bits < 16:
        return float((1 << bits) - 1)
    return 65535.0 if high > 0xFF else 255.0


def _tag(image: Image.Image, number: int) -> Any:
    value = getattr(image, "tag_v2", {}).get(number)
    return value[0] if isinstance(value, tuple) and value else value


def _finite(image: Image.Image) -> Image.Image:
    """The image with its infinities and what is no number replaced by its smallest finite value. Raises ValueError: there is none."""
    finite = _mask(image, _is_finite)
    if finite.getextrema() == (255, 255):
        return image
    box = finite.getbbox()
    if box is None:
        raise ValueError("no sample is a number")
    row = finite.crop((box[0], box[1], box[2], box[1] + 1)).getbbox()
    some = image.getpixel((box[0] + (row[0] if row else 0), box[1]))
    # Twice: first with a value that is there, so that the smallest one can be told.
    for _ in range(2):
        filled = Image.new("F", image.size, some)
        filled.paste(image, None, finite)
        some = filled.getextrema()[0]
    return filled


def _mask(image: Image.Image, test: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """An L image: 255 where ``test`` of a strip says so."""
    mask = Image.new("L", image.size)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        mask.paste(test(strip), (0, top))
    return mask


def _is_finite(strip: Image.Image) -> Image.Image:
    # What is no number differs from itself, and so does an infinity from itself less itself.
    return _as_mask(ImageMath.lambda_eval(lambda of: (of["x"] - of["x"]) == 0, x=strip))


def _equal(strip: Image.Image, value: int) -> Image.Image:
    return _as_mask(ImageMath.lambda_eval(lambda of: of["x"] == value, x=strip.convert("I")))


def _as_mask(found: Any) -> Image.Image:
    image: Image.Image = found
    return image.convert("I").point(lambda value: value * 255 + 0).convert("L")
