"""Sessions of people who are signed in to the console."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSession:
    """``digest``: SHA-256 of the cookie's value, 32 bytes. ``identity_sealed``: who it is, sealed under the site's key of personal data.
    ``marks``: what a logout at the identity provider, or a revocation, names it by. It counts until ``ends_at``."""

    digest: bytes = field(repr=False)
    identity_sealed: str = field(repr=False)
    marks: tuple[str, ...] = field(repr=False)
    opened_at: datetime
    seen_at: datetime
    ends_at: datetime


def subject_mark(subject: str) -> str:
    """What all sessions of one person are looked up by: a logout may name the person and no session."""
    return f"sub:{hashlib.sha256(subject.encode('utf-8', 'surrogatepass')).hexdigest()}"
