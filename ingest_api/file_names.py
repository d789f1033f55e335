"""Names of files, as clients send them and as browsers are told them: Content-Disposition (RFC 6266, RFC 7578)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import decode_header
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from anyascii import anyascii

from domain.shared.visible_text import without_unseen
from processors.documents.file_extensions import download_name

MAX_FILE_NAME: Final = 255
MAX_FALLBACK: Final = 120
MAX_ENDING: Final = 16
UNNAMED: Final = "document"

#: A parameter: its name, and its value in quotation marks or without. Nothing in it can be read in two ways: time is linear.
_PARAMETER: Final = re.compile(r';[ \t]*([^\s"=;]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;]*)')
#: ``charset'language'value`` (RFC 8187, section 3.2).
_EXTENDED: Final = re.compile(r"([^']*)'[^']*'(.*)", re.DOTALL)
_PART: Final = re.compile(r"filename\*([0-9]{1,2})(\*?)")
#: What RFC 5987 asks to be read. Another charset falls back to the plain parameter.
_EXTENDED_CHARSETS: Final = {"utf-8": "utf-8", "utf8": "utf-8", "iso-8859-1": "latin-1", "us-ascii": "ascii"}
#: What mail clients write encoded words in; Python has other codecs, which are no charsets.
_WORD_CHARSET: Final = re.compile(
    r"utf-?8|us-ascii|iso-8859-[0-9]{1,2}|(?:windows-|cp)125[0-8]|koi8-[ru]|gb2312|gbk|gb18030|big5"
    r"|euc-(?:jp|kr)|shift_jis|iso-2022-jp",
    re.IGNORECASE,
)
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._ -]+")


def disposition_file_name(header: str, plain: bytes | None) -> str | None:
    """The name in a Content-Disposition ``header``, as latin-1 reads its bytes; ``plain`` is its parameter ``filename``.

    ``filename*`` comes first, whole (RFC 5987) or in pieces (RFC 2231); where it can't be decoded, and where it is not there, the
    plain one does. RFC 7578 forbids the star in forms, and clients send it all the same. None: no name at all.
    """
    values: dict[str, str] = {}
    for found in _PARAMETER.finditer(header):
        values.setdefault(found[1].lower(), _unquoted(found[2].strip(" \t")))
    extended = _extended(values)
    if extended is not None:
        return extended
    if plain is None:
        raw = values.get("filename")
        plain = None if raw is None else raw.encode("latin-1")
    return None if plain is None else _without_encoded_words(_text(plain))


def clean_file_name(name: str | None) -> str:
    """The last component of a name, without what can't be seen, at most MAX_FILE_NAME characters, its ending kept."""
    return searched_file_name(name or "") or UNNAMED


def searched_file_name(name: str) -> str:
    """As ``clean_file_name`` would have kept ``name``; empty where it is none: what documents without a name got is not looked for."""
    last = name.replace("\\", "/").rpartition("/")[2]
    plain = unicodedata.normalize("NFC", without_unseen(last)).strip()
    return "" if plain in {"", ".", ".."} else _shortened(plain, MAX_FILE_NAME)


def attachment(file_name: str, media_type: str) -> str:
    """A Content-Disposition (RFC 6266) that is safe for any name: a readable ASCII form, and the exact one percent-encoded.

    Both end as the media type says, whatever the name ends in.
    """
    file_name = download_name(file_name, media_type)
    return f"attachment; filename=\"{_ascii(file_name)}\"; filename*=UTF-8''{quote(file_name, safe='')}"


def _ascii(file_name: str) -> str:
    """The name in ASCII: letters of every script as they sound, whatever is not harmless replaced."""
    stem, dot, ending = file_name.rpartition(".")
    if not dot:
        stem, ending = ending, ""
    stem, ending = (_UNSAFE.sub("_", anyascii(part)).strip(" ._") for part in (stem, ending))
    return _shortened(f"{stem or UNNAMED}.{ending}" if ending else stem or UNNAMED, MAX_FALLBACK)


def _shortened(name: str, longest: int) -> str:
    if len(name) <= longest:
        return name
    stem, dot, ending = name.rpartition(".")
    keep = f"{dot}{ending}" if dot and len(ending) <= MAX_ENDING else ""
    # Cut behind a joiner it would join nothing.
    return without_unseen((stem if keep else name)[: longest - len(keep)]) + keep


def _extended(values: Mapping[str, str]) -> str | None:
    """What ``filename*`` says, if it says anything that can be decoded."""
    whole = values.get("filename*")
    if whole is None:
        pieces = {
            int(found[1]): (value, found[2]) for name, value in values.items() if (found := _PART.fullmatch(name))
        }
        if 0 not in pieces:
            return None
        charset, data = "utf-8", b""
        for number in range(len(pieces)):
            value, star = pieces.get(number, ("", ""))
            if star and number == 0:
                charset, value = _charset_and_value(value)
            data += unquote_to_bytes(value.encode("latin-1")) if star else value.encode("latin-1")
    else:
        charset, value = _charset_and_value(whole)
        data = unquote_to_bytes(value.encode("latin-1"))
    codec = _EXTENDED_CHARSETS.get(charset.strip().lower())
    if codec is None or not data:
        return None
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def _charset_and_value(text: str) -> tuple[str, str]:
    found = _EXTENDED.fullmatch(text)
    # Without its two marks it is not RFC 5987's; what sends it so percent-encodes UTF-8.
    return (found[1], found[2]) if found else ("utf-8", text)


def _unquoted(value: str) -> str:
    """As python-multipart reads it, so that both see the same name."""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return value[1:-1].replace("\\\\", "\\").replace('\\"', '"')
    return value


def _text(name: bytes) -> str:
    """UTF-8, which RFC 7578 asks for, or what older clients send, who know no other charset than their own."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("cp1252", "replace")


def _without_encoded_words(name: str) -> str:
    """Encoded words (RFC 2047) decoded, which clients put there although RFC 2231 forbids it; one that can't be leaves all as it is."""
    if "=?" not in name:
        return name
    try:
        words = decode_header(name)
        return "".join(word if isinstance(word, str) else _word(word, charset) for word, charset in words)
    except (HeaderParseError, UnicodeError, LookupError, ValueError):
        return name


def _word(word: bytes, charset: str | None) -> str:
    if charset is None:  # what stands between encoded words: ``decode_header`` has made bytes of it
        return word.decode("raw-unicode-escape")
    if not _WORD_CHARSET.fullmatch(charset):
        raise LookupError(charset)
    if not word:
        raise ValueError("a word that says nothing")
    return word.decode(charset)
