"""Uploads that the API refuses, as curl, Node's fetch, python-requests and Java's HttpClient see them: an answer, or a broken connection.

    python -m tests.refused_uploads [--uploads 250] [--at-once 4] [--stack NAME] [--keep] [--clients curl,fetch,requests,java]

Runs the whole pipeline on an embedded stack of its own, without limits on rates, and writes docs/reports/refused-uploads.md. curl, Node.js
(18 or later) and Java (17 or later) must be there. Exit status 1 if an upload got another answer than its own, or none.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import httpx

from deploy.native import stack as native
from domain.documents import Role
from identity.tokens import issue_token
from runtime.config.settings import Settings, load_settings
from runtime.processes.local import PipelineProcesses
from runtime.processes.local_stack import prepare

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
REPORT: Final = ROOT / "docs" / "reports" / "refused-uploads.md"
TENANT: Final = "refused"
BOUNDARY: Final = "refused-uploads-4f1d"
#: All that one client may be refused for without its upload having been looked at.
UNHINDERED: Final = {
    "DPJ_RATE_CLIENT": "0",
    "DPJ_RATE_DOCUMENTS": "0",
    "DPJ_RATE_FAILURES": "0",
    "DPJ_API_CONNECTIONS_PER_ADDRESS": "0",
}
MB: Final = 1_000_000
SECONDS: Final = 3000
#: Of those uploads that may end without an answer.
GOAL: Final = 0.001


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an upload is refused: ``status`` and ``code`` are its answer. ``pdf``: whether the content is what it is declared to be;
    ``chunked``: its length is not declared."""

    name: str
    status: int
    code: str
    megabytes: int
    type_code: str = "JUSTIFICATIF_DOMICILE"
    token: str = "portal"
    pdf: bool = True
    chunked: bool = False


REASONS: Final = (
    Reason("token unknown", 401, "unauthenticated", 12, token="nonsense"),
    Reason("token unknown, length not declared", 401, "unauthenticated", 12, token="nonsense", chunked=True),
    Reason("role may not deposit", 403, "forbidden", 16, token="validator"),
    Reason("larger than the type takes", 413, "file_too_large", 20, type_code="RIB"),
    Reason("larger than the type takes, length not declared", 413, "file_too_large", 20, type_code="RIB", chunked=True),
    Reason("declared as a PDF, is none", 415, "content_mismatch", 8, pdf=False),
    Reason("document type unknown", 422, "type_unknown", 12, type_code="NOBODY"),
)


class Bench:
    """Where the uploads go, and what they are made of."""

    def __init__(self, settings: Settings, folder: Path, at_once: int) -> None:
        self.url = f"http://{settings.api_host}:{settings.api_port}/api/v1/documents"
        self.folder, self.at_once = folder, at_once
        self.tokens = {role.value: _token(settings, role) for role in (Role.PORTAL, Role.VALIDATOR)}
        self.tokens["nonsense"] = "not.a.token"
        headers = {"Authorization": f"Bearer {self.tokens['portal']}"}
        self._client = httpx.Client(base_url=self.url.removesuffix("/documents"), headers=headers, trust_env=False)
        dossier = {"number": f"R-{time.time_ns()}", "client_id": "client-1", "journey_type": "PRET_IMMOBILIER"}
        answer = self._client.post("/dossiers", json=dossier)
        answer.raise_for_status()
        self._dossier = answer.json()["id"]

    def metadata(self, reason: Reason) -> str:
        depositor = {"email": "depositor@client.example", "language": "fr"}
        return json.dumps({"type": reason.type_code, "dossier_id": self._dossier, "depositor": depositor})

    def upload(self, reason: Reason) -> dict[str, Any]:
        """As the clients' plans have it; the files are made once."""
        file = self.folder / f"{reason.megabytes}-{reason.pdf}.bin"
        if not file.exists():
            file.write_bytes(
                (b"%PDF-1.7\n" if reason.pdf else b"\x89PNG\r\n\x1a\n") + os.urandom(reason.megabytes * MB)
            )
        body = self.folder / f"{REASONS.index(reason)}.form"
        if not body.exists():
            lead = (
                f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{self.metadata(reason)}\r\n'
                f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="piece.pdf"\r\n'
                "Content-Type: application/pdf\r\n\r\n"
            )
            body.write_bytes(lead.encode() + file.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode())
        return {
            "reason": reason.name,
            "headers": {"Authorization": f"Bearer {self.tokens[reason.token]}"},
            "metadata": self.metadata(reason),
            "file": str(file),
            "body": str(body),
            "chunked": reason.chunked,
        }

    def still_serves(self) -> bool:
        return self._client.get("/document-types", timeout=10).status_code == 200


def _token(settings: Settings, role: Role) -> str:
    assert settings.jwt_private_key_file is not None
    issued = settings.jwt_private_key_file, settings.jwt_issuer, settings.jwt_audience
    return issue_token(*issued, "refused", TENANT, [role], 6 * 3600)


# --- the clients -----------------------------------------------------------------------------------------------------

Said = list[dict[str, Any]]


def _curl(bench: Bench, uploads: Sequence[Mapping[str, Any]]) -> Said:
    """A process for each upload; it asks whether to go on before it sends (Expect: 100-continue), as it does by default."""

    def send(upload: Mapping[str, Any]) -> dict[str, Any]:
        words = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "120", "-w", "\n%{http_code}"]
        words += ["-H", f"Authorization: {upload['headers']['Authorization']}"]
        words += ["-H", "Transfer-Encoding: chunked"] if upload["chunked"] else []
        words += ["--form-string", f"metadata={upload['metadata']}"]
        words += ["-F", f"file=@{upload['file']};type=application/pdf;filename=piece.pdf", bench.url]
        done = subprocess.run(words, capture_output=True, text=True, timeout=150, check=False)
        body, _, status = done.stdout.rpartition("\n")
        if done.returncode or not body:
            return {"reason": upload["reason"], "error": done.stderr.strip()[:200] or f"status {status}, no body"}
        return {"reason": upload["reason"], "status": int(status), "code": json.loads(body)["code"]}

    with ThreadPoolExecutor(bench.at_once) as pool:
        return list(pool.map(send, uploads))


def _fetch(bench: Bench, uploads: Sequence[Mapping[str, Any]]) -> Said:
    return _program(["node", HERE / "fetch_client.mjs", _plan(bench, uploads)])


def _requests(bench: Bench, uploads: Sequence[Mapping[str, Any]]) -> Said:
    return _program([sys.executable, HERE / "requests_client.py", _plan(bench, uploads)])


def _java(bench: Bench, uploads: Sequence[Mapping[str, Any]]) -> Said:
    lines = [
        "\t".join(
            (
                upload["reason"],
                upload["headers"]["Authorization"].removeprefix("Bearer "),
                "chunked" if upload["chunked"] else "declared",
                upload["body"],
            )
        )
        for upload in uploads
    ]
    plan = bench.folder / "plan.tsv"
    plan.write_text("\n".join(lines) + "\n", "utf-8")
    return _program(["java", HERE / "UploadClient.java", bench.url, BOUNDARY, str(bench.at_once), plan])


CLIENTS: Final[Mapping[str, tuple[str, Callable[[Bench, Sequence[Mapping[str, Any]]], Said]]]] = {
    "curl": ("curl", _curl),
    "fetch": ("node", _fetch),
    "requests": (sys.executable, _requests),
    "java": ("java", _java),
}


def _plan(bench: Bench, uploads: Sequence[Mapping[str, Any]]) -> Path:
    plan = bench.folder / "plan.json"
    document = {"url": bench.url, "boundary": BOUNDARY, "at_once": bench.at_once, "uploads": list(uploads)}
    plan.write_text(json.dumps(document), "utf-8")
    return plan


def _program(words: Sequence[str | Path]) -> Said:
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"{words[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def _version(program: str) -> str:
    if program == sys.executable:
        return f"requests {version('requests')}, Python {sys.version.split()[0]}"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    return {"node": "Node.js "}.get(program, "") + " ".join(done.stdout.splitlines()[0].split()[:2])


# --- what came of it -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one client. ``answered``: with its own status and code; ``other``: with others; ``broken``: none; each by reason."""

    client: str
    version: str
    seconds: float
    answered: Counter[str]
    other: Counter[tuple[str, int, str]]
    broken: Counter[tuple[str, str]]

    @classmethod
    def of(cls, client: str, version: str, seconds: float, said: Said) -> Outcome:
        answered: Counter[str] = Counter()
        other: Counter[tuple[str, int, str]] = Counter()
        broken: Counter[tuple[str, str]] = Counter()
        wanted = {reason.name: (reason.status, reason.code) for reason in REASONS}
        for one in said:
            if "error" in one:
                broken[one["reason"], one["error"]] += 1
            elif (one["status"], one["code"]) == wanted[one["reason"]]:
                answered[one["reason"]] += 1
            else:
                other[one["reason"], one["status"], one["code"]] += 1
        return cls(client, version, seconds, answered, other, broken)

    def broken_of(self, reason: Reason) -> int:
        return sum(count for (name, _), count in self.broken.items() if name == reason.name)


def _write(outcomes: Sequence[Outcome], at_once: int) -> None:
    total = sum(one.answered.total() + one.other.total() + one.broken.total() for one in outcomes)
    broken = sum(one.broken.total() for one in outcomes)
    other = sum(one.other.total() for one in outcomes)
    lines = [
        "# Refused uploads",
        "",
        "Written by `make refused-uploads` (`tests/refused_uploads`): uploads of 8 to 20 MB that the API refuses, against the",
        "whole pipeline on the embedded profile, over loopback, without limits on rates and connections. An upload is",
        "answered well if its client gets the status and the code that belong to its reason; else it is another answer, or",
        "the connection broke before there was one.",
        "",
        f"**{total} uploads: {total - other - broken} answered well, {other} other answers, {broken} broken.**",
        f"{at_once} at once per client, one client after another.",
        "",
        f"| reason | answer | MB | {' | '.join(one.client for one in outcomes)} |",
        f"|---|---|---:|{'---:|' * len(outcomes)}",
    ]
    for reason in REASONS:
        cells = [f"{one.answered[reason.name]} / {one.broken_of(reason)}" for one in outcomes]
        lines.append(f"| {reason.name} | {reason.status} `{reason.code}` | {reason.megabytes} | {' | '.join(cells)} |")
    lines += ["", "Answered well / broken.", ""]
    for one in outcomes:
        lines.append(f"- {one.client}: {one.version}; {one.seconds:.0f} s")
        lines += [f"  - {count}x {name}: {status} `{code}`" for (name, status, code), count in one.other.items()]
        lines += [f"  - {count}x {name}: broken, {error}" for (name, error), count in one.broken.items()]
    lines += [
        "",
        "Not tried: a network with delay or loss, a proxy between, TLS, bodies above the 64 MiB that the server reads of what it",
        "has refused (their senders are told `Connection: close`, and may see a reset instead).",
    ]
    REPORT.write_text("\n".join(lines) + "\n", "utf-8")


def main() -> int:
    asked = _arguments()
    names = asked.clients.split(",")
    if missing := [CLIENTS[name][0] for name in names if shutil.which(CLIENTS[name][0]) is None]:
        sys.stderr.write(f"Not found: {', '.join(missing)}. Install them, or choose others with --clients.\n")
        return 2
    native.up(asked.stack, "embedded")
    settings = load_settings(asked.stack)
    processes = PipelineProcesses(settings, UNHINDERED)
    try:
        with ThreadPoolExecutor(1) as aside:  # it runs an event loop of its own
            aside.submit(prepare, settings, _say, TENANT).result()
        processes.stop()
        processes.start(_say)
        with tempfile.TemporaryDirectory() as folder:
            outcomes = _run(Bench(settings, Path(folder), asked.at_once), names, asked.uploads)
    finally:
        processes.stop()
        if not asked.keep:
            native.down(asked.stack, wipe=True)
    if set(names) == set(CLIENTS):
        _write(outcomes, asked.at_once)
    unwell = sum(one.broken.total() + one.other.total() for one in outcomes)
    total = sum(one.answered.total() for one in outcomes) + unwell
    return 1 if total != asked.uploads * len(names) or unwell > GOAL * total else 0


def _run(bench: Bench, names: Sequence[str], count: int) -> list[Outcome]:
    uploads = [bench.upload(REASONS[number % len(REASONS)]) for number in range(count)]
    outcomes = []
    for name in names:
        program, send = CLIENTS[name]
        began = time.monotonic()
        said = send(bench, uploads)
        outcome = Outcome.of(name, _version(program), time.monotonic() - began, said)
        _say(f"{name}: {outcome.answered.total()} of {count} well; {dict(outcome.other)} {dict(outcome.broken)}")
        outcomes.append(outcome)
    if not bench.still_serves():
        raise RuntimeError("the API does not serve any more")
    return outcomes


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _arguments() -> argparse.Namespace:
    words = argparse.ArgumentParser(prog="python -m tests.refused_uploads", description="Refused uploads, by client.")
    words.add_argument("--uploads", type=int, default=250, help="of each client")
    words.add_argument("--at-once", type=int, default=4)
    words.add_argument("--stack", default=f"refused-{os.getpid()}", help="a running embedded stack is taken as it is")
    words.add_argument("--keep", action="store_true", help="leave the stack up")
    words.add_argument("--clients", default=",".join(CLIENTS), help="names, with commas")
    return words.parse_args()


if __name__ == "__main__":
    sys.exit(main())
