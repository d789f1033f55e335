"""The fast path of uploads, past the framework's routing: its layers between a request and its route cost as much as an upload's two transactions.

The route is still the framework's own for everyone who lists or describes routes; only the way to it is shorter. What it may raise
is answered by the same ``ingest_api.problems``.
"""

from __future__ import annotations

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from domain.errors import DPJError
from ingest_api.dependencies import app_state, authorised
from ingest_api.problems import CODE_STATE, problem_of
from ingest_api.routes_documents import upload_document


def upload_fast_path(route: APIRoute) -> ASGIApp:
    """The application that answers requests to ``route``, which must be that of ``upload_document``."""

    async def upload(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = route
        request = Request(scope, receive, send)
        try:
            response = await upload_document(request, await authorised(request), app_state(request))
        except DPJError as error:
            scope["state"][CODE_STATE] = error.code
            response = problem_of(error)
        await response(scope, receive, send)

    return upload
