"""Who may use which route: the one table, checked against the routes when the application is made.

* portal: deposits, reads all of its own tenant, and looks it up by file name or e-mail address;
* validator: reads and looks up all of its own tenant, validates and rejects there;
* operator, auditor: read metadata and timelines of every tenant, content of none; retentions and erasure receipts too;
* auditor: receipts of archived documents of every tenant;
* operator, auditor: see dead letters, batches of acts and pauses; an operator plans acts, has them carried out and pauses consumers;
* operator: erases documents of every tenant, extends retentions, sets and lifts legal holds, revokes tokens and links.

A row says both what a role may do and whether other tenants' things exist for it there: where they don't, they are not
found. The use cases hold the outermost bound themselves: a row can narrow what they show, never widen it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from domain.documents import Role
from ingest_api.rate_limits import QuotaName
from processors.documents.callers import ALL_TENANTS


@dataclass(frozen=True, slots=True)
class RouteRule:
    """``own``: roles that may use the route. ``other``: those of them for whom other tenants' things exist on it.
    ``limit``: what a client's calls of it count against."""

    own: frozenset[Role]
    other: frozenset[Role] = frozenset()
    limit: QuotaName = QuotaName.CLIENT


@dataclass(frozen=True, slots=True)
class PublicRoute:
    """A route that asks for no token. ``limit`` None: it is never refused for being called too often."""

    limit: QuotaName | None = None


_TENANT: Final = frozenset({Role.PORTAL, Role.VALIDATOR})
_EVERYONE: Final = frozenset(Role)
_OPERATOR: Final = frozenset({Role.OPERATOR})
_AUDITOR: Final = frozenset({Role.AUDITOR})


def _documents(own: frozenset[Role], other: frozenset[Role] = frozenset()) -> RouteRule:
    return RouteRule(own, other, QuotaName.DOCUMENTS)


#: By route name.
ACCESS: Final[Mapping[str, RouteRule | PublicRoute]] = {
    "upload_document": _documents(frozenset({Role.PORTAL})),
    "list_documents": _documents(_EVERYONE, ALL_TENANTS),
    "search_documents": _documents(_TENANT),
    "get_document": _documents(_EVERYONE, ALL_TENANTS),
    "get_document_content": _documents(_TENANT),
    "get_document_thumbnail": _documents(_TENANT),
    "get_document_receipt": _documents(_TENANT | _AUDITOR, _AUDITOR),
    "list_document_events": _documents(_EVERYONE, ALL_TENANTS),
    "validate_document": _documents(frozenset({Role.VALIDATOR})),
    "reject_document": _documents(frozenset({Role.VALIDATOR})),
    "erase_document": _documents(_OPERATOR, _OPERATOR),
    "confirm_erasure": _documents(_OPERATOR, _OPERATOR),
    "withdraw_erasure": _documents(_OPERATOR, _OPERATOR),
    "get_erasure_order": _documents(_OPERATOR, _OPERATOR),
    "get_erasure_receipt": _documents(ALL_TENANTS, ALL_TENANTS),
    "get_retention": _documents(ALL_TENANTS, ALL_TENANTS),
    "extend_retention": _documents(_OPERATOR, _OPERATOR),
    "set_legal_hold": _documents(_OPERATOR, _OPERATOR),
    "lift_legal_hold": _documents(_OPERATOR, _OPERATOR),
    "create_dossier": RouteRule(frozenset({Role.PORTAL})),
    "list_dossiers": RouteRule(_TENANT),
    "get_dossier": RouteRule(_TENANT),
    "list_document_types": RouteRule(_EVERYONE),
    "create_document_link": _documents(_TENANT),
    "revoke_document_link": _documents(_TENANT | _OPERATOR, _OPERATOR),
    "revoke_token": RouteRule(_OPERATOR, _OPERATOR, QuotaName.TOKENS),
    **{
        name: RouteRule(ALL_TENANTS, ALL_TENANTS)
        for name in (
            *("list_dead_letter_groups", "list_dead_letters", "list_batches", "get_batch", "list_batch_items"),
            *("list_pauses", "list_orders"),
        )
    },
    **{
        name: RouteRule(_OPERATOR, _OPERATOR)
        for name in (
            *("plan_act", "confirm_plan", "continue_batch", "stop_batch", "confirm_batch"),
            *("pause_consumer", "resume_consumer"),
        )
    },
    "open_link": PublicRoute(QuotaName.DOCUMENTS),
    "openapi": PublicRoute(QuotaName.CLIENT),
    "livez": PublicRoute(),
    "readyz": PublicRoute(),
}


#: Routes that give out, or act on, documents that are there already: none of them answers while a restored database may show what was
#: erased. Uploads go on, and so does what is about no document.
OF_DOCUMENTS: Final = frozenset(ACCESS) - {
    *("upload_document", "create_dossier", "list_dossiers", "get_dossier", "list_document_types"),
    *("revoke_token", "revoke_document_link", "openapi", "livez", "readyz"),
    *("list_dead_letter_groups", "list_dead_letters", "list_batches", "get_batch", "list_batch_items", "list_pauses"),
    *(
        "list_orders",
        "plan_act",
        "confirm_plan",
        "continue_batch",
        "stop_batch",
        "confirm_batch",
        "pause_consumer",
        "resume_consumer",
    ),
}


def check_access_table(names: Iterable[str]) -> None:
    """Raises ValueError unless every route has its row, every row its route, and no row shows more than the use cases do."""
    routes = set(names)
    if routes != set(ACCESS):
        raise ValueError(f"routes and access table differ: {sorted(routes ^ set(ACCESS))}")
    for name, rule in ACCESS.items():
        if isinstance(rule, RouteRule) and not rule.other <= rule.own & ALL_TENANTS:
            raise ValueError(f"the access table shows other tenants to too many: {name}")


def rule_of(route: str) -> RouteRule:
    """The row of a route that asks for a token; one without such a row is nobody's."""
    rule = ACCESS.get(route)
    return rule if isinstance(rule, RouteRule) else RouteRule(frozenset())


def roles_of(route: str) -> frozenset[Role]:
    """The roles that may use the route; none for one that asks for no token."""
    return rule_of(route).own
