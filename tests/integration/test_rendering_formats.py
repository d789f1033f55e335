"""What real rendering children make of every format, and of damaged and hostile files."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image, ImageCms

from domain.renderings import NoThumbnail
from operations.demo.sample_documents import PdfWriter, large_pdf
from rendering.pool import RenderPool
from tests.support.encrypted_pdf import encrypted_pdf
from tests.support.rendering import a_pdf, a_pool, bomb, close_to, encoded, opened, plain, stream

SAMPLES = Path(__file__).resolve().parent.parent.parent / "samples"
MANIFEST: list[dict[str, Any]] = json.loads((SAMPLES / "manifest.json").read_text("utf-8"))["documents"]
RED, BLUE, GREEN = (230, 20, 20), (20, 20, 230), (20, 200, 20)


@pytest.fixture
async def pool() -> AsyncIterator[RenderPool]:
    async with a_pool() as opened:
        yield opened


# --- samples ----------------------------------------------------------------------------------------------------------


async def test_samples_are_rendered_as_their_manifest_says(pool: RenderPool):
    for sample in MANIFEST:
        if sample["thumbnail"] is None:
            continue
        rendered = await pool.render(stream((SAMPLES / sample["file"]).read_bytes()), sample["media_type"])
        said = f"NO_THUMBNAIL: {rendered.reason.value}" if rendered.reason else "THUMBNAILS_READY"
        assert (sample["file"], said) == (sample["file"], sample["thumbnail"])
        assert {name: rendered.metadata.get(name) for name in sample["facts"]} == sample["facts"]
        if rendered.reason is None:
            assert opened(rendered, 0).size <= (256, 256)
            assert 256 < max(opened(rendered, 1).size) <= 1024


async def test_no_position_and_no_name_leaves_the_photo(pool: RenderPool):
    content = (SAMPLES / "facture-photo.jpg").read_bytes()
    with Image.open(io.BytesIO(content)) as original:
        assert original.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        assert original.getexif()[ExifTags.Base.Artist]
    rendered = await pool.render(stream(content), "image/jpeg")
    assert rendered.metadata["exif"] == {
        "make": "SPECIMEN",
        "model": "Phone 1",
        "orientation": 6,
        "date_time_original": "2026:02:10 18:32:05",
        "exposure_time": 0.016667,
        "f_number": 1.8,
        "iso": 200,
        "focal_length": 4.2,
    }
    said = json.dumps(dict(rendered.metadata)).lower()
    assert not [word for word in ("gps", "latitude", "45.", "camille", "sn-000042") if word in said]
    for index in (0, 1):
        thumbnail = opened(rendered, index)
        assert not thumbnail.getexif()
        assert not {"exif", "xmp", "icc_profile"} & set(thumbnail.info)
        assert thumbnail.height > thumbnail.width


async def test_author_and_title_of_a_pdf_are_not_among_its_facts(pool: RenderPool):
    rendered = await pool.render(stream((SAMPLES / "contrat-pret.pdf").read_bytes()), "application/pdf")
    assert set(rendered.metadata) == {
        "pages",
        "encrypted",
        "pdf_version",
        "page_sizes_pt",
        "producer",
        "creation_date",
    }
    assert rendered.metadata["page_sizes_pt"] == [{"width": 595.0, "height": 842.0}] * 3


# --- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("form", "mime_type"), [("JPEG", "image/jpeg"), ("TIFF", "image/tiff"), ("WEBP", "image/webp")]
)
async def test_every_orientation_comes_out_upright(pool: RenderPool, form: str, mime_type: str, orientation: int):
    upright = Image.new("RGB", (300, 200), GREEN)
    upright.paste(RED, (0, 0, 150, 100))
    upright.paste(BLUE, (150, 100, 300, 200))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    rendered = await pool.render(stream(encoded(stored, form, exif=exif)), mime_type)
    shown = opened(rendered, 0).convert("RGB")
    assert shown.size == (256, 171)
    assert close_to(shown.getpixel((40, 40)), RED)
    assert close_to(shown.getpixel((215, 130)), BLUE)
    assert close_to(shown.getpixel((215, 40)), GREEN)


@pytest.mark.parametrize(("form", "mime_type"), [("PNG", "image/png"), ("WEBP", "image/webp"), ("TIFF", "image/tiff")])
async def test_transparency_is_kept(pool: RenderPool, form: str, mime_type: str):
    image = Image.new("RGBA", (600, 300), (0, 0, 0, 0))
    image.paste((*RED, 255), (0, 0, 300, 300))
    rendered = await pool.render(stream(encoded(image, form)), mime_type)
    shown = opened(rendered, 0)
    assert rendered.metadata["alpha"] is True
    assert shown.mode == "RGBA"
    left, right = shown.getpixel((60, 60)), shown.getpixel((200, 60))
    assert isinstance(left, tuple)
    assert isinstance(right, tuple)
    assert left[3] == 255
    assert right[3] == 0


async def test_the_transparent_colour_of_a_palette_is_kept(pool: RenderPool):
    image = Image.new("P", (400, 400), 1)
    image.putpalette([0, 0, 0, *RED])
    image.paste(0, (0, 0, 200, 400))
    rendered = await pool.render(stream(encoded(image, "GIF", transparency=0)), "image/gif")
    shown = opened(rendered, 0)
    left, right = shown.getpixel((40, 100)), shown.getpixel((220, 100))
    assert isinstance(left, tuple)
    assert isinstance(right, tuple)
    assert left[3] == 0
    assert right[3] == 255


@pytest.mark.parametrize(
    ("form", "mime_type", "mode", "colour"),
    [
        ("TIFF", "image/tiff", "1", 1),
        ("PNG", "image/png", "I;16", 65535),
        ("PNG", "image/png", "I;16", 300),
        ("TIFF", "image/tiff", "F", 1.0),
        ("TIFF", "image/tiff", "CMYK", (0, 0, 0, 255)),
        ("JPEG", "image/jpeg", "CMYK", (0, 0, 0, 255)),
        ("JPEG", "image/jpeg", "L", 255),
        ("PNG", "image/png", "LA", (255, 255)),
        ("TIFF", "image/tiff", "LAB", (255, 0, 0)),
    ],
)
async def test_pixel_formats(pool: RenderPool, form: str, mime_type: str, mode: str, colour: Any):
    half = Image.new(mode, (400, 400))
    half.paste(colour, (0, 0, 200, 400))
    rendered = await pool.render(stream(encoded(half, form)), mime_type)
    shown = opened(rendered, 0).convert("RGB")
    assert rendered.metadata["color_mode"] == mode
    left, right = shown.getpixel((40, 100)), shown.getpixel((220, 100))
    assert isinstance(left, tuple)
    assert isinstance(right, tuple)
    assert left != right or colour == 300


async def test_small_images_are_not_enlarged(pool: RenderPool):
    rendered = await pool.render(stream(plain("PNG", (40, 30))), "image/png")
    assert [opened(rendered, index).size for index in (0, 1)] == [(40, 30), (40, 30)]


async def test_colours_pass_through_a_profile(pool: RenderPool):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    strange = await pool.render(stream(plain("JPEG", icc_profile=profile)), "image/jpeg")
    assert strange.reason is None
    assert strange.metadata["icc_profile"] is True
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("RGB", (400, 300), RED)
    known = await pool.render(stream(encoded(image, "JPEG", icc_profile=srgb)), "image/jpeg")
    assert close_to(opened(known).convert("RGB").getpixel((100, 100)), RED)


@pytest.mark.parametrize(("form", "mime_type"), [("TIFF", "image/tiff"), ("GIF", "image/gif"), ("WEBP", "image/webp")])
async def test_the_first_of_many_frames_is_shown(pool: RenderPool, form: str, mime_type: str):
    frames = [Image.new("RGB", (300, 300), colour) for colour in (RED, BLUE, GREEN)]
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    rendered = await pool.render(stream(content), mime_type)
    assert rendered.metadata["frames"] == 3
    assert rendered.metadata.get("pages") == (3 if form == "TIFF" else None)
    assert close_to(opened(rendered).convert("RGB").getpixel((100, 100)), RED)


async def test_a_pdf_page_may_be_turned_and_cropped(pool: RenderPool):
    content = a_pdf(b"/MediaBox [0 0 1000 1000] /CropBox [100 100 500 300] /Rotate 90")
    rendered = await pool.render(stream(content), "application/pdf")
    shown = opened(rendered, 0)
    assert shown.size == (128, 256)
    assert close_to(shown.convert("RGB").getpixel((60, 100)), (255, 0, 0))


@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        (b"[0 0 1000000 1000000]", None),
        (b"[0 0 1e30 1e30]", None),
        (b"[0 0 200000 10]", None),
        (b"[0 0 0.001 0.001]", None),
        (b"[0 0 -5 nonsense]", None),
    ],
)
async def test_pages_of_absurd_sizes_do_no_harm(pool: RenderPool, box: bytes, wanted: None):
    before = pool.pids
    rendered = await pool.render(stream(a_pdf(b"/MediaBox " + box)), "application/pdf")
    assert rendered.reason in {None, NoThumbnail.UNDECODABLE}
    for index in range(len(rendered.thumbnails)):
        opened(rendered, index)
    assert (await pool.render(stream(plain()), "image/jpeg")).reason is None
    assert before <= pool.pids


async def test_the_large_document_is_rendered_in_bounded_memory(pool: RenderPool):
    content = io.BytesIO()
    size = large_pdf(content, 60)
    assert 60_000_000 <= size == len(content.getvalue()) < 60_100_000
    rendered = await pool.render(stream(content.getvalue(), 1 << 20), "application/pdf")
    assert rendered.metadata["pages"] == 60
    assert max(opened(rendered, 1).size) == 1024


async def test_the_large_document_is_the_same_each_time(tmp_path: Path):
    first, second = tmp_path / "1.pdf", tmp_path / "2.pdf"
    assert large_pdf(first, 2) == large_pdf(second, 2) == first.stat().st_size
    assert first.read_bytes() == second.read_bytes()
    large_pdf(second, 2, seed=2)
    assert first.read_bytes() != second.read_bytes()


async def test_pages_of_a_writer_are_told(pool: RenderPool):
    out = io.BytesIO()
    writer = PdfWriter(out, title="(SPECIMEN) é \\")
    for _ in range(70):
        writer.add_page(b"", b"")
    assert writer.finish() == len(out.getvalue())
    rendered = await pool.render(stream(out.getvalue()), "application/pdf")
    assert rendered.metadata["pages"] == 70
    assert len(rendered.metadata["page_sizes_pt"]) == 50


# --- what can't be rendered -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "mime_type"),
    [
        (plain("JPEG")[:-200], "image/jpeg"),
        (encoded(Image.effect_noise((300, 300), 80), "PNG")[:30_000], "image/png"),
        (encoded(Image.effect_noise((300, 300), 80), "WEBP")[:3000], "image/webp"),
        (encoded(Image.effect_noise((300, 300), 80), "TIFF")[:30_000], "image/tiff"),
        (encoded(Image.effect_noise((300, 300), 80), "GIF")[:30_000], "image/gif"),
        (plain("PNG"), "image/jpeg"),
        (b"", "image/png"),
        (b"", "application/pdf"),
        (b"%PDF-1.7\nand nothing else", "application/pdf"),
        ((SAMPLES / "contrat-pret.pdf").read_bytes()[:400], "application/pdf"),
        ((SAMPLES / "programme.pdf").read_bytes(), "application/pdf"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(len(value)),
)
async def test_damaged_files_are_undecodable(pool: RenderPool, content: bytes, mime_type: str):
    rendered = await pool.render(stream(content), mime_type)
    assert rendered.reason is NoThumbnail.UNDECODABLE
    assert rendered.thumbnails == ()


async def test_a_pdf_under_a_password_says_so(pool: RenderPool):
    rendered = await pool.render(stream(encrypted_pdf(b"secret")), "application/pdf")
    assert (rendered.reason, rendered.thumbnails) == (NoThumbnail.PASSWORD, ())
    assert rendered.metadata == {"encrypted": True}


async def test_a_pdf_with_a_password_for_its_owner_only_is_rendered(pool: RenderPool):
    rendered = await pool.render(stream(encrypted_pdf(b"")), "application/pdf")
    assert rendered.metadata["encrypted"] is True
    assert close_to(opened(rendered).convert("RGB").getpixel((100, 100)), (255, 0, 0))


async def test_other_types_have_no_thumbnail(pool: RenderPool):
    assert (await pool.render(stream(b"hello"), "text/plain")).reason is NoThumbnail.UNSUPPORTED_TYPE


async def test_a_decompression_bomb_is_not_decoded(pool: RenderPool):
    content = bomb(40_000, 40_000)
    assert len(content) < 1 << 20
    rendered = await pool.render(stream(content), "image/png")
    assert rendered.reason is NoThumbnail.LIMIT_PIXELS
    assert (rendered.metadata["width"], rendered.metadata["height"]) == (40_000, 40_000)


async def test_the_pixel_limit_is_exact():
    async with a_pool(picture_bytes=640 * 480 * 4) as pool:
        assert (await pool.render(stream(plain(size=(640, 480))), "image/jpeg")).reason is None
        over = await pool.render(stream(plain(size=(641, 480))), "image/jpeg")
        assert over.reason is NoThumbnail.LIMIT_PIXELS


async def test_a_thread_of_an_image_stays_one_pixel_wide(pool: RenderPool):
    rendered = await pool.render(stream(bomb(1, 900_000)), "image/png")
    assert [opened(rendered, index).size for index in (0, 1)] == [(1, 256), (1, 1024)]
