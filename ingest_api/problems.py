"""Every error as application/problem+json (RFC 9457), by the table in ``domain.error_table``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route

from domain.error_table import ERROR_TABLE
from domain.errors import DPJError, Transient
from domain.refusals import (
    IdempotencyInProgress,
    MetadataInvalid,
    ParameterInvalid,
    RangeNotSatisfiable,
    RateLimited,
    ReceiptPending,
    Unauthenticated,
)
from domain.shared.correlation import current_traceparent, trace_id
from ingest_api.field_errors import FieldError, explain

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:dpj:problem:"
IN_PROGRESS_RETRY_AFTER: Final = 5
#: Where a request's error code is left for metrics and the access log.
CODE_STATE: Final = "dpj.problem_code"


class InvalidFields(MetadataInvalid):
    """Metadata whose fields are named in the answer."""

    def __init__(self, fields: Sequence[FieldError]) -> None:
        super().__init__("The fields named in errors are not valid.")
        self.fields = tuple(fields)


@dataclass(frozen=True, slots=True)
class RouteFailure:
    """Failures of HTTP itself, which no use case raises."""

    code: str
    title: str
    detail: str
    advice: str


_METHOD_NOT_ALLOWED: Final = 405
ROUTE_FAILURES: Final = {
    404: RouteFailure(
        "route_not_found", "No such resource", "No resource has this path.", "See GET /api/v1/openapi.json."
    ),
    405: RouteFailure(
        "method_not_allowed",
        "Method not allowed",
        "The resource does not have this method.",
        "Use a method that the header Allow names.",
    ),
}
OTHER_ROUTE_FAILURE: Final = RouteFailure(
    "http_error", "Request refused", "The request is none of this API's.", "See GET /api/v1/openapi.json."
)


def problem_of(error: DPJError, *, errors: Sequence[FieldError] = ()) -> Response:
    """The answer to a domain error."""
    row = ERROR_TABLE[error.code]
    headers: dict[str, str] = {}
    if isinstance(error, Transient | ReceiptPending):
        headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, IdempotencyInProgress):
        headers["Retry-After"] = str(IN_PROGRESS_RETRY_AFTER)
    elif isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, RateLimited):
        headers |= {"Retry-After": str(error.retry_after), **dict(error.headers)}
    elif isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    if isinstance(error, InvalidFields):
        errors = error.fields
    body = _body(row.http_status, error.code, row.title, error.detail or f"{row.title}.", error.advice or row.advice)
    if errors:
        body["errors"] = [{"field": one.field, "code": one.code, "message": one.message} for one in errors]
    return _response(row.http_status, body, headers)


def unexpected() -> Response:
    """The answer to an error that nobody foresaw: nothing of it but the trace id."""
    return problem_of(DPJError())


def install(app: FastAPI, routes: Sequence[Route]) -> None:
    """Answer every error that a route raises; what is left reaches ``ingest_api.middleware``. ``routes``: all there are."""
    app.state.routes = tuple(routes)
    app.add_exception_handler(DPJError, _on_domain_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_parameters)


async def _on_domain_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, DPJError):
        raise error
    request.scope["state"][CODE_STATE] = error.code
    return problem_of(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    row = ROUTE_FAILURES.get(error.status_code, OTHER_ROUTE_FAILURE)
    request.scope["state"][CODE_STATE] = row.code
    body = _body(error.status_code, row.code, row.title, row.detail, row.advice)
    headers = dict(error.headers or {})
    if error.status_code == _METHOD_NOT_ALLOWED:
        # The framework names the methods of the first route of that path alone.
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return _response(error.status_code, body, headers)


def _methods(request: Request) -> set[str]:
    """The methods of all routes that have the request's path; HEAD is wherever GET is (``ingest_api.middleware``)."""
    found: set[str] = set()
    for route in request.app.state.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return found | {"HEAD"} if "GET" in found else found


async def _on_parameters(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    fields = [
        FieldError(str(one["loc"][-1]), *explain(str(one["type"]), one.get("ctx") or {}))
        for one in error.errors()
        if one["loc"]
    ]
    request.scope["state"][CODE_STATE] = ParameterInvalid.code
    return problem_of(ParameterInvalid("The parameters named in errors are not valid."), errors=fields)


def _body(status: int, code: str, title: str, detail: str, advice: str) -> dict[str, Any]:
    return {
        "type": TYPE_PREFIX + code,
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "advice": advice,
        "traceId": trace_id(current_traceparent.get()),
    }


def _response(status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    return Response(orjson.dumps(body), status, dict(headers), MEDIA_TYPE)
