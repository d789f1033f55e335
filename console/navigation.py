"""The places of the console, in the order of its menu."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Place:
    """``name`` is the key of its texts (``menu.{name}``). ``of_all``: it shows what concerns all tenants."""

    name: str
    path: str
    of_all: bool = True


PLACES: Final = (
    Place("now", "/"),
    Place("consumers", "/consumers"),
    Place("topics", "/topics"),
    Place("operations", "/operations", of_all=False),
    Place("orders", "/orders", of_all=False),
    Place("documents", "/documents", of_all=False),
    Place("proof", "/proof"),
    Place("acts", "/acts", of_all=False),
    Place("reconcile", "/reconcile"),
)


def places_for(bound: bool) -> Sequence[Place]:
    """Those that somebody sees who is ``bound`` to some tenants, or to none."""
    return [place for place in PLACES if not (bound and place.of_all)]
