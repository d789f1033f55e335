"""Links: they open one document for who has them, as long as they are good, and every use has its line in the audit log."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from crypto.encoding import from_text, to_text
from crypto.link_tokens import LinkSigner
from domain.documents import Document, Role
from domain.errors import KeyringUnavailable
from domain.lifecycle import READABLE, Status
from domain.links import DocumentLink, SignedLink
from domain.refusals import ContentNotAvailable, LinkNotFound, LinksUnavailable
from ingest_api.rate_limits import QuotaName, RateLimits
from processors.documents import links
from processors.documents.callers import LinkVisitor
from processors.documents.links import DocumentLinks
from tests.support.api import a_client, an_app, assert_problem, bearer
from tests.support.fakes_intake import LONGEST_LINK, NOW, PDF, IntakeBench, opened

API = "/api/v1"


async def a_link(client: httpx.AsyncClient, document: Document, **changes: object) -> dict[str, str]:
    body = {"purpose": "partner-review", "seconds": 60, **changes}
    made = await client.post(f"{API}/documents/{document.id}/links", headers=bearer(subject="maker"), json=body)
    assert made.status_code == 201, made.text
    found: dict[str, str] = made.json()
    assert made.headers["location"] == found["url"]
    return found


# --- Using them -------------------------------------------------------------------------------------------------------


async def test_a_link_opens_its_document_without_a_token(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    link = await a_link(client, document)
    opened = await client.get(link["url"])
    assert (opened.status_code, opened.content) == (200, PDF)
    assert opened.headers["content-type"] == "application/pdf"
    assert opened.headers["content-disposition"].startswith("attachment")
    assert opened.headers["cache-control"] == "no-store"
    assert opened.headers["referrer-policy"] == "no-referrer"
    part = await client.get(link["url"], headers={"Range": "bytes=1-4"})
    assert (part.status_code, part.content) == (206, PDF[1:5])
    same = await client.get(link["url"], headers={"If-None-Match": opened.headers["etag"]})
    assert same.status_code == 304
    beyond = await client.get(link["url"], headers={"Range": f"bytes={len(PDF)}-"})
    assert_problem(beyond, 416, "range_not_satisfiable")


async def test_every_use_says_which_link_it_was_and_who_made_it(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    link = await a_link(client, document)
    await client.get(link["url"], headers={"User-Agent": "browser/1"})
    await client.get(link["url"], headers={"Range": "bytes=0-0"})
    made, *used = bench.audited()[-3:]
    assert made.action == "document.link.created"
    assert json.loads(made.details)["link_id"] == link["id"]
    for line in used:
        details = json.loads(line.details)
        assert (line.action, line.tenant, line.entity_id) == ("document.link.used", "acme", str(document.id))
        assert (details["link_id"], details["made_by"]) == (link["id"], made.actor)
        assert details["purpose"] == "partner-review"
        assert line.actor == f"link:{link['id']}"
        assert line.ip_sealed is not None
    assert opened(bench, used[0])[1] == "browser/1"
    assert "maker" not in repr(bench.audited())


async def test_answers_that_only_tell_of_the_content_are_uses(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    """The tag is the content's SHA-256: who guesses it knows what the document is. An answer 416 says how long it is."""
    document = await bench.stored(Status.VERIFIED)
    link = await a_link(client, document)
    same = await client.get(link["url"], headers={"If-None-Match": f'"{document.sha256}"', "User-Agent": "browser/1"})
    beyond = await client.get(link["url"], headers={"Range": f"bytes={len(PDF)}-", "User-Agent": "browser/1"})
    assert (same.status_code, beyond.status_code) == (304, 416)
    used = [line for line in bench.audited() if line.action == "document.link.used"]
    assert [json.loads(line.details)["outcome"] for line in used] == ["not_modified", "range_not_satisfiable"]
    assert {(line.actor, opened(bench, line)[1]) for line in used} == {(f"link:{link['id']}", "browser/1")}


async def test_an_expired_link_is_refused(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    link = await a_link(client, await bench.stored(Status.VERIFIED), seconds=10)
    assert (await client.get(link["url"])).status_code == 200
    bench.clock.at += timedelta(seconds=10)
    assert_problem(await client.get(link["url"]), 404, "link_not_found")


async def test_a_revoked_link_is_refused_and_revoking_repeats(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    link, other = await a_link(client, document), await a_link(client, document)
    url = f"{API}/documents/{document.id}/links/{link['id']}"
    for _ in range(2):
        assert (await client.delete(url, headers=bearer("validator"))).status_code == 204
    assert_problem(await client.get(link["url"]), 404, "link_not_found")
    assert (await client.get(other["url"])).status_code == 200
    assert [line.action for line in bench.audited()].count("document.link.revoked") == 1


@pytest.mark.parametrize("status", sorted(set(Status) - READABLE, key=lambda one: one.value))
async def test_a_document_that_may_not_be_read_is_not_opened(
    client: httpx.AsyncClient, bench: IntakeBench, status: Status
) -> None:
    document = await bench.stored(Status.VERIFIED)
    link = await a_link(client, document)
    bench.database.put(replace(document, status=status))
    assert_problem(await client.get(link["url"]), 404, "link_not_found")
    refused = await client.post(f"{API}/documents/{document.id}/links", headers=bearer(), json={"purpose": "x"})
    assert refused.status_code in {404, 409, 410}


async def test_an_erased_document_s_links_go_with_it(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document, other = await bench.stored(Status.VERIFIED), await bench.stored(Status.VERIFIED)
    link, kept = await a_link(client, document), await a_link(client, other)
    body = {"reason": "T-1", "legal_basis": "GDPR_17_1_B"}
    url = f"{API}/documents/{document.id}"
    assert (await client.post(f"{url}/erase", headers=bearer("operator"), json=body)).status_code == 202
    assert_problem(await client.get(link["url"]), 404, "link_not_found")
    refused = await client.post(f"{url}/links", headers=bearer(), json={"purpose": "x"})
    assert_problem(refused, 410, "document_erased")
    assert {str(one.id) for one in bench.database.rows.links.values()} == {kept["id"]}
    assert (await client.get(kept["url"])).status_code == 200


async def test_with_an_antivirus_no_link_opens_what_was_not_scanned(bench: IntakeBench) -> None:
    document = await bench.stored()
    _, token = await bench.links.create(bench.caller(), document.id, "x", 60)
    careful = DocumentLinks(
        bench.database,
        bench.content,
        bench.link_signer,
        bench.personal,
        bench.clock,
        bench.revoked,
        longest=60,
        scanned_only=True,
    )
    with pytest.raises(ContentNotAvailable):
        await careful.create(bench.caller(), document.id, "x", 60)
    for use in (careful.readable(token), careful.read(LinkVisitor(correlation_id=uuid4()), token)):
        with pytest.raises(LinkNotFound):
            await use
    bench.database.put(replace(document, status=Status.VERIFIED))
    assert (await careful.readable(token)).id == document.id
    await careful.create(bench.caller(), document.id, "x", 60)


async def test_a_document_that_turns_bad_between_look_and_read_is_not_sent(bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    _, token = await bench.links.create(bench.caller(), document.id, "x", 60)
    await bench.links.readable(token)
    bench.database.put(replace(document, status=Status.QUARANTINED))
    with pytest.raises(LinkNotFound):
        await bench.links.read(LinkVisitor(correlation_id=uuid4()), token)
    assert "document.link.used" not in [line.action for line in bench.audited()]


async def test_guesses_are_refused_alike_and_counted(bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    link, token = await bench.links.create(bench.caller(), document.id, "x", 60)
    async with bench.database.transaction() as work:
        await work.links.revoke(link.id, bench.clock.now())
    limits = RateLimits({QuotaName.FAILURES: 3})
    async with a_client(an_app(bench, limits=limits)) as client:
        answers = [await client.get(f"{API}/links/{guess}") for guess in (token, token[:-1] + "A", "l1.x.y", "x")]
    bodies = [{**answer.json(), "traceId": ""} for answer in answers[:3]]
    assert bodies[0] == bodies[1] == bodies[2]
    assert bodies[0]["code"] == "link_not_found"
    assert_problem(answers[3], 429, "rate_limited")


async def test_a_link_is_for_one_document_of_ones_own_tenant(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    document, other = await bench.stored(Status.VERIFIED), await bench.stored(Status.VERIFIED)
    link = await a_link(client, document)
    elsewhere = f"{API}/documents/{other.id}/links/{link['id']}"
    assert_problem(await client.delete(elsewhere, headers=bearer()), 404, "link_not_found")
    unknown = f"{API}/documents/{document.id}/links/{uuid4()}"
    assert_problem(await client.delete(unknown, headers=bearer()), 404, "link_not_found")
    theirs = f"{API}/documents/{document.id}/links"
    refused = await client.post(theirs, headers=bearer(tenant="other"), json={"purpose": "x"})
    assert_problem(refused, 404, "document_not_found")
    operator = bearer("operator", tenant="bank")
    assert (await client.delete(f"{theirs}/{link['id']}", headers=operator)).status_code == 204
    assert_problem(await client.post(theirs, headers=operator, json={"purpose": "x"}), 403, "forbidden")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"purpose": ""},
        {"purpose": "for Marie!"},
        {"purpose": "x", "seconds": 0},
        {"purpose": "x", "seconds": LONGEST_LINK + 1},
        {"purpose": "x", "seconds": "60"},
        {"purpose": "x", "more": 1},
    ],
)
async def test_what_may_not_be_asked_for(
    client: httpx.AsyncClient, bench: IntakeBench, body: dict[str, object]
) -> None:
    document = await bench.stored(Status.VERIFIED)
    refused = await client.post(f"{API}/documents/{document.id}/links", headers=bearer(), json=body)
    assert_problem(refused, 422, "metadata_invalid")
    assert not bench.database.rows.links


async def test_a_document_has_so_many_links_at_once(bench: IntakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "MAX_LINKS", 2)
    document = await bench.stored(Status.VERIFIED)
    first, _ = await bench.links.create(bench.caller(), document.id, "x", 60)
    await bench.links.create(bench.caller(), document.id, "x", 60)
    with pytest.raises(LinksUnavailable):
        await bench.links.create(bench.caller(), document.id, "x", 60)
    await bench.links.revoke(bench.caller(Role.PORTAL), document.id, first.id)
    await bench.links.create(bench.caller(), document.id, "x", 60)


async def test_a_site_without_a_key_has_no_links(bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    keyless = DocumentLinks(bench.database, bench.content, None, bench.personal, bench.clock, bench.revoked, longest=60)
    with pytest.raises(LinksUnavailable):
        await keyless.create(bench.caller(), document.id, "x", 60)
    with pytest.raises(LinkNotFound):
        await keyless.readable("l1.x.y")


# --- Their tokens -----------------------------------------------------------------------------------------------------


def a_signed(signer: LinkSigner) -> tuple[DocumentLink, str]:
    link = DocumentLink(
        id=uuid4(),
        document_id=uuid4(),
        purpose="x",
        created_by="p",
        created_at=NOW,
        expires_at=datetime(2030, 1, 1, tzinfo=UTC),
    )
    return link, signer.sign(link)


def test_a_new_key_signs_and_the_old_one_still_verifies() -> None:
    old, new = os.urandom(32), os.urandom(32)
    link, before = a_signed(LinkSigner([old]))
    both = LinkSigner([new, old])
    assert both.verify(before) == SignedLink(link.id, link.document_id, link.expires_at)
    later, after = a_signed(both)
    assert before.split(".")[1] != after.split(".")[1]
    assert LinkSigner([new]).verify(after) == SignedLink(later.id, later.document_id, later.expires_at)
    for signer, token in ((LinkSigner([new]), before), (LinkSigner([old]), after)):
        with pytest.raises(LinkNotFound):
            signer.verify(token)


def test_every_changed_bit_is_found() -> None:
    signer = LinkSigner([os.urandom(32)])
    _, token = a_signed(signer)
    head, _, body = token.rpartition(".")
    raw = from_text(body)
    for position in range(len(raw)):
        changed = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
        with pytest.raises(LinkNotFound):
            signer.verify(f"{head}.{to_text(changed)}")
    for other in ("", "l1", token + "A", token[:-2], token.replace("l1.", "l2."), f"{token}{'x' * 200}", "l1.é.ü"):
        with pytest.raises(LinkNotFound):
            signer.verify(other)


def test_a_link_has_one_spelling() -> None:
    signer = LinkSigner([os.urandom(32)])
    _, token = a_signed(signer)
    for other in (f"{token}=", f"{token}==", f"{token}\n"):
        with pytest.raises(LinkNotFound):
            signer.verify(other)


async def test_a_token_ends_by_itself(bench: IntakeBench) -> None:
    """Whatever the row says."""
    document = await bench.stored(Status.VERIFIED)
    link, token = await bench.links.create(bench.caller(), document.id, "x", 60)
    bench.database.rows.links[link.id] = replace(link, expires_at=link.expires_at + timedelta(days=1))
    bench.clock.at = link.expires_at - timedelta(seconds=2)
    await bench.links.readable(token)
    bench.clock.at = link.expires_at
    with pytest.raises(LinkNotFound):
        await bench.links.readable(token)


def test_keys_come_from_a_file_that_nobody_else_reads(tmp_path: Path) -> None:
    path = tmp_path / "link.key"
    path.write_text(f"{to_text(os.urandom(32))}\n{to_text(os.urandom(32))}\n")
    path.chmod(0o600)
    _, token = a_signed(LinkSigner.from_file(path))
    assert len(token) <= 128
    path.chmod(0o644)
    with pytest.raises(KeyringUnavailable):
        LinkSigner.from_file(path)
