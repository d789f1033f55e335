"""python-requests: a session for each thread, as its users are told. Reads the plan (JSON) named by the first argument and writes a
line of JSON for each upload."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from typing import Any

import requests

PIECE = 256 * 1024
TIMEOUT = 120

_mine = local()


def _pieces(path: str) -> Iterator[bytes]:
    with Path(path).open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def _send(plan: dict[str, Any], upload: dict[str, Any]) -> dict[str, Any]:
    if not hasattr(_mine, "session"):
        _mine.session = requests.Session()
        _mine.session.trust_env = False
    headers = dict(upload["headers"])
    if upload["chunked"]:
        headers["Content-Type"] = f"multipart/form-data; boundary={plan['boundary']}"
        answer = _mine.session.post(plan["url"], headers=headers, data=_pieces(upload["body"]), timeout=TIMEOUT)
    else:
        files = {
            "metadata": (None, upload["metadata"]),
            "file": ("piece.pdf", Path(upload["file"]).read_bytes(), "application/pdf"),
        }
        answer = _mine.session.post(plan["url"], headers=headers, files=files, timeout=TIMEOUT)
    return {"status": answer.status_code, "code": answer.json()["code"]}


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text("utf-8"))

    def told(upload: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"reason": upload["reason"], **_send(plan, upload)}
        except requests.RequestException as error:
            return {"reason": upload["reason"], "error": f"{type(error).__name__}: {error}"[:200]}

    with ThreadPoolExecutor(plan["at_once"]) as pool:
        for said in pool.map(told, plan["uploads"]):
            sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
