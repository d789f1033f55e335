"""The life of a document as a picture: ``python -m ingest_api.lifecycle_picture > docs/lifecycle.svg``.

States and arrows are those of ``domain.lifecycle``; only where a state stands and who makes a transition is written here. A state
without a place, a transition without a name, or a name without a transition, is a KeyError or ValueError: the picture can't go stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from html import escape
from typing import Final

from domain.lifecycle import CHECKED, READABLE, RESTING, TRANSITIONS, Status

_S = Status

#: Column and row.
_PLACES: Final[Mapping[Status, tuple[int, int]]] = {
    _S.PENDING: (0, 0),
    _S.STORED: (1, 0),
    _S.VERIFIED: (2, 0),
    _S.VALIDATED: (3, 0),
    _S.ARCHIVED: (4, 0),
    _S.ABANDONED: (0, 1),
    _S.QUARANTINED: (1, 1),
    _S.REJECTED: (2, 1),
    _S.ARCHIVE_FAILED: (3, 1),
    _S.ERASING: (4, 2),
    _S.ERASED: (5, 2),
}
#: What makes a transition. Those to ERASING are drawn as one line that all of them join.
_BY: Final[Mapping[tuple[Status, Status], str]] = {
    (_S.PENDING, _S.STORED): "201",
    (_S.PENDING, _S.ABANDONED): "refused, cut off",
    (_S.STORED, _S.VERIFIED): "integrity",
    (_S.STORED, _S.QUARANTINED): "damage, malware",
    (_S.VERIFIED, _S.VALIDATED): "validate",
    (_S.VERIFIED, _S.REJECTED): "reject",
    (_S.VALIDATED, _S.ARCHIVED): "archiving",
    (_S.VALIDATED, _S.ARCHIVE_FAILED): "GED refuses",
    (_S.ARCHIVE_FAILED, _S.VALIDATED): "redriven",
    (_S.ERASING, _S.ERASED): "by itself",
}
_STEP_X, _STEP_Y, _LEFT, _TOP, _WIDTH, _HEIGHT = 190, 130, 20, 40, 128, 48
_STYLE: Final = """
svg{font-family:system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif;background:#ffffff}
.on{fill:#f3f6f9;stroke:#7b8ea1;stroke-width:1.5} .rest{fill:#0b3d66;stroke:#0b3d66}
.t{font-size:13px;font-weight:600;text-anchor:middle;fill:#1c2733} .rest+.t{fill:#ffffff}
.s{font-size:11px;text-anchor:middle;fill:#3d4c5c} .rest+.t+.s{fill:#d7e3ee}
.l{font-size:11.5px;fill:#3d4c5c} .a{fill:none;stroke:#3d4c5c;stroke-width:1.6;marker-end:url(#h)}
.e{fill:none;stroke:#9a5b13;stroke-width:1.3;stroke-dasharray:5 3} .end{marker-end:url(#h)}
"""


def picture() -> str:
    """SVG of every state and transition."""
    arrows = {(start, end) for start, ends in TRANSITIONS.items() for end in ends}
    named = {arrow for arrow in arrows if arrow[1] is not _S.ERASING}
    if named != _BY.keys() or set(TRANSITIONS) != _PLACES.keys():
        raise ValueError("the picture and the lifecycle table have other states or transitions")
    erasable = [start for start, end in arrows if end is _S.ERASING]
    return "\n".join([*_head(), *_erasures(erasable), *map(_arrow, sorted(named, key=_order)), *_boxes(), "</svg>", ""])


def _order(arrow: tuple[Status, Status]) -> tuple[str, str]:
    return arrow[0].value, arrow[1].value


def _head() -> Iterator[str]:
    width, height = _LEFT * 2 + 5 * _STEP_X + _WIDTH, _TOP + 2 * _STEP_Y + _HEIGHT + 30
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' role="img" aria-labelledby="title desc">'
    )
    yield '<title id="title">The life of a document</title>'
    told = "; ".join(
        f"{start.value} to {', '.join(sorted(end.value for end in ends))}"
        for start, ends in TRANSITIONS.items()
        if ends
    )
    yield f'<desc id="desc">{escape(told)}.</desc>'
    yield f"<style>{_STYLE}</style>"
    yield (
        '<defs><marker id="h" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L10 5 L0 10 z" fill="#3d4c5c"/></marker></defs>'
    )
    yield f'<rect width="{width}" height="{height}" fill="#ffffff"/>'


def _corner(status: Status) -> tuple[int, int]:
    column, row = _PLACES[status]
    return _LEFT + column * _STEP_X, _TOP + row * _STEP_Y


def _boxes() -> Iterator[str]:
    for status in _PLACES:
        x, y = _corner(status)
        kind = "rest" if status in RESTING else "on"
        yield f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="8" class="{kind}"/>'
        yield f'<text x="{x + _WIDTH / 2:g}" y="{y + 21}" class="t">{status.value}</text>'
        yield f'<text x="{x + _WIDTH / 2:g}" y="{y + 38}" class="s">{content_of(status)}</text>'


def content_of(status: Status) -> str:
    """Whether the content of a document in that state is served, in a few words."""
    if status in CHECKED:
        return "content is served"
    return "served if no antivirus" if status in READABLE else "no content"


def _arrow(arrow: tuple[Status, Status]) -> str:
    """To the right, down, or up beside the way down."""
    start, end = arrow
    (x, y), (to_x, to_y) = _corner(start), _corner(end)
    down, up, label = x + 22, x + _WIDTH - 28, escape(_BY[arrow])
    if y == to_y:
        line = f"M{x + _WIDTH} {y + _HEIGHT // 2} L{to_x} {y + _HEIGHT // 2}"
        place = f'x="{(x + _WIDTH + to_x) / 2:g}" y="{y + 15}" text-anchor="middle"'
    elif to_y > y:
        line = f"M{down} {y + _HEIGHT} L{down} {to_y}"
        place = f'x="{down + 6}" y="{(y + _HEIGHT + to_y) // 2 + 14}"'
    else:
        line = f"M{up} {y} L{up} {to_y + _HEIGHT}"
        place = f'x="{up - 6}" y="{(y + to_y + _HEIGHT) // 2 - 10}" text-anchor="end"'
    return f'<path d="{line}" class="a"/>\n<text {place} class="l">{label}</text>'


def _erasures(erasable: list[Status]) -> Iterator[str]:
    """One line that ends at ERASING, and one from each state down to it, on the right of whatever stands below."""
    x, y = _corner(_S.ERASING)
    level = y + _HEIGHT // 2
    joins = []
    for status in sorted(erasable, key=lambda one: one.value):
        column, row = _PLACES[status]
        left, top = _corner(status)
        if column == _PLACES[_S.ERASING][0]:
            yield f'<path d="M{left + _WIDTH // 2} {top + _HEIGHT} L{left + _WIDTH // 2} {y}" class="e end"/>'
            continue
        side = left + _WIDTH + 14 if row == 0 else left + _WIDTH - 24
        start = (
            f"M{left + _WIDTH - 8} {top + _HEIGHT} L{side} {top + _HEIGHT + 14}"
            if row == 0
            else f"M{side} {top + _HEIGHT}"
        )
        yield f'<path d="{start} L{side} {level}" class="e"/>'
        joins.append(side)
    yield f'<path d="M{min(joins)} {level} L{x} {level}" class="e end"/>'
    yield f'<text x="{min(joins) + 6}" y="{level + 17}" class="l">erase (operator, or its retention ended)</text>'


if __name__ == "__main__":
    sys.stdout.write(picture())
