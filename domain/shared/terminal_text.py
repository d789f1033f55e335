"""Text that strangers may have written, made fit for a terminal: what a terminal would obey, or not show, is spelt out.

To a terminal ESC and the C1 controls are commands (retitle the window, move the cursor, send what looks like typing), and so are
the marks that turn the reading direction to a reader: what is shown may then say something other than what is there.
"""

from __future__ import annotations

import unicodedata
from typing import Final

#: General categories of Unicode (https://www.unicode.org/reports/tr44/#General_Category_Values): controls, format characters
#: (bidirectional marks, joiners, invisible ones), surrogates, private use, unassigned, line and paragraph separators.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_NAMES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    r"""``text`` with each of those characters as Python spells it: ``\x1b``, ``\u202e``. One line, whatever it was."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if unicodedata.category(character) not in _UNSEEN else _spelt(character) for character in text
    )


def visible_lines(text: str) -> str:
    """As ``visible``, but for line feeds and tabs: of a text of ours that has lines, or of a log."""
    return "\n".join("\t".join(map(visible, line.split("\t"))) for line in text.split("\n"))


def _spelt(character: str) -> str:
    number = ord(character)
    if character in _NAMES:
        return _NAMES[character]
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
