"""What makes a file a PDF: its header, what may stand before it, and its end (ISO 32000-2, section 7.5; its annex I for readers).

A header may stand within the first 1,024 bytes, as readers take it: printer commands, a script's warning, line ends or a Macintosh's
header come before it in files from the field. A text that merely names it has neither objects nor an end.
"""

from __future__ import annotations

import re
from typing import Final

HEADER_WITHIN: Final = 1024
#: Enough for a trailer and what mail gateways, printers and scripts append.
TAIL_SIZE: Final = 64 << 10

_HEADER: Final = re.compile(rb"%PDF-[0-9]\.[0-9]")
_OBJECT: Final = re.compile(rb"[0-9][ \t\r\n\0\f]+[0-9]{1,5}[ \t\r\n\0\f]+obj\b")
_END: Final = re.compile(rb"startxref|trailer|%%EOF|/XRef\b")

_BLANK: Final = b" \t\r\n\f\v\0"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
#: Programs, scripts, archives and pictures, which would be run, opened or shown as what they begin with.
_FOREIGN: Final = (
    *(b"MZ", b"ZM", b"\x7fELF", b"#!", b"\xca\xfe\xba\xbe", b"\xfe\xed\xfa", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe"),
    *(b"dex\n", b"\0asm", b"PK\x03\x04", b"PK\x05\x06", b"Rar!", b"7z\xbc\xaf\x27\x1c", b"MSCF", b"\x1f\x8b", b"BZh"),
    *(b"\xfd7zXZ", b"\xd0\xcf\x11\xe0", b"L\0\0\0\x01\x14\x02\0", b"{\\rtf", b"%!", b"GIF8", b"\x89PNG", b"\xff\xd8\xff"),
    *(b"RIFF", b"II*\0", b"MM\0*", b"8BPS", b"[InternetShortcut]", b"ITSF", b"xar!"),
)  # fmt: skip
#: Mark-up that browsers build a page of. A warning of PHP has breaks and bold type, and Xdebug's a table: these stay.
_MARKUP: Final = re.compile(
    rb"<\s*(?:[!?%#]|(?:html|head|body|title|base|meta|link|style|script|svg|math|iframe|frame|frameset|object|embed|applet"
    rb"|form|input|button|select|textarea|img|image|video|audio|source|template|marquee|details|a|xml|x|hta)[\s>/:])"
    rb"|\bon[a-z]{3,}\s*=|javascript:|vbscript:|\bstyle\s*=",
    re.IGNORECASE,
)
#: Beginnings of lines of scripts, in which the rest would be a comment or a string.
_SCRIPT: Final = re.compile(
    rb"^[ \t@]*(?:echo\b|rem\b|::|(?:if|for|set|call|start|goto|del|copy|cmd|powershell|wscript|cscript|mshta)(?:\.exe)?[ \t]"
    rb"|(?:var|let|const|dim|sub|function|private|public)[ \t]+\w+|on error\b|option explicit|set[ \t]+\w+[ \t]*="
    rb"|import[ \t]+[\w.{*]|from[ \t]+[\w.]+[ \t]+import|require\b|use[ \t]+\w+;|using[ \t]+[\w.]+;|#include|#define|package[ \t]+\w+;"
    rb"|\$\w+[ \t]*=|\"\"\"|'|`|/\*|//|;|--|=begin|=pod|\(\s*function|\(\(\)|eval\b|exec\b|param[ \t]*\()",
    re.IGNORECASE | re.MULTILINE,
)
#: A mail that has the PDF as an attachment is a mail.
_MAIL: Final = re.compile(
    rb"^(?:from|to|cc|subject|received|return-path|message-id|mime-version|delivered-to|content-transfer-encoding):|^from ",
    re.IGNORECASE | re.MULTILINE,
)
#: A part of a form within the part: its boundary is no script's comment.
_BOUNDARY: Final = re.compile(rb"^--[^\s]{1,70}\r?\nContent-Disposition:", re.IGNORECASE)
_PRINTER: Final = b"\x1b%-12345X"


def header_at(head: bytes) -> int:
    """Where the header of a PDF stands in a file's first bytes; -1 if there is none, or something before it that is no PDF's."""
    found = _HEADER.search(head, 0, HEADER_WITHIN + 7)
    if found is None or found.start() >= HEADER_WITHIN:
        return -1
    at = found.start()
    # A text may name the header; behind a real one objects begin.
    return at if at == 0 or (_OBJECT.search(head, at) and _may_precede(head[:at])) else -1


def is_whole(head: bytes, tail: bytes) -> bool:
    """Whether a file with a PDF's header has objects, and cross references or a trailer at its end."""
    return bool(_END.search(tail)) and bool(_OBJECT.search(head) or _OBJECT.search(tail))


def _may_precede(front: bytes) -> bool:
    text = front.removeprefix(_BYTE_ORDER_MARK).lstrip(_BLANK)
    if not text or _is_macbinary(front):
        return True
    if front.startswith(_FOREIGN) or text.startswith(_FOREIGN):
        return False
    text = front.replace(b"\0", b"")  # UTF-16 reads as ASCII does
    if _MARKUP.search(text) or _MAIL.search(text):
        return False
    return text.startswith(_PRINTER) or _BOUNDARY.match(text) is not None or not _SCRIPT.search(text)


def _is_macbinary(front: bytes) -> bool:
    """A header of MacBinary: 128 bytes, zeros where versions I to III have them, and a name's length."""
    return len(front) == 128 and front[0] == front[74] == 0 and 1 <= front[1] <= 63 and 0 not in front[2 : 2 + front[1]]
