"""What each process and command loads: a start costs what it uses, and nothing that only another one needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crypto.encoding import to_text
from runtime.cli.main import _COMMANDS, main
from tests.support.settings import BASE

ROOT = Path(__file__).resolve().parents[2]

#: Each is a name that ``sys.modules`` has once it is loaded.
KAFKA_STREAMS = ("faust", "mode", "aiokafka", "aiohttp")
HTTP_FRAMEWORK = ("fastapi", "ingest_api.app", "jwt")
STORES_NOT_CHOSEN = ("minio", "Crypto", "redis", "hvac", "requests", "storage.objects.s3", "storage.redis")
NEVER = (
    "rich",
    "pygments",
    # Its API alone comes with the framework.
    "opentelemetry.sdk",
    "opentelemetry.exporter",
    "sqlalchemy",
    "alembic",
    "deploy.native.stack",
    "deploy.native.parts",
    *STORES_NOT_CHOSEN,
)
MAIL = ("aiosmtplib", "jinja2")
PARSERS = ("PIL", "pypdfium2")

#: What is made at the start of each process, and what it must not have loaded then.
PROCESSES = {
    "api": (
        "create_app(api_dependencies(site), document_of); api_server",
        (*NEVER, *KAFKA_STREAMS, *MAIL, *PARSERS, "confluent_kafka", "pymongo", "operations.kafka.lag"),
    ),
    "console": (
        "create_app(console_dependencies(site, asyncio.Event(), process_answers(site.settings))); api_server",
        (*NEVER, *KAFKA_STREAMS, "aiosmtplib", *PARSERS, "markdown_it", "ingest_api.app"),
    ),
    "relay": (
        "site.relay(), create_erasure_executor(site), site.sweep(), site.housekeeping(), site.reconcile()",
        (*NEVER, *KAFKA_STREAMS, *HTTP_FRAMEWORK, *MAIL, *PARSERS),
    ),
    "watchdog": (
        "site, lag, Watchdog, PipelineProcesses",
        (*NEVER, *KAFKA_STREAMS, *HTTP_FRAMEWORK, *MAIL, *PARSERS, "asyncpg", "pymongo", "fastavro", "cryptography"),
    ),
    **{
        f"worker {name}": (
            f"site.consumer({name!r}, '/tmp')" + (", site.audit_steps()" if name == "audit" else ""),
            (
                *NEVER,
                *HTTP_FRAMEWORK,
                *(() if name == "notification" else MAIL),
                *(() if name in {"renditions", "audit"} else ("pymongo",)),
                # The parsers run in processes of their own.
                *PARSERS,
            ),
        )
        for name in ("integrity", "renditions", "archiving", "notification", "audit")
    },
}

#: As ``runtime.processes.run`` has it for each process.
IMPORTS = {
    "api": "from ingest_api.app import create_app; from ingest_api.openapi import document_of; from runtime.wiring.http_api import api_dependencies; from runtime.processes.serving import api_server",
    "console": "from console.app import create_app; from runtime.processes.process_answers import process_answers; from runtime.processes.serving import api_server; from runtime.wiring.console import console_dependencies",
    "relay": "from runtime.processes.erasure_jobs import create_erasure_executor; from runtime.processes import reconcile_jobs",
    "watchdog": (
        "from operations.kafka import lag; from operations.kafka.watchdog import Watchdog;"
        "from runtime.processes.local import PipelineProcesses"
    ),
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings of an embedded stack, and files of keys as ``deploy.native`` makes them."""
    folder = tmp_path_factory.mktemp("keys")
    names = ("personal_key_file", "column_key_file", "lookup_key_file", "pseudonym_key_file")
    files = {}
    for name in names:
        place = folder / name
        place.write_text(to_text(os.urandom(32)))
        place.chmod(0o600)
        files[name] = str(place)
    chosen = {
        **BASE,
        "keyring_file": str(folder / "keyring.json"),
        "signing_key_file": str(folder / "signing.pem"),
        "objects_dir": str(folder / "objects"),
        "checkpoints_dir": str(folder / "checkpoints"),
        "console_sign_in": "development",
        **files,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DPJ_")}
    return kept | {f"DPJ_{name.upper()}": value for name, value in chosen.items()} | {"DPJ_HOME": str(folder)}


def run(code: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_loads_what_it_uses(name: str, environment: dict[str, str]) -> None:
    parts, foreign = PROCESSES[name]
    code = f"""
import sys
from runtime.processes.lean_start import load_lean
load_lean()
import runtime.cli.main, runtime.cli.processes, runtime.processes.run, asyncio
from runtime.config.settings import load_settings
from runtime.wiring.site import Site
async def start():
    site = Site(load_settings())
    {IMPORTS.get(name, "pass")}
    {parts}
asyncio.run(start())
print([name for name in {foreign!r} if name in sys.modules])
"""
    assert run(code, environment) == "[]"


@pytest.mark.parametrize(
    ("words", "foreign"),
    [
        (
            ["--help"],
            ("faust", "aiokafka", "minio", "aiohttp", "pymongo", "redis", "sqlalchemy", "pydantic", "httpx", "structlog",
             "confluent_kafka", "asyncpg", "rich.live", "rich.progress", "runtime.cli.pipeline", "asyncio"),
        ),
        (["--version"], ("rich", "pydantic", "httpx", "structlog", "asyncio", "runtime.cli.documents")),
        (["lag", "--help"], ("faust", "httpx", "structlog", "confluent_kafka", "runtime.cli.documents")),
        (["lag"], (*NEVER, *KAFKA_STREAMS, *HTTP_FRAMEWORK, "httpx", "sqlalchemy", "pymongo", "structlog", "prometheus_client")),
    ],
)  # fmt: skip
def test_a_command_loads_what_it_uses(words: list[str], foreign: tuple[str, ...], environment: dict[str, str]) -> None:
    code = f"""
import sys
sys.argv = ["dpj"]
from runtime.cli.main import main
if {words!r} == ["lag"]:  # all but the broker's answer
    from operations.kafka import lag
    lag.measure = lambda *_, **__: [lag.PartitionLag(group="g", topic="t", partition=0, start=0, end=0, committed=0, lag=0, behind=None)]
assert main({words!r}) == 0
print()
print([name for name in {foreign!r} if name in sys.modules])
"""
    assert run(code, environment) == "[]"


@pytest.mark.parametrize("name", _COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    """The list is told without loading a command: its text is kept apart, and must be the command's own."""
    command = _COMMANDS[name]
    assert command.loaded(name).name == name
    if not command.context:
        assert command.listed(name).help == command.loaded(name).help


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{version('dpj-documents')}\n"


def test_a_shell_completes_commands_and_those_below_them(environment: dict[str, str]) -> None:
    def completed(*words: str) -> list[str]:
        given = {"_DPJ_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        command = [sys.executable, "-c", "from runtime.cli.main import main; main([])"]
        done = subprocess.run(
            command, cwd=ROOT, env=environment | given, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout.split()

    assert completed("dpj", "wo") == ["worker"]
    assert completed("dpj", "audit", "e") == ["export"]
