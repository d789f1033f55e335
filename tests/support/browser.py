"""A real Chromium, headless, and axe-core, which says what a page keeps from people.

Chromium is the system's; root installs it where it is missing. axe-core comes from the npm registry once, pinned by hash.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from deploy.native import prerequisites
from deploy.native.downloads import PinnedFile, fetch
from deploy.native.files import cache_root
from deploy.native.report import Silent

PROGRAM: Final = "chromium"
AXE: Final = PinnedFile(
    "https://registry.npmjs.org/axe-core/-/axe-core-4.11.0.tgz",
    "39bed7d72308f6d620789c169d699bfd7e8da80f65b545821a6b2215c3e83107",
    594_490,
)
#: WCAG 2.2 up to AA, and what axe-core knows beside it as good practice.
_RULES: Final = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that ends with the block. Raises deploy.native.errors.Missing where there is none and nobody may install it."""
    prerequisites.ensure(lambda: prerequisites.program(PROGRAM, prerequisites.CHROMIUM), Silent())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which(PROGRAM), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


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


def axe_source() -> str:
    """axe-core's script, from the cache."""
    folder = cache_root() / f"axe-core-{AXE.sha256[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "axe.min.js"
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not script.exists():
            packed = folder / "axe-core.tgz"
            fetch(AXE, packed)
            with tarfile.open(packed) as archive:
                member = archive.extractfile("package/axe.min.js")
                assert member is not None
                unpacked = folder / "axe.new"
                unpacked.write_bytes(member.read())
            unpacked.replace(script)
    return script.read_text("utf-8")


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
