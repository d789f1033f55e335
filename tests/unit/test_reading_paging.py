"""Cursors: what they hold, and that nothing else passes as one."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.refusals import CursorInvalid, ParameterInvalid
from processors.documents.pagination import Page, check_limit, decode_cursor, encode_cursor, page_of

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
ROW = UUID(int=7)


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_a_cursor_comes_back_as_it_was(at: datetime, row: UUID) -> None:
    cursor = encode_cursor((at, row))
    assert decode_cursor(cursor) == (at, row)
    assert cursor.replace("-", "").replace("_", "").isalnum()


def test_a_cursor_is_in_utc() -> None:
    paris = AT.astimezone(timezone(timedelta(hours=1)))
    assert encode_cursor((paris, ROW)) == encode_cursor((AT, ROW))


@given(st.text(max_size=200))
def test_other_texts_are_no_cursor(text: str) -> None:
    with pytest.raises(CursorInvalid):
        decode_cursor(text)


def test_long_texts_are_not_even_looked_at() -> None:
    with pytest.raises(CursorInvalid):
        decode_cursor("A" * 129)


@pytest.mark.parametrize("change", [lambda c: c + "=", lambda c: c[:-1], lambda c: c + "A", lambda c: " " + c])
def test_changed_cursors_are_refused(change) -> None:
    with pytest.raises(CursorInvalid):
        decode_cursor(change(encode_cursor((AT, ROW))))


def test_no_cursor_is_the_first_page() -> None:
    assert decode_cursor(None) is None


def test_the_last_page_has_no_cursor() -> None:
    rows = [(AT - timedelta(seconds=number), UUID(int=number)) for number in range(3)]
    assert page_of(rows, 3, lambda row: row) == Page(rows, None)
    assert page_of(rows, 2, lambda row: row) == Page(rows[:2], encode_cursor(rows[1]))


@pytest.mark.parametrize("limit", [0, -1, 201])
def test_limits(limit: int) -> None:
    with pytest.raises(ParameterInvalid):
        check_limit(limit)
