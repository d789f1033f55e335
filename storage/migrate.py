"""Brings the relational schema up to this release; safe to run again, and from several processes at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from domain.errors import DatabaseUnavailable
from storage.postgres.connections import AWAY, unavailable

CONNECT_SECONDS: Final = 10.0
_LOCK: Final = 0x64706A_6D6967  # "dpjmig"


async def upgrade(dsn: str, revision: str = "head") -> str:
    """Run what is missing, in one transaction, and return the revision in force. ``dsn`` is ``postgresql://...``.

    Raises DatabaseUnavailable.
    """
    if not dsn.startswith(("postgresql://", "postgres://")):
        raise ValueError("the DSN must start with postgresql://")

    async def connect() -> asyncpg.Connection[Any]:
        # The driver reads the DSN itself, TLS included: SQLAlchemy would hand on parameters that it does not know as such.
        return await asyncpg.connect(dsn, timeout=CONNECT_SECONDS)

    engine = create_async_engine("postgresql+asyncpg://", poolclass=NullPool, async_creator=connect)
    try:
        async with engine.begin() as connection:
            # A second migration waits here, and then finds nothing to do.
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            await connection.run_sync(_run, revision)
    except AWAY as error:
        if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
            raise  # the driver refuses the DSN
        raise unavailable(error) from error
    except DBAPIError as error:
        cause = _cause(error)
        if cause is not None:
            raise unavailable(cause) from error
        if error.connection_invalidated:
            raise DatabaseUnavailable("The database does not answer.") from error
        raise
    finally:
        await engine.dispose()
    return latest_revision()


def _cause(error: DBAPIError) -> BaseException | None:
    """What the driver raised below SQLAlchemy's error, if it means that the database can't do it now."""
    cause: BaseException | None = error.orig
    while cause is not None and not isinstance(cause, AWAY):
        cause = cause.__cause__
    return cause


def latest_revision() -> str:
    """The revision that this release needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise LookupError("the release holds no revision")
    return head


def _run(connection: Connection, revision: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
