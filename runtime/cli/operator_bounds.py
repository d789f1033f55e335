"""Who is at the terminal, and which tenants he is bound to (``DPJ_OPERATOR_TENANTS``)."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from runtime.config.settings import Settings

#: In the setting: whoever is not named.
OTHERS: Final = "*"


def operator_name() -> str:
    """Who is at the terminal, by the process's user; where that is root through sudo, by who called it. No variable that an ordinary
    user can set counts. Only the pseudonym of it is written down."""
    user = os.getuid()
    if user == 0 and (caller := os.environ.get("SUDO_USER")):
        return caller
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"uid-{user}"


def bound_tenants(settings: Settings) -> frozenset[str] | None:
    """The only tenants that who is at the terminal sees and acts on; None: he is bound to none."""
    bounds = settings.operator_tenants
    if bounds is None:
        return None
    tenants = bounds.get(operator_name(), bounds.get(OTHERS))
    return None if tenants is None else frozenset(tenants)


def check_bound(bound: frozenset[str] | None, tenant: str | None) -> None:
    """Raises TenantNotYours for a tenant that is not among ``bound``, whether there is such a tenant or not; OperatorBound for what
    concerns all tenants (``tenant`` None)."""
    from domain.refusals import OperatorBound, TenantNotYours

    if bound is None:
        return
    if tenant is None:
        raise OperatorBound("This concerns all tenants, and you are bound to some.")
    if tenant not in bound:
        raise TenantNotYours("You are bound to other tenants.")
