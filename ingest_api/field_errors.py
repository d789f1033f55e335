"""What is wrong with a field, in codes and words of our own: pydantic's belong to its version, and its messages may quote what was sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from ingest_api.models import PATTERNS


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field. ``field`` is a path of known names; no value that was sent appears in it."""

    field: str
    code: str
    message: str


#: The place of what belongs to no field.
DOCUMENT: Final = "(document)"
#: A name that nobody knows is told again where it may be a misspelt one of ours: nothing else of what was sent is.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_PLACE: Final = re.compile(r"(.{1,120}) at line ([0-9]{1,9}) column ([0-9]{1,9})")

_KINDS: Final[Mapping[str, str]] = {
    "string_type": "a text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_parsing_size": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "uuid_type": "a UUID as text, such as 123e4567-e89b-42d3-a456-426614174000",
    "uuid_parsing": "a UUID, such as 123e4567-e89b-42d3-a456-426614174000",
    "datetime_type": "a time as RFC 3339 text, such as 2026-01-31T12:00:00Z",
    "datetime_parsing": "a time as RFC 3339 has it, such as 2026-01-31T12:00:00Z",
    "datetime_from_date_parsing": "a time as RFC 3339 has it, such as 2026-01-31T12:00:00Z",
    "datetime_object_invalid": "a time as RFC 3339 has it, such as 2026-01-31T12:00:00Z",
    "timezone_aware": "a time with its offset from UTC, such as 2026-01-31T12:00:00Z",
    "finite_number": "a finite number",
    "string_unicode": "valid Unicode",
}
#: What ``errors[].code`` may be.
FIELD_CODES: Final[Mapping[str, str]] = {
    "required": "The field is not there.",
    "unknown_field": "There is no such field.",
    "type_invalid": "The value is of another type.",
    "value_not_allowed": "The value is none of those that the message lists.",
    "form_invalid": "The value does not have the form that the message names.",
    "too_long": "The text has more characters than it may.",
    "too_short": "The text has fewer characters than it must.",
    "too_many": "There are more entries than may be.",
    "too_few": "There are fewer entries than must be.",
    "out_of_range": "The number is beyond its bounds.",
    "value_invalid": "The value is wrong in some other way.",
    "json_malformed": "The text is not JSON; the message says where it stops being so.",
}
#: What is said of a value of the free map ``metadata`` that is none of what it may be.
_FREE_VALUE: Final = "The value must be a text of at most 1000 characters, a number, true, false or null."


def explain(kind: str, context: Mapping[str, Any]) -> tuple[str, str]:
    """Our code and message for one of pydantic's error types, with what was expected; never with what was sent."""
    if kind == "missing":
        return "required", "The field is required."
    if kind == "extra_forbidden":
        return "unknown_field", "There is no such field."
    if kind in _KINDS:
        return "type_invalid", f"The value must be {_KINDS[kind]}."
    if kind in {"enum", "literal_error"}:
        allowed = str(context["expected"]).replace("'", "").replace(" or ", ", ")
        return "value_not_allowed", f"The value must be one of: {allowed}."
    if kind == "string_pattern_mismatch":
        return "form_invalid", f"The value must be {PATTERNS[str(context['pattern'])]}."
    if kind == "value_error":
        words = str(context["error"])
        return "form_invalid", f"{words[:1].upper()}{words[1:]}."
    return _limit(kind, context) or ("value_invalid", "The value is not valid.")


def _limit(kind: str, context: Mapping[str, Any]) -> tuple[str, str] | None:
    limits = {
        "string_too_long": ("too_long", "The text may have at most {max_length} characters."),
        "string_too_short": ("too_short", "The text must have at least {min_length} characters."),
        "too_long": ("too_many", "There may be at most {max_length} entries."),
        "too_short": ("too_few", "There must be at least {min_length} entries."),
        "greater_than_equal": ("out_of_range", "The value must be at least {ge}."),
        "less_than_equal": ("out_of_range", "The value must be at most {le}."),
    }
    if kind not in limits:
        return None
    code, words = limits[kind]
    return code, words.format_map(dict(context))


def json_error(words: str) -> FieldError:
    """Where a text stops being JSON. ``words`` are the parser's: fixed ones, and the place."""
    found = _PLACE.fullmatch(words)
    place = f" (line {found[2]}, column {found[3]}): {found[1]}" if found else ""
    return FieldError(DOCUMENT, "json_malformed", f"The text is not well-formed JSON{place}.")


def field_errors(model: type[BaseModel], errors: Sequence[Mapping[str, Any]]) -> list[FieldError]:
    """``errors`` of pydantic as ours. A value of several possible types is told of once."""
    names = field_names(model)
    found: dict[str, list[FieldError]] = {}
    for error in errors:
        kind, location, context = error["type"], error["loc"], error.get("ctx") or {}
        if kind == "json_invalid":
            return [json_error(str(context["error"]))]
        free = len(location) == 3 and location[0] == "metadata" and location[2] != "[key]"
        path = location[:2] if free else location
        # Two free names are two places, though neither is told.
        at = repr(path)
        found.setdefault(at, []).append(FieldError(_place(names, path, kind), *explain(kind, context)))
    return [one for choices in found.values() for one in _told(choices)]


def _told(choices: Sequence[FieldError]) -> Sequence[FieldError]:
    """Of the refusals by each type that a value might have had: that of the type it has."""
    if len(choices) == 1:
        return choices
    meant = [one for one in choices if one.code != "type_invalid"]
    return meant or [FieldError(choices[0].field, "type_invalid", _FREE_VALUE)]


def _place(names: set[str], path: Sequence[int | str], kind: str) -> str:
    parts = [str(part) if isinstance(part, int) or part in names else "*" for part in path]
    if kind == "extra_forbidden" and shows(str(path[-1])):
        parts[-1] = str(path[-1])
    return ".".join(parts) or DOCUMENT


def shows(name: str) -> bool:
    """Whether a name that is none of ours is told again."""
    return _NAME.fullmatch(name) is not None


def field_names(model: type[BaseModel]) -> set[str]:
    """The names of a model's fields, and of those of models in it."""
    names: set[str] = set()
    for name, info in model.model_fields.items():
        names.add(name)
        inner = info.annotation
        for candidate in (inner, *getattr(inner, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                names |= field_names(candidate)
    return names
