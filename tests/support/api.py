"""The HTTP application over memory, called without a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute

from domain.documents import Role
from domain.refusals import Unauthenticated
from identity.tokens import Identity
from ingest_api.app import create_app, routes_only
from ingest_api.dependencies import ApiDependencies
from ingest_api.openapi import document_of
from processors.documents.known_tenants import KnownTenants
from tests.support.fakes_intake import PDF, IntakeBench

BOUNDARY = "b0undary"


class NamedTokens:
    """Tokens ``tenant/subject/role,role`` are taken at their word; all others are refused."""

    async def authenticate(self, token: str) -> Identity:
        parts = token.split("/")
        if len(parts) != 3:
            raise Unauthenticated("The token is not valid.")
        tenant, subject, roles = parts
        return Identity(subject, tenant, frozenset(Role(role) for role in roles.split(",") if role))


def bearer(roles: str = "portal", *, tenant: str = "acme", subject: str = "u1") -> dict[str, str]:
    return {"Authorization": f"Bearer {tenant}/{subject}/{roles}"}


@cache
def _routes() -> Sequence[BaseRoute]:
    """The routes of an application. FastAPI builds them at its first request, which costs more than all else in a test."""
    return routes_only().router.routes


def an_app(bench: IntakeBench, **changes: Any) -> FastAPI:
    """The application around ``bench``; ``changes`` are fields of ApiDependencies. All share their routes, which hold nothing of it."""
    app = create_app(
        ApiDependencies(
            intake=bench.intake,
            reading=bench.reading,
            search=bench.search,
            texts=bench.texts,
            validation=bench.validation,
            dossiers=bench.dossiers,
            revocation=bench.revocation,
            links=bench.links,
            receipts=bench.receipts,
            erasure_requests=bench.erasure_requests,
            retention=bench.retention,
            operator_desk=bench.operator_desk,
            **{
                "authenticator": NamedTokens(),
                "tenants": KnownTenants(bench.database),
                "registry": CollectorRegistry(),
                **changes,
            },
        ),
        document_of,
    )
    app.router.routes[:] = _routes()
    return app


@asynccontextmanager
async def a_client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test") as client:
        yield client


def metadata_of(bench: IntakeBench, **changes: Any) -> dict[str, Any]:
    base = {
        "type": "CNI",
        "dossier_id": str(bench.dossier.id),
        "depositor": {"email": "marie@example.org", "language": "fr"},
    }
    return {**base, **changes}


def form_head(
    metadata: Mapping[str, Any], *, file_name: str = "scan.pdf", media_type: str = "application/pdf"
) -> bytes:
    return (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="metadata"\r\nContent-Type: application/json\r\n\r\n'
        f'{json.dumps(metadata)}\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{file_name}"'
        f"\r\nContent-Type: {media_type}\r\n\r\n"
    ).encode()


FORM_END = f"\r\n--{BOUNDARY}--\r\n".encode()
FORM_TYPE = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


async def post_document(
    client: httpx.AsyncClient, bench: IntakeBench, content: bytes = PDF, *, key: str | None = None, **changes: Any
) -> httpx.Response:
    headers = {**bearer(), **FORM_TYPE, **({"Idempotency-Key": key} if key else {})}
    body = form_head(metadata_of(bench, **changes)) + content + FORM_END
    return await client.post("/api/v1/documents", headers=headers, content=body)


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """It is a whole RFC 9457 answer."""
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert response.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"urn:dpj:problem:{code}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["advice"]
    assert body["detail"] != body["advice"]
    assert len(body["traceId"]) == 32
    assert response.headers["traceparent"].split("-")[1] == body["traceId"]
    return body
