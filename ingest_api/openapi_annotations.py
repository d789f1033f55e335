"""What FastAPI can't find out by itself about our bodies and answers, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


#: Bytes, in the word of OpenAPI 3.0, which is the one that generators of clients know.
_BYTES: Final[dict[str, Any]] = {"type": "string", "format": "binary"}
#: The first is the one that generators take; what comes has the media type of the document.
_CONTENT: Final[dict[str, Any]] = {"application/octet-stream": {"schema": _BYTES}, "*/*": {"schema": _BYTES}}


def _header(description: str, **schema: Any) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string", **schema}}


_LOCATION: Final = {"Location": _header("Where what was made is; with an address if DPJ_API_PUBLIC_URL is set")}
_ETAG: Final = {"ETag": _header("The SHA-256 of the bytes; If-None-Match takes it")}
_RETRY_AFTER: Final = {"Retry-After": _header("Seconds until the request may be repeated", type="integer", minimum=0)}
_NAMED: Final = {"Content-Disposition": _header("attachment, with the file's name"), **_ETAG}

#: Headers of answers by operation and status, beside those that every answer of its kind has.
_HEADERS_OF: Final[Mapping[tuple[str, str], Mapping[str, Any]]] = {
    ("upload_document", "201"): {
        **_LOCATION,
        "Idempotent-Replayed": _header("true where the answer is that of the same request before", enum=["true"]),
    },
    ("create_dossier", "201"): _LOCATION,
    ("confirm_plan", "201"): _LOCATION,
    ("create_document_link", "201"): _LOCATION,
    **{
        (name, status): {**_NAMED, "Accept-Ranges": _header("bytes", enum=["bytes"])}
        for name in ("get_document_content", "open_link")
        for status in ("200", "206")
    },
    **{(name, "304"): _ETAG for name in ("get_document_content", "open_link", "get_document_thumbnail")},
    ("get_document_thumbnail", "200"): _ETAG,
    ("get_document_receipt", "409"): _RETRY_AFTER,
    ("upload_document", "409"): _RETRY_AFTER,
}
_HEADERS_BY_STATUS: Final[Mapping[str, Mapping[str, Any]]] = {
    "206": {"Content-Range": _header("bytes FIRST-LAST/SIZE")},
    "401": {"WWW-Authenticate": _header("Bearer")},
    "405": {"Allow": _header("The methods that there are")},
    "416": {"Content-Range": _header("bytes */SIZE")},
    "429": _RETRY_AFTER,
    "503": _RETRY_AFTER,
}
_RATE_LIMIT: Final = {
    "RateLimit": _header("What is left of the client's quota (draft-ietf-httpapi-ratelimit-headers-10)"),
    "RateLimit-Policy": _header("The quota that the request counts for"),
}


def headers_of(operation: str, status: str) -> dict[str, Any]:
    """The headers that an answer of an operation may have, for its description."""
    found = {**_HEADERS_BY_STATUS.get(status, {}), **_HEADERS_OF.get((operation, status), {})}
    return found if status in {"401", "500", "503"} else {**found, **_RATE_LIMIT}


def _request_header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": {"type": "string"}}


_IF_NONE_MATCH: Final = _request_header("If-None-Match", "An ETag that the client has; 304 if it is still that one")
_RANGE_REQUEST: Final = (
    _request_header("Range", "One range, as in bytes=0-1023; several ranges and other units are ignored"),
    _request_header("If-Range", "An ETag; the range counts only if it is still that one"),
    _IF_NONE_MATCH,
)
#: Headers that FastAPI does not know of, because the routes read them by hand.
_REQUEST_HEADERS_OF: Final[Mapping[str, Sequence[Mapping[str, Any]]]] = {
    "get_document_content": _RANGE_REQUEST,
    "open_link": _RANGE_REQUEST,
    "get_document_thumbnail": (_IF_NONE_MATCH,),
}


def request_headers_of(operation: str) -> Sequence[Mapping[str, Any]]:
    """The headers that a request of an operation may have, as parameters."""
    return _REQUEST_HEADERS_OF.get(operation, ())


RANGES: Final[Responses] = {
    200: {"description": "The whole content, in its own media type", "content": _CONTENT},
    206: {"description": "The range asked for", "content": _CONTENT},
    304: {"description": "The client has it already (If-None-Match)"},
}

THUMBNAIL: Final[Responses] = {
    200: {"description": "The thumbnail", "content": _CONTENT},
    304: {"description": "The client has it already (If-None-Match)"},
}

_TEXT: Final[dict[str, Any]] = {"schema": {"type": "string"}}
#: It comes as the first. The second says that it is text to openapi-python-client, which leaves out what it does not know.
RECEIPT: Final[Responses] = {
    200: {"description": "The receipt, a compact JWS", "content": {MEDIA_TYPE: _TEXT, "text/plain": _TEXT}},
}

_RAW: Final[dict[str, Any]] = {
    **_BYTES,
    "description": "The file itself; Content-Type is its media type, X-DPJ-Metadata says the rest.",
}

#: Of a route that makes something out of a JSON body.
IDEMPOTENT: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "1 to 128 visible ASCII characters; the same request again makes nothing new",
            "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"},
        }
    ]
}

RAW_BODIES: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "1 to 128 visible ASCII characters; the same request again gives the same answer",
            "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"},
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
                        "file": _BYTES,
                    },
                },
                "encoding": {"metadata": {"contentType": "application/json"}},
            },
            # Under this name alone: of two bodies that openapi-python-client knows it sends the form without a boundary.
            "*/*": {"schema": _RAW},
        },
    },
}
