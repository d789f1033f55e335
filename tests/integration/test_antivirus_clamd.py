"""A real clamd, started as the stack starts it, and what it makes of the EICAR test file in its many coats."""

from __future__ import annotations

import base64
import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from antivirus.clamd import ClamdScanner
from deploy.native import ports, site
from deploy.native.launch import Launch
from deploy.native.parts.clamd import Clamd, eicar
from deploy.native.report import Silent
from deploy.native.site import StackSite
from deploy.native.supervisor import Supervisor
from domain.antivirus import ScanResult
from domain.errors import AntivirusLimitExceeded, AntivirusUnavailable
from processors.events.retry_limited_scanner import RetryLimitedScanner
from tests.support.builders import a_document
from tests.support.fakes_content import cut, pieces
from tests.support.hostile.cases import page, pdf, stream
from tests.support.programs import needs_clamd
from tests.support.rendering import plain


class SmallClamd(Clamd):
    """One that takes no more than a megabyte, no larger file in an archive either, and looks three archives deep."""

    def _settings(self, site: StackSite) -> list[tuple[str, str | int]]:
        changed: dict[str, str | int] = {"StreamMaxLength": "1M", "MaxFileSize": "1M", "MaxRecursion": 3}
        return [*(dict(super()._settings(site)) | changed).items()]


def started(part: Clamd, home: Path, name: str) -> tuple[StackSite, Supervisor]:
    here = site.load_or_create(name, "full")
    here.identity["ports"] = {"clamd": ports._search(1, set())}
    here.save()
    supervisor = Supervisor(here.folder)
    Launch(here, supervisor, Silent(), [part], frozenset()).run()
    return here, supervisor


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    needs_clamd()
    home = tmp_path_factory.mktemp("home")
    before = os.environ.get("DPJ_HOME")
    os.environ["DPJ_HOME"] = str(home)
    running: list[tuple[Clamd, StackSite, Supervisor]] = []
    try:
        for name, part in (("usual", Clamd()), ("small", SmallClamd())):
            here, supervisor = started(part, home, name)
            running.append((part, here, supervisor))
        yield {here.name: here.address("clamd") for _, here, _ in running}
    finally:
        for part, here, supervisor in running:
            supervisor.stop(["clamd"])
            part.wipe(here)
        os.environ.pop("DPJ_HOME")
        if before is not None:
            os.environ["DPJ_HOME"] = before


@pytest.fixture
def scanner(servers: dict[str, str]) -> ClamdScanner:
    return ClamdScanner(servers["usual"])


def zipped(*contents: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"{number}.bin", content)
    return out.getvalue()


def tarred(content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        entry = tarfile.TarInfo("x.bin")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def in_a_pdf(content: bytes, entries: bytes = b"") -> bytes:
    """An embedded file (PDF 32000-1, section 7.11.4)."""
    files = b"<< /Type /Catalog /Pages 2 0 R /Names << /EmbeddedFiles << /Names [(x) 5 0 R] >> >> >>"
    spec = b"<< /Type /Filespec /F (x.com) /EF << /F 6 0 R >> >>"
    objects = page(o5=spec, o6=stream(content, b"/Type /EmbeddedFile " + entries)) | {1: files}
    return pdf(objects)


COATS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda eicar: eicar,
    "a zip": zipped,
    "a stored zip": lambda eicar: zipped(eicar, method=zipfile.ZIP_STORED),
    "a zip in a zip in a zip": lambda eicar: zipped(zipped(zipped(eicar))),
    "a zip beside a megabyte": lambda eicar: zipped(bytes(1 << 20), eicar),
    "a tar.gz": tarred,
    "a pdf": in_a_pdf,
    "a packed stream of a pdf": lambda eicar: in_a_pdf(zlib.compress(eicar), b"/Filter /FlateDecode"),
    "a hex stream of a pdf": lambda eicar: in_a_pdf(eicar.hex().encode() + b">", b"/Filter /ASCIIHexDecode"),
    "a zip in a pdf": lambda eicar: in_a_pdf(zipped(eicar)),
    "the tail of a picture": lambda eicar: plain() + eicar,
    "a zip behind a picture": lambda eicar: plain() + zipped(eicar),
    "a mail": lambda eicar: (
        b"From: a@b.fr\nSubject: x\nMIME-Version: 1.0\nContent-Type: application/octet-stream; name=x.com\n"
        b"Content-Transfer-Encoding: base64\n\n" + base64.encodebytes(eicar)
    ),
}


@pytest.mark.parametrize("coat", COATS)
async def test_eicar_is_found_whatever_it_wears(scanner: ClamdScanner, coat: str):
    verdict = await scanner.scan(cut(COATS[coat](eicar()), 1000))
    assert verdict.finding is ScanResult.INFECTED
    assert verdict.signature.startswith("DPJ.Test.Eicar")


@pytest.mark.parametrize("content", [b"", b"x", plain(), pdf(page()), bytes(5 << 20), zipped(b"words")])
async def test_what_is_clean_is_clean(scanner: ClamdScanner, content: bytes):
    assert (await scanner.scan(cut(content, 1 << 20))).finding is ScanResult.CLEAN


async def test_a_stream_beyond_its_limit_waits(servers: dict[str, str]):
    scanner = ClamdScanner(servers["small"])
    for content in (bytes((1 << 20) + 1), bytes(40 << 20), eicar() + bytes(8 << 20)):
        with pytest.raises(AntivirusLimitExceeded):
            await scanner.scan(cut(content, 1 << 20))
    assert (await scanner.scan(pieces(eicar()))).finding is ScanResult.INFECTED


async def test_a_limit_that_is_the_documents_own_is_a_verdict_the_second_time(servers: dict[str, str]):
    scanner = RetryLimitedScanner(ClamdScanner(servers["small"]))
    content = in_a_pdf(zlib.compress(bytes(4 << 20)), b"/Filter /FlateDecode")
    document = a_document(size=len(content))
    with pytest.raises(AntivirusLimitExceeded):
        await scanner.scan(pieces(content), document)
    verdict = await scanner.scan(pieces(content), document)
    assert (verdict.finding, verdict.signature) == (ScanResult.UNSCANNABLE, "antivirus_limit_exceeded")


async def test_archives_deeper_than_it_looks_are_not_called_clean(servers: dict[str, str]):
    content = b"words"
    for _ in range(8):
        content = zipped(content)
    verdict = await ClamdScanner(servers["small"]).scan(pieces(content))
    assert verdict.finding is ScanResult.UNSCANNABLE
    assert verdict.signature.startswith("Heuristics.Limits.Exceeded")


def under_a_password(content: bytes) -> bytes:
    """A zip whose only entry says that it is encrypted (APPNOTE.TXT, section 4.4.4, bit 0)."""
    packed = bytearray(zipped(content, method=zipfile.ZIP_STORED))
    packed[6] |= 1
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    return bytes(packed)


def locked_pdf() -> bytes:
    """For a user's password that nobody has (PDF 32000-1, section 7.6.3)."""
    lock = b"<< /Filter /Standard /V 2 /R 3 /Length 128 /P -4 /O <%s> /U <%s> >>" % (b"3c" * 32, b"a7" * 32)
    return pdf(page(o9=lock), trailer=b"/Encrypt 9 0 R /ID [<00112233> <00112233>]")


@pytest.mark.parametrize("content", [under_a_password(b"words" * 100), locked_pdf()], ids=["zip", "pdf"])
async def test_what_it_can_not_open_is_not_called_clean(scanner: ClamdScanner, content: bytes):
    verdict = await scanner.scan(pieces(content))
    assert verdict.finding is ScanResult.UNSCANNABLE
    assert verdict.signature.startswith("Heuristics.Encrypted")


async def test_it_answers_and_then_is_gone(servers: dict[str, str]):
    await ClamdScanner(servers["usual"]).check()
    with pytest.raises(AntivirusUnavailable):
        await ClamdScanner(f"127.0.0.1:{ports._search(1, set())}").check()


def test_the_test_file_lies_nowhere_in_clear():
    root = Path(__file__).resolve().parents[2]
    skipped = {".venv", ".git", ".dpj", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
    found = [
        path
        for folder in root.iterdir()
        if folder.is_dir() and folder.name not in skipped
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and eicar()[20:] in path.read_bytes()
    ]
    assert found == []
