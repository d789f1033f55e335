"""HEIC and AVIF, as phones send them, in real confined children."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from domain.renderings import NoThumbnail
from rendering.pool import RenderPool
from tests.support.heif import grid, heif, motion_photo
from tests.support.rendering import a_pool, close_to, opened, stream

RED, BLUE, GREEN = (230, 20, 20), (20, 20, 230), (20, 200, 20)
HEIC, AVIF = "image/heic", "image/avif"


@pytest.fixture
async def pool() -> AsyncIterator[RenderPool]:
    async with a_pool(confined=True) as opened:
        yield opened


@pytest.mark.parametrize(
    ("content", "mime_type", "size"),
    [
        pytest.param(heif("plain.heic"), HEIC, (400, 300), id="heic"),
        pytest.param(heif("turned.heic"), HEIC, (400, 300), id="heic turned"),
        pytest.param(heif("phone.heic"), HEIC, (4032, 3024), id="heic of 12 megapixels"),
        pytest.param(heif("many.heic"), HEIC, (400, 300), id="heic whose second picture is the primary one"),
        pytest.param(motion_photo(), HEIC, (400, 300), id="heic with a film behind it"),
        pytest.param(heif("plain.avif"), AVIF, (400, 300), id="avif"),
        pytest.param(heif("turned.avif"), AVIF, (300, 400), id="avif turned"),
    ],
)
async def test_pictures_of_phones(pool: RenderPool, content: bytes, mime_type: str, size: tuple[int, int]):
    rendered = await pool.render(stream(content), mime_type)
    shown = opened(rendered).convert("RGB")
    assert shown.size == (256, 192)
    assert close_to(shown.getpixel((40, 40)), RED)
    assert close_to(shown.getpixel((215, 40)), GREEN)
    assert close_to(shown.getpixel((215, 150)), BLUE)
    assert (rendered.metadata["width"], rendered.metadata["height"]) == size


async def test_a_picture_in_tiles(pool: RenderPool):
    rendered = await pool.render(stream(grid()), HEIC)
    assert (rendered.metadata["width"], rendered.metadata["height"], rendered.metadata["frames"]) == (1200, 600, 1)
    shown = opened(rendered).convert("RGB")
    assert [close_to(shown.getpixel((x, 10)), RED) for x in (20, 105, 190)] == [True] * 3
    assert close_to(shown.getpixel((250, 120)), BLUE)


async def test_alpha_of_a_heic_is_kept(pool: RenderPool):
    shown = opened(await pool.render(stream(heif("alpha.heic")), HEIC))
    assert shown.mode == "RGBA"
    assert shown.getchannel("A").getextrema() == (120, 120)


async def test_no_artist_leaves_a_heic(pool: RenderPool):
    rendered = await pool.render(stream(heif("turned.heic")), HEIC)
    assert set(rendered.metadata["exif"]) <= {"make", "orientation"}


@pytest.mark.parametrize("name", ["plain.heic", "plain.avif"])
async def test_a_cut_off_one_is_undecodable_and_harms_nobody(pool: RenderPool, name: str):
    mime_type, content = (HEIC if name.endswith("heic") else AVIF), heif(name)
    await pool.check()
    before = pool.pids
    for end in (40, len(content) // 2, len(content) - 60):
        assert (await pool.render(stream(content[:end]), mime_type)).reason is NoThumbnail.UNDECODABLE
    assert (await pool.render(stream(content), mime_type)).reason is None
    assert pool.pids == before


async def test_their_decoders_memory_counts():
    async with a_pool(picture_bytes=400 * 300 * 12) as pool:
        assert (await pool.render(stream(heif("plain.heic")), HEIC)).reason is None
        assert (await pool.render(stream(heif("phone.heic")), HEIC)).reason is NoThumbnail.LIMIT_PIXELS
