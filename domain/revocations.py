"""Tokens that count no longer: revoked one by one (claim jti) or with their whole session (claim sid)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class RevocableClaim(Enum):
    """The claim of a token that a revocation names."""

    TOKEN = "jti"  # noqa: S105 - a claim's name
    SESSION = "sid"


@dataclass(frozen=True, slots=True)
class Revocation:
    """``mark`` stands for a claim's value; after ``until`` no token with it is valid any more by itself."""

    mark: str
    until: datetime


@dataclass(frozen=True, slots=True)
class RevocationSnapshot:
    """Everything that is revoked, by mark, as it was at ``version``."""

    version: int
    until: Mapping[str, datetime]


def mark_of(claim: RevocableClaim, value: str) -> str:
    """What a revocation is kept and looked up by: the value itself may be a session's name, so it is hashed."""
    return f"{claim.value}:{hashlib.sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()}"
