"""What the relay may send next: keys in order, suspects alone, resting keys later."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from streams.in_flight_rows import InFlightRows


def a_row(number: int, key: bytes | None) -> Any:
    return SimpleNamespace(id=number, topic="t", key=key, body=b"x" * 10, headers={}, event_id=None)


def a_window(*keys: bytes | None) -> InFlightRows:
    window = InFlightRows()
    window.add(a_row(number, key) for number, key in enumerate(keys, 1))
    return window


def taken(window: InFlightRows) -> list[int]:
    found = []
    while (row := window.take()) is not None:
        found.append(row.id)
    return found


def test_a_suspect_waits_until_nothing_else_is_under_way_and_then_goes_alone() -> None:
    window = a_window(b"a", b"b", b"c")
    first, second = window.take(), window.take()
    assert first is not None
    assert second is not None
    window.send_alone(first)
    assert taken(window) == []  # the other is still under way
    window.confirm(second)
    alone = window.take()
    assert alone is first
    assert window.is_alone
    assert taken(window) == []
    window.return_unsent(first)
    assert window.take() is first
    window.confirm(first)
    assert taken(window) == [3]


def test_what_is_in_hand_is_counted_until_it_is_forgotten() -> None:
    window = a_window(b"a", None)
    assert (len(window), window.size, set(window.known)) == (2, 21, {1, 2})
    row = window.take()
    assert row is not None
    window.confirm(row)
    assert (len(window), window.size) == (2, 10)
    window.forget([row.id])
    assert (len(window), set(window.known)) == (1, {2})


def test_a_row_dropped_takes_the_later_ones_of_its_key_along() -> None:
    window = a_window(b"a", b"a", b"b")
    row = window.take()
    assert row is not None
    window.drop(row)
    assert (set(window.known), window.size) == ({3}, 11)
    assert taken(window) == [3]
