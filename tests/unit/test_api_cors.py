"""Pages of other origins: off by default; those named may call, and no other."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ingest_api.presenters import API
from tests.support.api import a_client, an_app, bearer, post_document
from tests.support.fakes_intake import IntakeBench
from tests.support.settings import settings_of

PORTAL = "https://portal.example"
ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,idempotency-key"}


async def test_no_page_may_call_by_default(bench: IntakeBench) -> None:
    async with a_client(an_app(bench)) as client:
        asked = await client.options(f"{API}/documents", headers={"Origin": PORTAL, **ASKS})
        read = await client.get(f"{API}/documents", headers={"Origin": PORTAL, **bearer()})
    assert asked.status_code == 405
    assert not [name for answer in (asked, read) for name in answer.headers if name.startswith("access-control-")]


async def test_pages_of_the_origins_named_may_call(bench: IntakeBench) -> None:
    async with a_client(an_app(bench, cors_origins=(PORTAL,))) as client:
        asked = await client.options(f"{API}/documents", headers={"Origin": PORTAL, **ASKS})
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, PORTAL)
        assert asked.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-credentials" not in asked.headers
        client.headers["Origin"] = PORTAL
        made = await post_document(client, bench)
        refused = await client.post(f"{API}/documents")
        read = await client.get(f"{API}/documents", headers=bearer())
        assert [answer.status_code for answer in (made, refused, read)] == [201, 401, 200]
        for answer in (made, refused, read):
            assert answer.headers["access-control-allow-origin"] == PORTAL
            assert "Location" in answer.headers["access-control-expose-headers"]


async def test_pages_of_other_origins_may_not(bench: IntakeBench) -> None:
    async with a_client(an_app(bench, cors_origins=(PORTAL,))) as client:
        other = {"Origin": "https://other.example"}
        asked = await client.options(f"{API}/documents", headers={**other, **ASKS})
        read = await client.get(f"{API}/documents", headers={**other, **bearer()})
    assert asked.status_code == 400
    assert "access-control-allow-origin" not in {*asked.headers, *read.headers}


@pytest.mark.parametrize("origins", ["*", "portal.example", "https://a.example/", "https://a.example,", "null"])
def test_an_origin_is_a_scheme_and_a_host(origins: str) -> None:
    with pytest.raises(ValidationError):
        settings_of(api_cors_origins=origins)
    assert settings_of(api_cors_origins=f"{PORTAL}, http://localhost:5173").api_cors_origins


@pytest.mark.parametrize(
    "address", ["documents.example", "https://a.example/", "ftp://a.example", "https://a.example/?x"]
)
def test_a_public_address_has_a_scheme_and_no_end(address: str) -> None:
    with pytest.raises(ValidationError):
        settings_of(api_public_url=address)
    assert settings_of(api_public_url="https://a.example:8443/dpj").api_public_url
