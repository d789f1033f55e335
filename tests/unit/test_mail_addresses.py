"""Addresses that mails can be sent to, and those that no mail server takes."""

import httpx
import pytest

from ingest_api.mail_addresses import mailable
from tests.support.api import a_client, an_app, assert_problem, bearer, post_document
from tests.support.fakes_intake import IntakeBench

LONGEST_LABEL = "b" * 63


@pytest.mark.parametrize(
    "address",
    [
        *("a..b@client.example", ".a@client.example", "a.@client.example", "@client.example", "a@", "a", ""),
        *("a@-client.example", "a@client-.example", "a@x.-y.example", "a@client..example", "a@.example", "a@example."),
        *("a" * 65 + "@client.example", f"a@{LONGEST_LABEL}b.example", f"a@{'.'.join([LONGEST_LABEL] * 4)}.example"),
        *("a@b@client.example", "a b@client.example", "a@client example.fr", "a@cli_ent.example", "a,b@client.example"),
        *('"a b"@client.example', "Jean <a@client.example>", "a@[192.0.2.1]", "a@192.0.2.1", "a@localhost"),
        *("a@client.invalid", "a@xn--a.example", "a@ab--cd.example", "a@\u2603.example", "a\u200b@client.example"),
        *("a@client.example\r\nBcc: x@y.example", "a\0@client.example", "jérôme@client.example", "用户@例子.example", "a\u202e@client.example"),
    ],
)  # fmt: skip
def test_what_no_mail_server_takes(address: str) -> None:
    with pytest.raises(ValueError, match="no mail server takes this address"):
        mailable(address)


@pytest.mark.parametrize(
    "address",
    [
        *("jean+dossier@client.example", "o'brien@client.example", "jean/paul@client.example", "J.D@Client.Example"),
        *("!#$%&*=?^_`{|}~-@client.example", "a@b.fr", "a@1and1.example", "a@x.local", "a@bank.test"),
        *("a" * 64 + "@client.example", f"a@{LONGEST_LABEL}.example", "jean@xn--mnchen-3ya.example"),
        *("jean@münchen.example", "x@例子.example", "x@straße.example"),
    ],
)
def test_what_is_taken_as_it_is(address: str) -> None:
    assert mailable(address) == address


def test_letters_beyond_ascii_have_one_form() -> None:
    assert mailable("Jean@Mu\u0308NCHEN.example") == "Jean@m\u00fcnchen.example"


@pytest.mark.parametrize("address", ["jean..dupont@client.example", ".jean@client.example", "a" * 250 + "@b.example"])
async def test_a_deposit_says_which_field_it_is(address: str) -> None:
    bench = IntakeBench()
    async with a_client(an_app(bench)) as client:
        answer = await post_document(client, bench, depositor={"email": address, "language": "fr"})
    body = assert_problem(answer, 422, "metadata_invalid")
    assert [error["field"] for error in body["errors"]] == ["depositor.email"]
    assert address not in answer.text
    assert bench.nothing_left()


async def test_a_deposit_with_a_domain_in_letters_is_found_by_it() -> None:
    bench = IntakeBench()
    async with a_client(an_app(bench)) as client:
        answer = await post_document(client, bench, depositor={"email": "jean@münchen.example", "language": "fr"})
        assert answer.status_code == 201
        found: httpx.Response = await client.post(
            "/api/v1/document-search", headers=bearer(), json={"depositor_email": "Jean@MÜNCHEN.example"}
        )
    assert [one["id"] for one in found.json()["items"]] == [answer.json()["id"]]


async def test_what_is_refused_by_now_can_still_be_looked_for() -> None:
    bench = IntakeBench()
    async with a_client(an_app(bench)) as client:
        found = await client.post(
            "/api/v1/document-search", headers=bearer(), json={"depositor_email": "a..b@c.example"}
        )
    assert (found.status_code, found.json()["items"]) == (200, [])
