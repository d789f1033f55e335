"""Pictures that came out wrong, or not at all: deep grey, transparency, profiles, texts, lost ends, sizes."""

from __future__ import annotations

import math
import struct
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from PIL import Image, ImageCms

from domain.renderings import NoThumbnail
from rendering.pool import RenderPool
from tests.support.grey_pictures import (
    WIDTH,
    a_16_bit_png,
    a_png,
    a_png_with_texts,
    a_tiff,
    in_12_bits,
    packed,
    ramp,
)
from tests.support.hostile.cases import png_chunk
from tests.support.rendering import a_pool, close_to, encoded, opened, stream

RED, GREEN = (230, 20, 20), (20, 200, 20)
PNG, JPEG, TIFF = "image/png", "image/jpeg", "image/tiff"


@pytest.fixture
async def pool() -> AsyncIterator[RenderPool]:
    async with a_pool() as opened:
        yield opened


async def greys(pool: RenderPool, content: bytes, mime_type: str) -> list[int]:
    """Grey at a tenth, a quarter, a half, three quarters and nine tenths of the thumbnail's width."""
    shown = opened(await pool.render(stream(content), mime_type))
    points = [shown.convert("RGB").getpixel((int(shown.width * part), 60)) for part in (0.1, 0.25, 0.5, 0.75, 0.9)]
    assert all(isinstance(point, tuple) and max(point) - min(point) < 3 for point in points)
    return [point[0] for point in points if isinstance(point, tuple)]


def is_ramp(found: Sequence[int], wanted: Sequence[int] = (26, 64, 128, 191, 230)) -> bool:
    return all(abs(one - other) <= 8 for one, other in zip(found, wanted, strict=True))


NAN, INF = math.nan, math.inf
SIGNED, FLOAT = {"sample_format": 2}, {"sample_format": 3}
DOWN = (230, 191, 128, 64, 26)


@pytest.mark.parametrize(
    ("content", "mime_type", "wanted"),
    [
        pytest.param(a_16_bit_png(), PNG, None, id="png 16 bit"),
        pytest.param(a_tiff(in_12_bits(ramp(0, 4095)), [12]), TIFF, None, id="12 bit"),
        pytest.param(
            a_tiff(in_12_bits(ramp(0, 4095)), [12], order=">"), TIFF, None, id="12 bit, most significant first"
        ),
        pytest.param(a_tiff(in_12_bits(ramp(0, 2047)), [12]), TIFF, (13, 32, 64, 96, 115), id="12 bit, dark"),
        pytest.param(a_tiff(packed("H", ramp(0, 4095)), [16], largest=4095), TIFF, None, id="12 bit in 16"),
        pytest.param(a_tiff(packed("H", ramp(0, 65535)), [16], white_is_zero=True), TIFF, DOWN, id="white is zero"),
        pytest.param(a_tiff(packed("h", ramp(-32768, 32767)), [16], **SIGNED), TIFF, None, id="signed"),
        pytest.param(a_tiff(packed("h", ramp(0, 32767)), [16], **SIGNED), TIFF, None, id="signed, positive"),
        pytest.param(a_tiff(packed("h", ramp(-1000, 1000)), [16], **SIGNED), TIFF, None, id="signed, narrow"),
        pytest.param(
            a_tiff(packed("h", ramp(-1000, 1000), ">"), [16], order=">", **SIGNED), TIFF, None, id="signed, MM"
        ),
        pytest.param(a_tiff(packed("f", ramp(-2, 3)), [32], **FLOAT), TIFF, None, id="float"),
    ],
)
async def test_deep_grey_keeps_its_scale(pool: RenderPool, content: bytes, mime_type: str, wanted: Any):
    assert is_ramp(await greys(pool, content, mime_type), wanted or (26, 64, 128, 191, 230))


@pytest.mark.parametrize("strange", [NAN, INF, -INF])
async def test_what_is_no_number_is_black_and_spoils_nothing_else(pool: RenderPool, strange: float):
    values = ramp(-2, 3)
    values[145:156] = [strange] * 11
    found = await greys(pool, a_tiff(packed("f", values), [32], **FLOAT), TIFF)
    assert is_ramp([found[0], found[1], found[3], found[4]], (26, 64, 191, 230))
    assert found[2] < 60


async def test_nothing_but_nan_is_no_picture(pool: RenderPool):
    rendered = await pool.render(stream(a_tiff(packed("f", [NAN] * WIDTH), [32], **FLOAT)), TIFF)
    assert rendered.reason is NoThumbnail.UNDECODABLE


@pytest.mark.parametrize("clear", [0, 65535])
async def test_16_bit_grey_with_a_transparent_value(pool: RenderPool, clear: int):
    row = packed("H", [clear] * 100 + ramp(0, 65535)[100:], ">")
    content = a_png(row, 16, 0, png_chunk(b"tRNS", struct.pack(">H", clear)))
    shown = opened(await pool.render(stream(content), PNG))
    assert shown.mode == "RGBA"
    left, middle, right = (shown.getpixel((int(shown.width * part), 60)) for part in (0.1, 0.5, 0.75))
    assert isinstance(left, tuple)
    assert left[3] == 0
    assert close_to(middle, (128, 128, 128, 255))
    assert close_to(right, (191, 191, 191, 255))
    assert is_ramp(await greys(pool, a_16_bit_png(clear), PNG))


@pytest.mark.parametrize(("depth", "row", "clear"), [(2, b"\x1b" * 75, 1), (4, b"\x5a" * 150, 10)])
async def test_the_transparent_value_of_few_bits(pool: RenderPool, depth: int, row: bytes, clear: int):
    shown = opened(await pool.render(stream(a_png(row, depth, 0, png_chunk(b"tRNS", struct.pack(">H", clear)))), PNG))
    alphas = shown.getchannel("A").getextrema()
    assert alphas[0] != 255


async def test_16_bit_colour_with_a_transparent_one(pool: RenderPool):
    row = struct.pack(">HHH", 0x1234, 0x5678, 0x9ABC) * 150 + struct.pack(">HHH", 0xFFFF, 0, 0) * 150
    chunk = png_chunk(b"tRNS", struct.pack(">HHH", 0x1234, 0x5678, 0x9ABC))
    shown = opened(await pool.render(stream(a_png(row, 16, 2, chunk)), PNG))
    left, right = shown.getpixel((60, 60)), shown.getpixel((200, 60))
    assert isinstance(left, tuple)
    assert left[3] == 0
    assert close_to(right, (255, 0, 0, 255))


@pytest.mark.parametrize("associated", [1, 2])
async def test_grey_with_alpha(pool: RenderPool, associated: int):
    values = [x * 255 // WIDTH for x in range(WIDTH)]
    row = b"".join(bytes([value * 200 // 255 if associated == 1 else value, 200]) for value in values)
    content = a_tiff(row, [8, 8], extra=associated)
    shown = opened(await pool.render(stream(content), TIFF))
    assert shown.getchannel("A").getextrema() == (200, 200)
    assert is_ramp(await greys(pool, content, TIFF))


def swapped_profile() -> bytes:
    """sRGB with red and green swapped: what is applied shows."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    at = {bytes(profile[132 + 12 * n : 136 + 12 * n]): 132 + 12 * n for n in range(count)}
    profile[at[b"rXYZ"] : at[b"rXYZ"] + 4], profile[at[b"gXYZ"] : at[b"gXYZ"] + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile)


@pytest.mark.parametrize(
    ("mode", "form", "mime_type"),
    [
        *(("RGB", "PNG", PNG), ("RGBA", "PNG", PNG), ("P", "PNG", PNG), ("RGBA", "WEBP", "image/webp")),
        *(("RGB", "JPEG", JPEG), ("RGBA", "TIFF", TIFF)),
    ],
)
async def test_a_profile_is_applied_with_alpha_and_without(pool: RenderPool, mode: str, form: str, mime_type: str):
    image = Image.new("RGBA", (300, 200), (*RED, 100)) if mode == "RGBA" else Image.new("RGB", (300, 200), RED)
    if mode == "P":
        image = image.convert("P")
        image.info["transparency"] = bytes([100] * 256)
    content = encoded(image, form, icc_profile=swapped_profile())
    shown = opened(await pool.render(stream(content), mime_type))
    assert close_to(shown.convert("RGB").getpixel((100, 100)), GREEN)
    if mode != "RGB":
        assert shown.getchannel("A").getextrema() == (100, 100)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        *((b"iTXt", [1_200_000]), (b"zTXt", [1_200_000]), (b"zTXt", [9_000_000]), (b"tEXt", [1_200_000])),
        *((b"zTXt", [1_000_000] * 80), (b"iTXt", [1_000_000] * 80), (b"iCCP", [1_200_000]), (b"iCCP", [9_000_000])),
    ],
)
async def test_large_texts_and_profiles_of_a_png_are_passed_over(pool: RenderPool, name: bytes, sizes: list[int]):
    rendered = await pool.render(stream(a_png_with_texts(name, sizes)), PNG)
    assert close_to(opened(rendered).convert("RGB").getpixel((100, 100)), RED)


def noisy(size: tuple[int, int] = (640, 480)) -> Image.Image:
    image = Image.effect_noise(size, 60).convert("RGB")
    image.paste(RED, (0, 0, size[0] // 2, size[1] // 2))
    return image


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("padding", [b"", bytes(3_000)])
async def test_a_jpeg_without_its_end_mark_is_whole(pool: RenderPool, padding: bytes, *, progressive: bool):
    content = encoded(noisy(), "JPEG", progressive=progressive)[:-2] + padding
    rendered = await pool.render(stream(content), JPEG)
    assert close_to(opened(rendered).convert("RGB").getpixel((50, 50)), RED)
    assert rendered.metadata["width"] == 640


@pytest.mark.parametrize("left_out", [20, 200, 20_000])
@pytest.mark.parametrize("size", [(640, 480), (4200, 3100)])
async def test_a_jpeg_that_was_cut_off_is_not(pool: RenderPool, size: tuple[int, int], left_out: int):
    content = encoded(noisy(size), "JPEG")
    assert (await pool.render(stream(content[:-left_out]), JPEG)).reason is NoThumbnail.UNDECODABLE
    assert (await pool.render(stream(content[: len(content) // 2]), JPEG)).reason is NoThumbnail.UNDECODABLE


@pytest.mark.parametrize("size", [(12_000, 9_000), (16_320, 12_240)])
async def test_photos_of_phones_are_decoded_at_a_scale(pool: RenderPool, size: tuple[int, int]):
    rendered = await pool.render(stream(encoded(Image.new("RGB", size, GREEN), "JPEG", quality=30)), JPEG)
    assert close_to(opened(rendered).convert("RGB").getpixel((100, 100)), GREEN)
    assert (rendered.metadata["width"], rendered.metadata["height"]) == size


async def test_a_progressive_jpeg_takes_the_memory_of_its_coefficients():
    content = encoded(Image.new("RGB", (4_000, 3_000), GREEN), "JPEG", progressive=True)  # 36 MB at 4:2:0
    async with a_pool(picture_bytes=60_000_000) as pool:
        assert (await pool.render(stream(content), JPEG)).reason is NoThumbnail.LIMIT_PIXELS
        plain = encoded(Image.new("RGB", (4_000, 3_000), GREEN), "JPEG")
        assert (await pool.render(stream(plain), JPEG)).reason is None
    async with a_pool(picture_bytes=90_000_000) as pool:
        assert (await pool.render(stream(content), JPEG)).reason is None


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
async def test_a_page_at_1200_dpi_in_black_and_white(pool: RenderPool, form: str):
    image = Image.new("1", (9_921, 14_031), 1)
    image.paste(0, (0, 0, 4_960, 7_000))
    options = {"compression": "group4"} if form == "TIFF" else {}
    rendered = await pool.render(stream(encoded(image, form, **options)), f"image/{form.lower()}")
    shown = opened(rendered).convert("L")
    assert (shown.getpixel((20, 20)), shown.getpixel((150, 200))) == (0, 255)


async def test_the_memory_that_a_picture_may_take_is_exact():
    async with a_pool(picture_bytes=640 * 480 * 4) as pool:
        for mode, size, reason in (
            ("RGB", (640, 480), None),
            ("RGB", (641, 480), NoThumbnail.LIMIT_PIXELS),
            ("L", (1280, 960), None),
            ("L", (1281, 960), NoThumbnail.LIMIT_PIXELS),
            ("1", (1280, 480), None),
            ("1", (1281, 480), NoThumbnail.LIMIT_PIXELS),
            ("RGBA", (320, 480), None),
            ("RGBA", (321, 480), NoThumbnail.LIMIT_PIXELS),
        ):
            assert (await pool.render(stream(encoded(Image.new(mode, size), "PNG")), PNG)).reason is reason, (
                mode,
                size,
            )
