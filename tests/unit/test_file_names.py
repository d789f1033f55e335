"""Names of files: as clients send them, as they are kept, and as browsers are told them."""

import json
import re

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.documents import Language
from ingest_api.file_names import attachment, clean_file_name, disposition_file_name
from notifications.rendering import MailTemplates
from tests.support.api import BOUNDARY, FORM_END, FORM_TYPE, a_client, an_app, bearer, metadata_of
from tests.support.fakes_intake import PDF, IntakeBench
from tests.unit.test_notification import VALUES

PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.pdf"
FARMER = "\U0001f468\U0001f3fd\u200d\U0001f33e.pdf"


async def kept_name(disposition: bytes) -> str:
    """What the API keeps of a form whose part ``file`` has these parameters."""
    bench = IntakeBench()
    body = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{json.dumps(metadata_of(bench))}'
        f'\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"'
    ).encode() + disposition + b"\r\nContent-Type: application/pdf\r\n\r\n" + PDF + FORM_END  # fmt: skip
    async with a_client(an_app(bench)) as client:
        answer = await client.post("/api/v1/documents", headers={**bearer(), **FORM_TYPE}, content=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["file_name"])


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        # HttpClient of .NET, Spring, curl, requests, JavaMail
        (b"; filename=\"=?utf-8?B?cmVsZXbDqS5wZGY=?=\"; filename*=utf-8''relev%C3%A9.pdf", "relevé.pdf"),
        (b"; filename=\"=?UTF-8?Q?relev=C3=A9.pdf?=\"; filename*=UTF-8''relev%C3%A9.pdf", "relevé.pdf"),
        (b"; filename=releve.pdf; filename*=utf-8''relev%C3%A9.pdf", "relevé.pdf"),
        (b"; filename*=utf-8''relev%C3%A9.pdf", "relevé.pdf"),
        (b"; filename*0*=UTF-8''relev%C3; filename*1*=%A9; filename*2=\".pdf\"", "relevé.pdf"),
        # the star comes first, in whatever order, letters and language
        (b"; filename*=UTF-8'fr'relev%c3%a9.pdf; filename=\"releve.pdf\"", "relevé.pdf"),
        (b"; FileName*=iso-8859-1'en'%A3%20rates.pdf; filename=x.pdf", "£ rates.pdf"),
        (b"; filename*=\"utf-8''relev%C3%A9.pdf\"", "relevé.pdf"),
        ("; filename*=utf-8''relevé.pdf".encode(), "relevé.pdf"),
        (b"; filename*=utf-8''100%25.pdf", "100%.pdf"),
        (b"; filename*=relev%C3%A9.pdf", "relevé.pdf"),
        # what can't be decoded falls back
        (b"; filename=\"plain.pdf\"; filename*=utf-8''relev%E9.pdf", "plain.pdf"),
        (b"; filename=\"plain.pdf\"; filename*=shift_jis''%83%65.pdf", "plain.pdf"),
        (b"; filename=\"plain.pdf\"; filename*=rot13''cynva.pdf", "plain.pdf"),
        (b"; filename=\"plain.pdf\"; filename*=utf-8''", "plain.pdf"),
        (b"; filename=\"plain.pdf\"; filename*1*=utf-8''second", "plain.pdf"),
        (b"; filename*=utf-16''%FE%FF", "document"),
        # encoded words alone
        (b'; filename="=?utf-8?B?cmVsZXbDqS5wZGY=?="', "relevé.pdf"),
        (b'; filename="=?iso-8859-1?Q?relev=E9_de_compte.pdf?="', "relevé de compte.pdf"),
        (b'; filename="=?utf-8?B?cmVs?= =?utf-8?Q?ev=C3=A9?=.pdf"', "relevé.pdf"),
        (b'; filename="=?rot13?Q?cynva?=.pdf"', "=?rot13?Q?cynva?=.pdf"),
        (b'; filename="=?utf-8?B?!?=.pdf"', "=?utf-8?B?!?=.pdf"),
        ('; filename="é =? 1.pdf"'.encode(), "é =? 1.pdf"),
        # no charset but the client's own
        ('; filename="relevé.pdf"'.encode(), "relevé.pdf"),
        (b'; filename="relev\xe9 10 \x80.pdf"', "relevé 10 €.pdf"),
        # a name that looks like parameters is one name
        (b"; filename=\"a; filename*=utf-8''b.pdf\"", "a; filename*=utf-8''b.pdf"),
        (b'; filename="a\\"b; c.pdf"', 'a"b; c.pdf'),
        (b"", "document"),
        # what the star brings is cleaned as any name is
        (b"; filename*=utf-8''..%2F..%2Fetc%2Fpasswd", "passwd"),
        (b"; filename*=utf-8''a%0D%0AX-Evil%3A%201%00.pdf", "aX-Evil: 1.pdf"),
        (b"; filename*=utf-8''facture%E2%80%AEfdp.exe", "facturefdp.exe"),
        (b'; filename="=?utf-8?Q?facture=E2=80=AEfdp.exe?="', "facturefdp.exe"),
    ],
)  # fmt: skip
async def test_names_of_clients(disposition: bytes, name: str) -> None:
    assert await kept_name(disposition) == name


@given(st.text(alphabet="filename*=utf-8'\";\\ %C3%A90?=QB", max_size=80))
def test_no_header_upsets_the_reader(text: str) -> None:
    name = disposition_file_name(f"form-data; {text}", None)
    assert name is None or isinstance(clean_file_name(name), str)


async def test_an_httpx_client_sends_what_is_kept() -> None:
    bench = IntakeBench()
    async with a_client(an_app(bench)) as client:
        parts = [("metadata", (None, json.dumps(metadata_of(bench)))), ("file", (PERSIAN, PDF, "application/pdf"))]
        answer: httpx.Response = await client.post("/api/v1/documents", headers=bearer(), files=parts)
    assert answer.json()["file_name"] == PERSIAN


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("a.pdf", "a.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\scan.pdf", "scan.pdf"),
        ("a\r\nb\0.pdf", "ab.pdf"),
        ("..", "document"),
        ("dir/", "document"),
        (None, "document"),
        ("e\u0301.pdf", "é.pdf"),
        ("safe\u202efdp.exe", "safefdp.exe"),
        ("\u2066\u2067a\u2069\u061c\u200e\u200fb", "ab"),
        ("n" * 300 + ".pdf", "n" * 251 + ".pdf"),
        ("n" * 300, "n" * 255),
        ("." + "n" * 300, "." + "n" * 254),
        # joiners where they join
        (PERSIAN, PERSIAN),
        ("\u0642\u0631\u0627\u0631\u062f\u0627\u062f\u200c\u0647\u0627.pdf",) * 2,
        ("\u0647\u200d.pdf",) * 2,
        ("\u0915\u094d\u200d\u0937.pdf",) * 2,
        ("\u0d28\u0d4d\u200d.pdf",) * 2,
        (FARMER, FARMER),
        ("\u2764\ufe0f\u200d\U0001f525.pdf",) * 2,
        ("\U0001f3f3\ufe0f\u200d\U0001f308.pdf",) * 2,
        # and nowhere else
        ("pay\u200cpal\u200d.pdf", "paypal.pdf"),
        ("\u200c\u200d\u0645\u200c\u200d.pdf", "\u200d\u0645.pdf"),
        ("a\u200b\u200d\ufeffb.pdf", "ab.pdf"),
        ("\U0001f468\u200d.pdf", "\U0001f468.pdf"),
        ("n" * 250 + "\u0645\u200c\u0645.pdf", "n" * 250 + "\u0645.pdf"),
    ],
)
def test_file_names_are_cleaned(name: str | None, clean: str) -> None:
    assert clean_file_name(name) == clean
    assert clean_file_name(clean) == clean


def test_a_mail_keeps_the_joiners_of_a_name() -> None:
    mail = MailTemplates().render("receipt", Language.FRENCH, {**VALUES, "file_name": PERSIAN})
    assert PERSIAN in mail.text


@given(st.text(max_size=60))
def test_content_disposition_is_one_safe_line(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    header = attachment(name, "application/pdf")
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
    assert "/" not in header


@pytest.mark.parametrize(
    ("name", "fallback"),
    [
        ('pièce "1".pdf', "piece _1.pdf"),
        ("Relevé.pdf", "Releve.pdf"),
        ("Œuvre – straße №5.pdf", "Oeuvre - strasse No5.pdf"),
        ("Βεβαίωση.pdf", "Vevaiosi.pdf"),
        ("Справка о доходах.pdf", "Spravka o dokhodakh.pdf"),
        ("身分証.pdf", "ShenFenZheng.pdf"),
        ("\U0001f4a9.pdf", "poop.pdf"),
        ("\u0301.pdf", "document.pdf"),
        ("\ue000", "document"),
        ("x" * 200 + ".pdf", "x" * 116 + ".pdf"),
        ("архив.тар", "arkhiv.tar"),
    ],
)
def test_the_fallback_name_is_readable(name: str, fallback: str) -> None:
    found = re.fullmatch(
        r"attachment; filename=\"(.*)\"; filename\*=UTF-8''(.*)", attachment(name, "application/x-unknown")
    )
    assert found is not None
    assert found[1] == fallback
    assert httpx.URL(f"http://x/{found[2]}").path == f"/{name}"


@pytest.mark.parametrize(
    "name", ["facture.scr", "\u0645\u06cc\u200c\u062e\u0648.hta", "документ.html", "x" * 250 + ".exe", ""]
)
def test_both_names_end_as_the_type_says(name: str) -> None:
    found = re.fullmatch(r"attachment; filename=\"(.*)\"; filename\*=UTF-8''(.*)", attachment(name, "application/pdf"))
    assert found is not None
    assert found[1].endswith(".pdf")
    assert found[2].endswith(".pdf")
