"""Pages from templates: everything is escaped, everything that can't be seen is spelt out, figures and times as the language writes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from console import static_files
from console.languages import LANGUAGES, Texts
from domain.shared.terminal_text import visible

NBSP: Final = "\u00a0"
NARROW: Final = "\u202f"
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400
_MONTHS: Final = {
    "fr": ("janv.", "févr.", "mars", "avr.", "mai", "juin", "juil.", "août", "sept.", "oct.", "nov.", "déc."),
    "en": ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
}


@cache
def environment() -> Environment:
    """The one environment; templates are compiled once per process."""
    made = Environment(
        loader=PackageLoader("console"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals["static"] = static_files.address
    return made


def shown(value: Any) -> Any:
    """What a template puts into a page: a text from a record may hold what turns the reading direction, or hides."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


class Writer:
    """Figures, times and durations of one language and time zone; templates know it as ``w``."""

    def __init__(self, texts: Texts, zone: tzinfo, now: datetime) -> None:
        self._french = texts.language == "fr"
        self._language = texts.language
        self._zone = zone
        self._now = now

    def number(self, value: float) -> str:
        """A whole number in groups of three."""
        return f"{value:,.0f}".replace(",", NARROW if self._french else ",")

    def moment(self, at: datetime) -> Markup:
        """Day and time to the second, readable by machines too."""
        local = at.astimezone(self._zone)
        month = _MONTHS[self._language][local.month - 1]
        day = f"{local.day}{NBSP}{month}" + ("" if local.year == self._now.year else f"{NBSP}{local.year}")
        return Markup('<time datetime="{}">{} {}</time>').format(
            at.astimezone(UTC).isoformat(timespec="seconds"), day, f"{local:%H:%M:%S}"
        )

    def day(self, at: datetime) -> Markup:
        """The day alone, with its year."""
        local = at.astimezone(self._zone)
        month = _MONTHS[self._language][local.month - 1]
        return Markup('<time datetime="{}">{}</time>').format(
            f"{local:%Y-%m-%d}", f"{local.day}{NBSP}{month}{NBSP}{local.year}"
        )

    def clock(self, at: datetime) -> str:
        """Time of the day to the second, with the name of its zone."""
        local = at.astimezone(self._zone)
        return f"{local:%H:%M:%S} ({local.tzname()})"

    def duration(self, seconds: float | None) -> str:
        """In the one or two units that suit it; a dash for none."""
        if seconds is None:
            return "–"
        whole = max(0, round(seconds))
        day = "j" if self._french else "d"
        if whole < 1:
            return f"{seconds * 1000:.0f}{NBSP}ms" if seconds > 0 else f"0{NBSP}s"
        if whole < 2 * _MINUTE:
            return f"{whole}{NBSP}s"
        if whole < 2 * _HOUR:
            return f"{whole // _MINUTE}{NBSP}min"
        if whole < 2 * _DAY:
            return f"{whole // _HOUR}{NBSP}h{NBSP}{whole % _HOUR // _MINUTE:02d}"
        return f"{self.number(whole // _DAY)}{NBSP}{day}"

    def since(self, at: datetime) -> str:
        """How long ago that was."""
        return self.duration((self._now - at).total_seconds())

    def rate(self, value: float) -> str:
        """Records a second, with one decimal below ten."""
        figure = f"{value:.1f}" if value < 10 else f"{value:,.0f}"
        return f"{figure.replace('.', ',') if self._french else figure}{NBSP}/s"

    def size(self, count: int) -> str:
        """Bytes in decimal units."""
        prefixes, amount, step = ("", "k", "M", "G", "T"), float(count), 0
        while amount >= 1000 and step < len(prefixes) - 1:
            amount, step = amount / 1000, step + 1
        figure = f"{amount:.1f}" if step and amount < 10 else f"{amount:.0f}"
        unit = "o" if self._french else "B"
        return f"{figure.replace('.', ',') if self._french else figure}{NBSP}{prefixes[step]}{unit}"


def render(template: str, texts: Texts, zone: tzinfo, values: Mapping[str, Any], *, now: datetime | None = None) -> str:
    """The text of a page or of a part of one."""
    now = now or datetime.now(UTC)
    return (
        environment()
        .get_template(template)
        .render(t=texts, w=Writer(texts, zone, now), lang=texts.language, languages=LANGUAGES, now=now, **values)
    )


def html(text: str, status: int = 200) -> HTMLResponse:
    """A page that depends on who asks, and in which language."""
    return HTMLResponse(text, status, {"Vary": "Cookie, Accept-Language"})
