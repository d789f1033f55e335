"""What an antivirus engine says of a document."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class ScanResult(Enum):
    """``UNSCANNABLE``: the engine gave up inside the document, because of how it is made (archives in archives,
    under a password, more work than it does for one document).
    ``NOT_SCANNED``: this site has no antivirus."""

    CLEAN = "clean"
    INFECTED = "infected"
    UNSCANNABLE = "unscannable"
    NOT_SCANNED = "not_scanned"


@dataclass(frozen=True, slots=True)
class ScanVerdict:
    """``signature`` names what was found, in the engine's words, cleaned: letters, digits and ``.-_:/+`` only."""

    finding: ScanResult
    signature: str = ""
