"""Pauses: an operator has a consumer take no event for a while."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

#: What the worker of a paused consumer says that it waits for.
WAITING_FOR: Final = "pause"
#: No pause is longer: one that is forgotten ends by itself.
LONGEST: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """``by`` is a pseudonym, ``reason`` a code or ticket. Counts from its row's commit until ``until``, in all processes."""

    consumer: str
    by: str
    reason: str
    since: datetime
    until: datetime
