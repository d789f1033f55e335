"""An operator before the console, in a real Chromium: looks at Now, clicks, fills forms, and takes pictures for the handbook."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Browser, Locator, Page

from tests.drills.stopwatch import DIAGNOSIS, SIGN, Stopwatch
from tests.support.browser import sign_in

#: Until a sign is on the page; the page refreshes itself every ten seconds.
SIGN_SECONDS: Final = 300.0
PAGE_SECONDS: Final = 60.0
WIDTH: Final = 1280
REASON: Final = "DRILL-1"
#: Colours of a picture: the console has few, and the repository keeps the pictures.
COLOURS: Final = 64
#: In a picture, higher than the window's first screen only if it has to be.
TALLEST: Final = 1500


class Operator:
    """``pictures``: where those of the handbook go, ``views``: the same pages in both languages, to be looked at."""

    def __init__(self, browser: Browser, url: str, pictures: Path, views: Path) -> None:
        self._url = url
        self._pictures, self._views = pictures, views
        self._english, self._french = (
            browser.new_context(locale=language, viewport={"width": WIDTH, "height": 800}, color_scheme="light")
            for language in ("en-GB", "fr-FR")
        )
        self.page: Page = self._english.new_page()
        self._other: Page = self._french.new_page()
        for page in (self.page, self._other):
            page.set_default_timeout(PAGE_SECONDS * 1000)
            sign_in(page, url)

    def look_at_now(self) -> None:
        self.page.goto(f"{self._url}/")

    def sees(self, watch: Stopwatch, sentence: str) -> None:
        """Waits before Now, which refreshes itself, until its first lines say it."""
        line = self.page.locator("#todo ~ ul > li").filter(has_text=sentence).first
        line.wait_for(timeout=SIGN_SECONDS * 1000)
        watch.mark(SIGN)
        watch.sentences.append(" ".join(line.inner_text().split()))

    def clicks(self, watch: Stopwatch, link: Locator) -> None:
        """On a link, as the line says."""
        watch.path.append(" ".join(link.inner_text().split()))
        link.click()
        self.page.wait_for_load_state()
        watch.clicks += 1

    def line(self, sentence: str) -> Locator:
        """The link of the line of Now that says it."""
        return self.page.locator("#todo ~ ul > li").filter(has_text=sentence).first.locator("strong a")

    def reads(self, watch: Stopwatch, *texts: str) -> None:
        """The diagnosis: all of it is on this page, which is loaded again until it is. Raises AssertionError for what is not."""
        for text in texts:
            self.waits_for((text,))
        watch.mark(DIAGNOSIS)

    def confirms(self, button: Locator, *, canary: int | None = None) -> None:
        """An act by its button: the plan is shown, signed in for anew if need be, and confirmed with a reason."""
        button.click()
        again = self.page.locator("#confirm ~ p a.button")
        if again.count():
            again.click()
            self.page.check('input[name="role"][value="operator"]')
            self.page.click("main button")
        self.page.get_by_label("Reason").fill(REASON)
        if canary is not None:
            self.page.locator("#canary").fill(str(canary))
        self.page.get_by_role("button", name="Do it").click()
        self.page.wait_for_url("**/operations/batches/**")

    def waits_for(self, texts: Sequence[str], seconds: float = SIGN_SECONDS) -> None:
        """Loads the page again until one of the texts is on it."""
        wanted = self.page.locator("main").filter(has_text=texts[0])
        for text in texts[1:]:
            wanted = wanted.or_(self.page.locator("main").filter(has_text=text))
        for _ in range(round(seconds)):
            if wanted.count():
                return
            self.page.wait_for_timeout(1000)
            self.page.reload()
        raise AssertionError(f"not within {seconds:.0f} s: {' or '.join(texts)}")

    def picture(self, watch: Stopwatch, name: str) -> None:
        """The page as it is, for the handbook; and in French, which only who mends the console looks at."""
        with watch.aside():
            _keep(self.page, self._pictures / f"{name}.png")
            _keep(self.page, self._views / f"{name}-en.png", whole=True)
            if "/plan" not in self.page.url:
                self._other.goto(self.page.url)
                _keep(self._other, self._views / f"{name}-fr.png", whole=True)


def _keep(page: Page, path: Path, *, whole: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    taken = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    height = taken.height if whole else min(taken.height, _bottom_of_what_counts(page), TALLEST)
    few = taken.convert("RGB").crop((0, 0, taken.width, height)).quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def _bottom_of_what_counts(page: Page) -> int:
    """Where a picture ends: on Now below the table of consumers, else with the page."""
    table = page.locator("table.cards").first
    box = table.bounding_box() if "/live" in page.content() and table.count() else None
    return TALLEST if box is None else round(box["y"] + box["height"] + 24)
