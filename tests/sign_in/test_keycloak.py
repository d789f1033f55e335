"""Signing in to console and API with the real Keycloak and the realm of ``deploy/identity``, in a real Chromium."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import pytest
from confluent_kafka import Producer
from playwright.sync_api import Browser, Page, expect

from tests.sign_in.conftest import STEP_UP_MINUTES
from tests.support.browser import a_page
from tests.support.keycloak import Keycloak, claims_of, header_of, one_time_password
from tests.support.pipeline import SAMPLES, Pipeline, wait_for

DISCARD = "/operations/plan?" + urlencode({"act": "discard", "consumer": "notification"})
OTHER_TENANT = f"banque-{uuid4().hex[:8]}"
#: How soon the console knows what Keycloak tells it.
SECONDS = 5.0


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with a_page(browser) as found:
        yield found


def sign_in(page: Page, url: str, keycloak: Keycloak, name: str, to: str = "/") -> None:
    """From a page of the console over Keycloak's own, back to where one wanted to go."""
    page.goto(f"{url}{to}")
    page.get_by_role("link", name="Sign in").click()
    keycloak.fill(page, name)
    page.wait_for_url(f"{url}{to}")


def is_signed_in(page: Page, url: str) -> bool:
    page.goto(f"{url}/me")
    return page.url == f"{url}/me"


def a_dead_letter(pipeline: Pipeline, page: Page, url: str) -> None:
    """A record that is no event becomes a letter that can be discarded. ``page`` is an operator's."""
    producer = Producer({"bootstrap.servers": pipeline.settings["DPJ_KAFKA_BOOTSTRAP"]})
    producer.produce("dpj.document.archived", key=b"example", value=b"no event")
    assert producer.flush(30) == 0

    def planned() -> bool:
        page.goto(f"{url}{DISCARD}")
        return page.locator("#confirm").count() == 1

    wait_for(planned, "the dead letter is known", 90)


def portal(pipeline: Pipeline, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=f"{pipeline.url}/api/v1", headers=headers, timeout=60, trust_env=False)


def deposited(client: httpx.Client) -> str:
    """The id of a new document."""
    new = {"number": f"E2E-{uuid4().hex[:12]}", "client_id": "client-1", "journey_type": "PRET_IMMOBILIER"}
    dossier = client.post("/dossiers", json=new)
    assert dossier.status_code == 201, dossier.text
    depositor = {"email": "marie.durand@client.example", "language": "fr"}
    metadata = {"type": "RIB", "dossier_id": dossier.json()["id"], "depositor": depositor}
    files = {
        "metadata": (None, json.dumps(metadata), "application/json"),
        "file": ("rib.pdf", (SAMPLES / "rib.pdf").read_bytes(), "application/pdf"),
    }
    answer = client.post("/documents", files=files)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_an_operator_signs_in_at_keycloaks_own_page_and_sees_now(page: Page, url: str, keycloak: Keycloak) -> None:
    page.goto(f"{url}/documents")
    page.get_by_role("link", name="Sign in").click()
    page.wait_for_url(f"{keycloak.issuer}/**")
    keycloak.fill(page, "operator", "not the password at all")
    expect(page.locator("#password")).to_be_visible()
    keycloak.fill(page, "operator")
    page.wait_for_url(f"{url}/documents")
    page.goto(url)
    expect(page.get_by_role("heading", name="Now", level=1)).to_be_visible()
    expect(page.get_by_role("link", name="Operator")).to_be_visible()
    [cookie] = [one for one in page.context.cookies() if one["name"] == "dpj-console"]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    assert "." not in cookie["value"], "no token reaches the browser"
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0


def test_an_auditor_sees_and_may_not_act(page: Page, url: str, keycloak: Keycloak) -> None:
    sign_in(page, url, keycloak, "auditor", "/acts")
    expect(page.get_by_role("link", name="Auditor")).to_be_visible()
    answer = page.goto(f"{url}{DISCARD}")
    assert answer is not None
    assert answer.status == 403
    assert "forbidden" in page.content()


def test_who_has_no_role_of_the_consoles_does_not_come_in(page: Page, url: str, keycloak: Keycloak) -> None:
    keycloak.add_person("paula", "a long password of hers", "demo", "validator")
    page.goto(f"{url}/sign-in/begin")
    keycloak.fill(page, "paula", "a long password of hers")
    page.wait_for_url(f"{url}/sign-in/done?**")
    expect(page.get_by_role("alert")).to_contain_text("This account may not come in")
    # Who is signed in there under the wrong name comes in under another one all the same.
    page.get_by_role("link", name="Sign out at the identity provider, to come in as somebody else").click()
    page.locator("#kc-logout").click()
    page.wait_for_url(f"{url}/sign-in")
    page.get_by_role("link", name="Sign in").click()
    keycloak.fill(page, "auditor")
    page.wait_for_url(f"{url}/")


def test_an_act_without_a_way_back_takes_the_password_again(
    page: Page, url: str, keycloak: Keycloak, pipeline: Pipeline
) -> None:
    sign_in(page, url, keycloak, "operator")
    a_dead_letter(pipeline, page, url)
    time.sleep(STEP_UP_MINUTES * 60)
    page.goto(f"{url}{DISCARD}")
    again = page.get_by_role("link", name="Sign in again")
    expect(again).to_be_visible()
    expect(page.locator("form[action='/operations/confirm']")).to_have_count(0)
    # Keycloak's own session alone is no answer: it lets the browser pass, and says when it asked last.
    page.goto(f"{url}/sign-in/begin?{urlencode({'to': DISCARD})}")
    page.wait_for_url(f"{url}/operations/plan?**")
    expect(again).to_be_visible()
    sessions = sorted(keycloak.sessions("operator"))
    again.click()
    keycloak.fill(page, "operator", "not the password at all")
    expect(page.locator("#password")).to_be_visible()
    keycloak.fill(page, "operator")
    page.wait_for_url(f"{url}/operations/plan?**")
    page.fill("#reason", "INC-1")
    page.locator("form[action='/operations/confirm'] button").click()
    page.wait_for_url(f"{url}/operations/batches/**")
    assert sorted(keycloak.sessions("operator")) == sessions, "it is the same session there"


def test_a_session_that_ends_at_keycloak_ends_at_the_console(page: Page, url: str, keycloak: Keycloak) -> None:
    sign_in(page, url, keycloak, "auditor")
    for session in keycloak.sessions("auditor"):
        keycloak.admin("DELETE", f"/sessions/{session}")
    wait_for(lambda: not is_signed_in(page, url), "the console's session is over", SECONDS)


def test_all_sessions_of_a_person_end_at_once(browser: Browser, url: str, keycloak: Keycloak) -> None:
    with a_page(browser) as one, a_page(browser) as other:
        for each in (one, other):
            sign_in(each, url, keycloak, "auditor")
        keycloak.admin("POST", f"/users/{keycloak.user_id('auditor')}/logout")
        for each in (one, other):
            wait_for(lambda each=each: not is_signed_in(each, url), "the console's session is over", SECONDS)


def test_who_signs_out_at_keycloak_too_is_asked_again(page: Page, url: str, keycloak: Keycloak) -> None:
    sign_in(page, url, keycloak, "operator")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("link", name="Sign out at the identity provider too").click()
    page.wait_for_url(f"{keycloak.issuer}/**")
    page.locator("#kc-logout").click()
    page.wait_for_url(f"{url}/sign-in")
    page.goto(f"{url}/sign-in/begin")
    expect(page.locator("#password")).to_be_visible()


def test_a_portal_deposits_and_reads_its_tenants_documents_alone(pipeline: Pipeline, keycloak: Keycloak) -> None:
    secret = keycloak.add_portal("portal-b", OTHER_TENANT)
    token = keycloak.portal_token()
    said = claims_of(token)
    assert (said["aud"], said["tenant"], said["roles"]) == ("dpj", "demo", ["portal"])
    assert not said.keys() & {"email", "preferred_username", "name"}, "no more of anybody than is needed"
    with portal(pipeline, token) as ours, portal(pipeline, keycloak.portal_token("portal-b", secret)) as other:
        document = deposited(ours)
        assert ours.get(f"/documents/{document}").status_code == 200
        unknown = other.get(f"/documents/{document}")
        assert (unknown.status_code, unknown.json()["code"]) == (403, "tenant_unknown")
        pipeline.give_key(OTHER_TENANT)
        wait_for(lambda: other.get(f"/documents/{document}").status_code == 404, "the tenant is known", 30)
        for method, below in (("GET", "/content"), ("GET", "/events"), ("POST", "/links")):
            assert other.request(method, f"/documents/{document}{below}", json=None).status_code in {404, 422}
        assert other.get(f"/documents/{deposited(other)}").status_code == 200


def test_the_realms_key_may_change(page: Page, url: str, keycloak: Keycloak, pipeline: Pipeline) -> None:
    former = keycloak.portal_token()
    key = keycloak.rotate_key()
    token = keycloak.portal_token()
    assert header_of(token)["kid"] == key != header_of(former)["kid"]
    with portal(pipeline, token) as ours:
        assert ours.get(f"/documents/{deposited(ours)}").status_code == 200
    sign_in(page, url, keycloak, "operator")
    for session in keycloak.sessions("operator"):
        keycloak.admin("DELETE", f"/sessions/{session}")
    wait_for(lambda: not is_signed_in(page, url), "a logout token of the new key counts", SECONDS)


def test_a_second_factor_is_asked_for_by_its_acr(page: Page, url: str, keycloak: Keycloak) -> None:
    keycloak.add_person("olga", "a long password of hers", "demo", "operator")
    back, verifier = f"{url}/sign-in/done", "v" * 64
    page.goto(keycloak.authorization_url(verifier, back, acr_values="second-factor", max_age="0"))
    keycloak.fill(page, "olga", "a long password of hers")
    page.locator("#mode-manual").click()
    page.fill("#totp", one_time_password(page.locator("#kc-totp-secret-key").inner_text()))
    page.locator("#saveTOTPBtn").click()
    page.wait_for_url(f"{back}?**")
    assert keycloak.redeemed(page.url, verifier, back)["acr"] == "second-factor"
    page.goto(keycloak.authorization_url(verifier, back, acr_values="password"))
    page.wait_for_url(f"{back}?**")
    said = keycloak.redeemed(page.url, verifier, back)
    assert said["acr"] in {"password", "second-factor"}


def test_nobody_signs_in_without_pkce(keycloak: Keycloak, url: str) -> None:
    asked = keycloak.authorization_url("v" * 64, f"{url}/sign-in/done").replace("code_challenge", "none")
    answer = httpx.get(asked, trust_env=False)
    assert answer.status_code == 302
    assert "error=invalid_request" in answer.headers["location"]


def test_guessing_a_password_locks_the_account_for_a_while(page: Page, url: str, keycloak: Keycloak) -> None:
    keycloak.add_person("victor", "a long password of his", "demo", "operator")
    page.goto(f"{url}/sign-in/begin")
    for guess in range(5):
        keycloak.fill(page, "victor", f"guess number {guess}")
        expect(page.locator("#password")).to_be_visible()
    keycloak.fill(page, "victor", "a long password of his")
    expect(page.locator("#password")).to_be_visible()
    assert not is_signed_in(page, url)
