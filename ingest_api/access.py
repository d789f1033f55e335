"""Which role may use which route: the one table, checked against the routes when the application is made.

* portal: deposits, and reads all of its own tenant;
* validator: reads all of its own tenant, validates and rejects there;
* operator, auditor: read metadata, timelines, retentions and erasure receipts of every tenant, content of none;
* operator: erases documents of every tenant, extends retentions, sets and lifts legal holds.

Content is never served across tenants, whatever the role; the use cases hold that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from domain.documents import Role

_TENANT: Final = frozenset({Role.PORTAL, Role.VALIDATOR})
_EVERYONE: Final = frozenset(Role)

#: Route name -> roles that may use it. None: no token is asked for.
ACCESS: Final[Mapping[str, frozenset[Role] | None]] = {
    "upload_document": frozenset({Role.PORTAL}),
    "list_documents": _EVERYONE,
    "get_document": _EVERYONE,
    "get_document_content": _TENANT,
    "get_document_thumbnail": _TENANT,
    "list_document_events": _EVERYONE,
    "validate_document": frozenset({Role.VALIDATOR}),
    "reject_document": frozenset({Role.VALIDATOR}),
    "erase_document": frozenset({Role.OPERATOR}),
    "get_erasure_receipt": frozenset({Role.OPERATOR, Role.AUDITOR}),
    "get_retention": frozenset({Role.OPERATOR, Role.AUDITOR}),
    "extend_retention": frozenset({Role.OPERATOR}),
    "set_legal_hold": frozenset({Role.OPERATOR}),
    "lift_legal_hold": frozenset({Role.OPERATOR}),
    "create_dossier": frozenset({Role.PORTAL}),
    "list_dossiers": _TENANT,
    "get_dossier": _TENANT,
    "list_document_types": _EVERYONE,
    "openapi": None,
    "livez": None,
    "readyz": None,
    "metrics": None,
}


def check_table(names: Iterable[str]) -> None:
    """Raises ValueError unless every route has its row, and every row its route."""
    routes = set(names)
    if routes != set(ACCESS):
        raise ValueError(f"routes and access table differ: {sorted(routes ^ set(ACCESS))}")


def is_allowed(route: str, roles: Iterable[Role]) -> bool:
    """Whether one of ``roles`` may use the route; a route without a row is nobody's."""
    allowed = ACCESS.get(route, frozenset())
    return allowed is None or not allowed.isdisjoint(roles)
