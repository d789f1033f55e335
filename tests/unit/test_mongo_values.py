"""What becomes a value of a document database, what stays the JSON text it was, and how long a server is waited for."""

from __future__ import annotations

import json

import bson
import pytest

from storage.mongodb.connection import MongoConnection, queryable


@pytest.mark.parametrize(
    "text",
    [
        r'{"title":"\ud800"}',
        r'{"\udfff":1}',
        r'["ok","\udc00\ud800"]',
        r'{"title":"\u0000"}',
    ],
)
def test_what_is_no_text_in_bson_stays_json(text: str) -> None:
    assert queryable(text) == text
    bson.encode({"details": queryable(text)})


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert queryable(json.dumps({"title": "\N{GRINNING FACE}"})) == {"title": "\N{GRINNING FACE}"}


@pytest.mark.parametrize(
    ("options", "seconds"),
    [("", (3.0, 3.0)), ("?serverselectiontimeoutms=200", (0.2, 3.0)), ("?appName=b&connectTimeoutMS=700", (3.0, 0.7))],
)
async def test_every_wait_ends_and_the_url_says_when(options: str, seconds: tuple[float, float]) -> None:
    mongo = MongoConnection(f"mongodb://one.invalid:1,two.invalid:2/{options}", "none")
    told = mongo._opened().options
    assert (told.server_selection_timeout, told.pool_options.connect_timeout) == seconds
    assert told.pool_options.socket_timeout == 15.0
    assert told.retry_writes is False
    await mongo.aclose()
