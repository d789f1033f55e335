"""Pictures of every page of a running stack's console: both languages, light and dark, 1280 and 320 px wide.

    python -m tests.console_screenshots STACK FOLDER

A stack with documents in it shows more: ``dpj demo`` leaves one up. Its newest document is the one that is pictured.
"""

from __future__ import annotations

import sys
from pathlib import Path

from runtime.config.settings import load_settings
from tests.support.browser import a_page, chromium, is_as_wide_as_its_window, sign_in, small_png

PAGES = {
    "now": "/",
    "consumers": "/consumers",
    "consumer": "/consumers/archiving",
    "topics": "/topics",
    "operations": "/operations",
    "lost": "/operations/lost",
    "restore": "/operations/restore",
    "replay": "/operations/replay",
    "documents": "/documents",
    "proof": "/proof",
    "acts": "/acts?tenant=demo",
    "reconcile": "/reconcile",
    "session": "/me",
    "problem": "/nowhere",
}


def main(stack: str, folder: Path) -> int:
    """Write the pictures. 1 if a page is wider than its window."""
    url = load_settings(stack).console_url
    wide = []
    with chromium() as browser:
        for language in ("fr", "en"):
            for scheme in ("light", "dark"):
                for width in (1280, 320):
                    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "locale": language}
                    with a_page(browser, **options) as page:
                        place = folder / f"{language}-{scheme}-{width}"
                        page.goto(f"{url}/sign-in")
                        small_png(page, place / "sign-in.png")
                        sign_in(page, url)
                        page.goto(f"{url}/documents")
                        newest = page.locator("tbody th a.id").first.get_attribute("href")
                        pages = PAGES | ({"document": newest} if newest else {})
                        page.goto(f"{url}/operations")
                        batch = page.locator('a[href^="/operations/batches/"]')
                        pages |= {"batch": batch.first.get_attribute("href") or ""} if batch.count() else {}
                        for name, path in pages.items():
                            page.goto(f"{url}{path}")
                            small_png(page, place / f"{name}.png")
                            if not is_as_wide_as_its_window(page):
                                wide.append(f"{language} {width} {path}")
                        page.goto(f"{url}/operations/restore")
                        page.locator('form:has(input[value="check_restore"]) button').click()
                        small_png(page, place / "plan.png")
                        if not is_as_wide_as_its_window(page):
                            wide.append(f"{language} {width} plan")
    for one in wide:
        sys.stderr.write(f"wider than its window: {one}\n")
    return 1 if wide else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
