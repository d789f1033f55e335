"""What every act asks of the person who has it done."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlencode

from console.dependencies import ConsoleDependencies, Visitor
from console.pages_sign_in import SIGN_IN_AGAIN
from domain.refusals import Forbidden


def operators_only(visitor: Visitor) -> None:
    """Raises Forbidden."""
    if not visitor.is_operator:
        raise Forbidden("Auditors see, and do not act.")


def is_fresh(visitor: Visitor, deps: ConsoleDependencies) -> bool:
    """Whether its person has just said who he is."""
    return visitor.session.is_fresh(datetime.now(UTC), deps.step_up, deps.step_up_acr)


def sign_in_again(to: str) -> str:
    """Where one says once more who one is; from there on to ``to``."""
    return f"{SIGN_IN_AGAIN}?{urlencode({'to': to})}"
