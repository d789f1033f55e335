"""Writes mails from the templates beside this module: ``{template}.{language}.{txt,html}.j2``.

Nothing in a mail is fetched from anywhere: no image, no style sheet, no tracking. Values are cleaned before they are
shown; HTML is escaped by Jinja2, and a template that names an unknown value fails instead of showing a gap.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape

from domain.documents import Language
from domain.mail import RenderedMail
from domain.shared.visible_text import JOINERS, without_unseen

_LINE_LIMIT: Final = 80
_TEXT_LIMIT: Final = 2000
_NBSP: Final = "\u00a0"

_MONTHS: Final = {
    Language.FRENCH: (
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre".split()  # noqa: SIM905
    ),
    Language.ENGLISH: (
        "January February March April May June July August September October November December".split()  # noqa: SIM905
    ),
}
_PARIS: Final = {Language.FRENCH: "heure de Paris", Language.ENGLISH: "Paris time"}


class MailTemplates:
    """``zone`` is the time zone that readers live in, ``bank`` the name at the head and foot of every mail."""

    def __init__(self, *, zone: tzinfo = UTC, bank: str = "DPJ") -> None:
        self._zone = zone
        self._bank = bank
        self._environment = Environment(
            loader=PackageLoader("notifications"),
            autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def render(self, template: str, language: Language, values: Mapping[str, Any]) -> RenderedMail:
        """Write the mail ``template`` in ``language``.

        Raises jinja2.TemplateNotFound or UndefinedError: a mail and its values that don't fit each other are a defect.
        """
        shown: dict[str, Any] = {name: self._shown(name, value, language) for name, value in values.items()}
        shown |= {"lang": language.value, "bank": self._bank}
        text = self._environment.get_template(f"{template}.{language.value}.txt.j2")
        html = self._environment.get_template(f"{template}.{language.value}.html.j2")
        subject = _one_line(_block(text, "subject", shown))
        return RenderedMail(
            subject=subject,
            text=text.render(shown, subject=subject).strip() + "\n",
            html=html.render(shown, subject=subject).strip() + "\n",
        )

    def _shown(self, name: str, value: Any, language: Language) -> Any:
        if isinstance(value, datetime):
            return moment(value.astimezone(self._zone), language)
        if name == "size":
            return file_size(value, language)
        if name == "reason":
            return _clean(value, keep_lines=True, limit=_TEXT_LIMIT)
        if isinstance(value, str):
            return _clean(value, keep_lines=False, limit=_LINE_LIMIT)
        return value


def moment(at: datetime, language: Language) -> str:
    """Day and time of an aware datetime, with the name of its zone, as the language writes it."""
    zone = _PARIS[language] if str(at.tzinfo) == "Europe/Paris" else str(at.tzname())
    month = _MONTHS[language][at.month - 1]
    if language is Language.FRENCH:
        day = "1er" if at.day == 1 else str(at.day)
        return f"{day}{_NBSP}{month} {at.year} à {at.hour}{_NBSP}h{_NBSP}{at.minute:02d} ({zone})"
    return f"{at.day}{_NBSP}{month} {at.year} at {at.hour:02d}:{at.minute:02d} ({zone})"


def file_size(size: int, language: Language) -> str:
    """A size in bytes in decimal units (1 Mo = 1,000,000 octets), with one decimal below ten."""
    french = language is Language.FRENCH
    if size < 1000:
        unit = ("octet" if french else "byte") + ("s" if size > 1 or (size == 0 and not french) else "")
        return f"{size}{_NBSP}{unit}"
    amount = float(size)
    for unit in ("ko", "Mo", "Go") if french else ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.5 or unit[0] == "G":
            break
    figure = f"{amount:.1f}" if amount < 9.95 else f"{amount:.0f}"
    return f"{figure.replace('.', ',') if french else figure}{_NBSP}{unit}"


def _block(template: Template, name: str, values: Mapping[str, Any]) -> str:
    return "".join(template.blocks[name](template.new_context(dict(values))))


def _one_line(text: str) -> str:
    return " ".join(text.splitlines()).strip()


def _clean(text: str, *, keep_lines: bool, limit: int) -> str:
    """Without control and direction-changing characters, which can make a text look like another one, and bounded."""
    lines = [
        "".join(c for c in without_unseen(line) if c in JOINERS or unicodedata.category(c)[0] != "C")
        for line in text.splitlines()
    ]
    cleaned = "\n".join(line.rstrip() for line in lines) if keep_lines else " ".join(" ".join(lines).split())
    cleaned = cleaned.strip()
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1].rstrip() + "…"
