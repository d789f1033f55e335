"""The OpenAPI 3.1 document. ``python -m ingest_api.openapi`` prints it; no server is needed."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ingest_api.app import routes_only
from ingest_api.models import (
    DossierInput,
    LinkInput,
    Problem,
    RejectInput,
    RevocationInput,
    SearchInput,
    UploadMetadata,
    ValidateInput,
)
from ingest_api.models_erasure import ConfirmInput, EraseInput, ExtendInput, HoldInput, LiftInput, WithdrawInput
from ingest_api.models_operations import ActInput, ConfirmPlanInput, PauseInput, ResumeInput
from ingest_api.openapi_annotations import headers_of, request_headers_of
from ingest_api.openapi_examples import ANSWERS, COMMANDS
from ingest_api.presenters import API
from ingest_api.route_authorization import roles_of

_READ_BY_HAND: Final[tuple[type[BaseModel], ...]] = (
    UploadMetadata,
    SearchInput,
    ValidateInput,
    RejectInput,
    DossierInput,
    LinkInput,
    RevocationInput,
    EraseInput,
    ConfirmInput,
    WithdrawInput,
    ExtendInput,
    HoldInput,
    LiftInput,
    ActInput,
    ConfirmPlanInput,
    PauseInput,
    ResumeInput,
    Problem,
)
_REF: Final = "#/components/schemas/{model}"
_DESCRIPTION: Final = """Deposit documents, read them, decide about them, keep and erase them.

Errors are application/problem+json (RFC 9457) with a stable `code` and the `traceId` of the request. Send `traceparent` (W3C)
and `correlation-id` (a UUID) to have yours continued; both come back. Lists are paged by `cursor`.
HEAD is answered wherever GET is. A token of a tenant that no operator has created is 403 `tenant_unknown` everywhere;
operators and auditors see the tenants that their token's claim `tenants` lists, or all.
"""

_TAGS: Final[dict[str, str]] = {
    "documents": "Deposit documents, read them, decide about them",
    "dossiers": "What documents are deposited for",
    "links": "Links that open one document's content without a token",
    "retention": "Erase documents, keep them longer, legal holds, receipts of erasure",
    "access": "Revoke tokens",
    "operations": "Dead letters, acts on many things by plan and batch, pauses of consumers",
}
_TAG_BY_PART: Final[dict[str, str]] = {
    "documents": "documents",
    "document-search": "documents",
    "document-types": "documents",
    "dossiers": "dossiers",
    "links": "links",
    "revocations": "access",
}
_TAG_BY_ENDING: Final[dict[str, str]] = {
    **dict.fromkeys(("/links", "/links/{link_id}"), "links"),
    **dict.fromkeys(
        (
            "/erase",
            "/confirm",
            "/withdraw",
            "/erasure-order",
            "/erasure-receipt",
            "/retention",
            "/legal-holds",
            "/lift",
        ),
        "retention",
    ),
}

#: Bodies as they are sent, by the name of their schema.
EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "UploadMetadata": {
        "type": "CNI",
        "dossier_id": "123e4567-e89b-42d3-a456-426614174000",
        "depositor": {"email": "marie@example.org", "language": "fr"},
        "tags": ["recto"],
        "metadata": {"numero": "X4RTBPFW4"},
    },
    "SearchInput": {"file_name": "carte.pdf"},
    "DossierInput": {
        "number": "D-2026-0042",
        "client_id": "C-1",
        "journey_type": "LOAN",
        "steps": [{"code": "IDENTITY", "name": "Identity", "mandatory_documents": ["CNI"]}],
    },
    "ValidateInput": {"comment": "All there."},
    "RejectInput": {"reason": "The back is missing."},
    "LinkInput": {"purpose": "partner-review", "seconds": 900},
    "ConfirmInput": {"order_id": "0b0f2ac4-2f0c-4c3e-8d65-5a7c4c0c1f57"},
    "WithdrawInput": {"order_id": "0b0f2ac4-2f0c-4c3e-8d65-5a7c4c0c1f57"},
    "EraseInput": {"reason": "TICKET-42", "legal_basis": "GDPR_17_1_B"},
    "ExtendInput": {"until": "2040-01-01T00:00:00Z", "reason": "TICKET-42"},
    "HoldInput": {"reference": "CASE-1", "reason": "LITIGATION"},
    "LiftInput": {"reason": "CASE-CLOSED"},
    "RevocationInput": {"session_id": "0b1c2d3e"},
    "ActInput": {"act": "redrive", "consumer": "archiving", "code": "archive_refused"},
    "ConfirmPlanInput": {
        "act": "redrive",
        "consumer": "archiving",
        "code": "archive_refused",
        "plan_hash": "5b8d0f3a" * 8,
        "reason": "TICKET-42",
        "canary": 3,
    },
    "PauseInput": {"consumer": "archiving", "minutes": 30, "reason": "TICKET-42"},
    "ResumeInput": {"reason": "TICKET-42"},
}


def document_of(app: FastAPI) -> dict[str, Any]:
    """The document of an application made by ``ingest_api.app``; made once. ``create_app`` is given this function."""
    if app.openapi_schema is None:
        app.openapi_schema = _build(app)
    return app.openapi_schema


def _build(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, openapi_version="3.1.0", description=_DESCRIPTION, routes=app.routes
    )
    components = document.setdefault("components", {})
    _, definitions = models_json_schema([(model, "validation") for model in _READ_BY_HAND], ref_template=_REF)
    schemas = {**components.get("schemas", {}), **definitions["$defs"]}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["schemas"] = dict(sorted(schemas.items()))
    components["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "Claims sub, tenant, roles (portal, validator, operator, auditor); RS256, ES256 or EdDSA.",
        }
    }
    for name, schema in components["schemas"].items():
        if name in definitions["$defs"] and name != Problem.__name__:
            _tell_defaults(schema)
    for name, example in {**EXAMPLES, **ANSWERS}.items():
        components["schemas"][name]["examples"] = [example]
    for address, path in document["paths"].items():
        for operation in path.values():
            _complete(operation)
            operation["tags"] = [_tag_of(address)]
    document["tags"] = [{"name": name, "description": text} for name, text in _TAGS.items()]
    document["servers"] = [{"url": _server_of(app), "description": "This API"}]
    return document


def _tell_defaults(schema: dict[str, Any]) -> None:
    """Put defaults of a body's fields into words: openapi-typescript takes a field with a default for one that is always there."""
    for part in (schema, *schema.get("anyOf", ())):
        for field in part.get("properties", {}).values():
            default = field.pop("default", None)
            if default not in (None, [], {}):
                field["description"] = f"{field.get('description', '')} {default} if it is not there.".strip()


def _server_of(app: FastAPI) -> str:
    """What stands before all paths. Paths begin with /api themselves."""
    given = getattr(app.state, "app_state", None)
    return (given.deps.public_url if given else "") or "/"


def _tag_of(address: str) -> str:
    part = address.removeprefix(f"{API}/").partition("/")[0]
    if part == "operations":
        return part
    for ending, tag in _TAG_BY_ENDING.items():
        if address.endswith(ending):
            return tag
    return _TAG_BY_PART[part]


def _complete(operation: dict[str, Any]) -> None:
    """Security, the roles, and our 400 in place of the 422 that FastAPI assumes for parameters."""
    name = operation["operationId"]
    roles = sorted(role.value for role in roles_of(name))
    operation["security"] = [{"bearer": roles}] if roles else []
    who = f"Roles: {', '.join(roles)}." if roles else "No token is asked for."
    operation["description"] = f"{operation.get('description', '')}\n\n{who}".strip()
    if command := COMMANDS.get(name):
        operation["x-codeSamples"] = [{"lang": "Shell", "label": "curl", "source": command}]
    if asked := request_headers_of(name):
        operation.setdefault("parameters", []).extend(asked)
    for status, answer in operation["responses"].items():
        if headers := headers_of(name, status):
            answer["headers"] = headers
    answers = operation["responses"]
    if "application/json" in answers.get("422", {}).get("content", {}):
        del answers["422"]
        problem = {"schema": {"$ref": _REF.format(model=Problem.__name__)}}
        answers.setdefault(
            "400",
            {
                "description": "Malformed request",
                "content": {"application/problem+json": problem},
                "headers": headers_of(name, "400"),
            },
        )


def main() -> None:
    """Print the document, its keys in a fixed order."""
    sys.stdout.write(json.dumps(document_of(routes_only()), indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
