"""What FastAPI can't find out by itself about our bodies and answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from domain.shared.jws import MEDIA_TYPE
from ingest_api.models import Problem

_TITLES: Final = {
    400: "Malformed request",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    408: "Body too slow",
    409: "Not possible in this state, or still under way",
    410: "Erased, or being erased",
    413: "File too large",
    415: "Media type or format not accepted",
    416: "Range not satisfiable",
    422: "Invalid content or metadata",
    429: "Too many requests; see Retry-After",
    503: "A dependency is away; see Retry-After",
}

Responses = dict[int | str, dict[str, Any]]


def problems(*statuses: int) -> Responses:
    """Problem answers by status; 500 is always among them."""
    content = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
    titles = {**{status: _TITLES[status] for status in statuses}, 500: "Internal error"}
    return {status: {"description": title, "content": content} for status, title in titles.items()}


def json_body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """A JSON body that the route reads itself, under limits of its own."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


_CONTENT: Final[dict[str, Any]] = {"*/*": {"schema": {"type": "string", "format": "binary"}}}

RANGES: Final[Responses] = {
    200: {"description": "The whole content, in its own media type", "content": _CONTENT},
    206: {"description": "The range asked for", "content": _CONTENT},
    304: {"description": "The client has it already (If-None-Match)"},
}

RECEIPT: Final[Responses] = {
    200: {"description": "The receipt, a compact JWS", "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}},
}

RAW_BODIES: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "1 to 128 visible ASCII characters; the same request again gives the same answer",
            "schema": {"type": "string", "minLength": 1, "maxLength": 128},
        },
        {
            "name": "X-DPJ-Metadata",
            "in": "header",
            "description": "With a raw body: UploadMetadata as JSON, base64url, at most 16384 characters",
            "schema": {"type": "string", "maxLength": 16384},
        },
    ],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["metadata", "file"],
                    "description": "Two parts in this order: metadata (at most 64 KiB), then file.",
                    "properties": {
                        "metadata": {"$ref": "#/components/schemas/UploadMetadata"},
                        "file": {"type": "string", "contentMediaType": "application/octet-stream"},
                    },
                },
                "encoding": {"metadata": {"contentType": "application/json"}},
            },
            "*/*": {
                "schema": {
                    "type": "string",
                    "contentMediaType": "application/octet-stream",
                    "description": "The file itself; Content-Type is its media type, X-DPJ-Metadata says the rest.",
                }
            },
        },
    },
}
