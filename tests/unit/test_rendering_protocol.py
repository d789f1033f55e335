"""What a rendering child may say: the worker believes nothing that is out of bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.renderings import THUMBNAIL_BOXES, NoThumbnail
from rendering.protocol import (
    FRAME_BYTES,
    LENGTH,
    LIST_ITEMS,
    TEXT_CHARACTERS,
    THUMBNAIL_BYTES,
    ProtocolViolated,
    check_answer,
    clean_metadata,
    clean_text,
    frame,
    frame_length,
    is_webp,
    parse_frame,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def good(**changes: Any) -> dict[str, Any]:
    thumbnails = [{"box": box, "width": box, "height": 1, "size": 100} for box in THUMBNAIL_BOXES]
    return {"reason": None, "metadata": {}, "thumbnails": thumbnails, **changes}


def one(**changes: Any) -> dict[str, Any]:
    """An answer whose first thumbnail is announced with ``changes``."""
    answer = good()
    answer["thumbnails"][0].update(changes)
    return answer


def test_a_frame_comes_back():
    sent = frame({"mime_type": "image/png", "été": 1})
    assert frame_length(sent[: LENGTH.size]) == len(sent) - LENGTH.size
    assert parse_frame(sent[LENGTH.size :]) == {"mime_type": "image/png", "été": 1}


def test_long_frames_are_neither_sent_nor_read():
    with pytest.raises(ProtocolViolated):
        frame({"text": "x" * FRAME_BYTES})
    with pytest.raises(ProtocolViolated):
        frame_length(LENGTH.pack(FRAME_BYTES + 1))
    assert frame_length(LENGTH.pack(FRAME_BYTES)) == FRAME_BYTES


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 60_000])
def test_what_is_no_json_object_is_no_frame(text: bytes):
    with pytest.raises(ProtocolViolated):
        parse_frame(text)


def test_a_good_answer_is_taken():
    answer = check_answer(good(metadata={"pages": 2}))
    assert answer.reason is None
    assert answer.metadata == {"pages": 2}
    assert [item.box for item in answer.thumbnails] == list(THUMBNAIL_BOXES)
    none = check_answer({"reason": "UNDECODABLE", "metadata": {}, "thumbnails": []})
    assert none.reason is NoThumbnail.UNDECODABLE


@pytest.mark.parametrize(
    "answer",
    [
        {},
        good(metadata=None),
        good(thumbnails=None),
        good(thumbnails=[]),
        good(thumbnails=good()["thumbnails"][:1]),
        good(thumbnails=good()["thumbnails"][::-1]),
        good(thumbnails=["a", "b"]),
        good(reason="UNDECODABLE"),
        good(reason="SOMETHING", thumbnails=[]),
        good(reason=3, thumbnails=[]),
        one(width=0),
        one(width=257),
        one(height=-1),
        one(height=True),
        one(width=2.0),
        one(size=0),
        one(size=THUMBNAIL_BYTES + 1),
        one(size=None),
    ],
)
def test_anything_else_is_refused(answer: dict[str, Any]):
    with pytest.raises(ProtocolViolated):
        check_answer(answer)


@pytest.mark.parametrize(
    "facts",
    [
        {"Key": 1},
        {"$where": 1},
        {"a.b": 1},
        {"": 1},
        {3: 1},
        {"a": {"b": {"c": {"d": 1}}}},
        {"a": {"b": {"c": [1]}}},
        {"a": list(range(LIST_ITEMS + 1))},
        {f"k{number}": 1 for number in range(65)},
        {"a": 1 << 63},
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": b"bytes"},
    ],
)
def test_facts_out_of_bounds_are_refused(facts: dict[Any, Any]):
    with pytest.raises(ProtocolViolated):
        clean_metadata(facts)


def test_texts_are_cut_and_lose_what_can_not_be_seen():
    assert clean_text("a\x00b\u202e\u200bc\n\n d\ud800") == "a b c d"
    assert clean_metadata({"a": "x" * 1000, "b": ["\x1b[31mred"]}) == {"a": "x" * TEXT_CHARACTERS, "b": ["[31mred"]}


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=6))
def test_what_is_taken_is_always_within_bounds(value: dict[str, Any]):
    try:
        clean = clean_metadata(value)
    except ProtocolViolated:
        return
    assert clean_metadata(clean) == clean
    assert len(json.dumps(clean, allow_nan=False)) < 1 << 20


@given(st.dictionaries(st.sampled_from(["reason", "metadata", "thumbnails", "x"]), json_values))
def test_no_answer_raises_anything_but_a_violation(value: dict[str, Any]):
    try:
        check_answer(value)
    except ProtocolViolated:
        return
    assert value["metadata"] == {} or isinstance(value["metadata"], dict)


def test_a_webp_file_is_as_long_as_it_says():
    data = b"RIFF" + (4).to_bytes(4, "little") + b"WEBP"
    assert is_webp(data)
    assert not is_webp(data + b"x")
    assert not is_webp(data[:-1])
    assert not is_webp(b"")
