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
from ingest_api.models_erasure import EraseInput, ExtendInput, HoldInput, LiftInput
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
    ExtendInput,
    HoldInput,
    LiftInput,
    Problem,
)
_REF: Final = "#/components/schemas/{model}"
_DESCRIPTION: Final = """Deposit documents, read them, decide about them, keep and erase them.

Errors are application/problem+json (RFC 9457) with a stable `code` and the `traceId` of the request. Send `traceparent` (W3C)
and `correlation-id` (a UUID) to have yours continued; both come back. Lists are paged by `cursor`.
"""


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
    for path in document["paths"].values():
        for operation in path.values():
            _complete(operation)
    return document


def _complete(operation: dict[str, Any]) -> None:
    """Security, the roles, and our 400 in place of the 422 that FastAPI assumes for parameters."""
    name = operation["operationId"]
    roles = sorted(role.value for role in roles_of(name))
    operation["security"] = [{"bearer": roles}] if roles else []
    who = f"Roles: {', '.join(roles)}." if roles else "No token is asked for."
    operation["description"] = f"{operation.get('description', '')}\n\n{who}".strip()
    answers = operation["responses"]
    if "application/json" in answers.get("422", {}).get("content", {}):
        invalid = answers.pop("422")
        problem = {"schema": {"$ref": _REF.format(model=Problem.__name__)}}
        answers.setdefault(
            "400", {"description": invalid["description"], "content": {"application/problem+json": problem}}
        )


def main() -> None:
    """Print the document, its keys in a fixed order."""
    sys.stdout.write(json.dumps(document_of(routes_only()), indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
