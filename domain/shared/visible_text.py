"""Texts without what can't be seen: control and format characters. Joiners stay where they join letters or emoji."""

from __future__ import annotations

import unicodedata
from typing import Final

ZWNJ: Final = "\u200c"
ZWJ: Final = "\u200d"
JOINERS: Final = frozenset({ZWNJ, ZWJ})
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs"})
_MARKS: Final = frozenset({"Mn", "Me"})
#: Canonical combining class of a virama, behind which joiners choose a letter's form (RFC 5892, appendices A.1 and A.2).
_VIRAMA: Final = 9
_SKIN_TONES: Final = range(0x1F3FB, 0x1F400)
#: Symbols that emoji are joined from: category So, these blocks (newer than Python's table), and an arrow that is mathematics.
_EMOJI_BLOCKS: Final = range(0x1F000, 0x1FB00)
_ARROW: Final = "\u2194"


def without_unseen(text: str) -> str:
    """``text`` without control and format characters and lone surrogates, and so without what turns the reading direction.

    A zero-width joiner or non-joiner stays between letters of cursive scripts that run right to left (Persian), behind a virama
    (Indic scripts), and a joiner between two emoji. Elsewhere it only makes two texts that look the same.
    """
    kept = "".join(c for c in text if c in JOINERS or unicodedata.category(c) not in _UNSEEN)
    if JOINERS.isdisjoint(kept):
        return kept
    return "".join(c for at, c in enumerate(kept) if c not in JOINERS or _joins(kept, at))


def _joins(text: str, at: int) -> bool:
    before = text[at - 1] if at else ""
    if before and unicodedata.combining(before) == _VIRAMA:
        return True
    left, right = _neighbour(text, at, -1), _neighbour(text, at, 1)
    if text[at] == ZWJ:
        return (_is_emoji(left) and _is_emoji(right)) or _is_cursive(left) or _is_cursive(right)
    return _is_cursive(left) and _is_cursive(right)


def _neighbour(text: str, at: int, step: int) -> str:
    """The next character to that side that stands for itself, marks and skin tones passed over; empty if there is none, or if
    another joiner comes first."""
    at += step
    while 0 <= at < len(text):
        if unicodedata.category(text[at]) not in _MARKS and ord(text[at]) not in _SKIN_TONES:
            return "" if text[at] in JOINERS else text[at]
        at += step
    return ""


def _is_cursive(character: str) -> bool:
    return character != "" and unicodedata.bidirectional(character) == "AL" and character.isalpha()


def _is_emoji(character: str) -> bool:
    if not character:
        return False
    return unicodedata.category(character) == "So" or ord(character) in _EMOJI_BLOCKS or character == _ARROW
