"""``python -m tests.support.flushing``: a process that moves waiting audit entries to the log until none is left, a few at a time.

Arguments: "mongodb" or "postgresql", the DSN of heads and queue and, for MongoDB, its URL and the database's name.
"""

from __future__ import annotations

import asyncio
import os
import sys

from domain.shared import crash_points
from processors.audit.chaining import AuditFlusher
from schemas.repository import RepositoryRegistry
from storage.mongodb.audit import MongoAuditStore
from storage.postgres.audit.chain import PostgresUnflushedEntries
from storage.postgres.audit.entries import PostgresAuditStore
from storage.postgres.database import Postgres, PostgresDatabase

BATCH = 25


async def main(kind: str, dsn: str, url: str = "", name: str = "") -> None:
    postgres = Postgres(dsn)
    codec = RepositoryRegistry.of_this_release().codec()
    store = MongoAuditStore(url, name) if kind == "mongodb" else PostgresAuditStore(postgres)
    flusher = AuditFlusher(
        PostgresUnflushedEntries(postgres), store, PostgresDatabase(postgres, codec.encode), batch=BATCH
    )
    while await flusher.flush():
        pass
    await postgres.aclose()
    if isinstance(store, MongoAuditStore):
        await store.aclose()


if __name__ == "__main__":
    crash_points.arm(os.environ.get("DPJ_CRASH_POINT"))
    asyncio.run(main(*sys.argv[1:]))
