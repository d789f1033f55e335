"""The console in a real Chromium on the running pipeline: in and out, why a document is late, keyboard alone, narrow, without a script."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from deploy.native.errors import Missing
from tests.support.browser import a_page, axe_source, chromium, is_as_wide_as_its_window, sign_in, violations
from tests.support.pipeline import SAMPLES, Pipeline, wait_for

PAGES = (
    "/",
    "/consumers",
    "/topics",
    "/operations",
    "/operations/lost",
    "/operations/restore",
    "/operations/replay",
    "/orders",
    "/documents",
    "/proof",
    "/acts",
    "/acts?tenant=banque-e2e",
    "/reconcile",
    "/runbook",
    "/me",
    "/nowhere",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with chromium() as found:
            yield found
    except Missing as error:
        pytest.skip(f"no Chromium: {error}")


@pytest.fixture
def url(pipeline: Pipeline) -> str:
    return f"http://127.0.0.1:{pipeline.settings['DPJ_CONSOLE_PORT']}"


def a_document(pipeline: Pipeline) -> str:
    metadata = {
        "type": "RIB",
        "dossier_id": pipeline.dossier(),
        "depositor": {"email": "marie.durand@client.example", "language": "fr"},
    }
    taken = pipeline.upload((SAMPLES / "rib.pdf").read_bytes(), metadata, name="rib-de-marie-durand.pdf")
    return str(taken["id"])


def focused(page: Page) -> str:
    """What has the keyboard: its text, or its name."""
    found: str = page.evaluate("(document.activeElement.innerText || document.activeElement.name || '').trim()")
    return found


def test_signing_in_and_out(browser: Browser, url: str) -> None:
    with a_page(browser) as page:
        page.goto(f"{url}/documents")
        expect(page.get_by_text("Development sign-in: nobody checks who you are")).to_be_visible()
        sign_in(page, url, "auditor")
        expect(page.get_by_role("link", name="Auditor")).to_be_visible()
        (cookie,) = [one for one in page.context.cookies() if one["name"] == "dpj-console"]
        assert cookie["httpOnly"]
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_text("You are signed out")).to_be_visible()
        page.context.add_cookies([cookie])
        page.goto(f"{url}/me")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_an_operator_finds_why_a_document_is_late_while_the_ged_is_stopped(
    browser: Browser, pipeline: Pipeline, url: str
) -> None:
    document = a_document(pipeline)
    pipeline.reaches(document, "VERIFIED")
    ged = pipeline.pids()["ged"]
    os.kill(ged, signal.SIGSTOP)
    try:
        assert pipeline.decide(document, "validate").status_code == 200
        with a_page(browser) as page:
            sign_in(page, url)

            def waits_for_the_ged() -> bool:
                page.goto(f"{url}/")
                return page.get_by_role("row", name="archiving").get_by_text("Waits for the GED").count() > 0

            wait_for(waits_for_the_ged, "the first page says that archiving waits for the GED", 90)
            page.goto(f"{url}/documents")
            page.get_by_label("Id", exact=True).fill(document)
            page.get_by_role("button", name="Search").click()
            why = page.get_by_role("region", name="Why it is here, and what comes next")
            expect(why).to_contain_text("waits for the GED")
            expect(why).to_contain_text("the consumer tries again by itself")
            shown = page.content()
            assert "marie" not in shown
            assert "rib-de" not in shown
            assert violations(page, axe_source()) == []
    finally:
        os.kill(ged, signal.SIGCONT)
    pipeline.reaches(document, "ARCHIVED", 120)
    with a_page(browser) as page:
        sign_in(page, url)
        page.goto(f"{url}/documents/{document}")
        expect(page.get_by_role("heading", name="Its way")).to_be_visible()
        expect(page.locator(".way")).to_contain_text("Archived")


def test_everything_is_reached_by_the_keyboard_alone(browser: Browser, url: str) -> None:
    with a_page(browser) as page:
        page.goto(f"{url}/sign-in")
        page.keyboard.press("Tab")
        assert focused(page) == "Skip to the content"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert focused(page) == "role"
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/")
        for _ in range(40):
            page.keyboard.press("Tab")
            if focused(page) == "Documents":
                break
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/documents")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # the skip link
        page.keyboard.press("Tab")
        assert focused(page) == "id"
        page.keyboard.type("00000000-0000-0000-0000-000000000000")
        page.keyboard.press("Enter")
        expect(page.get_by_text("There is no such document")).to_be_visible()


@pytest.mark.parametrize(
    ("width", "scheme", "language"), [(1280, "light", "fr-FR"), (1280, "dark", "en-GB"), (320, "light", "en-GB")]
)
def test_no_page_keeps_anything_from_anybody(
    browser: Browser, pipeline: Pipeline, url: str, width: int, scheme: str, language: str
) -> None:
    document = a_document(pipeline)
    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "locale": language}
    with a_page(browser, **options) as page:
        page.goto(f"{url}/sign-in")
        found = violations(page, axe_source())
        sign_in(page, url)
        for path in (*PAGES, f"/documents/{document}"):
            page.goto(f"{url}{path}")
            found += violations(page, axe_source())
            assert is_as_wide_as_its_window(page), path
    assert found == []


def test_without_a_script_every_page_is_whole(browser: Browser, url: str) -> None:
    with a_page(browser, java_script_enabled=False) as page:
        sign_in(page, url)
        for path in PAGES[:-1]:
            assert page.goto(f"{url}{path}").status == 200, path  # type: ignore[union-attr]
            expect(page.locator("h1").first).to_be_visible()
        page.get_by_role("link", name="Français").click()
        expect(page.get_by_role("link", name="Maintenant")).to_be_visible()


def test_the_first_page_refreshes_itself_until_one_says_no(browser: Browser, url: str, tmp_path: Path) -> None:
    with a_page(browser) as page:
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        sign_in(page, url)
        expect(page.get_by_text("Refreshes every 10 s")).to_be_visible()
        page.evaluate("document.querySelector('[data-live]').dataset.seen = 'yes'")
        page.evaluate("document.querySelector('[data-live] h2').textContent = 'old'")
        expect(page.locator("[data-live] h2").first).not_to_have_text("old", timeout=20_000)
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_text("Refresh paused")).to_be_visible()
        page.reload()
        expect(page.get_by_role("button", name="Resume")).to_be_visible()
        assert errors == []
