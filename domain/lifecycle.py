"""The life of a document, as one literal table.

Column ``statut`` of DOCUMENTS holds the names below. Every change of state goes through ``ensure_allowed`` and is written
as a compare-and-set on the state it starts from.
"""

from __future__ import annotations

from enum import Enum

from domain.refusals import TransitionRefused


class Status(Enum):
    """States of a document. PENDING is an upload under way; every other state but ABANDONED has stored bytes or had them."""

    PENDING = "PENDING"
    ABANDONED = "ABANDONED"
    STORED = "STORED"
    VERIFIED = "VERIFIED"
    QUARANTINED = "QUARANTINED"
    VALIDATED = "VALIDATED"
    REJECTED = "REJECTED"
    ARCHIVED = "ARCHIVED"
    ARCHIVE_FAILED = "ARCHIVE_FAILED"
    ERASING = "ERASING"
    ERASED = "ERASED"


_S = Status

TRANSITIONS: dict[Status, frozenset[Status]] = {
    _S.PENDING: frozenset({_S.STORED, _S.ABANDONED}),
    _S.ABANDONED: frozenset(),
    _S.STORED: frozenset({_S.VERIFIED, _S.QUARANTINED, _S.ERASING}),
    _S.VERIFIED: frozenset({_S.VALIDATED, _S.REJECTED, _S.ERASING}),
    _S.QUARANTINED: frozenset({_S.ERASING}),
    _S.VALIDATED: frozenset({_S.ARCHIVED, _S.ARCHIVE_FAILED, _S.ERASING}),
    _S.REJECTED: frozenset({_S.ERASING}),
    _S.ARCHIVED: frozenset({_S.ERASING}),
    _S.ARCHIVE_FAILED: frozenset({_S.VALIDATED, _S.ERASING}),
    _S.ERASING: frozenset({_S.ERASED}),
    _S.ERASED: frozenset(),
}

#: States in which a document may stay for good; VERIFIED waits for a person.
RESTING: frozenset[Status] = frozenset(
    {_S.VERIFIED, _S.REJECTED, _S.QUARANTINED, _S.ARCHIVED, _S.ARCHIVE_FAILED, _S.ABANDONED, _S.ERASED}
)

#: States whose content may be served to a reader.
READABLE: frozenset[Status] = frozenset(
    {_S.STORED, _S.VERIFIED, _S.VALIDATED, _S.REJECTED, _S.ARCHIVED, _S.ARCHIVE_FAILED}
)

#: Those of them that the integrity step, and its antivirus, has let pass.
CHECKED: frozenset[Status] = READABLE - {_S.STORED}

#: States in which nothing may be made of a document any more: it is being erased, or was.
ERASURE_STATES: frozenset[Status] = frozenset({_S.ERASING, _S.ERASED})
#: Attempts, not documents: nothing that a 2xx answered. Only who sees all tenants sees them.
ATTEMPTS: frozenset[Status] = frozenset({_S.PENDING, _S.ABANDONED})


def is_allowed(current: Status, to: Status) -> bool:
    """Whether the table has the transition."""
    return to in TRANSITIONS[current]


def ensure_allowed(current: Status, to: Status) -> None:
    """Raise :class:`TransitionRefused` where the table has no such transition."""
    if not is_allowed(current, to):
        raise TransitionRefused(f"A document that is {current.value} cannot become {to.value}.")
