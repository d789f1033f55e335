"""schemathesis against a running API: its own OpenAPI document, every check, a given seed, a bounded time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parents[2]
#: Beyond its own budget a run ends what it has begun.
PATIENCE = 120.0


def _with_cursors() -> list[str]:
    """Ids of the operations that take a cursor in their query."""
    described = json.loads((ROOT / "docs/openapi.json").read_text("utf-8"))["paths"]
    operations = [one for path in described.values() for one in path.values() if isinstance(one, dict)]
    return [
        one["operationId"]
        for one in operations
        if any(parameter["name"] == "cursor" for parameter in one.get("parameters", ()))
    ]


#: Refusals of requests that the description allows, because no schema can say what is asked for: a cursor of ours; a document
#: of an existing dossier whose bytes are what they are called, part metadata first; a range within a document's size; a
#: reason that is not blank; a year below 9000; a time to come; what the fields of an act say together (a replay's one
#: consumer, and a window that ends after it begins).
_REFUSED_BY_MEANING: Final[Mapping[str, Sequence[int]]] = {
    **{operation: [400] for operation in _with_cursors()},
    "search_documents": [400],
    "plan_act": [400],
    "confirm_plan": [400],
    "upload_document": [400, 415, 422],
    "get_document_content": [416],
    "open_link": [416],
    "reject_document": [422],
    "extend_retention": [422],
    "revoke_token": [422],
}
_ACCEPTED: Final[Sequence[str | int]] = ["2xx", "3xx", 401, 403, 404, 409, 410, 429]


def _config(documents: Sequence[str], dossiers: Sequence[str]) -> str:
    """Known ids for half of the requests, so that they get past "not found"; the refusals above."""
    lines = [
        f"[dictionaries.documents]\nvalues = {list(documents)}",
        f"[dictionaries.dossiers]\nvalues = {list(dossiers)}",
        "[parameters]",
        '"path.document_id" = { dictionary = "documents", probability = 0.5 }',
        '"path.dossier_id" = { dictionary = "dossiers", probability = 0.5 }',
        f"[checks.positive_data_acceptance]\nexpected-statuses = {_toml(_ACCEPTED)}",
    ]
    for name, statuses in _REFUSED_BY_MEANING.items():
        lines += [
            "[[operations]]",
            f'include-operation-id = "{name}"',
            f"checks.positive_data_acceptance.expected-statuses = {_toml([*_ACCEPTED, *statuses])}",
        ]
    # What an erasure makes under that path is an order, and it is found by its id in the body.
    lines += [
        "[[operations]]",
        'include-operation-id = "withdraw_erasure"',
        "checks.ensure_resource_availability.enabled = false",
    ]
    return "\n".join(lines) + "\n"


def _toml(values: Sequence[str | int]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"


def fuzz(
    url: str, token: str, folder: Path, *, documents: Sequence[str], dossiers: Sequence[str], seconds: int, seed: int
) -> tuple[int, str]:
    """Exit status (0: nothing found) and output. ``url`` is the API's base address."""
    config = folder / "schemathesis.toml"
    config.write_text(_config(documents, dossiers))
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config)),
        *("run", f"{url}/api/v1/openapi.json", "--url", url, "--header", f"Authorization: Bearer {token}"),
        # Not "--checks all": every check is on by default, and the option would put on again what the file puts off.
        *("--seed", str(seed), "--max-time", str(seconds), "--max-examples", "30"),
        *("--no-shrink", "--continue-on-failure", "--suppress-health-check", "all", "--warnings", "off"),
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DPJ_")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds + PATIENCE, check=False
    )
    return done.returncode, done.stdout + done.stderr
