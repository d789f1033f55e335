"""One trace from the upload to the mails, as a collector is sent it by the processes of the running pipeline."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.console import sign_in
from tests.support.pipeline import Pipeline, metadata, small_pdf, wait_for
from tests.support.sent_spans import SentSpan
from tests.support.trace_collector import TraceCollector

#: Who processes which events, and the servers that each asks on the way.
PROCESSED = {
    ("dpj-worker-integrity", "dpj.document.uploaded"): {
        "object_store read",
        "keyring unwrap",
        "postgresql transaction",
    },
    ("dpj-worker-archiving", "dpj.document.uploaded"): {"postgresql claim", "postgresql transaction"},
    ("dpj-worker-notification", "dpj.document.uploaded"): {"smtp send", "postgresql transaction"},
    ("dpj-worker-renditions", "dpj.document.verified"): {
        *("object_store read", "object_store put", "keyring unwrap", "postgresql transaction"),
    },
    ("dpj-worker-archiving", "dpj.document.validated"): {
        *("ged create", "ged find", "object_store read", "keyring unwrap", "postgresql transaction"),
    },
    ("dpj-worker-notification", "dpj.document.validated"): {"smtp send"},
    ("dpj-worker-notification", "dpj.document.archived"): {"smtp send"},
    ("dpj-worker-audit", "dpj.audit.recorded"): {"postgresql claim", "postgresql transaction"},
}


class Caller:
    """A portal with a trace of its own, which it goes on with in each of its requests."""

    def __init__(self) -> None:
        self.trace, self.span = secrets.token_hex(16), secrets.token_hex(8)
        self.headers = {"traceparent": f"00-{self.trace}-{self.span}-01"}


def deposit(pipeline: Pipeline, caller: Caller) -> str:
    """Deposited, verified, rendered, validated, archived, and every mail of it sent."""
    files: list[tuple[str, Any]] = [
        ("metadata", (None, json.dumps(metadata(pipeline.dossier())).encode(), "application/json")),
        ("file", ("piece.pdf", small_pdf(uuid4().hex), "application/pdf")),
    ]
    answer = pipeline.client("portal").post("/documents", files=files, headers=caller.headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["traceparent"].split("-")[1] == caller.trace
    document = str(answer.json()["id"])
    pipeline.reaches(document, "VERIFIED")
    wait_for(lambda: "THUMBNAILS_READY" in pipeline.timeline(document), "thumbnails", 60)
    validator = pipeline.client("validator")
    assert validator.post(f"/documents/{document}/validate", json={}, headers=caller.headers).status_code == 200
    pipeline.reaches(document, "ARCHIVED", 60)
    wait_for(lambda: len(pipeline.mails(document)) >= 3, "every mail", 60)
    return document


def below(spans: list[SentSpan], root: SentSpan) -> Iterator[SentSpan]:
    for span in spans:
        if span.parent == root.id:
            yield span
            yield from below(spans, span)


def finished(spans: list[SentSpan], caller: Caller) -> bool:
    """All that we look for has been sent. A process sends its spans every two seconds, so a parent may come after its children."""
    seen = {(span.process, span.attributes.get("messaging.destination.name")) for span in spans if _is(span, "process")}
    audited = sum(_is(span, "process") and span.process == "dpj-worker-audit" for span in spans)
    created = {span.id for span in spans if _is(span, "create")}
    published = {span.parent for span in spans if _is(span, "publish")}
    parents = {span.parent for span in spans} - {span.id for span in spans}
    return (
        PROCESSED.keys() <= seen
        and audited == sum(span.name == "create dpj.audit.recorded" for span in spans)
        and created == published
        and parents == {caller.span}
    )


def _is(span: SentSpan, operation: str) -> bool:
    return span.attributes.get("messaging.operation.name") == operation


@pytest.mark.full
def test_one_trace_leads_from_the_upload_to_the_mails(pipeline: Pipeline, collector: TraceCollector) -> None:
    caller = Caller()
    document = deposit(pipeline, caller)
    spans = wait_for(
        lambda: spans if finished(spans := collector.spans(caller.trace), caller) else None, "every hop was sent", 60
    )
    by_id = {span.id: span for span in spans}
    assert len(by_id) == len(spans), "each was sent once"

    # Connected: every span's parent is a span of the trace, or the caller's.
    assert {span.parent for span in spans} - by_id.keys() == {caller.span}
    requests = {span.name: span for span in spans if span.parent == caller.span}
    assert requests.keys() == {"POST /api/v1/documents", "POST /api/v1/documents/{document_id}/validate"}
    assert {(span.process, span.kind) for span in requests.values()} == {("dpj-api", "SERVER")}
    upload = {span.name for span in below(spans, requests["POST /api/v1/documents"])}
    assert {"object_store put", "keyring new_data_key", "postgresql statement"} <= upload
    assert {"create dpj.document.uploaded", "create dpj.audit.recorded"} <= upload

    # Each event: created once, published once, and its waits can be seen.
    for create in [span for span in spans if _is(span, "create")]:
        topic = create.attributes["messaging.destination.name"]
        children = [span for span in spans if span.parent == create.id]
        (publish,) = [span for span in children if _is(span, "publish")]
        (in_outbox,) = [span for span in children if span.name == f"wait outbox {topic}"]
        assert (create.kind, publish.kind, publish.process) == ("PRODUCER", "PRODUCER", "dpj-relay")
        assert publish.links == (create.id,)
        assert in_outbox.ended <= publish.ended
        for process in [span for span in children if _is(span, "process")]:
            assert process.links == (create.id, publish.id)
            assert process.attributes["messaging.kafka.offset"] == publish.attributes["messaging.kafka.offset"]
            assert process.attributes["messaging.message.id"] == create.attributes["messaging.message.id"]
            assert not process.failed
        in_topic = [span for span in children if span.name == f"wait topic {topic}"]
        assert len(in_topic) == len([span for span in children if _is(span, "process")])

    # Every consumer, and whom it asked.
    for (process, topic), asked in PROCESSED.items():
        found = [span for span in spans if span.process == process and span.name == f"process {topic}"]
        assert found, (process, topic)
        calls = {span.name for one in found for span in below(spans, one)}
        assert asked <= calls, (process, topic, asked - calls)
    told = {span.attributes.get("dpj.document_id") for span in spans if _is(span, "process")}
    assert told - {None} == {document}

    # The same id is in the log.
    lines = (pipeline.home / "logs" / "api.log").read_text("utf-8").splitlines()
    ours = [json.loads(line) for line in lines if caller.trace in line]
    assert {line["route"] for line in ours if line["event"] == "request"} >= {"/api/v1/documents"}

    # The trace leads to the document for as long as that is there: not only while an event of it is in the outbox.
    pipeline.sql("DELETE FROM outbox WHERE key = $1 AND published_at IS NOT NULL", document.encode())
    assert not pipeline.sql("SELECT 1 FROM outbox WHERE key = $1", document.encode())
    assert found_in_the_console(pipeline, caller.trace) == [document]
    assert found_in_the_console(pipeline, secrets.token_hex(16)) == []


def found_in_the_console(pipeline: Pipeline, trace: str) -> list[str]:
    """Documents that an operator finds by a trace."""

    async def found() -> list[str]:
        url = f"http://127.0.0.1:{pipeline.settings['DPJ_CONSOLE_PORT']}"
        async with httpx.AsyncClient(base_url=url, trust_env=False) as browser:
            await sign_in(browser)
            page = (await browser.get("/documents", params={"trace": trace})).raise_for_status().text
            return re.findall(r'href="/documents/([0-9a-f-]{36})"', page)

    return asyncio.run(found())
