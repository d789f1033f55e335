"""What the demonstration sends, and what is expected of it: ``samples/manifest.json`` and one large file made at run time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from domain.lifecycle import Status
from operations.demo.sample_documents import large_pdf

LARGE_MEGABYTES: Final = 60
LARGE_TYPE: Final = "CONTRAT"
_PIECE: Final = 1 << 20

#: Mails that a document's depositor gets on the way to its end, by template.
MAILS: Final[Mapping[Status, frozenset[str]]] = {
    Status.VERIFIED: frozenset({"receipt"}),
    Status.VALIDATED: frozenset({"receipt", "validated"}),
    Status.ARCHIVED: frozenset({"receipt", "validated", "archived"}),
    Status.REJECTED: frozenset({"receipt", "rejected"}),
    Status.QUARANTINED: frozenset({"receipt", "quarantined"}),
}


#: Every so many samples one is decided at once, before its check is done.
EARLY_EVERY: Final = 3

_REFUSED: Final = "refused:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A file and its expected end: ``ends`` if it is taken, or the code by which it is ``refused``.

    ``early``: decided as soon as it is taken; otherwise once it is VERIFIED. ``thumbnail`` is the entry that its timeline
    should get, ``TYPE`` or ``TYPE: reason``.
    """

    path: Path
    name: str
    type_code: str
    media_type: str | None
    language: str
    ends: Status | None
    refused: str | None = None
    early: bool = False
    thumbnail: str | None = None

    @property
    def mails(self) -> frozenset[str]:
        return frozenset() if self.ends is None else MAILS[self.ends]


def load(manifest: Path, *, archived_types: Container[str]) -> list[Sample]:
    """The samples of a manifest, which stands in their folder. A validated document goes to the archive if its type is one
    of ``archived_types``, and otherwise stays VALIDATED. Raises OSError, KeyError or ValueError."""
    rows = json.loads(manifest.read_text("utf-8"))["documents"]
    return [_sample(manifest.parent, number, row, archived_types) for number, row in enumerate(rows)]


def _sample(folder: Path, number: int, row: Mapping[str, Any], archived_types: Container[str]) -> Sample:
    end = str(row["end"])
    refused = end.removeprefix(_REFUSED) if end.startswith(_REFUSED) else None
    ends = None if refused else Status[end.upper()]
    if ends is Status.ARCHIVED and row["type_code"] not in archived_types:
        ends = Status.VALIDATED
    return Sample(
        path=folder / row["file"],
        name=row["file"],
        type_code=row["type_code"],
        media_type=row["media_type"],
        language=row["language"],
        ends=ends,
        refused=refused,
        early=ends in {Status.ARCHIVED, Status.VALIDATED} and number % EARLY_EVERY == 0,
        thumbnail=row["thumbnail"],
    )


def large_sample(folder: Path) -> Sample:
    """A PDF of 60 MB in ``folder``, made there if it is not yet; to be validated while its check is still under way."""
    path = folder / f"large-{LARGE_MEGABYTES}MB.pdf"
    if not path.exists():
        partial = path.with_suffix(".part")
        large_pdf(partial, LARGE_MEGABYTES)
        partial.replace(path)
    return Sample(
        path=path,
        name=path.name,
        type_code=LARGE_TYPE,
        media_type="application/pdf",
        language="fr",
        ends=Status.ARCHIVED,
        early=True,
        thumbnail="THUMBNAILS_READY",
    )


def sha256_of(path: Path) -> str:
    """Lower-case hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
