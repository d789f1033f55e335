"""Thumbnails of the samples: our pool of killable children beside Pillow and pypdfium2 called directly, and libvips."""

from __future__ import annotations

import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import pypdfium2
from PIL import Image, ImageOps

from benchmarks.measurement import RoundValues, alternate, cpu_seconds, ratio_of
from benchmarks.report import BenchReport, Cell, Chart, Ratio
from benchmarks.results import REPOSITORY
from benchmarks.site import BenchSite
from domain.renderings import THUMBNAIL_BOXES
from rendering.images import REDUCING_GAP, WEBP_METHOD, WEBP_QUALITY
from rendering.pool import RenderPool

GOAL: Final = 0.70
OURS: Final = "DPJ pool"
DIRECT: Final = "Pillow, PDFium"
VIPS: Final = "libvips"
PIECE: Final = 64 * 1024
PDF: Final = "application/pdf"
KINDS: Final = {"JPEG": "image/jpeg", "PNG": "image/png", "TIFF": "image/tiff", "PDF": PDF}
METHOD: Final = (
    """Each contestant makes WebP images for boxes of 256 and 1024 pixels (quality 80, method 2, Lanczos) of every sample of the
    kind that has a thumbnail, again and again, one document at a time.""",
    """Thumbnails per second of processor time, user and system, of everything that takes part: for our pool that is the
    worker's side, the child and what passes between them. One core that is busy all the time makes as many.""",
    """Ours also reads the document's facts, applies colour profiles and checks what the child says; the others only turn the
    picture upright. Black and white scans are made grey first by all of them, or Pillow would just drop pixels.""",
)


@dataclass(frozen=True, slots=True)
class BenchDocument:
    """A sample in memory."""

    name: str
    mime_type: str
    data: bytes


class Direct:
    """What one would write with Pillow and pypdfium2, in this process."""

    async def render(self, document: BenchDocument) -> list[bytes]:
        picture = self._page(document.data) if document.mime_type == PDF else self._image(document.data)
        found = []
        for box in sorted(THUMBNAIL_BOXES, reverse=True):
            picture.thumbnail((box, box), Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)
            out = io.BytesIO()
            picture.save(out, "WEBP", quality=WEBP_QUALITY, method=WEBP_METHOD)
            found.append(out.getvalue())
        return found

    def _image(self, data: bytes) -> Image.Image:
        with Image.open(io.BytesIO(data)) as image:
            box = max(THUMBNAIL_BOXES)
            image.draft(None, (2 * box, 2 * box))
            picture = image.convert("L") if image.mode == "1" else image
            picture.thumbnail((box, box), Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)
            mode = "RGBA" if image.has_transparency_data else "RGB"
            return ImageOps.exif_transpose(picture).convert(mode)

    def _page(self, data: bytes) -> Image.Image:
        document = pypdfium2.PdfDocument(data)
        try:
            document.init_forms()
            page = document.get_page(0)
            scale = max(THUMBNAIL_BOXES) / max(page.get_size())
            bitmap = page.render(scale=scale, rev_byteorder=True)
            picture: Image.Image = bitmap.to_pil().convert("RGB")
            return picture
        finally:
            document.close()


class Vips:
    """libvips' own way: shrink while loading, the small image from the large one."""

    def __init__(self) -> None:
        import pyvips

        pyvips.cache_set_max(0)
        self._image = pyvips.Image

    async def render(self, document: BenchDocument) -> list[bytes]:
        large, small = max(THUMBNAIL_BOXES), min(THUMBNAIL_BOXES)
        first = self._image.thumbnail_buffer(document.data, large, height=large, size="down").copy_memory()
        second = first.thumbnail_image(small, height=small, size="down")
        return [bytes(one.webpsave_buffer(Q=WEBP_QUALITY, effort=WEBP_METHOD, keep="none")) for one in (first, second)]


class OurPool:
    """The pool as the renditions worker has it, with one child."""

    def __init__(self, pool: RenderPool) -> None:
        self._pool = pool

    async def render(self, document: BenchDocument) -> list[bytes]:
        rendered = await self._pool.render(_pieces(document.data), document.mime_type)
        if rendered.reason is not None:
            raise ValueError(f"no thumbnail of {document.name}: {rendered.reason.value}")
        return [thumbnail.data for thumbnail in rendered.thumbnails]

    def seconds_below(self) -> float:
        """Processor time of the children so far."""
        return sum(cpu_seconds(pid) for pid in self._pool.pids)


async def run(site: BenchSite, quick: bool) -> BenchReport:  # noqa: ARG001 - needs no server
    """Each kind of document in turn, then the ratios."""
    rounds, seconds = (3, 0.5) if quick else (7, 2.0)
    documents = samples()
    found: dict[str, dict[str, RoundValues]] = {}
    pool = RenderPool(children=1, jobs_per_child=1_000_000)
    try:
        for kind, mime_type in KINDS.items():
            chosen = [document for document in documents if document.mime_type == mime_type]
            found[kind] = await _measure(pool, chosen, rounds, seconds)
    finally:
        await pool.aclose()
    return _report(found)


def samples() -> list[BenchDocument]:
    """The samples that a thumbnail can be made of."""
    folder = REPOSITORY / "samples"
    listed = json.loads((folder / "manifest.json").read_text("utf-8"))["documents"]
    return [
        BenchDocument(one["file"], one["media_type"], (folder / one["file"]).read_bytes())
        for one in listed
        if one.get("thumbnail") == "THUMBNAILS_READY"
    ]


async def _measure(
    pool: RenderPool, documents: Sequence[BenchDocument], rounds: int, seconds: float
) -> dict[str, RoundValues]:
    """Thumbnails per processor second of each contestant for one kind of document."""
    ours, direct = OurPool(pool), Direct()
    contestants: dict[str, Callable[[BenchDocument], Awaitable[list[bytes]]]] = {
        OURS: ours.render,
        DIRECT: direct.render,
    }
    if documents[0].mime_type != PDF:  # the binary distribution of libvips has no PDF loader
        contestants[VIPS] = Vips().render
    for document in documents:
        sizes = {name: [_size(data) for data in await render(document)] for name, render in contestants.items()}
        if not _alike([sorted(found) for found in sizes.values()]):
            raise ValueError(f"the contestants' thumbnails of {document.name} differ in size: {sizes}")
    laps = {name: await _laps(render, documents, seconds) for name, render in contestants.items()}
    rate = {name: partial(_rate, render, ours, documents, laps[name]) for name, render in contestants.items()}
    return await alternate(rate, rounds, warm_up=0)


async def _laps(
    render: Callable[[BenchDocument], Awaitable[list[bytes]]], documents: Sequence[BenchDocument], seconds: float
) -> int:
    """How often to go through the documents so that a round lasts about ``seconds``."""
    began = time.perf_counter()
    for document in documents:
        await render(document)
    return max(1, round(seconds / (time.perf_counter() - began)))


async def _rate(
    render: Callable[[BenchDocument], Awaitable[list[bytes]]],
    ours: OurPool,
    documents: Sequence[BenchDocument],
    laps: int,
) -> float:
    began = time.process_time() + ours.seconds_below()
    made = 0
    for _ in range(laps):
        for document in documents:
            made += len(await render(document))
    return made / (time.process_time() + ours.seconds_below() - began)


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]


def _size(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
        return image.size


def _alike(sizes: Sequence[Sequence[tuple[int, int]]]) -> bool:
    """Whether all made pictures of the same sizes, but for one pixel that each may round its own way."""
    return all(
        abs(a - b) <= 1
        for other in sizes
        for ours, theirs in zip(sizes[0], other, strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )


def _report(found: Mapping[str, Mapping[str, RoundValues]]) -> BenchReport:
    rows: list[tuple[Cell, ...]] = []
    for kind, figures in found.items():
        for name, sample in figures.items():
            against = None if name == OURS else ratio_of(figures[OURS], sample).median
            rows.append((kind, name, sample.median, str(sample), against))
    names = (OURS, DIRECT, VIPS)
    return BenchReport(
        name="thumbnails",
        title="Thumbnails per second and core",
        method=METHOD,
        columns=("kind", "who", "thumbnails/s", "lowest - highest", "ours / it"),
        rows=tuple(rows),
        ratios=tuple(
            Ratio(
                name=f"thumbnails, {kind}: against direct calls",
                value=ratio_of(figures[OURS], figures[DIRECT]).median,
                goal=GOAL,
            )
            for kind, figures in found.items()
        ),
        notes=("PDF: the binary distribution of libvips has no PDF loader.",),
        chart=Chart(
            title="Thumbnails",
            unit="thumbnails per second and core, more is better",
            categories=tuple(found),
            series={name: tuple(f[name].median if name in f else None for f in found.values()) for name in names},
            spread={name: tuple(f[name].spread if name in f else None for f in found.values()) for name in names},
        ),
    )
