"""What a file's name may end in for its media type to be true (OWASP ASVS 5.0, 5.2.2).

A name is kept as it was given. Whoever saves a download opens it by the end of its name, and that is the sender's word: ``facture.scr``
of a PDF would be run. So the name of a download ends as its type says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from mimetypes import MimeTypes
from typing import Final

#: By media type; the first one is given to a name that has none that fits.
_EXTENSIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "application/pdf": ("pdf",),
    "image/jpeg": ("jpg", "jpeg", "jpe", "jfif", "jif", "pjpeg", "pjp"),
    "image/png": ("png", "apng"),
    "image/gif": ("gif",),
    "image/webp": ("webp",),
    "image/tiff": ("tif", "tiff"),
    "image/heic": ("heic", "heif", "hif", "heics", "heifs"),
    "image/avif": ("avif", "avifs"),
    "text/plain": ("txt", "text", "log", "md", "csv", "tsv", "json"),
    "text/csv": ("csv", "tsv", "txt"),
    "application/json": ("json",),
    "application/xml": ("xml",),
    "application/msword": ("doc", "dot"),
    "application/vnd.ms-excel": ("xls", "xlt"),
    "application/vnd.ms-powerpoint": ("ppt", "pps", "pot"),
    "application/zip": ("zip",),
    "application/x-tar": ("tar",),
    "application/octet-stream": ("bin",),
    "message/rfc822": ("eml",),
}
#: Of programs, scripts and pages, which no list of media types names: what Windows, browsers and desktops run or open.
_RUN: Final = frozenset(
    [
        "ade",
        "adp",
        "app",
        "appimage",
        "appref-ms",
        "application",
        "bas",
        "bat",
        "cab",
        "cer",
        "chm",
        "class",
        "cmd",
        "cnt",
        "com",
        "command",
        "cpl",
        "crt",
        "dex",
        "der",
        "desktop",
        "diagcab",
        "dll",
        "dmg",
        "dotm",
        "docm",
        "exe",
        "fxp",
        "gadget",
        "grp",
        "hlp",
        "hpj",
        "hta",
        "htm",
        "html",
        "inf",
        "ins",
        "iqy",
        "iso",
        "isp",
        "its",
        "jar",
        "jnlp",
        "js",
        "jse",
        "ksh",
        "lnk",
        "mad",
        "maf",
        "mag",
        "mam",
        "maq",
        "mar",
        "mas",
        "mat",
        "mau",
        "mav",
        "maw",
        "mcf",
        "mda",
        "mdb",
        "mde",
        "mdt",
        "mdw",
        "mdz",
        "mht",
        "mhtml",
        "msc",
        "msh",
        "msi",
        "msp",
        "mst",
        "msu",
        "ops",
        "osd",
        "pcd",
        "php",
        "phtml",
        "pif",
        "pkg",
        "pl",
        "plg",
        "potm",
        "ppam",
        "ppsm",
        "pptm",
        "prf",
        "prg",
        "printerexport",
        "ps1",
        "ps2",
        "psc1",
        "psd1",
        "psm1",
        "pst",
        "py",
        "pyc",
        "pyo",
        "pyw",
        "pyz",
        "rb",
        "rdp",
        "reg",
        "scf",
        "scr",
        "sct",
        "service",
        "settingcontent-ms",
        "sh",
        "shb",
        "shs",
        "shtml",
        "sldm",
        "slk",
        "svg",
        "svgz",
        "theme",
        "tmp",
        "url",
        "vb",
        "vbe",
        "vbp",
        "vbs",
        "vhd",
        "vhdx",
        "vsmacros",
        "vsw",
        "vxd",
        "webpnp",
        "website",
        "ws",
        "wsb",
        "wsc",
        "wsf",
        "wsh",
        "xbap",
        "xht",
        "xhtml",
        "xlam",
        "xll",
        "xlm",
        "xlsb",
        "xlsm",
        "xltm",
        "xnk",
        "xsl",
        "xslt",
    ]
)
#: What may be an extension at all: ``2024`` and `` Dupont`` are none.
_EXTENSION: Final = re.compile(r"(?=[0-9-]*[a-z])[a-z0-9][a-z0-9-]{0,19}")
#: Windows drops these from a name's end, so that ``x.hta.`` is ``x.hta``.
_DROPPED: Final = " ."

#: Without the machine's own files: everywhere the same.
_REGISTERED: Final = MimeTypes()
_KNOWN: Final = (
    _RUN
    | {extension for known in _EXTENSIONS.values() for extension in known}
    | {ending[1:] for types in _REGISTERED.types_map for ending in types}
)


def fits(file_name: str, media_type: str) -> bool:
    """Whether the name ends as a file of that type may; one without an extension does, and any does where none is known of the type."""
    extension, fitting = _extension(file_name.rstrip(_DROPPED)), _fitting(media_type)
    return not fitting or extension in fitting or not _EXTENSION.fullmatch(extension)


def download_name(file_name: str, media_type: str) -> str:
    """The name, ending as the type says: as it is where it does; else extensions that are known give way, and the type's is added."""
    fitting = _fitting(media_type)
    name = file_name.rstrip(_DROPPED)
    if not fitting or (name and _extension(name) in fitting):
        return name or file_name
    while (extension := _extension(name)) in _KNOWN:
        name = name[: -len(extension) - 1].rstrip(_DROPPED)
        if _extension(name) in fitting:
            return name
    return f"{name or 'document'}.{fitting[0]}"


def _extension(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""


def _fitting(media_type: str) -> tuple[str, ...]:
    known = _EXTENSIONS.get(media_type)
    if known is not None:
        return known
    return tuple(ending[1:] for ending in _REGISTERED.guess_all_extensions(media_type))
