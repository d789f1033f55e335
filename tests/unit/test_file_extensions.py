"""What a name ends in, against what the file is."""

import pytest

from domain.renderings import RENDERED_TYPES
from processors.documents.file_extensions import download_name, fits

PDF, JPEG = "application/pdf", "image/jpeg"


@pytest.mark.parametrize(
    ("name", "media_type", "download"),
    [
        # what fits stays as it is
        ("a.pdf", PDF, "a.pdf"),
        ("A.PDF", PDF, "A.PDF"),
        ("a.jpeg", JPEG, "a.jpeg"),
        ("a.JFIF", JPEG, "a.JFIF"),
        ("a.heif", "image/heic", "a.heif"),
        ("a.csv", "text/plain", "a.csv"),
        ("a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "a.docx"),
        ("a.foo", "application/x-of-a-site", "a.foo"),
        # what is run, shown or opened as something else gives way
        ("x.hta", PDF, "x.pdf"),
        ("a.html", PDF, "a.pdf"),
        ("facture.scr", PDF, "facture.pdf"),
        ("x.pdf.exe", PDF, "x.pdf"),
        ("x.hta.Scr", PDF, "x.pdf"),
        ("x.hta. .", PDF, "x.pdf"),
        ("photo.png", JPEG, "photo.jpg"),
        ("x.svg", "image/png", "x.png"),
        ("x.exe", "application/octet-stream", "x.bin"),
        ("x.bat", "text/plain", "x.txt"),
        (".hta", PDF, "document.pdf"),
        # what is no extension stays, with one behind it
        ("document", PDF, "document.pdf"),
        ("Relevé 12.2024", PDF, "Relevé 12.2024.pdf"),
        ("M. Dupont", PDF, "M. Dupont.pdf"),
        ("v1.final", PDF, "v1.final.pdf"),
        ("a.pdf.", PDF, "a.pdf"),
        ("x\uff0ehta", PDF, "x\uff0ehta.pdf"),
    ],
)
def test_a_download_ends_as_its_type_says(name: str, media_type: str, download: str) -> None:
    assert download_name(name, media_type) == download
    assert download_name(download, media_type) == download
    assert fits(download, media_type)


@pytest.mark.parametrize("name", ["x.hta", "facture.scr", "x.pdf.exe", "a.html", "v1.final", "x.hta.", "x.7z", "a.jpg"])
def test_names_that_do_not_fit(name: str) -> None:
    assert not fits(name, PDF)


@pytest.mark.parametrize("name", ["", "document", "Relevé 12.2024", "M. Dupont", "x."])
def test_a_name_without_extension_fits(name: str) -> None:
    assert fits(name, PDF)


def test_each_format_that_is_rendered_has_its_extensions() -> None:
    for media_type in RENDERED_TYPES:
        assert "." in download_name("x", media_type)
