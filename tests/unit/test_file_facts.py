"""Which facts of a file are kept in clear."""

from __future__ import annotations

from typing import Any

import pytest

from domain.file_facts import MAKERS, MODELS, OTHER, PROGRAMS, known_facts, recognised

PERSON = "Camille Durand, 3 rue des Lilas"


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("Microsoft® Word 2016", "Microsoft Word"),
        ("Acrobat Distiller 21.0 (Windows)", "Acrobat Distiller"),
        ("iText® 7.1.5 ©2000-2019 iText Group NV", "iText"),
        ("iText7", "iText"),
        ("pdfTeX-1.40.25", "pdfTeX"),
        ("GPL Ghostscript 10.02.1", "Ghostscript"),
        ("Skia/PDF m120 Google Docs Renderer", "Skia/PDF"),
        ("macOS Version 14.2 (Build 23C64) Quartz PDFContext", "macOS Quartz"),
        (f"LibreOffice 7.4, {PERSON}", "LibreOffice"),
        ("Sword of Camille", OTHER),
        ("wordsmith word", "Microsoft Word"),
        (PERSON, OTHER),
        ("  ", None),
        ("", None),
        (7, None),
    ],
)
def test_a_program_is_known_or_other(text: Any, known: str | None):
    assert recognised(PROGRAMS, text) == known


@pytest.mark.parametrize(
    ("table", "text", "known"),
    [
        (MAKERS, "SAMSUNG Electronics", "Samsung"),
        (MAKERS, "NIKON CORPORATION", "Nikon"),
        (MAKERS, "Camille", OTHER),
        (MODELS, "iPhone 15 Pro", "iPhone"),
        (MODELS, "SM-G991B", "Galaxy"),
        (MODELS, "Canon EOS R6", "EOS"),
        (MODELS, "iPhone de Camille Durand", "iPhone"),
        (MODELS, "Durand", OTHER),
    ],
)
def test_a_device_is_known_or_other(table: dict[str, str], text: str, known: str):
    assert recognised(table, text) == known


def test_facts_of_a_pdf():
    told = {
        "pages": 3,
        "encrypted": False,
        "pdf_version": "1.7",
        "page_sizes_pt": [{"width": 595.0, "height": 842, "name": PERSON}],
        "producer": f"Ghostscript by {PERSON}",
        "creator_tool": PERSON,
        "creation_date": "D:20260105090000+01'00'",
        "title": PERSON,
        PERSON: 1,
    }
    assert known_facts(told) == {
        "pages": 3,
        "encrypted": False,
        "pdf_version": "1.7",
        "page_sizes_pt": [{"width": 595.0, "height": 842.0}],
        "producer": "Ghostscript",
        "creator_tool": OTHER,
        "creation_date": "D:20260105090000+01'00'",
    }


def test_facts_of_a_picture():
    told = {
        "width": 4000,
        "height": 3000,
        "color_mode": "I;16B",
        "frames": 1,
        "alpha": True,
        "icc_profile": False,
        "dpi": [72.0, 72],
        "exif": {
            "make": "Apple",
            "model": "iPhone 15",
            "software": PERSON,
            "orientation": 6,
            "date_time_original": "2026:02:10 18:32:05",
            "exposure_time": 0.016667,
            "f_number": 1.8,
            "iso": 200,
            "focal_length": 4.2,
        },
    }
    kept = known_facts(told)
    assert kept == {
        **told,
        "exif": {
            "model": "iPhone",
            **{key: told["exif"][key] for key in told["exif"] if key not in {"model", "software"}},
        },
    }


@pytest.mark.parametrize("name", ["creation_date", "date_time_original"])
@pytest.mark.parametrize(
    "digits", ["06123456780000", "20261301000000", "20260230000000", "00010101000000", "20260101250000"]
)
def test_digits_that_are_no_date_are_dropped(name: str, digits: str):
    if name == "creation_date":
        assert known_facts({name: f"D:{digits}"}) == {}
        assert known_facts({name: f"D:{digits[:4]}"}) == ({} if digits[0] == "0" else {name: f"D:{digits[:4]}"})
    else:
        text = f"{digits[:4]}:{digits[4:6]}:{digits[6:8]} {digits[8:10]}:{digits[10:12]}:{digits[12:]}"
        assert known_facts({"exif": {name: text}}) == {}


@pytest.mark.parametrize(
    "told",
    [
        *({name: PERSON} for name in ("pages", "encrypted", "pdf_version", "page_sizes_pt", "creation_date", "width")),
        *({name: PERSON} for name in ("color_mode", "frames", "alpha", "icc_profile", "dpi", "exif", "undecodable")),
        {"pages": -1},
        {"pages": True},
        {"pages": 1.0},
        {"width": 0},
        {"dpi": [72.0, PERSON]},
        {"dpi": [float("nan"), 72.0]},
        {"dpi": [-1.0, 72.0]},
        {"dpi": [1e7, 72.0]},
        {"dpi": [True, 72.0]},
        {"page_sizes_pt": [{}]},
        {"color_mode": 1},
        {"pdf_version": 1.7},
        {"creation_date": 20260105},
        {"exif": {"iso": 612345678}},
        {"exif": {"orientation": 9}},
        {"exif": {}},
    ],
)
def test_what_is_none_of_its_kind_is_dropped(told: dict[str, Any]):
    assert known_facts(told) == {}


def test_why_a_file_did_not_open_is_kept():
    assert known_facts({"undecodable": "SECURITY", "encrypted": True}) == {"encrypted": True, "undecodable": "SECURITY"}
