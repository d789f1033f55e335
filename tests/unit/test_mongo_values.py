"""What becomes a value of a document database, and what stays the JSON text it was."""

from __future__ import annotations

import json

import bson
import pytest

from storage.mongo import queryable


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
