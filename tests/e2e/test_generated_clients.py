"""Clients that generators make out of docs/openapi.json upload and download over the real API (``tests/generated_clients``)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.client_generators import LOCKS, ROOT, ClientGenerators, client_generators
from tests.support.pipeline import SAMPLES, Pipeline

DOCUMENT = ROOT / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def tools() -> ClientGenerators:
    return client_generators()


@pytest.fixture(scope="module")
def access(running: Pipeline) -> Mapping[str, str]:
    """What the two clients are told: a token of who may deposit and decide."""
    running.give_key("clients")
    token = running.json("token", "--role", "portal", "--role", "validator", "--tenant", "clients", "--ttl", "600")
    return {"API_URL": running.url, "API_TOKEN": token["token"], "API_FILE": str(SAMPLES / "facture-electricite.pdf")}


def test_openapi_python_client(tools: ClientGenerators, access: Mapping[str, str], tmp_path: Path) -> None:
    options = ("--meta", "none", "--config", LOCKS / "python_client.yaml")
    places = ("--path", DOCUMENT, "--output-path", tmp_path / "dpj_client")
    said = tools.python("openapi-python-client", "generate", *places, *options, cwd=tmp_path)
    # The other way to upload, whose body has no one media type, is the only thing that it leaves out.
    warnings = said.split("WARNING")[1:]
    assert [warning.split("\n\n")[1] for warning in warnings] == ["Unsupported content type */*"], said
    operations = {
        operation["operationId"]
        for path in json.loads(DOCUMENT.read_text("utf-8"))["paths"].values()
        for operation in path.values()
    }
    made = {file.stem for file in (tmp_path / "dpj_client" / "api").glob("*/*.py")} - {"__init__"}
    assert made == operations
    shutil.copy(LOCKS / "use_python_client.py", tmp_path)
    tools.python("python", "use_python_client.py", cwd=tmp_path, env=access)


def test_openapi_typescript_and_openapi_fetch(
    tools: ClientGenerators, access: Mapping[str, str], tmp_path: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(tools.folder / "node_modules")
    for name in ("make_types.mjs", "use_typescript_client.ts", "tsconfig.json", "package.json"):
        shutil.copy(LOCKS / name, tmp_path)
    tools.node("make_types.mjs", DOCUMENT, "api.d.ts", cwd=tmp_path)
    tools.node("node_modules/typescript/bin/tsc", "-p", "tsconfig.json", cwd=tmp_path)
    tools.node("use_typescript_client.ts", cwd=tmp_path, env=access)
