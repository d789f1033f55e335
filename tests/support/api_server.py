"""The API as a process of its own: real files, real envelope, real libmagic, rows in memory.

``python -m tests.support.api_server PORT FOLDER``: objects go to FOLDER/objects, rows are lost at the end. The server in front, and its loop, are
those of ``dpj api``, with the deadlines (in seconds) and bounds of the environment: HEAD_SECONDS, BODY_SECONDS, SEND_SECONDS,
CONNECTIONS, PER_ADDRESS, TRUSTED_PROXIES.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import uvloop

from crypto.envelope import Envelope
from ingest_api.sniffing import MagicSniffer
from processors.documents.content import EncryptedContent
from processors.documents.upload_attempts import UploadAttempts
from runtime.processes.serving import api_server
from storage.objects.filesystem import FilesystemObjectStore
from tests.support.api import an_app
from tests.support.fakes_intake import IntakeBench, a_rule
from tests.support.keyrings import a_keyring

LARGEST = 2 << 30


def a_bench(folder: Path) -> IntakeBench:
    """A bench whose content lies in files."""
    bench = IntakeBench()
    store = FilesystemObjectStore(folder / "objects")
    bench.content = EncryptedContent(store, Envelope(), a_keyring(folder / "keyring.json", "acme"))
    bench.attempts = UploadAttempts(bench.database, bench.content, bench.clock)
    bench.intake = bench.an_intake(MagicSniffer())
    bench.reading = bench.a_reader()
    bench.database.rows.types["BIG"] = a_rule("BIG", max_size_bytes=LARGEST)
    return bench


async def main(port: int, folder: Path) -> None:
    bench = a_bench(folder)
    await FilesystemObjectStore(folder / "objects").prepare()
    app = an_app(bench, body_timeout=float(os.environ.get("BODY_SECONDS", "2")))
    server = api_server(
        app,
        host="127.0.0.1",
        port=port,
        head_seconds=float(os.environ.get("HEAD_SECONDS", "10")),
        send_seconds=float(os.environ.get("SEND_SECONDS", "60")),
        connections=int(os.environ.get("CONNECTIONS", "500")),
        per_address=int(os.environ.get("PER_ADDRESS", "0")),
        trusted_proxies=os.environ.get("TRUSTED_PROXIES", ""),
    )
    await server.serve()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2])))
