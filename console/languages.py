"""Which language a page is in, and its texts: one catalogue per language in ``console/texts/``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

from starlette.requests import Request

from domain.act_notes import read_note

#: French first: it is what somebody gets who asks for neither.
LANGUAGES: Final = ("fr", "en")
LANGUAGE_COOKIE: Final = "dpj-language"
MAX_HEADER: Final = 512


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """All texts of a language, by key."""
    texts: dict[str, str] = json.loads(files("console").joinpath("texts", f"{language}.json").read_text("utf-8"))
    return texts


class Texts:
    """The texts of one language. A key that is not there is a defect, and raises KeyError."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = catalogue(language)

    def __call__(self, key: str, **values: object) -> str:
        """The text of ``key`` with ``values`` in its places ({name})."""
        text = self._texts[key]
        return text.format_map(values) if values else text

    def of_number(self, key: str, number: int | None, /, **values: object) -> str:
        """The text of ``key``; for one thing, that of ``key.one``, where there is one."""
        return self(f"{key}.one" if number == 1 and f"{key}.one" in self._texts else key, **values)

    def or_itself(self, prefix: str, name: str) -> str:
        """The text for one of an open set of names, or the name itself where nobody has written one."""
        return self._texts.get(f"{prefix}.{name}", name)

    def of_code(self, code: str) -> str:
        """What an error's stable code means (its title in ``domain.error_table``); empty for a code that is none of today's."""
        return self._texts.get(f"code.{code}", "")

    def note(self, text: str) -> str:
        """What a plan or a batch says of a thing, in this language; empty for a text that is none of today's notes."""
        found = read_note(text)
        if found is None:
            return ""
        code, values = found
        shown = dict(values)
        if "status" in shown:
            shown["status"] = self.or_itself("status", shown["status"])
        for name in ("consumer", "consumers"):
            if name in shown:
                shown[name] = ", ".join(self.or_itself("consumer", one) for one in shown[name].split(", "))
        return self(f"note.{code}", **shown)

    def count(self, key: str, number: int, **values: object) -> str:
        """``key.one`` or ``key.many``: in French nought is singular, in English plural."""
        one = number == 1 or (number == 0 and self.language == "fr")
        return self(f"{key}.{'one' if one else 'many'}", count=number, **values)


def language_of(request: Request) -> str:
    """The language that the visitor chose by the switch, else the best of ``Accept-Language`` (RFC 9110, section 12.5.4)."""
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    return chosen if chosen in LANGUAGES else _accepted(request.headers.get("accept-language", "")[:MAX_HEADER])


def _accepted(header: str) -> str:
    best, weight = LANGUAGES[0], 0.0
    for part in header.split(","):
        name, _, parameter = part.strip().partition(";")
        language = name.strip().lower().partition("-")[0]
        if language not in LANGUAGES:
            continue
        try:
            quality = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
        if quality > weight:
            best, weight = language, quality
    return best
