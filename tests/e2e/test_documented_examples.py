"""The examples of docs/API.md are true: each curl command is run against the real API, and is answered as the OpenAPI document says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from tests.support.pipeline import ROOT, SAMPLES, Pipeline, wait_for

DOCUMENT = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))
OPERATIONS: Mapping[str, Mapping[str, Any]] = {
    operation["operationId"]: operation for path in DOCUMENT["paths"].values() for operation in path.values()
}
#: Whose erasure takes two persons.
BY_TWO: Final = "EXEMPLE"
#: Of its own for each run: the dossier of the example has a number, which a tenant has once.
TENANT = f"examples-{uuid4().hex[:8]}"


class Shell:
    """Runs examples as a reader would, with the variables that answers gave so far."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self._pipeline = pipeline
        self._folder = folder
        self.variables = {"API": pipeline.url}
        self._tokens: dict[str, str] = {}
        self.ran: list[str] = []
        (folder / "carte.jpg").write_bytes((SAMPLES / "carte-identite.jpg").read_bytes())
        # What the test wants to know of each answer, without an option in the examples.
        (folder / ".curlrc").write_text(
            'write-out = "\\n%{http_code} %{content_type}"\nsilent\nshow-error\nnoproxy = "*"\n'
        )

    def run(self, operation: str) -> Any:
        """The JSON of the answer, if it is any. AssertionError unless it is the success that the document promises."""
        said = OPERATIONS[operation]
        (sample,) = said["x-codeSamples"]
        status, kind, body = self._curl(sample["source"], said["security"])
        promised = {int(number) for number in said["responses"] if number.startswith("2")}
        assert status in promised, (operation, status, body[:2000])
        kinds = said["responses"][str(status)].get("content", {})
        assert kind in kinds or "*/*" in kinds or (not kinds and not kind), (operation, kind)
        self.ran.append(operation)
        answer = json.loads(body) if kind == "application/json" else body
        if kind == "application/json":
            assert _differences(answer, _example_of(kinds[kind]["schema"])) == [], operation
        return answer

    def until(self, operation: str, done: Callable[[Any], bool]) -> Any:
        """Run it again and again, as the page advises for what is still to come (404, 409)."""

        def look() -> Any:
            said = OPERATIONS[operation]
            status, kind, body = self._curl(said["x-codeSamples"][0]["source"], said["security"])
            assert status in {200, 404, 409}, (operation, status, body)
            answer = json.loads(body) if kind == "application/json" else body
            return (answer or kind) if status == 200 and done(answer) else None

        return wait_for(look, operation, 120)

    def _curl(self, command: str, security: Any) -> tuple[int, str, str]:
        roles = [role for one in security for role in one["bearer"]]
        given = {**self.variables, "TOKEN": self._token(roles[-1]) if roles else ""}
        done = subprocess.run(
            ["sh", "-euc", command],
            cwd=self._folder,
            env={"PATH": os.environ["PATH"], "CURL_HOME": str(self._folder), **given},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)
        body, _, last = done.stdout.rpartition("\n")
        status, _, kind = last.partition(" ")
        return int(status), kind, body

    def another(self, role: str, subject: str = "another") -> None:
        """Somebody else with this role types what follows."""
        words = ("token", "--role", role, "--tenant", TENANT, "--subject", subject)
        self._tokens[role] = self._pipeline.json(*words)["token"]

    def _token(self, role: str) -> str:
        if role not in self._tokens:
            self._tokens[role] = self._pipeline.token(role, TENANT)
        return self._tokens[role]


def _example_of(schema: Mapping[str, Any]) -> Any:
    name = schema["$ref"].rpartition("/")[2]
    return DOCUMENT["components"]["schemas"][name].get("examples", [None])[0]


def _differences(answer: Any, example: Any, place: str = "") -> list[str]:
    """Where an answer has other members than its example. What is null or empty in one of them compares with nothing."""
    if not answer or not example:
        return []
    if isinstance(answer, dict) and isinstance(example, dict):
        found = [f"{place}.{name}" for name in answer.keys() ^ example.keys()]
        return found + [
            one
            for name in answer.keys() & example.keys()
            for one in _differences(answer[name], example[name], f"{place}.{name}")
        ]
    if isinstance(answer, list) and isinstance(example, list):
        return [one for value in answer for one in _differences(value, example[0], f"{place}[]")]
    return [] if type(answer) is type(example) else [place]


def test_every_example_is_answered_as_described(running: Pipeline, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    running.give_key(TENANT)
    running.sql(
        """
        INSERT INTO types_documents (code_type, libelle, formats_autorises, taille_max_mb, effacement_a_deux)
        VALUES ($1, 'Exemple', '{image/jpeg}', 5, true) ON CONFLICT (code_type) DO NOTHING""",
        BY_TWO,
    )
    shell = Shell(running, tmp_path)
    content = (tmp_path / "carte.jpg").read_bytes()

    def verified() -> Any:
        return shell.until("get_document", lambda document: document["status"] == "VERIFIED")

    types = shell.run("list_document_types")
    assert "CNI" in {one["code"] for one in types["items"]}
    shell.variables["DOSSIER"] = shell.run("create_dossier")["id"]
    shell.run("get_dossier")
    shell.run("list_dossiers")
    shell.variables["DOCUMENT"] = shell.run("upload_document")["id"]
    verified()
    shell.run("get_document")
    assert [one["id"] for one in shell.run("list_documents")["items"]] == [shell.variables["DOCUMENT"]]
    assert [one["id"] for one in shell.run("search_documents")["items"]] == [shell.variables["DOCUMENT"]]
    assert shell.run("list_document_events")["items"]
    shell.run("get_document_content")
    assert (tmp_path / "carte-again.jpg").read_bytes() == content
    shell.until("get_document_thumbnail", lambda _: True)
    shell.run("get_document_thumbnail")
    assert (tmp_path / "thumbnail").stat().st_size > 100
    link = shell.run("create_document_link")
    shell.variables |= {"LINK": link["id"], "LINK_URL": link["url"]}
    (tmp_path / "carte-again.jpg").unlink()
    shell.run("open_link")
    assert (tmp_path / "carte-again.jpg").read_bytes() == content
    shell.run("revoke_document_link")
    assert shell.run("validate_document")["status"] == "VALIDATED"

    # Another document for the other decision, and for an erasure by two; the same key would be the first one's.
    (sample,) = OPERATIONS["upload_document"]["x-codeSamples"]
    another = sample["source"].replace("5f0c1d2e", uuid4().hex).replace('"CNI"', f'"{BY_TWO}"')
    status, _, body = shell._curl(another, OPERATIONS["upload_document"]["security"])
    assert status == 201, body
    first, shell.variables["DOCUMENT"] = shell.variables["DOCUMENT"], json.loads(body)["id"]
    verified()
    assert shell.run("reject_document")["status"] == "REJECTED"
    assert shell.run("erase_document")["status"] == "REJECTED"
    shell.variables["ORDER"] = shell.run("get_erasure_order")["id"]
    listed = {one["id"]: one for one in shell.run("list_orders")["items"]}
    assert listed[shell.variables["ORDER"]]["subject"] == shell.variables["DOCUMENT"]
    assert shell.run("withdraw_erasure")["status"] == "REJECTED"
    shell.variables["ORDER"] = shell.run("erase_document")["order"]["id"]
    shell.another("operator")
    assert shell.run("confirm_erasure")["status"] == "ERASING"
    assert shell.run("revoke_token")["until"]
    shell.variables["DOCUMENT"] = first

    shell.until("get_document", lambda document: document["status"] == "ARCHIVED")
    shell.run("get_retention")
    assert shell.run("extend_retention")["until"].startswith("2099")
    assert shell.run("set_legal_hold")["held"]
    shell.run("lift_legal_hold")
    shell.until("get_document_receipt", lambda _: True)
    shell.run("get_document_receipt")
    assert (tmp_path / "receipt.jws").read_text().count(".") == 2
    shell.run("erase_document")
    shell.until("get_erasure_receipt", lambda _: True)
    shell.run("get_erasure_receipt")
    assert (tmp_path / "erasure.jws").read_text().count(".") == 2

    _operations(shell, running)

    shell.variables["DOCUMENT"] = str(uuid4())
    said = OPERATIONS["get_document"]
    status, kind, body = shell._curl(said["x-codeSamples"][0]["source"], said["security"])
    assert (status, kind) == (404, "application/problem+json")
    assert _differences(json.loads(body), _example_of(said["responses"]["404"]["content"][kind]["schema"])) == [
        ".errors"
    ]
    assert set(shell.ran) == OPERATIONS.keys()


def _operations(shell: Shell, running: Pipeline) -> None:
    """Letters that nobody can read are discarded as a batch by two persons; a consumer is paused."""
    producer = Producer({"bootstrap.servers": running.settings["DPJ_KAFKA_BOOTSTRAP"]})
    for _ in range(3):
        producer.produce("dpj.document.archived", key=b"example", value=b"no event")
    assert producer.flush(30) == 0
    shell.until("list_dead_letter_groups", lambda found: any(one["count"] >= 3 for one in found["items"]))
    assert any(one["consumer"] == "notification" for one in shell.run("list_dead_letter_groups")["items"])
    shell.until("list_dead_letters", lambda found: all(one["address"] for one in found["items"]))
    assert len(shell.run("list_dead_letters")["items"]) >= 3
    plan = shell.run("plan_act")
    assert plan["forecast"][0]["outcome"] == "done"
    shell.variables["PLAN"] = plan["hash"]
    batch = shell.run("confirm_plan")
    assert batch["state"] == "ORDERED"
    shell.variables["BATCH"] = batch["id"]
    shell.another("operator", "third")
    assert shell.run("confirm_batch")["state"] == "CANARY"
    shell.until("get_batch", lambda found: found["state"] == "LOOK")
    assert shell.run("get_batch")["counts"]["done"] == 1
    assert shell.run("stop_batch")["state"] == "STOPPED"
    assert shell.run("continue_batch")["state"] == "RUNNING"
    shell.until("get_batch", lambda found: found["state"] == "DONE")
    assert {one["result"] for one in shell.run("list_batch_items")["items"]} == {"done"}
    assert shell.run("list_batches")["items"][0]["id"] == batch["id"]
    assert shell.run("pause_consumer")["consumer"] == "renditions"
    assert [one["consumer"] for one in shell.run("list_pauses")["items"]] == ["renditions"]
    shell.run("resume_consumer")
