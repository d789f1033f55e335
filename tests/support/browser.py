"""A real Chromium, headless, and axe-core, which says what a page keeps from people.

Chromium is the system's; root installs it where it is missing.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from deploy.native import prerequisites
from deploy.native.errors import Missing
from deploy.native.report import Silent

ROOT: Final = Path(__file__).resolve().parents[2]
#: WCAG 2.2 up to AA, and what axe-core knows beside it as good practice.
_RULES: Final = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that ends with the block. Raises deploy.native.errors.Missing where there is none and nobody may install it."""
    program = _program()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which(program), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def _program() -> str:
    """Raises Missing."""
    with suppress(Missing):
        return _there("chromium-headless-shell", prerequisites.HEADLESS_CHROMIUM)
    return _there("chromium", prerequisites.CHROMIUM)


def _there(name: str, otherwise: prerequisites.Prerequisite) -> str:
    prerequisites.ensure(lambda: prerequisites.program(name, otherwise), Silent())
    return name


@contextmanager
def a_page(browser: Browser, **options: Any) -> Iterator[Page]:
    """A page with cookies of its own."""
    given: dict[str, Any] = {"locale": "en-GB", "viewport": {"width": 1280, "height": 900}, **options}
    context: BrowserContext = browser.new_context(**given)
    context.set_default_timeout(20_000)
    try:
        yield context.new_page()
    finally:
        context.close()


def sign_in(page: Page, url: str, role: str = "operator") -> None:
    """By the development's sign-in."""
    page.goto(f"{url}/sign-in")
    page.check(f'input[name="role"][value="{role}"]')
    page.click("main button")
    page.wait_for_url(f"{url}/**")


@functools.cache
def axe_source() -> str:
    """axe-core's script, from the cache. A process of its own fetches it: tests reach no other machine."""
    command = [sys.executable, "-m", "tests.support.axe_core"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return Path(done.stdout.strip()).read_text("utf-8")


def violations(page: Page, source: str) -> list[str]:
    """What axe-core finds on the page as it is now; each with its rule and the first places."""
    page.evaluate(source)
    found: Any = page.evaluate(f"axe.run(document, {json.dumps(_RULES)})")
    return [
        f"{page.url}: {one['id']} ({one['help']}): " + "; ".join(str(node["target"]) for node in one["nodes"][:3])
        for one in found["violations"]
    ]


def is_as_wide_as_its_window(page: Page) -> bool:
    """Whether nobody has to scroll the whole page sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def small_png(page: Page, path: Path) -> None:
    """A picture of the whole page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(path), full_page=True)
