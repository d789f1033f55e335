"""What slips into a log is masked on its way out."""

import io
import json
import logging
import sys
from typing import Any
from uuid import uuid4

import pytest
import structlog

from runtime.observability.masking import mask_personal
from runtime.observability.telemetry import configure_logging


def masked(**event: Any) -> dict[str, Any]:
    return dict(mask_personal(None, "info", event))


@pytest.mark.parametrize(
    "text",
    [
        "marie.durand@example.org",
        "could not send to <marie.durand@example.org>: 550",
        "GET /x?depositor_email=marie.durand%40example.org&limit=1",
        "'marie.durand+bank@mail.example.org', 'x'",
        "mailto:marie.durand@example.org.",
        "MARIE.DURAND@EXAMPLE.ORG",
    ],
)
def test_addresses_are_masked_wherever_they_stand(text: str) -> None:
    said = masked(event=text, error=[text, {"deep": text}])
    assert "durand" not in json.dumps(said).lower()
    assert "[e-mail]" in said["event"]


@pytest.mark.parametrize("name", ["file_name", "email", "depositor_name", "to", "recipients", "tags", "metadata"])
def test_fields_of_personal_texts_are_masked_whatever_they_hold(name: str) -> None:
    said = masked(event="x", **{name: "Durand"}, inner={name: ["Durand"], "code": "c"})
    assert "Durand" not in json.dumps(said)
    assert said["inner"]["code"] == "c"


def test_ids_and_codes_pass_unchanged() -> None:
    event = {
        "event": "document_stored",
        "document_id": str(uuid4()),
        "size": 3,
        "seconds": 0.5,
        "ok": True,
        "code": None,
    }
    assert masked(**event) == event


def test_what_is_too_deep_or_no_text_is_not_shown_as_it_is() -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd of marie@example.org"

    deep: Any = "marie"
    for _ in range(6):
        deep = [deep]
    said = json.dumps(masked(event="x", odd=Odd(), deep=deep))
    assert "marie" not in said
    assert "odd of [e-mail]" in said


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_line_leaves_the_process_unmasked(log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, write_through=True))
    configure_logging("api", log_format=log_format)
    try:
        structlog.get_logger().error("ours", file_name="Durand.pdf", error="550 <marie@example.org> unknown")
        logging.getLogger("aiosmtplib").error("no such user: %s", "marie@example.org")
        try:
            raise ValueError("marie@example.org")
        except ValueError:
            logging.getLogger("lib").exception("it failed")
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
        logging.getLogger().handlers.clear()
    written = raw.getvalue().decode()
    assert "ours" in written
    assert "it failed" in written
    assert written.count("[e-mail]") == 2
    assert "marie" not in written
    assert "Durand" not in written
