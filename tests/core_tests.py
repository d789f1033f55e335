"""Which unit tests measure the core's coverage: those that import it and start no whole application to get there.

Coverage makes what a test costs two to three times as much, also where it passes through nothing of the core.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

with (Path(__file__).resolve().parent.parent / "pyproject.toml").open("rb") as file:
    CORE = tuple(tomllib.load(file)["tool"]["coverage"]["run"]["source"])
#: They import the core and yet try something else: pages, routes, commands, documents.
OF_OTHER_ROOMS = frozenset(
    {
        "test_api_page.py",
        "test_architecture_docs.py",
        "test_bound_operators.py",
        "test_cli.py",
        "test_console_sign_in.py",
        "test_known_tenants.py",
        "test_operations_docs.py",
        "test_route_authorization.py",
        "test_samples.py",
        "test_telemetry.py",
        "test_transport.py",
        "test_what_is_loaded.py",
    }
)
_IMPORTS = re.compile(rf"^ *(?:from|import) (?:{'|'.join(CORE)})\b", re.MULTILINE)


def measures_core(file: Path) -> bool:
    return file.name not in OF_OTHER_ROOMS and _IMPORTS.search(file.read_text("utf-8")) is not None
