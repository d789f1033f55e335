"""Which facts of a file are kept in clear: numbers, dates and words of ours. No text of the file is among them.

Whoever writes a file writes what they like into it: a producer, a camera's model or a page's "date" may be a person's name or address.
So a program or a maker is kept as the entry of a table that it was recognised as, or as ``OTHER``; a fact of another name or form is
dropped. The child that read the file may have been taken over by it: its answer is no safer than the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

#: A text that says something, and nothing that is known.
OTHER: Final = "other"

#: Programs that make PDF files, by a part of what they call themselves, small letters; the first that is found counts. A program that runs
#: inside another, or prints through it, stands before it.
PROGRAMS: Final[Mapping[str, str]] = {
    "pdfium": "PDFium",
    "skia/pdf": "Skia/PDF",
    "chromium": "Chromium",
    "google docs": "Google Docs",
    "libreoffice": "LibreOffice",
    "openoffice": "OpenOffice",
    "quartz pdfcontext": "macOS Quartz",
    "microsoft: print to pdf": "Microsoft Print To PDF",
    "microsoft print to pdf": "Microsoft Print To PDF",
    "word": "Microsoft Word",
    "excel": "Microsoft Excel",
    "powerpoint": "Microsoft PowerPoint",
    "outlook": "Microsoft Outlook",
    "microsoft reporting services": "Microsoft Reporting Services",
    "microsoft": "Microsoft Office",
    "indesign": "Adobe InDesign",
    "illustrator": "Adobe Illustrator",
    "photoshop": "Adobe Photoshop",
    "livecycle": "Adobe LiveCycle",
    "experience manager": "Adobe Experience Manager",
    "distiller": "Acrobat Distiller",
    "adobe scan": "Adobe Scan",
    "acrobat": "Adobe Acrobat",
    "adobe pdf": "Adobe PDF Library",
    "ghostscript": "Ghostscript",
    "pdfcreator": "PDFCreator",
    "cairo": "cairo",
    "itextsharp": "iText",
    "itext": "iText",
    "openpdf": "OpenPDF",
    "pdfbox": "Apache PDFBox",
    "apache fop": "Apache FOP",
    "jasperreports": "JasperReports",
    "reportlab": "ReportLab",
    "wkhtmltopdf": "wkhtmltopdf",
    "weasyprint": "WeasyPrint",
    "dompdf": "dompdf",
    "tcpdf": "TCPDF",
    "fpdf": "FPDF",
    "mpdf": "mPDF",
    "pypdf": "pypdf",
    "pikepdf": "pikepdf",
    "qpdf": "qpdf",
    "mupdf": "MuPDF",
    "pdftk": "pdftk",
    "pdfsharp": "PDFsharp",
    "pdflib": "PDFlib",
    "prince": "Prince",
    "pdftex": "pdfTeX",
    "luatex": "LuaTeX",
    "xetex": "XeTeX",
    "xdvipdfmx": "XeTeX",
    "latex": "LaTeX",
    "typst": "Typst",
    "aspose": "Aspose",
    "syncfusion": "Syncfusion",
    "crystal reports": "Crystal Reports",
    "docusign": "DocuSign",
    "nuance": "Nuance",
    "foxit": "Foxit",
    "nitro": "Nitro",
    "abbyy": "ABBYY",
    "camscanner": "CamScanner",
    "genius scan": "Genius Scan",
    "img2pdf": "img2pdf",
    "imagemagick": "ImageMagick",
    "pillow": "Pillow",
    "gimp": "GIMP",
    "inkscape": "Inkscape",
    "scribus": "Scribus",
    "canva": "Canva",
}

#: Makers of phones, cameras and scanners, in the same way.
MAKERS: Final[Mapping[str, str]] = {
    "apple": "Apple",
    "samsung": "Samsung",
    "google": "Google",
    "huawei": "Huawei",
    "honor": "Honor",
    "xiaomi": "Xiaomi",
    "redmi": "Xiaomi",
    "oneplus": "OnePlus",
    "oppo": "OPPO",
    "realme": "realme",
    "vivo": "vivo",
    "motorola": "Motorola",
    "hmd global": "Nokia",
    "nokia": "Nokia",
    "fairphone": "Fairphone",
    "wiko": "Wiko",
    "asus": "ASUS",
    "htc": "HTC",
    "sony": "Sony",
    "canon": "Canon",
    "nikon": "Nikon",
    "fujifilm": "Fujifilm",
    "fujitsu": "Fujitsu",
    "olympus": "Olympus",
    "om digital": "OM System",
    "panasonic": "Panasonic",
    "pentax": "Pentax",
    "ricoh": "Ricoh",
    "leica": "Leica",
    "kodak": "Kodak",
    "casio": "Casio",
    "epson": "Epson",
    "brother": "Brother",
    "hewlett": "HP",
    "hp": "HP",
    "xerox": "Xerox",
    "konica": "Konica Minolta",
    "kyocera": "Kyocera",
    "lexmark": "Lexmark",
    "gopro": "GoPro",
    "dji": "DJI",
}

#: Series of devices; which one of a series it is is dropped.
MODELS: Final[Mapping[str, str]] = {
    "iphone": "iPhone",
    "ipad": "iPad",
    "galaxy": "Galaxy",
    "sm-": "Galaxy",
    "pixel": "Pixel",
    "redmi": "Redmi",
    "xperia": "Xperia",
    "eos": "EOS",
    "powershot": "PowerShot",
    "coolpix": "Coolpix",
    "scansnap": "ScanSnap",
    "lumix": "Lumix",
    "dmc-": "Lumix",
    "ilce-": "Alpha",
}

#: Pillow's modes ("Concepts" in its handbook).
_MODES: Final = frozenset(
    {
        *("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "RGBX", "RGBa", "La"),
        *("I;16", "I;16L", "I;16B", "I;16N"),
    }
)
_PDF_VERSION: Final = re.compile(r"\d\.\d", re.ASCII)
#: ISO 32000-1, section 7.9.4: a date with as many parts as the writer knew, and a zone.
_PDF_DATE: Final = re.compile(
    r"D:(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:Z(?:00'?00'?)?|[+-][01]\d'?[0-5]\d'?)?", re.ASCII
)
_EXIF_DATE: Final = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)", re.ASCII)
#: Years that a file's date may have.
_YEARS: Final = range(1970, 2100)
_COUNT: Final = 1 << 31
#: EXIF's ISO is a 16-bit number (CIPA DC-008, table 8).
_ISO: Final = 0xFFFF

Check = Callable[[Any], Any]


def known_facts(told: Mapping[str, Any]) -> dict[str, Any]:
    """What may be kept of the facts that a renderer told: the same names, with values that hold no text of the file."""
    return _checked(told, _FACTS)


def _checked(told: Mapping[str, Any], checks: Mapping[str, Check]) -> dict[str, Any]:
    kept = {name: check(told[name]) for name, check in checks.items() if name in told}
    return {name: value for name, value in kept.items() if value is not None}


def recognised(table: Mapping[str, str], text: Any) -> str | None:
    """The entry of ``table`` that ``text`` speaks of: a name has no letter or digit before or behind it. None where there is no text."""
    if not isinstance(text, str) or not text.strip():
        return None
    lower = text.lower()
    return next((known for part, known in table.items() if _stands_in(part, lower)), OTHER)


def _stands_in(part: str, lower: str) -> bool:
    """``exword`` holds no ``word``; ``pdftex-1.40``, ``iText7`` and ``SM-G991B`` hold what they begin with."""
    at = lower.find(part)
    while at >= 0:
        behind = lower[at + len(part) :][:1]
        if not lower[:at][-1:].isalnum() and (not behind.isalpha() or not part[-1].isalpha()):
            return True
        at = lower.find(part, at + 1)
    return False


def _program(text: Any) -> str | None:
    return recognised(PROGRAMS, text)


def _maker(text: Any) -> str | None:
    return recognised(MAKERS, text)


def _model(text: Any) -> str | None:
    return recognised(MODELS, text)


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _whole(least: int, most: int) -> Check:
    def check(value: Any) -> int | None:
        return value if type(value) is int and least <= value <= most else None

    return check


def _number(most: float) -> Check:
    def check(value: Any) -> float | None:
        is_number = type(value) in {int, float} and math.isfinite(value) and 0 <= value <= most
        return float(value) if is_number else None

    return check


def _list_of(check: Check) -> Check:
    """All of them, or none."""

    def checked(value: Any) -> list[Any] | None:
        kept = [check(one) for one in value] if isinstance(value, list) else [None]
        return None if None in kept else kept

    return checked


def _object(checks: Mapping[str, Check]) -> Check:
    def check(value: Any) -> dict[str, Any] | None:
        return (_checked(value, checks) or None) if isinstance(value, Mapping) else None

    return check


def _word(known: frozenset[str]) -> Check:
    def check(value: Any) -> str | None:
        return value if isinstance(value, str) and value in known else None

    return check


def _form(form: re.Pattern[str]) -> Check:
    def check(value: Any) -> str | None:
        return value if isinstance(value, str) and form.fullmatch(value) else None

    return check


def _date(form: re.Pattern[str]) -> Check:
    """A day and time that there are: digits in such a form may be anything else."""

    def check(value: Any) -> str | None:
        found = form.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            return None
        parts = (int(part or least) for part, least in zip(found.groups(), _FIRST, strict=True))
        year, month, day, hour, minute, second = parts
        try:
            at = datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - only whether there is one
        except ValueError:
            return None
        return value if at.year in _YEARS else None

    return check


_FIRST: Final = ("0", "1", "1", "0", "0", "0")
_EXIF: Final[Mapping[str, Check]] = {
    "make": _maker,
    "model": _model,
    "orientation": _whole(1, 8),
    "date_time_original": _date(_EXIF_DATE),
    "exposure_time": _number(1e5),
    "f_number": _number(1e3),
    "iso": _whole(1, _ISO),
    "focal_length": _number(1e5),
}
_FACTS: Final[Mapping[str, Check]] = {
    "pages": _whole(0, _COUNT),
    "encrypted": _flag,
    "pdf_version": _form(_PDF_VERSION),
    "page_sizes_pt": _list_of(_object({"width": _number(1e7), "height": _number(1e7)})),
    "producer": _program,
    "creator_tool": _program,
    "creation_date": _date(_PDF_DATE),
    "width": _whole(1, _COUNT),
    "height": _whole(1, _COUNT),
    "color_mode": _word(_MODES),
    "frames": _whole(0, _COUNT),
    "alpha": _flag,
    "icc_profile": _flag,
    "dpi": _list_of(_number(1e6)),
    "exif": _object(_EXIF),
    "undecodable": _word(frozenset({"SECURITY", "DAMAGED"})),
}
