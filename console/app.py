"""The console as an application, made from its dependencies."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from console import (
    pages_audit,
    pages_consumers,
    pages_documents,
    pages_health,
    pages_now,
    pages_operations,
    pages_orders,
    pages_recovery,
    pages_runbook,
    pages_sign_in,
    static_files,
)
from console.dependencies import ConsoleDependencies, FormRefused, SignInNeeded, dependencies
from console.languages import Texts, language_of
from console.pages_sign_in import SEE_OTHER, sign_in_path
from console.rendering import html, render
from console.security import ConsoleMetrics, ShieldMiddleware
from domain.error_table import ERROR_TABLE
from domain.errors import DPJError
from domain.refusals import ParameterInvalid

_ROUTERS: Final = (
    pages_now.router,
    pages_recovery.router,
    pages_operations.router,
    pages_orders.router,
    pages_consumers.router,
    pages_audit.router,
    pages_runbook.router,
    pages_documents.router,
    pages_sign_in.router,
    pages_health.router,
    static_files.router,
)


def create_app(deps: ConsoleDependencies) -> FastAPI:
    """The application over ``deps``."""
    app = FastAPI(
        title="DPJ Documents console",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry={
            "auto_configure": False,
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
        },
    )
    for router in _ROUTERS:
        app.include_router(router)
    app.state.dependencies = deps
    for raised, answer in (
        (SignInNeeded, _on_sign_in_needed),
        (FormRefused, _on_form_refused),
        (DPJError, _on_domain_error),
        (HTTPException, _on_http_error),
        (RequestValidationError, _on_parameters),
    ):
        app.add_exception_handler(raised, answer)
    app.add_middleware(ShieldMiddleware, metrics=ConsoleMetrics(deps.registry), public_url=deps.public_url)
    return app


async def _on_sign_in_needed(request: Request, _: Exception) -> Response:
    if request.method != "GET":
        return _failure(request, 401, "signed_out")
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(sign_in_path(path), SEE_OTHER)


async def _on_form_refused(request: Request, _: Exception) -> Response:
    return _failure(request, 403, "form_refused")


async def _on_domain_error(request: Request, error: Exception) -> Response:
    code = error.code if isinstance(error, DPJError) else DPJError.code
    return _failure(request, ERROR_TABLE[code].http_status, code)


async def _on_http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _failure(request, status, "page_not_found" if status == 404 else "http_error")


async def _on_parameters(request: Request, _: Exception) -> Response:
    return _failure(request, 422, ParameterInvalid.code)


def _failure(request: Request, status: int, code: str) -> Response:
    """A page that says what is wrong, by its code, and what to do. It shows nothing of who is signed in: that may be what failed."""
    texts = Texts(language_of(request))
    known = texts.or_itself("problem", code)
    values = {
        "code": code,
        "text": texts("problem.other") if known == code else known,
        "meaning": texts.of_code(code) if known == code else "",
        "path": "/",
        "status": status,
    }
    return html(render("problem.html", texts, dependencies(request).zone, values), status)
