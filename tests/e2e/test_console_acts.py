"""Acts of an operator in the console, in a real Chromium on the running pipeline, from the cause to what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from deploy.native.errors import Missing
from domain.audit_chain import SYSTEM_TENANT
from domain.consumers import CONSUMERS
from tests.support.browser import a_page, axe_source, chromium, sign_in, violations
from tests.support.pipeline import Pipeline, metadata, small_pdf, wait_for
from tests.support.refusing_servers import refusing_mail_server
from tests.support.stack_servers import StackServers

RECEIPT = ("receipt", "en")
REASON = "INC-77"
LETTERS = "SELECT count(*) FROM lettres_mortes WHERE reglement IS NULL AND code = 'mail_refused'"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with chromium() as found:
            yield found
    except Missing as error:
        pytest.skip(f"no Chromium: {error}")


@pytest.fixture
def page(browser: Browser, pipeline: Pipeline) -> Iterator[Page]:
    """An operator's, signed in."""
    url = f"http://127.0.0.1:{pipeline.settings['DPJ_CONSOLE_PORT']}"
    with a_page(browser, base_url=url) as found:
        sign_in(found, url)
        yield found


def says(page: Page, text: str) -> None:
    """Waits until the page, loaded again and again, says it."""

    shown = ""
    for _ in range(60):
        page.wait_for_load_state()
        page.goto(page.url)
        shown = page.locator("main").inner_text()
        if text in shown:
            return
        page.wait_for_timeout(1000)
    raise AssertionError(f"not within 60 s: {text!r}; last seen {shown!r}")


def test_dead_letters_are_redriven_a_few_first_and_never_by_a_plan_that_no_longer_holds(
    pipeline: Pipeline, page: Page
) -> None:
    pipeline.settle()
    if pipeline.sql(LETTERS)[0][0]:  # another test's
        pipeline.dpj("dlq", "discard", "--code", "mail_refused", "--reason", REASON, "--apply")
    servers, dossier = StackServers(pipeline.name), pipeline.dossier()
    servers.stop("smtp")
    try:
        with refusing_mail_server(servers.port("smtp")):
            said = metadata(dossier, language="en")
            documents = [str(pipeline.upload(small_pdf(uuid4().hex), said)["id"]) for _ in range(4)]
            wait_for(lambda: pipeline.sql(LETTERS)[0][0] == len(documents), "each mail is given up", 60)
    finally:
        servers.start("smtp")
    # A letter can be redriven once the index has its place in Kafka, which the relay looks for now and then.
    placed = f"{LETTERS} AND lettre_offset IS NOT NULL"
    wait_for(lambda: pipeline.sql(placed)[0][0] == len(documents), "each letter has its place", 60)

    def told() -> list[str]:
        return [one for one in documents if pipeline.mail_kinds(one)[RECEIPT]]

    page.goto("/operations")
    page.get_by_role("row", name="mail_refused").get_by_role("link").first.click()
    expect(page.get_by_text("4 open letters")).to_be_visible()
    page.get_by_role("button", name="Redrive all").click()
    expect(page.get_by_role("heading", name="What would be done")).to_be_visible()
    assert violations(page, axe_source()) == []
    # Meanwhile a colleague redrives one of them: what was read is no longer what would be done.
    pipeline.dpj("dlq", "redrive", "--document", documents[0], "--apply")
    wait_for(lambda: told() == documents[:1], "the colleague's document is told of", 30)
    page.get_by_label("Reason").fill(REASON)
    page.get_by_role("button", name="Do it").click()
    expect(page.get_by_role("alert")).to_contain_text("has changed since you read it. Nothing was done")
    assert told() == documents[:1]

    # The form has what would be done now; one letter first.
    page.get_by_label("Reason").fill(REASON)
    page.get_by_label("Canary").fill("1")
    expect(page.get_by_role("button", name="Do it")).to_have_text("Do it: 3")
    page.get_by_role("button", name="Do it").click()
    page.wait_for_url("**/operations/batches/**")
    says(page, "Canary done: have a look")
    wait_for(lambda: len(told()) == 2, "the canary's document is told of", 30)
    assert pipeline.sql(LETTERS)[0][0] == 2
    assert violations(page, axe_source()) == []
    page.get_by_role("button", name="Have the rest done").click()
    says(page, "Nothing is left to do")
    wait_for(lambda: told() == documents, "every document is told of", 30)
    assert [pipeline.mail_kinds(one)[RECEIPT] for one in documents] == [1] * 4
    page.goto(f"/acts?tenant={SYSTEM_TENANT}")  # one batch may be about many tenants
    says(page, REASON)


def worker_waits_for(pipeline: Pipeline) -> dict[str, Any]:
    """What the worker of notification says that it waits for. The relay's port is the first."""
    port = int(pipeline.settings["DPJ_WORKER_PORT_BASE"]) + 1 + CONSUMERS.index("notification")
    found: dict[str, Any] = httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).json()["waiting_for"]
    return found


def test_a_consumer_is_paused_and_goes_on(pipeline: Pipeline, page: Page) -> None:
    page.goto("/operations")
    form = page.locator("form", has=page.locator('input[name="act"][value="pause"]'))
    form.get_by_label("Consumer").select_option("notification")
    form.get_by_label("Minutes").fill("30")
    form.get_by_label("Reason").fill(REASON)
    form.get_by_role("button", name="Pause").click()
    try:
        paused = page.get_by_role("region", name="Pauses").get_by_role("listitem")
        expect(paused).to_contain_text(REASON)
        page.goto("/")
        says(page, "notification is paused, for")
        wait_for(lambda: "pause" in worker_waits_for(pipeline), "the worker knows it", 30)
        document = str(pipeline.upload(small_pdf(uuid4().hex), metadata(pipeline.dossier(), language="en"))["id"])
        pipeline.reaches(document, "VERIFIED")
        page.goto(f"/documents/{document}")
        says(page, "is paused")
        assert not pipeline.mails(document)
    finally:
        page.goto("/operations")
        form = page.locator("form", has=page.locator('input[name="act"][value="resume"]'))
        form.get_by_label("Reason").fill(REASON)
        form.get_by_role("button", name="Resume now").click()
        expect(page.get_by_role("button", name="Resume now")).to_have_count(0)
    wait_for(lambda: pipeline.mail_kinds(document)[RECEIPT] == 1, "the mail is sent", 60)
