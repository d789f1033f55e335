"""The HTTP application, made from its dependencies."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from ingest_api import (
    problems,
    routes_documents,
    routes_dossiers,
    routes_erasure,
    routes_health,
    routes_links,
    routes_operations,
    routes_tokens,
)
from ingest_api.dependencies import ApiDependencies, AppState, Describe
from ingest_api.metrics import ApiMetrics
from ingest_api.middleware import ExchangeMiddleware
from ingest_api.readiness import Readiness
from ingest_api.route_authorization import check_access_table
from ingest_api.upload_fast_path import upload_fast_path
from ingest_api.version import VERSION

_ROUTERS: Final = (
    routes_documents.router,
    routes_dossiers.router,
    routes_erasure.router,
    routes_links.router,
    routes_tokens.router,
    routes_operations.router,
    routes_health.router,
)

#: What pages of the origins named may do. Never with cookies: the API knows none.
_CORS: Final[dict[str, Any]] = {
    "allow_methods": ("GET", "HEAD", "POST", "DELETE"),
    "allow_headers": (
        *("Authorization", "Content-Type", "Idempotency-Key", "X-DPJ-Metadata"),
        *("If-None-Match", "If-Range", "Range", "correlation-id", "traceparent"),
    ),
    "expose_headers": (
        *("Content-Disposition", "Content-Range", "ETag", "Idempotent-Replayed", "Location"),
        *("RateLimit", "RateLimit-Policy", "Retry-After", "correlation-id", "traceparent"),
    ),
    "max_age": 600,
}


def create_app(deps: ApiDependencies, describe: Describe) -> FastAPI:
    """The application over ``deps``. ``describe`` makes its OpenAPI document when that is asked for.

    Raises ValueError if a route has no row in the access table, or a row no route.
    """
    app = routes_only()
    metrics = ApiMetrics(deps.registry)
    app.state.app_state = AppState(deps, metrics, Readiness(deps.readiness, deps.circuits), describe)
    problems.install(app, _api_routes())
    uploads = next(route for route in _api_routes() if route.name == "upload_document")
    upload: ASGIApp = upload_fast_path(uploads)
    if deps.cors_origins:
        # Within the exchange, so that its answers are logged and hardened too.
        app.add_middleware(CORSMiddleware, allow_origins=deps.cors_origins, **_CORS)
        upload = CORSMiddleware(upload, allow_origins=deps.cors_origins, **_CORS)
    app.add_middleware(ExchangeMiddleware, metrics=metrics, fast_paths={("POST", uploads.path): upload})
    return app


def routes_only() -> FastAPI:
    """The routes without anything behind them: enough to describe them."""
    app = FastAPI(
        title="DPJ Documents",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        # Its spans and logs would hold texts of requests; the environment must not be able to switch them on.
        telemetry={
            "auto_configure": False,
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
        },
        generate_unique_id_function=lambda route: route.name,
    )
    for router in _ROUTERS:
        app.include_router(router)
    check_access_table(route.name for route in _api_routes())
    return app


def _api_routes() -> list[APIRoute]:
    return [route for router in _ROUTERS for route in router.routes if isinstance(route, APIRoute)]
