"""HEAD wherever GET is; links with the address that clients know the API by."""

from __future__ import annotations

import json

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from domain.lifecycle import Status
from ingest_api.presenters import API
from tests.support.api import a_client, an_app, bearer, post_document
from tests.support.fakes_intake import IntakeBench
from tests.unit.test_reading import a_stored_rendition

OF_THE_REQUEST = {"traceparent", "correlation-id"}


def lasting(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name not in OF_THE_REQUEST}


@pytest.mark.parametrize(
    "path",
    [
        f"{API}/documents/ID/content",
        f"{API}/documents/ID/thumbnail?size=256",
        f"{API}/documents/ID",
        f"{API}/documents/ID/events",
        f"{API}/documents/ID/receipt",
        f"{API}/documents/ID/content?x=1",
        f"{API}/documents",
        f"{API}/documents?limit=0",
        f"{API}/dossiers",
        f"{API}/document-types",
        f"{API}/openapi.json",
        f"{API}/links/x",
        "/livez",
        "/readyz",
        "/nowhere",
    ],
)
async def test_a_head_has_the_headers_of_a_get_and_no_body(
    client: httpx.AsyncClient, bench: IntakeBench, path: str
) -> None:
    document = await bench.stored(Status.VERIFIED)
    await a_stored_rendition(bench, document.id, 256, b"webp")
    url = path.replace("ID", str(document.id))
    got = await client.get(url, headers=bearer())
    head = await client.head(url, headers=bearer())
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert lasting(head) == lasting(got)
    assert int(head.headers["content-length"]) == len(got.content)


async def test_a_head_of_content_is_audited_and_opens_nothing(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    await a_stored_rendition(bench, document.id, 256, b"webp")
    bench.keyring.away = True
    link = (await client.post(f"{API}/documents/{document.id}/links", headers=bearer(), json={"purpose": "x"})).json()[
        "url"
    ]
    before = len(bench.audited())
    for url in (f"{API}/documents/{document.id}/content", f"{API}/documents/{document.id}/thumbnail", link):
        # A range is for GET alone.
        head = await client.head(url, headers={**bearer(), "Range": "bytes=0-0"})
        assert head.status_code == 200
    lines = bench.audited()[before:]
    assert [line.action for line in lines] == ["document.content.read"] * 2 + ["document.link.used"]
    assert {json.loads(line.details)["outcome"] for line in lines} == {"headers_only"}


async def test_a_head_is_refused_as_a_get_is(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    url = f"{API}/documents/{document.id}/content"
    assert (await client.head(url)).status_code == 401
    assert (await client.head(url, headers=bearer("operator"))).status_code == 403
    assert (await client.head(url, headers=bearer(tenant="other"))).status_code == 404
    not_there = await client.head(f"{API}/document-search", headers=bearer())
    assert (not_there.status_code, not_there.headers["allow"]) == (405, "POST")


async def test_a_head_is_counted_as_one(bench: IntakeBench) -> None:
    registry = CollectorRegistry()
    async with a_client(an_app(bench, registry=registry)) as client:
        await client.head("/livez")
    text = generate_latest(registry).decode()
    assert 'dpj_http_requests_total{method="HEAD",route="/livez",status="200"} 1.0' in text


# --- Links -----------------------------------------------------------------------------------------------------------

PUBLIC = "https://documents.example/dpj"


async def test_links_begin_with_the_public_address(bench: IntakeBench) -> None:
    app = an_app(bench, public_url=PUBLIC)
    async with a_client(app) as client:
        made = await post_document(client, bench, key="k")
        id_ = made.json()["id"]
        assert made.headers["location"] == f"{PUBLIC}{API}/documents/{id_}"
        read = await client.get(f"{API}/documents/{id_}", headers=bearer())
        listed = await client.get(f"{API}/documents", headers=bearer())
        dossier = await client.get(f"{API}/dossiers/{bench.dossier.id}", headers=bearer())
        link = await client.post(f"{API}/documents/{id_}/links", headers=bearer(), json={"purpose": "x"})
        views = (made.json(), read.json(), listed.json()["items"][0], dossier.json())
        assert {url.startswith(f"{PUBLIC}{API}/") for view in views for url in view["links"].values()} == {True}
        assert link.json()["url"] == link.headers["location"]
        assert link.json()["url"].startswith(f"{PUBLIC}{API}/links/")
    async with a_client(an_app(bench)) as client:  # the address has changed since
        again = await post_document(client, bench, key="k")
        assert (again.headers["idempotent-replayed"], again.headers["location"]) == ("true", f"{API}/documents/{id_}")
        assert again.json()["links"]["content"] == f"{API}/documents/{id_}/content"
