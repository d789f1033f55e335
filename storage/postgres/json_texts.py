"""JSON texts of others in columns of PostgreSQL, which takes neither a NUL, nor half a surrogate pair, nor any number."""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

_MAX_DEPTH: Final = 50
#: Decimal places before or after the point. A numeric has more, but nobody means them.
_MAX_PLACES: Final = 1_000


class _Unfit(ValueError):
    pass


def kept_text(text: str | None) -> str | None:
    """``text`` as a text column takes it: what it can't hold is spelt as Python would escape it."""
    if text is None:
        return None
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def storable_json(text: str | None) -> str | None:
    """``text`` itself if a jsonb column takes it; else a JSON string that holds the text. The same text is always the same JSON."""
    if text is None:
        return None
    try:
        _check(_parsed(text), 0)
    except (ValueError, RecursionError):
        return json.dumps(kept_text(text), ensure_ascii=False)
    return text


def same_json(one: str | None, other: str | None) -> bool:
    """Whether two JSON texts mean the same; numbers are compared exactly."""
    if one is None or other is None:
        return one is other
    try:
        return bool(_parsed(one) == _parsed(other))
    except (ValueError, RecursionError):
        return False


def _parsed(text: str) -> Any:
    return json.loads(text, parse_int=_number, parse_float=_number, parse_constant=_no_number)


def _number(text: str) -> tuple[Decimal]:
    """In a tuple, which no other JSON value becomes: 1 is not true."""
    number = Decimal(text)
    if len(text) > _MAX_PLACES or (number and abs(number.adjusted()) > _MAX_PLACES):
        raise _Unfit
    return (number,)


def _no_number(_: str) -> Any:
    """NaN and infinities are Python's, not JSON's."""
    raise _Unfit


def _check(value: Any, depth: int) -> None:
    """Raises ValueError for what a jsonb could not hold."""
    if depth > _MAX_DEPTH:
        raise _Unfit
    if isinstance(value, dict):
        _check_all(value, depth)
        _check_all(value.values(), depth)
    elif isinstance(value, list):
        _check_all(value, depth)
    elif isinstance(value, str) and "\0" in value:
        raise _Unfit
    elif isinstance(value, str):
        value.encode()  # UnicodeEncodeError is a ValueError


def _check_all(values: Iterable[Any], depth: int) -> None:
    for value in values:
        _check(value, depth + 1)
