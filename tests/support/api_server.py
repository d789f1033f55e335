"""The API as a process of its own: real files, real envelope, real libmagic, rows in memory.

``python -m tests.support.api_server PORT FOLDER``: objects go to FOLDER/objects, rows are lost at the end.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvicorn

from crypto.envelope import Envelope
from ingest_api.sniffing import MagicSniffer
from processors.attempts import Attempts
from processors.content import EncryptedContent
from processors.intake import Intake
from processors.reading import Reading
from storage.objects_filesystem import FilesystemObjectStore
from tests.support.api import an_app
from tests.support.fakes_intake import Bench, a_rule
from tests.support.keyrings import a_keyring

LARGEST = 2 << 30


def a_bench(folder: Path) -> Bench:
    """A bench whose content lies in files."""
    bench = Bench()
    store = FilesystemObjectStore(folder / "objects")
    bench.content = EncryptedContent(store, Envelope(), a_keyring(folder / "keyring.json", "acme"))
    bench.attempts = Attempts(bench.database, bench.content, bench.clock)
    bench.intake = Intake(bench.database, bench.content, bench.attempts, MagicSniffer(), bench.personal, bench.clock)
    bench.reading = Reading(bench.database, bench.database, bench.content, bench.personal, bench.clock)
    bench.database.rows.types["BIG"] = a_rule("BIG", max_size_bytes=LARGEST)
    return bench


async def main(port: int, folder: Path) -> None:
    bench = a_bench(folder)
    await FilesystemObjectStore(folder / "objects").prepare()
    config = uvicorn.Config(an_app(bench), host="127.0.0.1", port=port, access_log=False, log_level="warning")
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
