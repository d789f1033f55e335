"""The command line: quick to start, one clear line and a next step when something is wrong, JSON for programs."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from domain.errors import BrokerUnavailable, SchemaMissing
from domain.refusals import DossierUnknown
from operations.api_client import ApiProblem, ApiUnreachable
from runtime.cli import documents, pipeline
from runtime.cli.failures import describe
from runtime.cli.main import main, with_json_last
from runtime.cli.output import print_result
from runtime.errors import CommandFailed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _no_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPJ_HOME", str(tmp_path))
    for name in ("DPJ_STACK", "DPJ_SETTINGS", "DPJ_TOKEN", "DPJ_DEBUG"):
        monkeypatch.delenv(name, raising=False)


def test_starting_imports_nothing_heavy() -> None:
    heavy = [
        "confluent_kafka",
        "faust",
        "fastapi",
        "httpx",
        "pydantic",
        "asyncpg",
        "pymongo",
        "minio",
        "deploy.native.stack",
    ]
    code = f"import runtime.cli.main, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        [], ["doc", "submit"], ["doc", "show"], ["doc", "list"], ["doc", "validate"], ["doc", "reject"], ["doc", "content"],
        ["schemas", "register"], ["schemas", "check"], ["topics", "create"], ["db", "migrate"], ["audit", "verify"],
        ["lag"], ["token"], ["openapi"], ["up"], ["down"], ["status"], ["demo"], ["api"], ["relay"], ["worker"], ["stack"],
    ):  # fmt: skip
        assert main([*words, "--help"]) == 0
        assert "Usage" in capsys.readouterr().out


def test_all_commands_share_one_default_stack() -> None:
    for command in (pipeline.up, pipeline.down, pipeline.status, pipeline.demo, documents.list_documents):
        stack = inspect.signature(command).parameters["stack"]
        assert (stack.default, str(stack.annotation)) == (None, "Stack"), command


def test_missing_settings_name_the_file_and_the_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lag", "--stack", "nope"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "nope/settings.env does not exist" in err
    assert "dpj up --stack nope" in err
    assert "Traceback" not in err


def test_with_json_a_failure_is_one_document_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lag", "--stack", "nope", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["code"] == "settings_missing"
    assert document["error"]["next_step"]


def test_with_json_nothing_that_a_stranger_wrote_reaches_a_terminal_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_result({"name": "\x9b31mété\u202efdp"}, [], as_json=True)
    said = capsys.readouterr().out
    assert said.isascii()
    assert json.loads(said) == {"name": "\x9b31mété\u202efdp"}


def test_incomplete_settings_name_what_is_missing_and_nothing_that_is_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "half"
    folder.mkdir()
    (folder / "settings.env").write_text("DPJ_POSTGRES_DSN=postgresql://u:very-secret@h/d\nDPJ_API_PORT=none\n")
    assert main(["lag", "--stack", "half"]) == 1
    err = capsys.readouterr().err
    assert "DPJ_KAFKA_BOOTSTRAP" in err
    assert "DPJ_API_PORT" in err
    assert "very-secret" not in err
    assert "DPJ_POSTGRES_DSN" not in err


def test_a_traceback_only_on_demand(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("with a secret in it")

    monkeypatch.setattr("runtime.cli.lag.settings_of", fail)
    assert main(["lag"]) == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError" in err
    assert "DPJ_DEBUG=1" in err
    assert "secret" not in err
    monkeypatch.setenv("DPJ_DEBUG", "1")
    assert main(["lag"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message", "next_step"),
    [
        (BrokerUnavailable("Kafka at x does not answer."), "Broker unavailable. Kafka at x", "Is kafka running?"),
        (SchemaMissing(), "Schema not registered.", "dpj schemas register"),
        (DossierUnknown(), "Unknown dossier.", "Create the dossier first"),
        (ApiUnreachable("http://a", "ConnectError"), "http://a does not answer", "dpj up"),
        (ApiProblem(409, "c", "Title", "Detail.", "Advice.", "t"), "Title: Detail.", "Advice."),
        (CommandFailed("What.", "Then."), "What.", "Then."),
        (PermissionError(13, "Permission denied", "/x"), "Permission denied: /x.", "Check"),
        (OSError("odd"), "OSError.", "Check"),
        (ExceptionGroup("of a process", [CommandFailed("What.", "Then.")]), "What.", "Then."),
    ],
)
def test_each_kind_of_failure_has_its_words(error: Exception, message: str, next_step: str) -> None:
    described = describe(error)
    assert message in described.message
    assert next_step in described.next_step


def test_wrong_usage_is_told_before_anything_happens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doc", "submit", str(tmp_path / "absent.pdf"), "--type", "RIB"]) == 2
    assert main(["doc", "reject", "x"]) == 2
    assert main(["nonsense"]) == 2
    capsys.readouterr()
    assert main(["worker", "nonsense"]) == 1
    assert "integrity" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--json", "nosuch"],
        ["nosuch", "--json"],
        ["--json"],
        ["doc", "list", "--nope", "--json"],
        ["--json", "doc", "list", "--limit", "none"],
        ["doc", "nosuch", "--json"],
        ["doc", "submit", "--json"],
        ["stack", "nosuch", "--json"],
        ["--json", "stack", "up", "--profile", "none"],
    ],
)
def test_with_json_wrong_usage_is_one_document_too(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert error["code"] == "usage"
    assert error["message"] in err
    assert error["next_step"].endswith("--help")


def test_json_before_the_command_is_json_after_it() -> None:
    assert with_json_last(["--json", "doc", "list"]) == ["doc", "list", "--json"]
    assert with_json_last(["--json", "doc", "submit", "--", "--json"]) == ["doc", "submit", "--json", "--", "--json"]
    assert with_json_last(["doc", "--json"]) == ["doc", "--json"]
    assert with_json_last(["--json", "lag", "--json"]) == ["lag", "--json"]


def test_an_interrupt_that_a_library_hid_behind_its_own_error_is_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(*_: Any) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise BufferError("in use")

    monkeypatch.setattr("runtime.cli.lag.settings_of", torn)
    assert main(["lag"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_stack_commands_take_either_name_of_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--stack", "nope"], ["--name", "nope"], ["--stack=nope"]):
        assert main(["stack", "status", *words]) == 1
        assert "nope" in capsys.readouterr().err


def test_schemas_check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["schemas", "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"compatible": True, "problems": []}
    monkeypatch.setattr("schemas.compatibility.problems", lambda: ["X against 0.1.0: reason"])
    assert main(["schemas", "check", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["problems"] == ["X against 0.1.0: reason"]


def test_schemas_check_looks_at_their_ids_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schemas.fixed_ids.problems", lambda: ["id 3 stands in place 2"])
    assert main(["schemas", "check", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["problems"] == ["id 3 stands in place 2"]


def test_schemas_register_says_where_there_is_no_registry(
    capsys: pytest.CaptureFixture[str], settings_file: Path
) -> None:
    with settings_file.open("a") as file:
        file.write("DPJ_SCHEMA_REGISTRY=repository\n")
    words = ["schemas", "register", "--stack", settings_file.parent.name]
    assert main(words) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "     1  dpj.document.uploaded-value"
    assert said[-1] == "These ids are the repository's own: there is no registry to register with."
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dpj.audit.recorded-value"] == 8


def test_openapi_is_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["openapi"]) == 0
    assert "/api/v1/documents" in json.loads(capsys.readouterr().out)["paths"]


def test_a_site_without_a_signing_key_says_so(capsys: pytest.CaptureFixture[str], settings_file: Path) -> None:
    assert main(["token", "--role", "portal", "--stack", settings_file.parent.name]) == 1
    assert "signing key" in capsys.readouterr().err
    assert main(["token", "--role", "king", "--stack", settings_file.parent.name]) == 1
    assert "portal, validator, operator, auditor" in capsys.readouterr().err


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    path = folder / "settings.env"
    names = ("POSTGRES_DSN", "MONGO_URL", "KAFKA_BOOTSTRAP", "REGISTRY_URL", "PERSONAL_KEY_FILE", "PSEUDONYM_KEY_FILE",
             "COLUMN_KEY_FILE", "LOOKUP_KEY_FILE", "GED_URL", "JWT_ISSUER", "JWKS")  # fmt: skip
    path.write_text("".join(f"DPJ_{name}=x\n" for name in names))
    return path


# --- doc: over a client that answers from a list -----------------------------------------------------------------------


class FakeApi:
    """Keeps what it was asked; refuses files whose name says so."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.role = ""
        self.dossiers = 0
        self.type = "RIB"

    def create_dossier(self, new: dict[str, Any]) -> dict[str, Any]:
        self.dossiers += 1
        return {"id": "dossier-1"}

    def types(self) -> list[dict[str, Any]]:
        return [
            {"code": "RIB", "active": True, "max_size": 100, "formats": ["text/plain"]},
            {"code": "OLD", "active": False, "max_size": 100, "formats": ["text/plain"]},
            {"code": "CNI", "active": True, "max_size": 100, "formats": ["image/png"]},
        ]

    def submit(self, path: Path, metadata: dict[str, Any], **_: Any) -> dict[str, Any]:
        if "bad" in path.name:
            raise ApiProblem(415, "content_mismatch", "Content is not what was declared", "No.", "Declare it.", "t")
        self.sent.append((path.name, metadata))
        return self.document(f"id-{len(self.sent)}")

    def document(self, document_id: str) -> dict[str, Any]:
        return {
            "id": document_id, "status": "STORED", "type": self.type, "size": 3, "created_at": "2026-01-01T10:00:00.5Z", "media_type": "application/pdf",
            "sha256": "ab", "dossier_id": "dossier-1", "archive": {"ged_path": None}, "failure_code": None,
        }  # fmt: skip

    def events(self, document_id: str) -> dict[str, Any]:
        event = {"at": "2026-01-01T10:00:00Z", "type": "STORED", "by": "p1", "details": {"size": 3, "none": None}}
        return {"items": [event]}

    def documents(self, **filters: str) -> Iterator[dict[str, Any]]:
        yield from (self.document(f"id-{number}") for number in range(100))

    def validate(self, document_id: str, comment: str | None) -> dict[str, Any]:
        return {**self.document(document_id), "http_status": 202}

    def reject(self, document_id: str, reason: str) -> dict[str, Any]:
        return {**self.document(document_id), "status": "REJECTED", "http_status": 200}

    def content(self, document_id: str) -> Iterator[bytes]:
        yield b"clear"
        if document_id == "broken":
            raise ApiUnreachable("http://a", "ReadError")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    fake = FakeApi()

    @contextmanager
    def opened(stack: str | None, role: str, tenant: str) -> Iterator[FakeApi]:
        fake.role = role
        yield fake

    monkeypatch.setattr(documents, "api", opened)
    return fake


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [tmp_path / name for name in ("one.pdf", "two.pdf", "bad.pdf")]
    for path in paths:
        path.write_bytes(b"abc")
    return [str(path) for path in paths]


def test_submit_makes_a_dossier_and_sends_each_file(
    api: FakeApi, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doc", "submit", *files[:2], "--type", "RIB", "--language", "en", "--json"]) == 0
    out, err = capsys.readouterr()
    assert [one["id"] for one in json.loads(out)] == ["id-1", "id-2"]
    assert "dossier-1" in err
    assert [name for name, _ in api.sent] == ["one.pdf", "two.pdf"]
    assert api.sent[0][1]["dossier_id"] == "dossier-1"
    assert api.sent[0][1]["depositor"]["language"] == "en"
    assert api.role == "portal"


def test_what_was_sent_before_a_refusal_is_not_lost(
    api: FakeApi, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["doc", "submit", files[0], files[2], "--type", "RIB", "--dossier", "d"]
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert "id-1" in out
    assert "Content is not what was declared" in err
    assert main([*words, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in document["documents"]] == ["id-2"]
    assert document["error"]["code"] == "content_mismatch"


def test_one_key_stands_for_one_file(api: FakeApi, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doc", "submit", *files[:2], "--type", "RIB", "--key", "k"]) == 1
    assert api.sent == []
    assert "one by one" in capsys.readouterr().err


def test_show_list_and_decide(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doc", "show", "id-9"]) == 0
    shown = capsys.readouterr().out
    assert "SHA-256     ab" in shown
    assert "2026-01-01T10:00:00  STORED" in shown
    assert "size=3" in shown
    assert "none" not in shown
    assert api.role == "operator"
    assert main(["doc", "list", "--limit", "3", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    assert main(["doc", "list", "--limit", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert max(map(len, lines)) <= 80
    assert lines[3].split() == ["2026-01-01", "10:00:00", "UTC", "RIB"]
    assert main(["doc", "validate", "id-1"]) == 0
    assert "once the document is verified" in capsys.readouterr().out
    assert api.role == "validator"
    assert main(["doc", "reject", "id-1", "--reason", "r"]) == 0
    assert "REJECTED" in capsys.readouterr().out


def test_a_list_cuts_nothing_at_80_columns(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.type = "A_TYPE_" + "X" * 50 + "_END"
    assert main(["doc", "list", "--limit", "1"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert api.type in "".join(line[27:] for line in shown.splitlines()[3:])


@pytest.mark.parametrize(
    ("words", "content", "code"),
    [
        (["--type", "NONE"], b"text", "type_unknown"),
        (["--type", "OLD"], b"text", "type_inactive"),
        (["--type", "RIB"], b"", "file_empty"),
        (["--type", "RIB"], b"x" * 101, "file_too_large"),
        (["--type", "CNI"], b"text", "format_not_allowed"),
        (["--type", "RIB", "--email", "nobody"], b"text", "metadata_invalid"),
        (["--type", "RIB", "--language", "xx"], b"text", "metadata_invalid"),
    ],
)
def test_what_would_be_refused_makes_no_dossier(
    api: FakeApi, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], content: bytes, code: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert main(["doc", "submit", str(file), *words, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert api.dossiers == 0


def test_a_dossier_that_stays_empty_all_the_same_is_named(
    api: FakeApi, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doc", "submit", files[2], "--type", "RIB"]) == 1
    assert "send to it again with: --dossier dossier-1" in capsys.readouterr().err


def test_content_is_there_whole_or_not_at_all(
    api: FakeApi, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    target = tmp_path / "out.pdf"
    assert main(["doc", "content", "id", "-o", str(target)]) == 0
    assert target.read_bytes() == b"clear"
    target.unlink()
    assert main(["doc", "content", "broken", "-o", str(target)]) == 1
    assert not list(tmp_path.glob("out*"))
    capsysbinary.readouterr()
    assert main(["doc", "content", "id"]) == 0
    assert capsysbinary.readouterr().out == b"clear"
